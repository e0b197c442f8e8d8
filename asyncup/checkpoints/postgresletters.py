"""Dead letters as rows of a table: number 0 is the line that holds the job, then one row for each failed row.

A statement writes only while its run still has the job: it locks the job's row, so that whoever takes the job over comes
before or after all of it. Said twice it writes the same.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from asyncup.checkpoints.codec import letter_header, letter_line
from asyncup.checkpoints.deadletters import KIND, VERSION, job_of
from asyncup.checkpoints.lease import Tenure
from asyncup.checkpoints.owner import Owner
from asyncup.checkpoints.places import Statements
from asyncup.checkpoints.postgres import StateTable
from asyncup.errors import StateLost, StateRefused
from asyncup.flow.retry import Retrier
from asyncup.model import DeadLetter
from asyncup.names import quote

#: Rows that are read at once.
_PAGE = 1000


class PostgresDeadLetters:
    """One job's dead letters, numbered from 1."""

    def __init__(self, table: StateTable, name: str, job: dict[str, Any], owner: Owner, tenure: Tenure) -> None:
        self._table = table
        self._name = name
        self._header = letter_header(KIND, VERSION, job, ascii_only=True).decode()
        self._owner = owner
        self._tenure = tenure
        self.location = table.letters_location(name)
        self.letters = 0

    async def open(self, retrier: Retrier, *, keep: int) -> None:
        """Keep the first `keep` letters of an earlier run and no others.

        Raises:
            StateLost: another run has the job.
            AsyncupError: they cannot be read or removed.
        """
        table = self._table.letters
        sql = (
            f"{self._held}, gone AS (DELETE FROM {table} WHERE name = $1 AND (number > $3 OR $3 = 0) "
            "AND EXISTS (SELECT FROM held)) SELECT FROM held"
        )
        if not await retrier.run(lambda _: self._table.fetch(sql, self._name, self._owner.id, keep), None):
            raise self._taken("open dead letters")
        sql = f"SELECT coalesce(max(number), 0) FROM {table} WHERE name = $1"
        rows = await retrier.run(lambda _: self._table.fetch(sql, self._name), None)
        self.letters = rows[0][0]

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        """See `DeadLetterStore.append`."""
        lines = [self._header, *(letter_line(letter, ascii_only=True).decode() for letter in letters)]
        numbers = [0, *range(self.letters + 1, self.letters + len(letters) + 1)]
        sql = (
            f"{self._held} INSERT INTO {self._table.letters} (name, number, line) SELECT $1, new.number, new.line "
            "FROM held, unnest($3::bigint[], $4::text[]) AS new(number, line) "
            "ON CONFLICT (name, number) DO UPDATE SET line = excluded.line RETURNING 1"
        )

        async def write() -> None:
            if not await self._table.fetch(sql, self._name, self._owner.id, numbers, lines):
                raise self._taken("write dead letters")

        await self._tenure.insist(write, "write dead letters", self.location, extends=False)
        self.letters += len(letters)

    @property
    def _held(self) -> str:
        """What a statement begins with that does something only while $2 has the job $1."""
        return f"WITH held AS (SELECT FROM {self._table.state} WHERE name = $1 AND token = $2 FOR SHARE)"

    def _taken(self, op: str) -> StateLost:
        reason = "another run has taken this job over"
        return StateLost(op, self.location, reason, "let one run of a job end before the next one begins")


async def read(
    statements: Statements, schema: str, table: str, name: str, location: str, retrier: Retrier
) -> tuple[dict[str, Any], AsyncGenerator[bytes, None]]:
    """The job of dead letters, and their lines, page by page. `table` is that of the letters.

    Raises:
        StateRefused: there are none.
    """
    sql = (
        f"SELECT number, line FROM {quote(schema)}.{quote(table)} WHERE name = $1 AND number >= $2 "
        f"ORDER BY number LIMIT {_PAGE}"
    )

    async def page(number: int) -> Sequence[Sequence[Any]]:
        return await retrier.run(lambda number: statements.fetch(sql, name, number), number)

    async def lines() -> AsyncGenerator[bytes, None]:
        number = 1
        while rows := await page(number):
            for _, line in rows:
                yield line.encode()
            number = rows[-1][0] + 1

    first = await page(0)
    if not first or first[0][0] != 0:
        raise StateRefused("open dead letters", location, "there are no dead letters", "no row has failed there")
    return job_of(first[0][1], location), lines()
