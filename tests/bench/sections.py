"""What is measured: which clients, under which loads."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench import clients
from tests.bench.clients import Client
from tests.bench.figures import Load

#: Seconds between a request and its answer, as from another continent.
LATENCY = 0.0588


@dataclass(frozen=True, slots=True)
class Section:
    """One table. `shows` names its columns."""

    name: str
    title: str
    entries: tuple[tuple[Client, Load], ...]
    shows: tuple[str, ...]


HEADLINE = Section(
    "headline",
    "2 KB objects, 64 in flight",
    tuple(
        (client, Load(2 << 10))
        for client in (
            clients.ASYNCUP,
            clients.BOTOCORE_LANE,
            clients.S5CMD,
            clients.OBSTORE,
            clients.AIOHTTP,
            clients.AIOBOTOCORE,
            clients.BOTO3,
            clients.WRK,
        )
    ),
    ("client", "cpu", "runs", "ratio", "speed"),
)
SIZES = Section(
    "sizes",
    "Other sizes, 64 in flight (8 MB: 16)",
    tuple(
        (client, Load(size, in_flight))
        for size, in_flight in ((200, 64), (4 << 10, 64), (256 << 10, 64), (8 << 20, 16))
        for client in (clients.ASYNCUP, clients.S5CMD, clients.OBSTORE, clients.AIOHTTP)
    ),
    ("size", "client", "cpu", "ratio", "speed", "throughput"),
)
TLS = Section(
    "tls",
    "2 KB objects over TLS, 64 in flight",
    tuple(
        (client, Load(2 << 10, tls=True))
        for client in (
            clients.ASYNCUP,
            clients.S5CMD,
            clients.OBSTORE,
            clients.AIOHTTP,
            clients.AIOBOTOCORE,
            clients.BOTO3,
        )
    ),
    ("client", "cpu", "runs", "ratio", "speed"),
)
BEHIND_LATENCY = Section(
    "latency",
    f"2 KB objects behind {LATENCY * 1e3:g} ms",
    tuple(
        (client, Load(2 << 10, in_flight, LATENCY))
        for in_flight, others in (
            (150, (clients.AIOBOTOCORE, clients.BOTO3)),  # which are bound by their CPU long before 1,500
            (1500, ()),
        )
        for client in (clients.ASYNCUP, clients.S5CMD, clients.OBSTORE, clients.AIOHTTP, *others, clients.WRK)
    ),
    ("in_flight", "client", "speed", "share", "cpu"),
)
#: Start-up is measured on its own: it is no load.
START_UP = "start"
SECTIONS = (HEADLINE, SIZES, TLS, BEHIND_LATENCY)
NAMES = (*(section.name for section in SECTIONS), START_UP)
