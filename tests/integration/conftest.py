"""Fixtures for the S3 sink: servers, buckets, and sinks that share their clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from asyncup.flow.ending import Grace
from asyncup.flow.retry import Retrier
from asyncup.sinks.s3 import S3Settings, S3Sink
from asyncup.sinks.s3.client import ControlClient, open_client
from asyncup.sinks.s3.settings import PART_BYTES
from tests.conftest import Bucket
from tests.integration.plays import Play, Told
from tests.integration.scripted_s3 import ScriptedS3, scripted_s3


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[ScriptedS3]:
    async with scripted_s3() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def play(running: ScriptedS3) -> Play:
    await running.begin_again()
    play = Play(running)
    running.usual = play.answer
    return play


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture(params=["wire", "botocore"])
def lane(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")


@pytest.fixture
def rclone_bucket(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A bucket on a server that checks signatures, with its keys in the environment; its objects lie as files."""
    for variable, value in bucket.server.environment.items():
        monkeypatch.setenv(variable, value)
    return bucket


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies go in parts from a MiB on in `sinks`, and moto takes such parts."""
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1 << 20)


#: Clients by endpoint, and whether they sign.
Clients = dict[tuple[str, bool], ControlClient]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clients() -> AsyncIterator[Clients]:
    """A client for each endpoint of a module, signing or not."""
    opened: Clients = {}
    yield opened
    for client in opened.values():
        await client.stack.aclose()


@dataclass
class Sinks:
    """Opens sinks that share clients, and so the credentials of the first one that has used an endpoint."""

    clients: Clients
    part_bytes: int = PART_BYTES
    opened: list[S3Sink] = field(default_factory=list)

    async def open(
        self,
        lane: str,
        endpoint_url: str,
        bucket: str = "bucket",
        retrier: Retrier | None = None,
        say: Callable[[str], None] = lambda _: None,
        grace: Grace | None = None,
        **settings: Any,
    ) -> S3Sink:
        settings.setdefault("part_bytes", self.part_bytes)
        chosen = S3Settings(bucket, endpoint_url=endpoint_url, s3_client=lane, **settings)
        place = (endpoint_url, chosen.no_sign_request)
        if place not in self.clients:
            self.clients[place] = await open_client(chosen)
        self.opened.append(S3Sink(chosen, self.clients[place], retrier, say, grace))
        return self.opened[-1]


@pytest_asyncio.fixture(loop_scope="module")
async def sinks(clients: Clients, request: pytest.FixtureRequest) -> AsyncIterator[Sinks]:
    sinks = Sinks(clients, 1 << 20 if "small_parts" in request.fixturenames else PART_BYTES)
    yield sinks
    for sink in sinks.opened:
        await sink.close_lane()
