"""Pools and lanes of the wire to servers on this machine, put together in one line by the tests of connections."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asyncup.errors import AsyncupError
from asyncup.model import Upload
from asyncup.sinks.s3.clock import ServerClock
from asyncup.sinks.s3.exchange import Connection
from asyncup.sinks.s3.framing import Place
from asyncup.sinks.s3.integrity import Integrity
from asyncup.sinks.s3.pool import Origin, Pool
from asyncup.sinks.s3.providers import OTHER
from asyncup.sinks.s3.settings import S3Settings
from asyncup.sinks.s3.wire import Location, WireLane
from tests.integration.scripted_s3 import ScriptedS3

#: What servers are called; `Names` says where they are.
NAME = "s3.example.test"
UPLOAD = Upload("folder/key", b"some bytes")
REQUEST = b"PUT / HTTP/1.1\r\n\r\n"


@asynccontextmanager
async def pool_to(port: int, host: str = NAME, patience: float = 10.0) -> AsyncIterator[Pool]:
    """Open a pool of connections to a server at this port, of NAME or of an address."""
    pool = Pool(Origin(host, port), patience)
    try:
        yield pool
    finally:
        await pool.close()


def later(pool: Pool, seconds: float) -> None:
    """Put the pool's clock forward."""
    now = pool._clock
    pool._clock = lambda: now() + seconds


def timer_of(pool: Pool) -> asyncio.TimerHandle | None:
    return pool._sweeper


def begin(connection: Connection, patience: float = 60) -> asyncio.Future[Any]:
    """Send a request, and return the answer that is to come."""
    connection.deadline = asyncio.get_running_loop().time() + patience
    return connection.request(REQUEST)


async def call(pool: Pool) -> Connection:
    """One exchange over a new connection of the pool, which has it back then."""
    connection = await pool.connect()
    answer = await begin(connection)
    assert (answer.status, answer.etag) == (200, '"a"')
    pool.give_back(connection)
    return connection


@asynccontextmanager
async def lane_to(
    port: int, tls: ssl.SSLContext | None = None, attempt_timeout: float = 10.0
) -> AsyncIterator[WireLane]:
    """Open a lane without credentials to a bucket of the server at this port of NAME."""
    location = Location(Place(f"{NAME}:{port}", "/bucket/"), Origin(NAME, port, tls), "")
    integrity = Integrity(OTHER, checksum=None, tls=tls is not None, signed=False, verify_etag=False)

    async def nothing(*_: object) -> None:
        return None

    async def here() -> Location:
        return location

    lane = WireLane(
        S3Settings("bucket", attempt_timeout=attempt_timeout), location, integrity, nothing, here, ServerClock()
    )
    try:
        yield lane
    finally:
        await lane.close()


def port_of(server: ScriptedS3) -> int:
    return int(server.endpoint_url.rpartition(":")[2])


async def refusal(lane: WireLane) -> AsyncupError:
    """The error of a put."""
    with pytest.raises(AsyncupError) as caught:
        await lane.put(UPLOAD)
    assert (caught.value.op, caught.value.subject) == ("put", "folder/key")
    return caught.value
