"""`--state`, taken apart."""

from __future__ import annotations

import re
from dataclasses import dataclass

from asyncup.names import parse_qualified
from asyncup.values import usage

STATE_FORMS = "write --state DIR, --state s3://bucket/prefix or --state postgres:schema.table"
#: https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS
LONGEST_IDENTIFIER = 63
LONGEST_STATE_TABLE = LONGEST_IDENTIFIER - len("_dead_letters")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_PREFIX = re.compile(r"[A-Za-z0-9\-_.=+@,~/]{1,700}")


@dataclass(frozen=True, slots=True)
class StatePlace:
    """`--state`, taken apart: a `folder`; or a bucket and a prefix in `s3`; or a schema and a table in `postgres`."""

    kind: str
    place: str
    name: str = ""


def parse_state(state: str) -> StatePlace:
    """Take `DIR`, `s3://bucket/prefix` or `postgres:schema.table` apart.

    Raises:
        UsageError: it is none of them.
    """
    scheme, colon, _ = state.lower().partition(":")
    if not state.strip() or "\0" in state:
        raise usage("state", "names no place", STATE_FORMS)
    if scheme in ("postgresql", "postgres") and "://" in state:
        raise usage(
            "state",
            "a connection string is no place for state",
            "the connection is that of --dsn; name the table: --state postgres:schema.table",
        )
    if state.startswith("postgres:"):
        return _state_table(state)
    if state.startswith("s3://"):
        bucket, _, prefix = state.removeprefix("s3://").partition("/")
        prefix = prefix.rstrip("/")
        if not _BUCKET.fullmatch(bucket):
            raise usage("state", f"{state!r} names no bucket", "write it as s3://bucket/prefix")
        if prefix and (not _PREFIX.fullmatch(prefix) or {"", ".", ".."} & set(prefix.split("/"))):
            raise usage(
                "state",
                f"{prefix!r} is no prefix for state",
                "it may have letters, digits and -_.=+@,~ between its slashes, such as s3://bucket/asyncup/state",
            )
        return StatePlace("s3", bucket, prefix)
    if (colon and len(scheme) > 1 and scheme.isalnum()) or "://" in state:  # one letter is a drive of Windows
        raise usage("state", f"{state!r} is no place for state", STATE_FORMS)
    return StatePlace("folder", state)


def _state_table(state: str) -> StatePlace:
    name = state.removeprefix("postgres:")
    try:
        schema, table = parse_qualified(name)
    except ValueError:
        raise usage(
            "state",
            f"{name!r} is no table with its schema",
            'write it as in SQL: --state postgres:schema.table, or postgres:"My Schema"."My Table"',
        ) from None
    if len(table.encode()) > LONGEST_STATE_TABLE or len(schema.encode()) > LONGEST_IDENTIFIER:
        raise usage(
            "state",
            f"the name {name} is too long",
            f"a table's name may have {LONGEST_STATE_TABLE} bytes here, since another one is named after it",
        )
    return StatePlace("postgres", schema, table)
