"""Where a run keeps what the next one needs: a folder, a prefix in S3, or a table in Postgres.

`open_state` takes a job, so that no other run has it, and gives back its checkpoint and its dead letters; `list_state` shows
what there is; `read_letters` reads dead letters that are no file. The one place that knows all three kinds.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from asyncup.checkpoints.deadletters import TRIAL, DeadLetterFile
from asyncup.checkpoints.file import FileCheckpoints
from asyncup.checkpoints.files import StateFolder
from asyncup.checkpoints.lease import Tenure
from asyncup.checkpoints.owner import Owner
from asyncup.checkpoints.places import Entry
from asyncup.config import Config, Password
from asyncup.errors import AsyncupError, StateRefused
from asyncup.flow.ending import to_its_end
from asyncup.flow.interrupt import Interrupt
from asyncup.flow.retry import Retrier
from asyncup.model import Checkpoint, Counts, timestamp
from asyncup.names import parse_qualified, written
from asyncup.protocols import CheckpointStore, KeptLetters, Lease
from asyncup.resolved import fingerprint_difference
from asyncup.stateplace import StatePlace, parse_state

if TYPE_CHECKING:
    from asyncup.sinks.s3 import S3Settings
    from asyncup.sinks.s3.documents import S3Documents
    from asyncup.sources.connection.statesession import StateSession

R = TypeVar("R")

#: Between two looks at whether a lease is to be renewed.
_KEEP_SECONDS = 1.0
#: What gives back what was opened, in the order of opening.
Closers = list[Callable[[], Awaitable[None]]]

_UNGUARDED = (
    "the S3 server of --state ignores conditional writes, so it cannot keep two runs of one job apart: "
    "see to it that only one runs at a time"
)


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the places of state. `dsn` is for those in Postgres, the rest for those in S3; seconds."""

    dsn: str | None = None
    password: Password | None = field(default=None, repr=False)
    password_command: str | None = None
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    addressing: str = "auto"
    ca_bundle: str | None = None
    no_sign_request: bool = False
    attempt_timeout: float = 60.0
    #: what requests to the bucket of `own` are given as well
    own: str | None = None
    sse: str | None = None
    sse_kms_key_id: str | None = None
    request_payer: str | None = None
    expected_bucket_owner: str | None = None

    @classmethod
    def of(cls, config: Config) -> Access:
        """The access that a job has. What objects are given holds for state in the same bucket."""
        names = {entry.name for entry in dataclasses.fields(cls)} - {"own"}
        own = config.to.removeprefix("s3://").partition("/")[0] if config.to.startswith("s3://") else None
        return cls(**{name: getattr(config, name) for name in names}, own=own)

    def settings(self, bucket: str, *, connections: int) -> S3Settings:
        """How a bucket is reached; what objects in it are given is not among it."""
        from asyncup.sinks.s3 import S3Settings

        return S3Settings(
            bucket=bucket,
            endpoint_url=self.endpoint_url,
            region=self.region,
            profile=self.profile,
            addressing=self.addressing,
            ca_bundle=self.ca_bundle,
            no_sign_request=self.no_sign_request,
            attempt_timeout=self.attempt_timeout,
            connections=connections,
        )

    async def documents(self, bucket: str, prefix: str) -> S3Documents:
        """A client for a bucket.

        Raises:
            DestinationRefused: endpoint or credentials cannot be had.
        """
        from asyncup.sinks.s3.documents import S3Documents

        settings = self.settings(bucket, connections=4)
        if bucket == self.own:
            settings = dataclasses.replace(
                settings,
                sse=self.sse,
                sse_kms_key_id=self.sse_kms_key_id,
                request_payer=self.request_payer,
                expected_bucket_owner=self.expected_bucket_owner,
            )
        return await S3Documents.open(settings, prefix)

    def statements(self, retrier: Retrier, schema: str, table: str) -> StateSession:
        """A connection to the database, made when it is first used.

        Raises:
            ConfigError: the DSN is none.
        """
        from asyncup.sources.connection.login import Login
        from asyncup.sources.connection.statesession import StateSession

        return StateSession(Login.of(self.dsn, self.password, self.password_command), retrier, schema, table)


@dataclass(frozen=True, slots=True)
class StateRequest:
    """Which job's state is wanted, by whom, and who is told of what; `closers` close what is opened, last things first."""

    config: Config
    name: str
    interrupt: Interrupt
    retrier: Retrier
    on_retry: Callable[[AsyncupError, int, float], None]
    say: Callable[[str], None]
    closers: Closers

    @property
    def place(self) -> StatePlace:
        return parse_state(self.config.state)

    @property
    def state_name(self) -> str:
        """The name under which the state is locked: trials share none with the job."""
        return self.name + TRIAL if self.config.is_trial else self.name

    def tenure(self) -> Tenure:
        return Tenure(self.interrupt, self.config.drain_timeout, self.on_retry)


@dataclass(frozen=True, slots=True)
class JobState:
    """One job's state, held by this run. `checkpoints` is None where nothing is to be kept, `lease` where the kernel locks."""

    checkpoint: Checkpoint
    letters: KeptLetters
    checkpoints: CheckpointStore | None
    lease: Lease | None


async def open_state(request: StateRequest, fingerprint: dict[str, Any], *, resumable: bool = True) -> JobState:
    """Take a job, read its checkpoint and open its dead letters. A run that is not `resumable` leaves no checkpoint.

    Raises:
        StateRefused: another run has the job, or its checkpoint is that of another configuration, or cannot be read, or
            this run could not go on from it.
        AsyncupError: the state cannot be reached.
    """
    config = request.config
    held = await _hold(request)
    found = None
    if not config.is_trial and config.restart:
        await held.checkpoints.forget()  # now, not with the first save: a crash in between must not bring it back
    elif not config.is_trial:
        found = await held.checkpoints.load()
        if not resumable and found is not None:
            check_finished(found)
            await held.checkpoints.forget()  # its dead letters go with this run's
            found = None
    checkpoint = to_go_on_from(found, request.name, fingerprint, has_key=config.key is not None)
    if (notice := first_increment(found, fingerprint)) is not None:
        request.say(notice)
    job = {"name": request.state_name, **checkpoint.fingerprint, "options": config.kept()}
    if config.dead_letters is not None or held.letters is None:
        path = Path(config.dead_letters) if config.dead_letters is not None else held.letters_file
        letters: KeptLetters = await _open_file(DeadLetterFile(path, job), checkpoint, request.closers)
    else:
        opened = held.letters(job)
        await opened.open(request.retrier, keep=checkpoint.letters)
        letters = opened
    if checkpoint.mark and not checkpoint.has_begun:  # a run has ended since: its letters may have been put aside
        checkpoint = dataclasses.replace(checkpoint, mark={**checkpoint.mark, "letters": letters.letters})
    _check_letters(letters, checkpoint, str(held.letters_file) if held.letters is None else held.letters(job).location)
    checkpoint = dataclasses.replace(checkpoint, options=config.kept())
    return JobState(checkpoint, letters, None if config.is_trial or not resumable else held.checkpoints, held.lease)


async def hold_job(request: StateRequest) -> Lease | None:
    """Take a job, so that nobody else runs it, and leave its state as it is; the lease is to be kept, if there is one.

    Raises:
        StateRefused: another run has the job.
        AsyncupError: the state cannot be reached.
    """
    return (await _hold(request)).lease


async def look_at_job(request: StateRequest) -> Entry:
    """What there is of a job, for someone who only looks: nothing is made, taken or changed.

    Raises:
        StateRefused: a run could not keep its state there.
        AsyncupError: the state cannot be reached.
    """
    config, place, name = request.config, request.place, request.state_name
    if place.kind == "s3":
        from asyncup.checkpoints.s3 import look

        prefix = _slashed(place.name)
        documents = await Access.of(config).documents(place.place, prefix)
        request.closers.append(documents.close)
        return await look(documents, f"s3://{place.place}", prefix, name, request.retrier)
    if place.kind == "postgres":
        from asyncup.checkpoints.postgres import StateTable

        session = Access.of(config).statements(request.retrier, place.place, place.name)
        request.closers.append(session.close)
        return await StateTable(session, place.place, place.name).look(name, request.retrier)
    return await asyncio.to_thread(StateFolder(Path(place.place)).look, name)


async def look_at_letters(request: StateRequest, entry: Entry, checkpoint: Checkpoint) -> None:
    """See whether a run that begins with a checkpoint could keep its dead letters, where they are in a file.

    Raises:
        StateRefused: it could not, or those of the rows that failed before are not there.
    """
    given = request.config.dead_letters
    if given is None and request.place.kind != "folder":
        return
    letters = DeadLetterFile(Path(given or entry.letters), {"name": request.state_name})
    await asyncio.to_thread(letters.look, keep=checkpoint.letters, makes_folder=given is None)
    _check_letters(letters, checkpoint, entry.letters)


async def keeping(lease: Lease | None, work: Awaitable[R]) -> R:
    """The result of work that may take long, with a lease that is kept meanwhile. It must not use the state itself.

    Raises:
        StateLost: the lease was lost; the work is cancelled.
    """
    if lease is None:
        return await work

    async def renew() -> None:
        while True:
            await asyncio.sleep(_KEEP_SECONDS)
            await lease.keep()

    try:
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(renew(), name="asyncup-lease")
            result = await work
            renewing.cancel()
    except BaseExceptionGroup as errors:
        failure = errors.exceptions[0]
    else:
        return result
    raise failure


class _Store(CheckpointStore, Protocol):
    """A checkpoint store that is held."""

    async def forget(self) -> None: ...


class _RemoteLetters(KeptLetters, Protocol):
    """Dead letters that are no file."""

    async def open(self, retrier: Retrier, *, keep: int) -> None: ...


@dataclass(frozen=True, slots=True)
class _Held:
    """A job that is ours, and what opens its dead letters: `letters` for a job, or the file of `letters_file`."""

    checkpoints: _Store
    lease: Lease | None = None
    letters: Callable[[dict[str, Any]], _RemoteLetters] | None = None
    letters_file: Path = Path()


async def _hold(request: StateRequest) -> _Held:
    kind = request.place.kind
    return await (_hold_s3 if kind == "s3" else _hold_postgres if kind == "postgres" else _hold_folder)(request)


async def _hold_folder(request: StateRequest) -> _Held:
    name, folder = request.state_name, StateFolder(Path(request.place.place))
    await asyncio.to_thread(folder.prepare)

    async def lock() -> None:
        taken = await asyncio.to_thread(folder.lock, name)
        request.closers.append(lambda: asyncio.to_thread(folder.unlock, name, taken))

    await to_its_end(lock(), "asyncup-lock")
    return _Held(FileCheckpoints(folder.file(name, ".json")), letters_file=folder.file(name, ".dead-letters.jsonl"))


async def _hold_s3(request: StateRequest) -> _Held:
    from asyncup.checkpoints.s3 import S3Checkpoints
    from asyncup.checkpoints.s3letters import S3DeadLetters, folder

    name, bucket, prefix = request.state_name, request.place.place, _slashed(request.place.name)
    place = f"s3://{bucket}"
    documents = await Access.of(request.config).documents(bucket, prefix)
    request.closers.append(documents.close)
    owner = await asyncio.to_thread(Owner.here)
    checkpoints = S3Checkpoints(documents, place, prefix, name, owner, request.tenure())
    await checkpoints.take(request.retrier, restart=request.config.restart)
    request.closers.append(lambda: _release(checkpoints.release))
    if not checkpoints.is_guarded:
        request.say(_UNGUARDED)

    def letters(job: dict[str, Any]) -> S3DeadLetters:
        return S3DeadLetters(documents, place, folder(prefix, name), job, checkpoints)

    return _Held(checkpoints, checkpoints, letters)


async def _hold_postgres(request: StateRequest) -> _Held:
    from asyncup.checkpoints.postgres import PostgresCheckpoints, StateTable
    from asyncup.checkpoints.postgresletters import PostgresDeadLetters

    name, schema, table_name = request.state_name, request.place.place, request.place.name
    session = Access.of(request.config).statements(request.retrier, schema, table_name)
    request.closers.append(session.close)
    table = StateTable(session, schema, table_name)
    await table.prepare(request.retrier)
    owner, tenure = await asyncio.to_thread(Owner.here), request.tenure()
    checkpoints = PostgresCheckpoints(table, name, owner, tenure)
    await checkpoints.take(request.retrier)
    request.closers.append(lambda: _release(checkpoints.release))
    return _Held(checkpoints, checkpoints, lambda job: PostgresDeadLetters(table, name, job, owner, tenure))


def check_finished(found: Checkpoint) -> None:
    """See that nothing is left to go on from, for a run that cannot.

    Raises:
        StateRefused: there is.
    """
    _check_increments(found)
    if not found.finished:
        raise StateRefused(
            "resume",
            found.name,
            "there is an unfinished checkpoint, and a run of this kind cannot go on from one",
            "finish it first with the flags of the run before, or give --restart to start over, or another --name",
        )


def _check_increments(found: Checkpoint) -> None:
    """See that a full run does not take the place of increments that have come to their end.

    Raises:
        StateRefused: it would.
    """
    column = found.fingerprint.get("incremental")
    if found.finished and column is not None:
        raise StateRefused(
            "resume",
            found.name,
            f"it has the checkpoint of runs with --incremental {written(column)}, and a full run would forget how far they have come",
            f"give --incremental {written(column)} to go on behind them, --restart to forget them, or this run a --name of its own",
        )


def first_increment(found: Checkpoint | None, fingerprint: dict[str, Any]) -> str | None:
    """What is to be said of an incremental run behind full ones, which pin no bounds; None where it is no such run."""
    if found is None or not found.finished or "incremental" not in fingerprint or "incremental" in found.fingerprint:
        return None
    return "the runs before this one were full ones, and kept no bounds: this one reads everything once, those behind it what is new"


def to_go_on_from(
    found: Checkpoint | None, name: str, fingerprint: dict[str, Any], *, has_key: bool = False
) -> Checkpoint:
    """The checkpoint that was found, or a new one where there is none or it is finished.

    Where nobody gives a key (`has_key`), an incremental run finds one by the indexes that there are, and another where one
    has come or gone. The checkpoint that is returned may have the key of before: dead letters are of one key, and what an
    unfinished run has read needs no reading again as long as the key is one that the table has by itself.

    Raises:
        StateRefused: another configuration wrote it.
    """
    is_incremental = "incremental" in fingerprint
    if found is not None and not is_incremental:
        _check_increments(found)
    if found is None or (found.finished and "incremental" not in found.fingerprint):  # everything is read anew
        return Checkpoint(name, fingerprint, None, Counts(), False, timestamp(), timestamp())
    differences = fingerprint_difference(found.fingerprint, fingerprint)
    before, key = found.fingerprint.get("key", []), fingerprint["key"]
    if is_incremental and before != key and not (has_key and found.letters):
        differences = [difference for difference in differences if not difference.startswith("key: ")]
    if differences:
        kind, way = ("finished", "go on from") if found.finished else ("unfinished", "finish")
        raise StateRefused(
            "resume",
            found.name,
            f"the {kind} checkpoint was written by another configuration: " + "; ".join(differences),
            f"give the same flags as before to {way} it, or --restart to start over (or another --name to keep both)",
        )
    stays = found.letters or (not has_key and len(before) < len(key))
    if is_incremental and (found.finished or (before != key and not stays)):
        from asyncup.sources.increments.mark import anew

        mark = found.mark if found.finished else anew(found.mark)
        mark = {**mark, "letters": found.letters}
        fingerprint = {**fingerprint, "key": before} if found.letters else fingerprint
        return Checkpoint(name, fingerprint, None, Counts(), False, timestamp(), timestamp(), mark=mark)
    return found


def _check_letters(letters: KeptLetters, checkpoint: Checkpoint, usual: str) -> None:
    """See that the rows that failed before have their letters: else they would be known to nobody.

    `usual` is where letters are kept when nobody says otherwise.

    Raises:
        StateRefused: they have not.
    """
    failed = checkpoint.letters
    if letters.letters >= failed:
        return
    given = checkpoint.options.get("dead_letters")
    before = given or usual
    hint = f"give --dead-letters {given} as before" if given else "leave --dead-letters out, as before"
    if str(before) == letters.location:
        hint = "put them back there"
    raise StateRefused(
        "open dead letters",
        letters.location,
        f"the unfinished checkpoint counts {failed:,} failed rows, of which {letters.letters:,} are here; the run before "
        f"kept them in {before}",
        f"{hint}, or copy every row anew with --restart",
    )


async def _open_file(letters: DeadLetterFile, checkpoint: Checkpoint, closers: Closers) -> DeadLetterFile:

    async def open_letters() -> None:
        await asyncio.to_thread(letters.open, keep=checkpoint.letters)
        closers.append(lambda: asyncio.to_thread(letters.close))

    await to_its_end(open_letters(), "asyncup-open-letters")
    return letters


async def _release(release: Callable[[], Awaitable[None]]) -> None:
    """Give a lease back where that can be done; else it runs out."""
    with contextlib.suppress(AsyncupError):
        await release()


async def list_state(state: str, access: Access, retrier: Retrier) -> list[Entry]:
    """What there is in a place of state, by name of job. Nothing is made or locked.

    Raises:
        AsyncupError: it cannot be read.
    """
    place = parse_state(state)
    if place.kind == "s3":
        from asyncup.checkpoints.s3 import entries

        prefix = _slashed(place.name)
        documents = await access.documents(place.place, prefix)
        try:
            return await entries(documents, f"s3://{place.place}", prefix, retrier)
        finally:
            await documents.close()
    if place.kind == "postgres":
        from asyncup.checkpoints.postgres import StateTable

        session = access.statements(retrier, place.place, place.name)
        try:
            table = StateTable(session, place.place, place.name)
            return await table.entries(retrier) if await table.exists(retrier) else []
        finally:
            await session.close()
    return await asyncio.to_thread(StateFolder(Path(place.place)).entries)


@contextlib.asynccontextmanager
async def read_letters(
    location: str, access: Access, retrier: Retrier
) -> AsyncGenerator[tuple[dict[str, Any], AsyncGenerator[dict[str, Any], None]]]:
    """Dead letters that are no file, as a summary names them: the job that they are of, and one object for each row.

    A location is `s3://bucket/prefix/NAME.dead-letters/` or `postgres:schema.table_dead_letters#NAME`. They are read as
    they are asked for. Those in a file are for `LetterFile`.

    Raises:
        StateRefused: there are none, or they are not of this version.
        AsyncupError: they cannot be read.
    """
    async with contextlib.AsyncExitStack() as stack:
        if location.startswith("s3://"):
            from asyncup.checkpoints.s3letters import read

            bucket, _, folder = location.removeprefix("s3://").partition("/")
            documents = await access.documents(bucket, folder)
            stack.push_async_callback(documents.close)
            job, lines = await read(documents, _slashed(folder.rstrip("/")), location, retrier)
        else:
            from asyncup.checkpoints.postgresletters import read as read_table

            schema, table, name = _letters_table(location)
            session = access.statements(retrier, schema, table)
            stack.push_async_callback(session.close)
            job, lines = await read_table(session, schema, table, name, location, retrier)
        stack.push_async_callback(lines.aclose)
        letters = _parsed(lines, location)
        stack.push_async_callback(letters.aclose)
        yield job, letters


async def _parsed(lines: AsyncGenerator[bytes, None], location: str) -> AsyncGenerator[dict[str, Any], None]:
    async for line in lines:
        try:
            yield dict(json.loads(line))
        except (ValueError, TypeError) as exc:
            reason = f"a line is no dead letter: {line[:80]!r}"
            raise StateRefused("read dead letters", location, reason, "mend that line or take it out") from exc


def _letters_table(location: str) -> tuple[str, str, str]:
    """The schema, the table and the job that `postgres:schema.table#NAME` names; a quoted name may hold a # too."""
    place = location.removeprefix("postgres:")
    position = place.find("#")
    while position >= 0:
        with contextlib.suppress(ValueError):
            return (*parse_qualified(place[:position]), place[position + 1 :])
        position = place.find("#", position + 1)
    raise StateRefused(
        "open dead letters",
        location,
        "it names no table and job",
        "write it as a run's summary does: postgres:schema.table_dead_letters#NAME",
    )


def _slashed(prefix: str) -> str:
    return prefix + "/" if prefix else ""
