"""What `asyncup plan` found, as values: whether a sync would run, what it would do, and what it would take.

Every field is there in every outcome; what was not found out is None. Numbers of rows and bytes are estimates, and each
says in `basis` where it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from asyncup.errors import AsyncupError
from asyncup.model import Key
from asyncup.pricing import Rate, Requests
from asyncup.report import ABORTED, INTERRUPTED, error_to_json

READY = "ready"
REFUSED = "refused"

#: Version of the JSON object's shape.
PREFLIGHT_VERSION = 1

COUNTED = "counted"
RELTUPLES = "reltuples"
PLANNER = "the planner's estimate"
LIMIT = "--limit"


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What is read, and from which server. `host` is None for a socket."""

    label: str | None = None
    kind: str | None = None
    server: str | None = None
    database: str | None = None
    host: str | None = None
    port: int | None = None
    role: str | None = None
    standby: bool | None = None
    disk_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """A column of the pagination key; `nullable` when NULLs may be in it."""

    name: str
    type: str
    nullable: bool


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """The pagination key; `proven` when an index guarantees that it is unique. `origin` says who chose it."""

    columns: tuple[KeyColumn, ...] = ()
    origin: str | None = None
    proven: bool | None = None


@dataclass(frozen=True, slots=True)
class AccessFacts:
    """How the server comes to a page, as the planner says, and how long the first one took: `page_rows` rows, bodies built.

    `ranges` are the parts that several readers would take, `shard` the share of this machine.
    """

    index: str | None = None
    indexes: tuple[str, ...] = ()
    sorts: bool | None = None
    scans: bool | None = None
    at_once: bool | None = None
    reason: str | None = None
    mend: str | None = None
    page_rows: int | None = None
    page_milliseconds: float | None = None
    readers: int | None = None
    ranges: int | None = None
    shard: str | None = None


@dataclass(frozen=True, slots=True)
class RowsEstimate:
    """How many rows there are, and how many a run would read: `left`, fewer where it goes on from a checkpoint.

    `analyzed` is UTC, ISO 8601; `changed` counts rows that were written since.
    """

    estimate: int | None = None
    exact: bool = False
    basis: str | None = None
    left: int | None = None
    analyzed: str | None = None
    changed: int | None = None


@dataclass(frozen=True, slots=True)
class BytesEstimate:
    """Bytes of the bodies that would be sent: the mean and the largest of a sample, and that mean for every row."""

    estimate: int | None = None
    mean: float | None = None
    largest: int | None = None
    basis: str | None = None


@dataclass(frozen=True, slots=True)
class SampledRow:
    """A row that was read now, and what would become of it: `put`, `skipped` or `failed`, with the reason."""

    key: Key
    object_key: str | None
    size: int | None
    headers: dict[str, str]
    outcome: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """How the rows of the sample would end, and why those that would not be put: each reason with its rows."""

    rows: int = 0
    put: int = 0
    skipped: int = 0
    failed: int = 0
    reasons: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class TemplateFacts:
    """Whether each row gets an object key of its own, and by which columns.

    `prefixes` are leading prefixes of the sample's object keys, the first few of `leading_prefixes` of them.
    """

    text: str | None = None
    unique: bool | None = None
    by: tuple[str, ...] = ()
    leading_prefixes: int | None = None
    prefixes: tuple[str, ...] = ()
    prefix_rate: int | None = None


@dataclass(frozen=True, slots=True)
class DestinationFacts:
    """Where objects would go and how. `place` is the bucket or the folder.

    `listed` counts the objects below the template's literal beginning, up to a page of them; with `more` there are others.
    """

    kind: str | None = None
    place: str | None = None
    region: str | None = None
    endpoint: str | None = None
    url: str | None = None
    lane: str | None = None
    addressing: str | None = None
    if_exists: str | None = None
    needs: str | None = None
    listed: int | None = None
    more: bool | None = None


@dataclass(frozen=True, slots=True)
class Permissions:
    """What is allowed, as far as can be asked without writing; None where it is not known. `grant` mends the database's."""

    select: bool | None = None
    list: bool | None = None
    put: bool | None = None
    grant: str | None = None


@dataclass(frozen=True, slots=True)
class StateFacts:
    """Where the state would be, and what is there. `fits` is whether a run may go on from an unfinished checkpoint.

    `rows` are those that it has settled; `watermark` is None where several ranges have one each. An incremental run reads
    what its column `incremental` has from `lo` to `hi`.
    """

    name: str | None = None
    place: str | None = None
    checkpoint: str | None = None
    found: bool | None = None
    finished: bool | None = None
    resumes: bool | None = None
    fits: bool | None = None
    rows: int | None = None
    watermark: Key | None = None
    saved: str | None = None
    lock: str | None = None
    dead_letters: str | None = None
    incremental: str | None = None
    lo: str | None = None
    hi: str | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """List prices in US dollars; None where the destination's are not known. `storage_month` is for keeping it a month."""

    dollars: float | None = None
    storage_month: float | None = None
    basis: str | None = None
    date: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a sync of the same options would do. Nothing was sent or written to find out.

    `reasons` are why it would not run, all that could be found; `command` is the sync to type, without secrets.
    """

    looked: bool = False
    reasons: tuple[AsyncupError, ...] = ()
    signal: int | None = None
    source: SourceFacts = SourceFacts()
    key: KeyFacts = KeyFacts()
    access: AccessFacts = AccessFacts()
    rows: RowsEstimate = RowsEstimate()
    bytes: BytesEstimate = BytesEstimate()
    sample: tuple[SampledRow, ...] = ()
    trial: Trial = Trial()
    template: TemplateFacts = TemplateFacts()
    destination: DestinationFacts = DestinationFacts()
    permissions: Permissions = Permissions()
    state: StateFacts = StateFacts()
    requests: Requests = field(default_factory=Requests)
    price: Price = Price()
    times: tuple[Rate, ...] = ()
    notices: tuple[str, ...] = ()
    command: str | None = None

    @property
    def error(self) -> AsyncupError | None:
        """The first reason."""
        return self.reasons[0] if self.reasons else None

    @property
    def status(self) -> str:
        if self.signal is not None:
            return INTERRUPTED
        if self.reasons:
            return REFUSED if any(reason.needs_configuration for reason in self.reasons) else ABORTED
        return READY if self.looked else ABORTED

    @property
    def exit_code(self) -> int:
        """0 ready · 1 a server cannot be reached · 2 a sync would be refused · 128 + signal."""
        if self.signal is not None:
            return 128 + self.signal
        return {READY: 0, REFUSED: 2}.get(self.status, 1)

    def to_json(self) -> dict[str, Any]:
        """The object that `--output json` prints; every field is there in every outcome."""
        found: dict[str, Any] = {
            "version": PREFLIGHT_VERSION,
            "status": self.status,
            "error": None if self.error is None else error_to_json(self.error),
            "reasons": [error_to_json(reason) for reason in self.reasons],
        }
        for name in (
            *("source", "key", "access", "rows", "bytes", "sample", "trial", "template", "destination", "permissions"),
            *("state", "requests", "price", "times", "notices", "command"),
        ):
            found[name] = _json(getattr(self, name))
        found["trial"]["reasons"] = [{"reason": reason, "rows": rows} for reason, rows in self.trial.reasons]
        found["requests"]["total"] = self.requests.total
        return found


def _json(value: Any) -> Any:
    if is_dataclass(value):
        return {entry.name: _json(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, tuple):
        return [_json(part) for part in value]
    return round(value, 6) if isinstance(value, float) else value
