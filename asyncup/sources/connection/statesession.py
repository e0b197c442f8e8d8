"""A connection for state that is kept in the database: it writes, and what is refused to it is the state's matter.

Each call is one transaction that is durable when it returns (`synchronous_commit`), at the isolation that the statements
were written for, whatever the role's own settings are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asyncup.errors import AsyncupError, ServerFault, SourceRefused, StateRefused
from asyncup.flow.retry import Retrier
from asyncup.names import written
from asyncup.sources.connection.login import Login
from asyncup.sources.connection.session import Session

_BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = '5s'; "
    "SET LOCAL statement_timeout = '10s'; SET LOCAL standard_conforming_strings = on"
)
_ELSEWHERE = "keep the state in a folder or in S3, or in a database that takes writes"
#: What comes when two runs make the table at once.
_MADE_TWICE = ("23505", "42P07", "40001", "40P01")


class StateSession(Session):
    """One connection, for the statements about one state table; `retrier` is for the caller: a call is one attempt."""

    _begin = _BEGIN
    #: Seconds for each of its statements, to which the server gives ten: a lease cannot wait for one that is silent.
    _prompt = 30.0

    def __init__(self, login: Login | str | None, retrier: Retrier, schema: str, table: str) -> None:
        super().__init__(login, retrier)
        self._schema = written(schema)
        self._tables = f"{self._schema}.{written(table)}, {self._schema}.{written(table + '_dead_letters')}"
        self._subject = f"postgres:{self._schema}.{written(table)}"

    async def fetch(self, sql: str, *arguments: Any) -> Sequence[Sequence[Any]]:
        """The rows of one statement, in a transaction of its own.

        Raises:
            StateRefused: the server refuses.
            Unreachable, ServerFault: no clear answer now.
        """

        async def work(connection: Any) -> Sequence[Sequence[Any]]:
            rows: Sequence[Sequence[Any]] = await connection.fetch(sql, *arguments, timeout=self._prompt)
            return rows

        return await self._once(work, "use state", self._subject)

    def _refusal(self, exc: Any, op: str, subject: str) -> AsyncupError:
        state = getattr(exc, "sqlstate", None) or ""
        if state in _MADE_TWICE:
            return ServerFault(op, subject, f"another run makes the same table: {exc.message}")
        # a standby refuses our BEGIN with a code that means anything else in other statements
        if state == "25006" or (state == "0A000" and "cached plan" not in exc.message):
            return StateRefused(op, subject, f"this database takes no writes: {exc.message}", _ELSEWHERE)
        error = super()._refusal(exc, op, subject)
        if not isinstance(error, SourceRefused) or error.op == "connect":
            return error
        return StateRefused(op, subject, error.message, self._advice(state, error.message) or exc.hint)

    def _advice(self, state: str, message: str) -> str | None:
        if state == "42501":
            settings = self._connection.get_settings() if self._connection is not None else None
            role = written(getattr(settings, "session_authorization", None) or "the_role")
            if "for schema" in message:
                return f"GRANT USAGE, CREATE ON SCHEMA {self._schema} TO {role};"
            return f"GRANT SELECT, INSERT, UPDATE, DELETE ON {self._tables} TO {role};"
        if state == "3F000":
            return f"CREATE SCHEMA {self._schema};"
        if state[:2] == "42":
            return "there is something else than state of asyncup under this name: give another one with --state"
        return None
