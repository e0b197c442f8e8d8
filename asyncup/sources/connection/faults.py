"""What an SQLSTATE means for a run: try again, ask for less, or stop and say what to do.

Source: https://www.postgresql.org/docs/current/errcodes-appendix.html; what poolers say has codes of their own
(https://www.pgbouncer.org/config.html), so their words count as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from asyncup.errors import (
    CHECK_PASSWORD,
    AsyncupError,
    ReadingBroken,
    ServerFault,
    SourceRefused,
    StatementTimedOut,
    Unreachable,
)
from asyncup.names import parse_qualified, written

#: The server ends connections, starts, stops or is full: on another connection, later.
_GONE = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "53300"})
#: A conflict with recovery on a standby, a deadlock, a lock: the same again.
_AGAIN = frozenset({"40001", "40P01", "55P03"})
#: A statement was cancelled, or its transaction took too long.
_TIMED_OUT = frozenset({"57014", "25P04"})
#: What only comes of prepared statements that a pooler has lost or given to somebody else.
_LOST_STATEMENT = frozenset({"26000", "42P05"})
#: What a name or a type that has changed since the run began comes to.
_CHANGED = frozenset({"42P01", "42703", "42883", "42804", "3F000"})

_USER_REQUEST = "due to user request"
_CACHED_PLAN = "cached plan must not change"
#: PgBouncer says nearly all with 08P01.
_POOLER_TIMED_OUT = re.compile(r"^query timeout\b")
_POOLER_BUSY = re.compile(
    r"query_wait_timeout|client_login_timeout|server_login_retry|server conn crashed|server connection closed|"
    r"max_client_conn|cannot connect|server DNS lookup failed|shutting down|(?:server|connect|idle|idle transaction|"
    r"client_idle) ?_?timeout|server lifetime|connect string changed|obsolete connection|server_lifetime"
)
_POOL_MODE = re.compile(r"statement pooling mode")
#: What a privilege is missing for: https://github.com/postgres/postgres/blob/master/src/backend/catalog/aclchk.c
_DENIED = re.compile(
    r"permission denied for (table|view|materialized view|foreign table|schema|database|large object) (.+)"
)
_STARTUP_PARAMETER = re.compile(r"unsupported startup parameter")

#: The hint where there is no better one.
CHECK_FLAGS = "check --table, --query, --where and --key"

_TRANSACTIONS = (
    "every page is a transaction of its own, so a pooler has to be in transaction or session mode (pool_mode=transaction "
    "for this database in PgBouncer), or connect to the server itself"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What a server said: SQLSTATE, message (with its detail) and hint; `closed` when it closed the connection with it.

    `role` is who it was said to.
    """

    state: str
    message: str
    hint: str | None = None
    closed: bool = False
    role: str | None = None


def error_of(fault: Fault, op: str, subject: str) -> AsyncupError:
    """The error for what a server said while `op` was done to `subject`."""
    state, message, hint = fault.state, fault.message, fault.hint
    pooler = _of_pooler(fault, op, subject)
    if pooler is not None:
        return pooler
    if state in _GONE or (state.startswith("08") and (state != "08P01" or fault.closed)):
        return Unreachable(op, subject, f"the database ended the connection: {message}")
    if state in _TIMED_OUT and _USER_REQUEST not in message:
        return StatementTimedOut(
            op,
            subject,
            f"the server takes no longer over a statement: {message}",
            "give the role more time: ALTER ROLE … SET statement_timeout = '10min', or PGOPTIONS='-c "
            "statement_timeout=600000'; an index that serves the --key and --where makes it need less",
        )
    if state in _AGAIN or state in _TIMED_OUT or (state == "0A000" and _CACHED_PLAN in message):
        return ServerFault(op, subject, f"the database asks to try again: {message}", _conflict_advice(message) or hint)
    if state.startswith("28"):
        return SourceRefused("connect", "database", message, _login_advice(state))
    if state == "3D000":
        return SourceRefused("connect", "database", message, "check the database's name in --dsn or PGDATABASE")
    if state in _CHANGED and op == "read":
        return SourceRefused(
            op,
            subject,
            f"what is read has changed since the run began: {message}",
            "run it again; if columns of the key or the template were renamed, change the flags too",
        )
    if state == "42501" and (denied := _DENIED.fullmatch(message)) and denied[1] == "large object":
        # of one row among others, of which nobody sees the hint
        return SourceRefused(op, subject, f"{message}; it needs {_grant(denied, subject, fault.role)[:-1]}")
    if state[:2] in ("42", "22", "0A", "3F", "25", "2F", "08"):
        return SourceRefused(op, subject, message, _advice(fault, subject) or hint or CHECK_FLAGS)
    return ReadingBroken(op, subject, f"{message} (SQLSTATE {state or 'unknown'})", hint)


def _of_pooler(fault: Fault, op: str, subject: str) -> AsyncupError | None:
    """The error for what only a pooler says, or comes of one; else None."""
    state, message = fault.state, fault.message
    if state in _LOST_STATEMENT:
        return SourceRefused(op, subject, f"a pooler gives statements to other connections: {message}", _TRANSACTIONS)
    if _POOL_MODE.search(message):
        return SourceRefused("connect", "database", f"the pooler refuses: {message}", _TRANSACTIONS)
    if state != "08P01":
        return None
    if _STARTUP_PARAMETER.search(message):
        return SourceRefused(
            "connect",
            "database",
            f"the pooler refuses: {message}",
            "leave out what is set by options=… or PGOPTIONS, or name it in PgBouncer's ignore_startup_parameters",
        )
    if _POOLER_TIMED_OUT.search(message):
        return StatementTimedOut(
            op,
            subject,
            f"the pooler takes no longer over a statement: {message}",
            "give it more time: query_timeout in PgBouncer",
        )
    if _POOLER_BUSY.search(message):
        return Unreachable(op, subject, f"the pooler has no connection to the database: {message}")
    return None


def _conflict_advice(message: str) -> str | None:
    """What to do about recovery that does not wait for readers on a standby."""
    if "recovery" not in message:
        return None
    return "let the standby wait: hot_standby_feedback = on, or a longer max_standby_streaming_delay"


def _login_advice(state: str) -> str:
    if state == "28P01":
        return f"{CHECK_PASSWORD} --dsn, PGPASSWORD or ~/.pgpass, or what --password-command prints"
    return "check user, host and pg_hba.conf"


def _advice(fault: Fault, subject: str) -> str | None:
    """What to do where the server's own hint does not fit someone who did not write the SQL."""
    state, message = fault.state, fault.message
    if state == "42501" and "row-level security" in message:
        return "connect as a role with BYPASSRLS or as the table's owner: hidden rows would be missing silently"
    if state == "42501" and (denied := _DENIED.fullmatch(message)):
        return f"the role needs: {_grant(denied, subject, fault.role)}"
    if state == "42501":
        return "a role that may read it needs: GRANT SELECT ON … TO …; and GRANT USAGE ON SCHEMA … TO …"
    if state == "42883" and "ordering operator" in message:
        return "give a --key of columns that can be ordered"
    return None


def _grant(denied: re.Match[str], subject: str, role: str | None) -> str:
    """The statement that gives what was denied. `subject` is what is read, with its schema where it was given."""
    kind, name = denied.groups()
    to = f"TO {written(role) if role else '…'};"
    if kind in ("database", "large object"):
        return f"GRANT {'CONNECT' if kind == 'database' else 'SELECT'} ON {kind.upper()} {name} {to}"
    try:
        schema, table = parse_qualified(subject)
    except ValueError:
        schema = table = ""
    if kind == "schema":
        its_table = f" GRANT SELECT ON {subject} {to}" if schema == name else ""
        return f"GRANT USAGE ON SCHEMA {written(name)} {to}{its_table}"
    return f"GRANT SELECT ON {subject if table == name else written(name)} {to}"
