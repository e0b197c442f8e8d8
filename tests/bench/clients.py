"""The clients that are compared: how each is told to put so many objects."""

from __future__ import annotations

import itertools
import math
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from asyncup.embedded.server import own_environment
from tests.bench.figures import Load
from tests.bench.files import files
from tests.bench.measure import Command
from tests.bench.peers.arguments import BUCKET, REGION
from tests.bench.rows import Rows

_states = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Place:
    """Where clients find what they put, and the simulator to put it to. `authority` signed its certificate, for https."""

    endpoint_url: str
    authority: Path | None
    folder: Path
    rows: Rows

    @property
    def environment(self) -> dict[str, str]:
        """No settings of the user's own, no look-ups of credentials elsewhere."""
        values = {
            **own_environment(),
            **self.rows.postgres.environment,
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(self.folder / "no-aws-config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "no-aws-credentials"),
        }
        if self.authority is not None:
            values["SSL_CERT_FILE"] = str(self.authority)
        return {name: value for name, value in values.items() if not name.lower().endswith("_proxy")}


@dataclass(frozen=True, slots=True)
class Client:
    """One client. `arguments` gives its command line for a load and a number of objects; for a client that is `timed`
    that number is the seconds that it runs for, and the simulator counts the objects.
    """

    name: str
    arguments: Callable[[Place, Load, int], list[str]]
    timed: bool = False

    def command(self, place: Place, load: Load, number: int) -> Command:
        environment: Mapping[str, str] = place.environment
        return Command(self.arguments(place, load, number), environment, place.folder)


def program(name: str) -> str:
    """A program of this Python's, else one on the PATH. Where there is none, running it will say so."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name) or name


def sync(place: Place, load: Load, rows: int, *options: str) -> list[str]:
    """`asyncup sync` of so many rows, with a checkpoint of its own."""
    arguments = ["sync", "--table", place.rows.table(load.size, rows), "--where", f"id <= {rows}", "--body", "body"]
    arguments += ["--to", f"s3://{BUCKET}/{{id}}.json", "--endpoint-url", place.endpoint_url]
    arguments += ["--concurrency", str(load.in_flight), "--memory", str(max(256 << 20, 3 * load.size * load.in_flight))]
    arguments += ["--state", str(place.folder / f"state-{next(_states)}"), "--output", "json", "--progress", "none"]
    if place.authority is not None:
        arguments += ["--ca-bundle", str(place.authority)]
    return [program("asyncup"), *arguments, *options]


def _botocore_lane(place: Place, load: Load, rows: int) -> list[str]:
    return sync(place, load, rows, "--s3-client", "botocore")


def _s5cmd(place: Place, load: Load, objects: int) -> list[str]:
    source = f"{files(place.folder, load.size, objects)}/"
    arguments = ["--endpoint-url", place.endpoint_url, "--numworkers", str(load.in_flight), "--log", "error"]
    return [program("s5cmd"), *arguments, "cp", source, f"s3://{BUCKET}/"]


def _peer(module: str, in_flight: int | None = None) -> Callable[[Place, Load, int], list[str]]:
    def arguments(place: Place, load: Load, objects: int) -> list[str]:
        numbers = [str(objects), str(load.size), str(in_flight or load.in_flight)]
        authority = [] if place.authority is None else ["--authority", str(place.authority)]
        return [sys.executable, "-m", f"tests.bench.peers.{module}", place.endpoint_url, *numbers, *authority]

    return arguments


def _wrk(place: Place, load: Load, seconds: int) -> list[str]:
    """wrk, which signs nothing and hashes nothing, with the headers that a signed PUT has."""
    script = place.folder / f"put-{load.size}.lua"
    signature = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/s3/aws4_request, "
    signature += f"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={'0' * 64}"
    script.write_text(
        f'wrk.method = "PUT"\nwrk.path = "/{BUCKET}/1.json"\nwrk.body = string.rep("x", {load.size})\n'
        f'wrk.headers["Authorization"] = "{signature}"\nwrk.headers["Content-Type"] = "application/json"\n'
        f'wrk.headers["x-amz-content-sha256"] = "{"0" * 64}"\nwrk.headers["x-amz-date"] = "20260101T000000Z"\n'
    )
    in_flight = ["--threads", "1", "--connections", str(load.in_flight)]
    return [
        program("wrk"),
        *in_flight,
        "--duration",
        f"{math.ceil(seconds)}s",
        "--script",
        str(script),
        place.endpoint_url,
    ]


ASYNCUP = Client("asyncup", sync)
BOTOCORE_LANE = Client("asyncup --s3-client botocore", _botocore_lane)
S5CMD = Client("s5cmd", _s5cmd)
OBSTORE = Client("obstore", _peer("obstore_peer"))
AIOHTTP = Client("aiohttp, own signing", _peer("aiohttp_peer"))
AIOBOTOCORE = Client("aiobotocore", _peer("aiobotocore_peer"))
BOTO3 = Client("boto3, 150 threads", _peer("boto3_peer", in_flight=150))
WRK = Client("wrk (signs nothing)", _wrk, timed=True)
