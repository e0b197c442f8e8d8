"""Fixtures for incremental runs: a server of a module's own, an empty database, and a job in it that is run again and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.sources.increments import horizons
from tests.conftest import Database
from tests.integration.incremental.increments import Increments, connection, own_server
from tests.integration.reading import emptied, prepared


@pytest.fixture(scope="module")
def server(servers_folder: Path, request: pytest.FixtureRequest) -> Iterator[EmbeddedPostgres]:
    with own_server(servers_folder / request.module.__name__.rpartition(".")[2]) as server:
        yield server


@pytest.fixture(scope="module")
def room(server: EmbeddedPostgres) -> Iterator[Database]:
    with prepared(server, "increments") as database:
        yield database


@pytest.fixture
def database(room: Database) -> Database:
    return emptied(room)


@pytest_asyncio.fixture
async def increments(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Increments]:
    monkeypatch.setattr(horizons, "SETTLE", 0.0)  # nobody begins a transaction at the instant of a look
    asyncio.get_running_loop().set_debug(False)  # other tests of runs keep it on
    (tmp_path / "objects").mkdir()
    async with connection(database) as writer:
        yield Increments(database, tmp_path, writer)
