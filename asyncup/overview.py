"""What a place of state holds: every job, how far it is, who runs it, what is left, and the command that goes on.

Nothing is changed or locked. What is left is the planner's estimate, and unknown where the database cannot be asked.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from asyncup.checkpoints.places import Entry
from asyncup.commandline import command_line
from asyncup.config import Config
from asyncup.errors import AsyncupError, SourceRefused
from asyncup.flow.retry import Retrier, RetryPolicy, sleep_on
from asyncup.model import Checkpoint
from asyncup.names import written
from asyncup.report import ABORTED, COMPLETE, INTERRUPTED, error_to_json, exit_code_of
from asyncup.state import Access, list_state
from asyncup.stateplace import parse_state
from asyncup.values import OBJECT_OPTIONS, parse_shard

#: Version of the JSON object's shape.
OVERVIEW_VERSION = 1
#: Seconds in which the database has to say how many rows are left of one job.
_ESTIMATE_SECONDS = 5.0
#: Bytes of a page that is never read.
_MEMORY = 1 << 20


@dataclass(frozen=True, slots=True)
class Standing:
    """One job. `left` is an estimate of the rows behind the watermark, None where it is not known."""

    entry: Entry
    left: int | None = None
    command: str | None = None

    @property
    def dead_letters(self) -> str | None:
        """Where the rows are that failed, None when none did."""
        checkpoint = self.entry.checkpoint
        if checkpoint is None or not checkpoint.letters:
            return None
        return str(checkpoint.options.get("dead_letters") or self.entry.letters)

    @property
    def source(self) -> str | None:
        """The table, or the query."""
        what = {} if self.entry.checkpoint is None else self.entry.checkpoint.fingerprint
        return what.get("table") or what.get("query")

    def to_json(self) -> dict[str, Any]:
        entry, checkpoint = self.entry, self.entry.checkpoint
        counts = None if checkpoint is None else checkpoint.counts
        owner = None if entry.holder is None else entry.holder.owner
        found: dict[str, Any] = {
            "name": entry.name,
            "checkpoint": entry.location,
            "source": self.source,
            "destination": None if checkpoint is None else checkpoint.fingerprint.get("to"),
            "finished": checkpoint is not None and checkpoint.finished,
            "watermark": None if checkpoint is None or checkpoint.watermark is None else list(checkpoint.watermark),
        }
        if checkpoint is not None and checkpoint.ranges:
            found["ranges"] = {"finished": checkpoint.finished_ranges, "all": len(checkpoint.ranges)}
        if checkpoint is not None and "rule" in checkpoint.mark:
            mark = checkpoint.mark
            found["incremental"] = {"column": mark["column"], "from": mark.get("lo"), "to": mark.get("hi")}
        for name in ("rows", "put", "skipped", "failed", "bytes"):
            found[name] = 0 if counts is None else getattr(counts, name)
        found |= {
            "started": None if checkpoint is None else checkpoint.started,
            "saved": None if checkpoint is None else checkpoint.saved,
            "lock": None,
            "left": {"rows": self.left, "estimate": not found["finished"]},
            "dead_letters": self.dead_letters,
            "command": self.command,
            "error": None if entry.error is None else error_to_json(entry.error),
        }
        if entry.holder is not None and owner is not None:
            found["lock"] = {"host": owner.host, "pid": owner.pid, "since": owner.since, "until": entry.holder.until}
        return found


@dataclass(frozen=True, slots=True)
class Overview:
    """What `asyncup status` found in `state`. `folder` is its whole path, where it is one; `is_there`: whether there is one."""

    state: str
    standings: Sequence[Standing] = ()
    error: AsyncupError | None = None
    signal: int | None = None
    folder: str | None = None
    is_there: bool = True

    @property
    def status(self) -> str:
        if self.signal is not None:
            return INTERRUPTED
        return COMPLETE if self.error is None else ABORTED

    @property
    def exit_code(self) -> int:
        """0 all was read · 1 a server cannot be reached · 2 only configuration mends it · 128 + signal."""
        return exit_code_of(self.error, self.signal)

    def to_json(self) -> dict[str, Any]:
        """The object that `--output json` prints; every field is there in every outcome."""
        return {
            "version": OVERVIEW_VERSION,
            "status": self.status,
            "state": self.state,
            "checkpoints": [standing.to_json() for standing in self.standings],
            "error": None if self.error is None else error_to_json(self.error),
        }


async def overview(state: str, access: Access, on_waiting: Callable[[AsyncupError, int, float], None]) -> Overview:
    """Look at every job of a place of state. Errors are in the answer; a checkpoint that cannot be read hides no other."""
    try:
        entries = await list_state(state, access, Retrier(RetryPolicy(), sleep_on, on_waiting))
    except AsyncupError as exc:
        return Overview(state, error=exc)
    asking, standings = True, []
    for entry in entries:
        left, checkpoint = None, entry.checkpoint
        if checkpoint is not None and checkpoint.finished:
            left = 0
        elif checkpoint is not None and asking:
            try:
                left = await _left(checkpoint, access)
            except (SourceRefused, TimeoutError):
                left = None  # of this one; others may be known
            except AsyncupError:
                asking = False
        standing = Standing(entry, left, None if checkpoint is None else command(checkpoint, state))
        if checkpoint is not None and checkpoint.finished and standing.dead_letters is not None:
            standing = replace(standing, command=shlex.join(["asyncup", "retry", standing.dead_letters]))
        standings.append(standing)
    place, error = parse_state(state), next((entry.error for entry in entries if entry.error is not None), None)
    if place.kind != "folder":
        return Overview(state, standings, error)
    folder = await asyncio.to_thread(lambda: Path(place.place).absolute())
    return Overview(state, standings, error, folder=str(folder), is_there=await asyncio.to_thread(folder.is_dir))


async def _left(checkpoint: Checkpoint, access: Access) -> int | None:
    """About how many rows are behind the watermark; None when the database is not the job's.

    Raises:
        AsyncupError: the database cannot be asked.
        TimeoutError: it takes too long to answer.
    """
    from asyncup.sources.connection.login import Login
    from asyncup.sources.connection.session import Session
    from asyncup.sources.increments.mark import Mark
    from asyncup.sources.postgres import PostgresSource, Request

    once = Retrier.once()
    what = checkpoint.fingerprint
    query, key = what.get("query"), tuple(what.get("key") or ())
    request = Request(
        table=what.get("table"),
        query=query,
        query_name=checkpoint.name,
        key=key or None,
        columns=(),
        body=key[0] if key else None,
        where=what.get("where"),
        shard=None if what.get("shard") is None else parse_shard(what["shard"]),
        limit=None,
        page_size=1,
        memory=_MEMORY,
    )
    session = Session(Login.of(access.dsn, access.password, access.password_command), once)
    try:
        async with asyncio.timeout(_ESTIMATE_SECONDS):
            source = await PostgresSource.resolve(session, request)
            if source.relation.database != what.get("database"):
                return None
            if (mark := Mark.of(checkpoint.mark)) is not None:
                await source.narrow(mark)
            if checkpoint.watermark is None:
                return source.estimated_rows and max(0, source.estimated_rows - checkpoint.counts.rows)
            return await source.estimated_behind(checkpoint.watermark)
    finally:
        await session.close()


def command(checkpoint: Checkpoint, state: str) -> str:
    """The command line that goes on with a job, for a shell. It holds no secret: connections come as they came before."""
    options = dict(checkpoint.options) or _options_of(checkpoint)
    default = next(entry.default for entry in fields(Config) if entry.name == "state")
    options.pop("state", None)
    if state != default:
        options["state"] = state
    return command_line("sync", options)


def _options_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """The options of a job whose checkpoint keeps none, as far as its fingerprint says them."""
    what = checkpoint.fingerprint
    options = {name: what.get(name) for name in ("table", "query", "where", "shard", "key", "to", "body", "on_null")}
    options |= {name: what.get(name) for name in OBJECT_OPTIONS}
    if options["body"] is not None:  # a column's name as it is; `row` would be the whole row
        options["body"] = '"row"' if options["body"] == "row" else written(options["body"])
    for option in ("metadata", "tag"):
        pairs = what.get(option) or {}
        options[option] = [f"{name}={template}" for name, template in pairs.items()] or None
    endpoint = what.get("endpoint")
    if endpoint and "amazonaws." not in endpoint:
        options["endpoint_url"] = endpoint
    if checkpoint.name != what.get("table"):
        options["name"] = checkpoint.name
    return {option: value for option, value in options.items() if value is not None}
