"""Where the simulated world takes the place of the real one: clocks, dice, the disk, the driver and the sink.

`app.execute` runs as it is. What its modules import from outside is replaced by name, for as long as the context
lasts, so that a module that begins to use a clock tomorrow uses the simulated one.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pathlib
import pkgutil
import random
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from types import FunctionType, ModuleType
from typing import Any

import filelock

import asyncup
from asyncup import model
from asyncup.checkpoints.owner import Owner
from asyncup.sources.connection.session import Session
from asyncup.sources.keyset import Keyset, Relation, choose_key
from asyncup.sources.postgres import PostgresSource, Request
from tests.simulation.bucket import SimulatedSink
from tests.simulation.database import SimulatedKeyset
from tests.simulation.disk import SimulatedLock, SimulatedOS, SimulatedPath

#: The rooms that are simulated; the others are not reached from a run, or have no seams.
_ROOMS = ("asyncup.app", "asyncup.again", "asyncup.state", "asyncup.pipeline", "asyncup.flow", "asyncup.checkpoints")
#: The part of the state room that says which process this is.
_REAL = ("asyncup.checkpoints.owner",)


class Now:
    """The run that is going on. `run` is a `tests.simulation.run.Run`."""

    run: Any


def _timestamp() -> str:
    return Now.run.timestamp()


class SimulatedTime(ModuleType):
    """`time`, read off the loop's clock. Clocks that need not agree with it do not."""

    def __init__(self) -> None:
        super().__init__("time")

    def monotonic(self) -> float:
        return Now.run.monotonic()

    def perf_counter(self) -> float:
        return Now.run.perf_counter()

    def thread_time(self) -> float:
        return Now.run.thread_time()

    def time(self) -> float:
        return Now.run.wall()


class SimulatedRandom(ModuleType):
    """`random`, from the seed."""

    def __init__(self) -> None:
        super().__init__("random")

    def __getattr__(self, name: str) -> Any:
        return getattr(Now.run.dice, name)

    def random(self) -> float:
        return Now.run.dice.random()


class SimulatedSource(PostgresSource):
    """The real one, which tells the watch what it hands out."""

    @classmethod
    async def resolve(cls, session: Session, request: Request) -> SimulatedSource:
        run = Now.run
        scenario = run.scenario
        key = ("a", "k") if scenario.phases else ("k",)
        columns = tuple(model.Column(name, "text", "text", not_null=name != "a") for name in ("a", "k", "id", "body"))

        async def look(connection: Any) -> dict[int, str | None]:
            await connection.execute("look")
            return run.database.leaves()

        unique, leaves = (("k",), ("id",)), await session.run(look, "resolve", "public.t")
        relation = Relation("public.t", "public.t", "t", columns, unique, not scenario.proven, "db", leaves)
        keyset = SimulatedKeyset(relation, choose_key(relation, key), (relation.column("id"),), "body")
        source = cls(session, keyset, request, None, [])
        source._slice_bytes = run.plan.slice_bytes
        if run.plan.page_bytes is not None:
            source.page_bytes = run.plan.page_bytes
        return source

    async def divide(self) -> tuple[model.Reach, ...]:
        Now.run.watch.divided = found = await super().divide()
        return found

    async def pages(self, after: model.Key | None, part: model.Range = model.WHOLE) -> AsyncGenerator[model.Page, None]:
        watch, is_read = Now.run.watch, False
        watch.range_begins(part, after)
        try:
            async with contextlib.aclosing(super().pages(after, part)) as pages:
                while True:
                    page: list[Any] = [await anext(pages, None)]
                    if page[0] is None:
                        break
                    watch.delivered_page(part, page[0].rows, self.shape)
                    yield page.pop()  # not held here either
            is_read = True
        finally:
            watch.range_ends(part, is_read=is_read)


class SimulatedS3:
    """`S3Sink`, as `app` opens it."""

    @classmethod
    async def open(cls, settings: Any, retrier: Any, *_: Any, **__: Any) -> SimulatedSink:
        sink = Now.run.sink
        sink.retrier = retrier
        return sink


class SimulatedOwner:
    """This process, as the state room sees it: the only one that there is."""

    of = Owner.of

    @staticmethod
    def here() -> Owner:
        return Owner(f"{Now.run.dice.getrandbits(64):032x}", "host", 1, "", "", "", "2026-01-01T00:00:00.000Z")


async def _divide(connection: Any, keyset: Keyset, *_: Any) -> tuple[model.Reach, ...]:
    """See `ranges.divide`."""
    await connection.execute("divide")
    there = {None, *keyset.relation.leaves}
    found = [model.Reach(part) for part in Now.run.plan.ranges if part.leaf in there]
    return tuple(found) if len(found) > 1 else ()


async def _leaves_of(connection: Any, sql: str) -> dict[int, str | None]:
    """See `catalog.leaves_of`."""
    await connection.execute("leaves")
    leaves: dict[int, str | None] = Now.run.database.leaves()
    return leaves


async def _open(session: Session) -> Any:
    """See `Session._open`; what is said of a connection, in files and in the environment, is no matter here."""
    return await Now.run.database.connect()


class SimulatedState:
    """`S3Documents`, as the state room opens it."""

    @classmethod
    async def open(cls, settings: Any, prefix: str) -> Any:
        return Now.run.documents


def _pipeline(parts: Any, **options: Any) -> Any:
    run = Now.run
    pipeline = run.pipeline_class(parts, **options)
    run.built(pipeline, parts.checkpoint)
    return pipeline


def _modules() -> list[ModuleType]:
    for entry in pkgutil.walk_packages(asyncup.__path__, "asyncup."):
        if entry.name.startswith(_ROOMS):
            importlib.import_module(entry.name)
    return [
        module
        for name, module in sorted(sys.modules.items())
        if name.startswith((*_ROOMS, "asyncup.sources.")) and name not in _REAL
    ]


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    for value in list(vars(module).values()):
        if getattr(value, "__module__", None) != module.__name__:
            continue
        for candidate in vars(value).values() if isinstance(value, type) else [value]:
            function = getattr(candidate, "__func__", candidate)
            if isinstance(function, FunctionType):
                yield function


@contextlib.contextmanager
def simulated() -> Iterator[None]:
    """Everything that a run meets is simulated."""
    import asyncup.app
    import asyncup.sinks.s3
    import asyncup.sinks.s3.documents

    clock, dice = SimulatedTime(), SimulatedRandom()
    by_identity: dict[int, Any] = {
        id(time): clock,
        id(time.monotonic): clock.monotonic,
        id(time.perf_counter): clock.perf_counter,
        id(time.time): clock.time,
        id(time.thread_time): clock.thread_time,
        id(random): dice,
        id(random.random): dice.random,
        id(os): SimulatedOS(),
        id(pathlib.Path): SimulatedPath,
        id(filelock.FileLock): SimulatedLock,
        id(Owner): SimulatedOwner,
        id(model.timestamp): _timestamp,
    }
    undo = contextlib.ExitStack()

    def put(owner: Any, name: str, value: Any) -> None:
        undo.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, value)

    with undo:
        for module in _modules():
            postgres = module.__name__.startswith("asyncup.sources.")  # which files it finds is no matter here
            for name, value in list(vars(module).items()):
                if id(value) in by_identity and not (postgres and value in (os, pathlib.Path)):
                    put(module, name, by_identity[id(value)])
            for function in _functions(module):
                if any(id(value) in by_identity for value in function.__defaults__ or ()):
                    found = tuple(by_identity.get(id(value), value) for value in function.__defaults__ or ())
                    put(function, "__defaults__", found)
                if any(id(value) in by_identity for value in (function.__kwdefaults__ or {}).values()):
                    keyed = {name: by_identity.get(id(value), value) for name, value in function.__kwdefaults__.items()}
                    put(function, "__kwdefaults__", keyed)
        put(Session, "_open", _open)
        put(sys.modules["asyncup.sources.postgres"], "PostgresSource", SimulatedSource)
        put(sys.modules["asyncup.sources.postgres"], "divide", _divide)
        put(sys.modules["asyncup.sources.postgres"], "leaves_of", _leaves_of)
        put(asyncup.sinks.s3, "S3Sink", SimulatedS3)
        put(asyncup.sinks.s3.documents, "S3Documents", SimulatedState)
        put(asyncup.app, "Pipeline", _pipeline)
        yield
