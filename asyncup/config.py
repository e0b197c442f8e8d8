"""What a user asked for, validated: one frozen value, and the only place where a default is declared.

Values arrive as text from flags and the environment, or as Python values from a caller; `Config.of` takes both.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import re
import shlex
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from asyncup.errors import UsageError
from asyncup.names import parse_identifiers
from asyncup.stateplace import parse_state
from asyncup.values import MIB, OBJECT_OPTIONS, environment, parse_expected, parsed, usage

ON_NULL = ("skip", "empty", "fail")
IF_EXISTS = ("overwrite", "skip", "fail", "different")
ADDRESSING = ("auto", "path", "virtual")
S3_CLIENTS = ("wire", "botocore")
COMPRESSIONS = ("none", "gzip", "zstd")
#: The levels that each compression knows.
COMPRESSION_LEVELS = {"gzip": (1, 9), "zstd": (1, 19)}
#: What object keys end with whose bodies are compressed; the rest of the key says what they are.
SUFFIXES = {"none": "", "gzip": ".gz", "zstd": ".zst"}
EXECUTORS = ("auto", "loop", "thread", "process")
PACKS = ("ndjson", "csv", "tar", "parquet")
#: What cuts packs where nobody says what does.
PACK_ROWS, PACK_BYTES = 100_000, 64 << 20
CHECKSUMS = ("crc32", "sha256", "none")
REQUEST_PAYERS = ("requester",)
SSE = ("AES256", "aws:kms", "aws:kms:dsse")
#: Canned ACLs of objects. Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html#canned-acl
ACLS = (
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
)
#: Those of AWS, for hints: other providers have classes of their own.
STORAGE_CLASSES = (
    "STANDARD",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER_IR",
    "GLACIER",
    "DEEP_ARCHIVE",
    "REDUCED_REDUNDANCY",
    "EXPRESS_ONEZONE",
    "OUTPOSTS",
    "SNOW",
)
#: Every option that is one of several words.
CHOICES = {
    "on_null": ON_NULL,
    "if_exists": IF_EXISTS,
    "addressing": ADDRESSING,
    "s3_client": S3_CLIENTS,
    "request_payer": REQUEST_PAYERS,
    "sse": SSE,
    "acl": ACLS,
    "checksum": CHECKSUMS,
    "compress": COMPRESSIONS,
    "executor": EXECUTORS,
    "pack": PACKS,
}
#: A password, or what gives one for each connection: plain or async.
Password: TypeAlias = "str | Callable[[], str | Awaitable[str]]"  # noqa: S105 - a type
#: What stands before the name of a column that holds the oids of large objects.
LARGE_OBJECT = "lo:"
#: What no state keeps: a connection that may hold a secret, and what is meant for one run alone.
UNKEPT = ("dsn", "password", "password_command", "restart", "dry_run", "expect_rows", "min_rate", "timeout")
#: A user's function over rows, or where it is: `package.module:function`.
Function: TypeAlias = "str | Callable[..., Any]"

#: Every upload in flight is a task and a connection of its own.
MAX_CONCURRENCY = 10_000
#: Every reader is a connection to the database, which has 100 of them where nobody changed that.
MAX_READERS = 64
#: Workers of a transform: threads or processes.
MAX_WORKERS = 1000
_STORAGE_CLASS = re.compile(r"[A-Z][A-Z0-9_]*")
_ACCOUNT = re.compile(r"[0-9]{12}")
_VISIBLE = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One job, as asked for. Sizes in bytes, times in seconds; None means: decide for me."""

    # source
    dsn: str | None = None
    password: Password | None = field(default=None, repr=False)
    password_command: str | None = None
    table: str | None = None
    query: str | None = None
    where: str | None = None
    key: tuple[str, ...] | None = None
    page_size: int | None = None
    readers: int = 1
    snapshot: bool = False
    shard: str | None = None
    allow_sort: bool = False
    incremental: str | None = None
    lag: float | None = None
    limit: int | None = None
    # destination
    to: str = ""
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    addressing: str = "auto"
    ca_bundle: str | None = None
    no_sign_request: bool = False
    request_payer: str | None = None
    expected_bucket_owner: str | None = None
    s3_client: str = "wire"
    no_verify_etag: bool = False
    # object
    body: str | None = None
    content_type: str | None = None
    cache_control: str | None = None
    content_disposition: str | None = None
    content_language: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    tag: tuple[tuple[str, str], ...] = ()
    storage_class: str | None = None
    sse: str | None = None
    sse_kms_key_id: str | None = None
    acl: str | None = None
    checksum: str | None = None
    on_null: str = "skip"
    allow_collisions: bool = False
    if_exists: str = "overwrite"
    compress: str = "none"
    compress_level: int | None = None
    # transform
    transform: Function | None = None
    executor: str = "auto"
    executor_workers: int | None = None
    transform_timeout: float = 60.0
    # packs
    pack: str | None = None
    pack_rows: int | None = None
    pack_bytes: int | None = None
    pack_by: tuple[str, ...] = ()
    pack_index: bool = False
    pack_member: str | None = None
    # flow
    concurrency: int | None = None
    max_concurrency: int | None = None
    max_rate: float | None = None
    max_bandwidth: int | None = None
    memory: int = 256 * MIB
    max_attempts: int = 10
    attempt_timeout: float = 60.0
    drain_timeout: float = 30.0
    max_failures: int | None = None
    # state
    state: str = ".asyncup"
    name: str | None = None
    restart: bool = False
    dead_letters: str | None = None
    # this run
    dry_run: bool = False
    expect_rows: str | None = None
    min_rate: float | None = None
    timeout: float | None = None

    @classmethod
    def of(cls, **options: Any) -> Config:
        """Parse and validate options; those that are None keep their default.

        Raises:
            UsageError: naming the flag and what would be right.
        """
        known = {entry.name for entry in fields(cls)}
        values: dict[str, Any] = {}
        for option, value in options.items():
            if option not in known:
                near = difflib.get_close_matches(option, known, n=1)
                raise UsageError(
                    "read options",
                    option,
                    "there is no such option",
                    f"did you mean {near[0]}?" if near else None,
                )
            if value is None:
                continue
            try:
                values[option] = parsed(option, value)
            except ValueError as exc:
                raise usage(option, str(exc)) from None
        config = cls(**values)
        config._validate()
        return config

    def _validate(self) -> None:
        if self.table is None and self.query is None:
            raise usage(
                "table",
                "nothing to read",
                "name a table with --table, or give a query with --query and --key; asyncup init writes a first asyncup.toml",
            )
        if self.table is not None and self.query is not None:
            raise usage("query", "cannot be combined with --table", "give one of them")
        if self.query is not None and not self.query.strip():
            raise usage("query", "is empty", "give a SELECT, and the columns that identify a row of it with --key")
        if self.query is not None and self.key is None:
            raise usage(
                "query",
                "a query has no primary key",
                "name the columns that identify a row of it with --key, such as --key id",
            )
        if not self.to:
            raise usage("to", "nowhere to write", "give a destination such as --to 's3://bucket/{id}.json'")
        if self.password is not None and self.password_command is not None:
            raise usage("password_command", "cannot be combined with a password", "give one of them")
        if self.page_size is not None and self.page_size < 1:
            raise usage("page_size", "must be at least 1")
        if not 1 <= self.readers <= MAX_READERS:
            raise usage("readers", f"must be from 1 to {MAX_READERS}", "each is a connection to the database")
        self._validate_incremental()
        if self.limit is not None and self.limit < 0:
            raise usage("limit", "must not be negative")
        if self.memory < 1:
            raise usage("memory", "must be more than nothing", "such as --memory 256MiB")
        if self.max_attempts < 1:
            raise usage("max_attempts", "must be at least 1")
        if not 0 < self.attempt_timeout < math.inf:
            raise usage("attempt_timeout", "must be more than 0")
        if not 0 <= self.drain_timeout < math.inf:
            raise usage("drain_timeout", "must not be negative")
        if self.max_failures is not None and self.max_failures < 0:
            raise usage("max_failures", "must not be negative")
        if self.min_rate is not None and not 0 < self.min_rate < math.inf:
            raise usage("min_rate", "must be more than 0, and not endless", "objects a second, such as --min-rate 1000")
        if self.timeout is not None and not 0 < self.timeout < math.inf:
            raise usage("timeout", "must be more than 0", "such as --timeout 30m; without it a run takes what it takes")
        if self.name is not None and not self.name.strip():
            raise usage("name", "must not be empty")
        if self.key == ():
            raise usage("key", "names no column")
        try:
            _ = self.body_column
        except ValueError:
            raise usage(
                "body",
                f"{self.body!r} is not a column's name",
                _as_name(str(self.body))
                or 'name one column as in SQL, lo:COLUMN for large objects, or "row" for the row as JSON',
            ) from None
        if self.ca_bundle is not None and not Path(self.ca_bundle).is_file():
            raise usage("ca_bundle", f"there is no file {self.ca_bundle}")
        parse_state(self.state)
        self._validate_flow()
        self._validate_choices()
        self._validate_object()
        self._validate_transform()
        self._validate_packs()

    def _validate_incremental(self) -> None:
        try:
            column = self.incremental_column
        except ValueError:
            raise usage(
                "incremental", f"{self.incremental!r} is not a column's name", "name one column as in SQL"
            ) from None
        if column is not None and self.snapshot:
            raise usage(
                "snapshot",
                "cannot be combined with --incremental",
                "leave it out: an incremental run pins its bounds before it reads",
            )
        if self.lag is not None and column is None:
            raise usage("lag", "has no meaning without --incremental", "give --incremental COLUMN, or leave it out")
        if self.lag is not None and not 0 <= self.lag < math.inf:
            raise usage("lag", "must not be negative")

    def _validate_transform(self) -> None:
        if self.compress_level is not None:
            if self.compress == "none":
                raise usage("compress_level", "has no meaning without --compress", "add --compress gzip or zstd")
            least, most = COMPRESSION_LEVELS[self.compress]
            if not least <= self.compress_level <= most:
                raise usage("compress_level", f"must be from {least} to {most} with --compress {self.compress}")
        if self.transform is None:
            for option in ("executor", "executor_workers", "transform_timeout"):
                if getattr(self, option) != Config.__dataclass_fields__[option].default:
                    raise usage(option, "has no meaning without --transform", "give --transform module:function")
        if self.executor_workers is not None and not 1 <= self.executor_workers <= MAX_WORKERS:
            raise usage("executor_workers", f"must be from 1 to {MAX_WORKERS}")
        if not 0 < self.transform_timeout < math.inf:
            raise usage("transform_timeout", "must be more than 0")

    def _validate_packs(self) -> None:
        if self.pack is None:
            for option in ("pack_rows", "pack_bytes", "pack_by", "pack_index", "pack_member"):
                if getattr(self, option):
                    raise usage(option, "has no meaning without --pack", f"add --pack {'|'.join(PACKS)}")
            return
        for option in ("pack_rows", "pack_bytes"):
            value = getattr(self, option)
            if value is not None and value < 1:
                raise usage(option, "must be at least 1")
        if self.pack_member is not None and self.pack != "tar":
            raise usage("pack_member", "only tar has members with names", "leave it out")
        if self.pack_index and self.pack == "parquet":
            raise usage("pack_index", "no row of a Parquet file can be read by itself", "leave it out")
        if self.pack == "csv" and (self.transform is not None or self.body_column is not None):
            raise usage("pack", "csv has the columns of rows", "leave --body and --transform out, or pack as ndjson")
        if self.pack == "parquet" and (self.transform is not None or self.body_column is not None):
            raise usage(
                "pack", "parquet has the columns of rows", "leave --body and --transform out, or pack as ndjson"
            )
        if self.readers > 1:
            raise usage(
                "readers",
                "packs are cut in the order of the key, by one reader",
                "leave it out: making packs takes longer than reading; or copy parts of the table with --shard",
            )

    def _validate_flow(self) -> None:
        for option in ("concurrency", "max_concurrency"):
            value = getattr(self, option)
            if value is not None and value < 1:
                raise usage(option, "must be at least 1")
            if value is not None and value > MAX_CONCURRENCY:
                raise usage(option, f"must be at most {MAX_CONCURRENCY:,}")
        if (
            self.concurrency is not None
            and self.max_concurrency is not None
            and self.concurrency > self.max_concurrency
        ):
            raise usage(
                "concurrency",
                f"{self.concurrency:,} is more than --max-concurrency {self.max_concurrency:,}",
                "leave one of them out: --max-concurrency bounds --concurrency auto, and a number is kept as it is",
            )
        if self.max_rate is not None and not 0 < self.max_rate < math.inf:
            raise usage(
                "max_rate",
                "must be more than 0, and not endless",
                "a number of requests a second, such as --max-rate 500",
            )
        if self.max_bandwidth is not None and self.max_bandwidth < 1:
            raise usage("max_bandwidth", "must be more than nothing", "bytes a second, such as --max-bandwidth 20MiB")

    def _validate_choices(self) -> None:
        for option, allowed in CHOICES.items():
            value = getattr(self, option)
            if value is not None and value not in allowed:
                raise usage(option, f"{value!r} is none of {', '.join(allowed)}", _nearest(value, allowed))

    def _validate_object(self) -> None:
        if self.storage_class is not None and not _STORAGE_CLASS.fullmatch(self.storage_class):
            raise usage(
                "storage_class",
                f"{self.storage_class!r} is no storage class, such as STANDARD_IA",
                _nearest(self.storage_class, STORAGE_CLASSES),
            )
        if self.expected_bucket_owner is not None and not _ACCOUNT.fullmatch(self.expected_bucket_owner):
            raise usage("expected_bucket_owner", f"{self.expected_bucket_owner!r} is not an account: 12 digits")
        if self.sse_kms_key_id is not None:
            if self.sse not in ("aws:kms", "aws:kms:dsse"):
                raise usage("sse_kms_key_id", "only KMS has keys", "add --sse aws:kms")
            if not _VISIBLE.fullmatch(self.sse_kms_key_id):
                raise usage("sse_kms_key_id", f"{self.sse_kms_key_id!r} is not a key's id, ARN or alias")
        if self.to.startswith("file:"):
            for option, value in self.stored_with_object().items():
                # a content type, which every object has, is dropped whether it was given or guessed
                if value is not None and option != "content_type":
                    raise usage(
                        option,
                        "a file keeps nothing but its bytes",
                        f"leave it out with file:, {environment(option)} in the environment too",
                    )
            suffix = SUFFIXES.get(self.compress, "")
            if not self.to.endswith(suffix) and self.pack != "parquet":
                raise usage(
                    "compress",
                    f"a file keeps no Content-Encoding, and nothing in its name would say that it is {self.compress}",
                    f"end the template in {suffix}: --to {shlex.quote(self.to + suffix)}",
                )
        if self.to.startswith("python:"):
            self._validate_target()

    def _validate_target(self) -> None:
        """Refuse what a user's own sink is not told, or cannot be asked."""
        for option in ("storage_class", "sse", "sse_kms_key_id", "acl", "checksum"):
            if getattr(self, option) is not None:
                raise usage(
                    option,
                    "a python: sink is given the object's key, body and headers, and does this itself",
                    f"leave it out with python:, {environment(option)} in the environment too",
                )
        if self.if_exists != "overwrite":
            raise usage(
                "if_exists",
                "nobody knows which objects a python: sink holds",
                "leave it out with python:; its put may look for itself",
            )

    def stored_with_object(self) -> dict[str, Any]:
        """What is stored with every object beside its key and body, by option; None for what was not asked for.

        Names and values of metadata and tags are a mapping: their order changes nothing.
        """
        found = {option: getattr(self, option) for option in OBJECT_OPTIONS}
        return {option: dict(value) or None if isinstance(value, tuple) else value for option, value in found.items()}

    def made_of_rows(self) -> dict[str, Any]:
        """What happens to rows before they are objects, by option; only what was asked for."""
        found: dict[str, Any] = {"transform": self.transform_name}
        if self.compress != "none":
            found |= {"compress": self.compress, "compress_level": self.compress_level}
        if self.pack is not None:
            rows, size = self.pack_limits
            found |= {"pack": self.pack, "pack_rows": rows, "pack_bytes": size, "pack_by": list(self.pack_by) or None}
            found |= {"pack_index": self.pack_index or None, "pack_member": self.pack_member}
        return {option: value for option, value in found.items() if value is not None}

    def kept(self) -> dict[str, Any]:
        """What was asked for, as checkpoints and dead letters keep it: every option that has not its default, as JSON.

        `Config.of(**kept)` gives the same configuration, but for the connection to the database, which may hold a
        secret, and `restart`, which is for one run.
        """
        found: dict[str, Any] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name not in UNKEPT and value != entry.default:
                found[entry.name] = list(value) if isinstance(value, tuple) else value
        if self.transform is not None:
            found["transform"] = self.transform_name
        for option in {"metadata", "tag"} & found.keys():
            found[option] = [f"{name}={template}" for name, template in found[option]]
        return found

    def job_name(self, source: str) -> str:
        """The name that the state lies under, for a job that reads `source`; a shard has a state of its own."""
        name = self.name or source
        return name if self.shard is None else f"{name}.{'-of-'.join(self.shard.split('/'))}"

    @property
    def transform_name(self) -> str | None:
        """The user's function as state and messages call it: `package.module:function`."""
        if self.transform is None or isinstance(self.transform, str):
            return self.transform
        made = f"{type(self.transform).__qualname__}()"  # an object that is called: its class would be another function
        owner = getattr(self.transform, "__self__", None)
        if owner is not None and not isinstance(owner, type | ModuleType):
            made = f"{type(owner).__qualname__}().{getattr(self.transform, '__name__', '')}"
        name = made if owner is not None else getattr(self.transform, "__qualname__", made)
        return f"{getattr(self.transform, '__module__', '?')}:{name}"

    @property
    def pack_limits(self) -> tuple[int | None, int | None]:
        """The most rows and bytes of a pack; where one of them is given, only that one counts."""
        if self.pack_rows is None and self.pack_bytes is None:
            return PACK_ROWS, PACK_BYTES
        return self.pack_rows, self.pack_bytes

    @property
    def is_trial(self) -> bool:
        """A run for trying out: it reads from the start and leaves no checkpoint."""
        return self.limit is not None or self.dry_run

    @property
    def expected_rows(self) -> tuple[int | None, int | None]:
        """The least and the most rows that the job may have; None where any number will do."""
        return (None, None) if self.expect_rows is None else parse_expected(self.expect_rows)

    @property
    def only_signs(self) -> bool:
        """Whether a run asks the destination nothing once it has begun: what it would send is made and signed."""
        return self.dry_run and self.if_exists == "overwrite"

    @property
    def body_column(self) -> str | None:
        """The body's column, None for the whole row as JSON (`--body row`, the default)."""
        if self.body in (None, "row"):
            return None
        (column,) = parse_identifiers(str(self.body).removeprefix(LARGE_OBJECT))
        return column

    @property
    def is_large_object(self) -> bool:
        """Whether the body is the large object whose oid the column holds (`--body lo:COLUMN`)."""
        return str(self.body).startswith(LARGE_OBJECT)

    @property
    def incremental_column(self) -> str | None:
        """The column by which a run tells what is new."""
        if self.incremental is None:
            return None
        (column,) = parse_identifiers(str(self.incremental))
        return column

    def query_name(self) -> str:
        """The name of a job that reads a query: `query-` and 8 hex digits of the SQL's SHA-256."""
        return "query-" + hashlib.sha256((self.query or "").encode()).hexdigest()[:8]


def _nearest(value: object, allowed: Sequence[str]) -> str | None:
    folded = {name.lower(): name for name in allowed}
    near = difflib.get_close_matches(str(value).lower(), folded, n=1)
    return f"did you mean {folded[near[0]]}?" if near else None


def _as_name(text: str) -> str | None:
    """A hint for a text that would be a column's name in double quotes; None where it would be none."""
    prefix = LARGE_OBJECT if text.startswith(LARGE_OBJECT) else ""
    name = text.removeprefix(prefix).strip()
    if not name or '"' in name:
        return None
    typed = f'{prefix}"{name}"'
    return f"if that is a column's name, it needs double quotes: --body {shlex.quote(typed)}"
