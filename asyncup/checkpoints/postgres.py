"""A job's checkpoint and its lock as one row of a table in Postgres.

The lock is a lease and not an advisory lock of the session: it outlives a lost connection, works through poolers that
give every transaction another one, and says who holds it. Its time is the server's own (`now()`). Every statement names the token
of the run, so that one that has lost the job changes nothing, and the number of the write, so that a statement that was
given up and comes late does not either; said twice, each does what it does once.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from asyncup.checkpoints.codec import from_json, to_json, unreadable
from asyncup.checkpoints.lease import RELEASE_SECONDS, Holder, Tenure, refused
from asyncup.checkpoints.owner import Owner
from asyncup.checkpoints.places import Entry, Statements
from asyncup.errors import StateLost, StateRefused
from asyncup.flow.retry import Retrier
from asyncup.model import Checkpoint
from asyncup.names import quote, written

_LETTERS = "_dead_letters"
#: `json` and not `jsonb`: what is written is kept as it is.
_CREATE_STATE = (
    "CREATE TABLE IF NOT EXISTS {0} (name text PRIMARY KEY, checkpoint json, token text, owner json, "
    "held_until timestamptz, serial bigint NOT NULL)"
)
_CREATE_LETTERS = (
    "CREATE TABLE IF NOT EXISTS {0} (name text NOT NULL, number bigint NOT NULL, line text NOT NULL, "
    "PRIMARY KEY (name, number))"
)
_STATE_COLUMNS = frozenset(("name", "checkpoint", "token", "owner", "held_until", "serial"))
_LETTERS_COLUMNS = frozenset(("name", "number", "line"))
_UNTIL = "now() + make_interval(secs => {0})"
_SHOWN = "to_char(held_until AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"


class StateTable:
    """The tables of one `--state postgres:schema.table`."""

    def __init__(self, statements: Statements, schema: str, table: str) -> None:
        self.fetch = statements.fetch
        self.state = f"{quote(schema)}.{quote(table)}"
        self.letters = f"{quote(schema)}.{quote(table + _LETTERS)}"
        self._schema = schema
        self._name = f"postgres:{written(schema)}.{written(table)}"
        self._letters_name = f"postgres:{written(schema)}.{written(table + _LETTERS)}"

    async def exists(self, retrier: Retrier) -> bool:
        """Whether both tables are there."""
        sql = "SELECT to_regclass($1::text) IS NOT NULL AND to_regclass($2::text) IS NOT NULL"
        rows = await retrier.run(lambda _: self.fetch(sql, self.state, self.letters), None)
        return bool(rows[0][0])

    async def prepare(self, retrier: Retrier) -> None:
        """Make the tables where they are missing.

        Raises:
            StateRefused: they cannot be made; the hint is the GRANT that is missing.
        """
        await retrier.run(lambda _: self._check_columns(), None)
        if await self.exists(retrier):  # CREATE … IF NOT EXISTS asks for the right to create before it looks
            return
        await retrier.run(self.fetch, _CREATE_STATE.format(self.state))
        await retrier.run(self.fetch, _CREATE_LETTERS.format(self.letters))

    async def look(self, name: str, retrier: Retrier) -> Entry:
        """What the table knows of one job, whether or not anything was saved. Nothing is made.

        Raises:
            StateRefused: a run could not keep its state here; the hint is the GRANT that is missing.
            AsyncupError: it cannot be read.
        """
        await retrier.run(lambda _: self._check_columns(), None)
        is_there = await self.exists(retrier)
        await retrier.run(lambda _: self._check_privileges(is_there=is_there), None)
        found = await self.entries(retrier) if is_there else []
        nothing = Entry(name, self.location(name), self.letters_location(name))
        return next((entry for entry in found if entry.location == nothing.location), nothing)

    async def _check_privileges(self, *, is_there: bool) -> None:
        """Ask whether the role may do what a run does: write to the tables, or make them.

        Raises:
            StateRefused: it may not.
        """
        given: tuple[str, ...] = (self.state, self.letters)
        if is_there:
            asked = (
                f"has_table_privilege($1::text, '{right}') AND has_table_privilege($2::text, '{right}')"
                for right in ("SELECT", "INSERT", "UPDATE", "DELETE")
            )
            sql = f"SELECT {' AND '.join(asked)}, current_user::text"
            rights = f"SELECT, INSERT, UPDATE, DELETE ON {self.state}, {self.letters}"
        else:
            sql = (
                "SELECT has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE'), current_user::text "
                "FROM pg_catalog.pg_namespace WHERE nspname = $1::text"
            )
            given, rights = (self._schema,), f"USAGE, CREATE ON SCHEMA {written(self._schema)}"
        found = await self.fetch(sql, *given)
        if not found:
            reason, hint = f'schema "{self._schema}" does not exist', f"CREATE SCHEMA {written(self._schema)};"
        elif not found[0][0]:
            reason, hint = "permission denied", f"GRANT {rights} TO {written(found[0][1])};"
        else:
            return
        raise StateRefused("use state", self._name, reason, hint)

    async def _check_columns(self) -> None:
        """See that tables that are there are state, before another is made beside them.

        Raises:
            StateRefused: one is a table of somebody else's.
        """
        sql = (
            "SELECT attname::text FROM pg_catalog.pg_attribute "
            "WHERE attrelid = to_regclass($1::text) AND attnum > 0 AND NOT attisdropped"
        )
        for table, name, columns in (
            (self.state, self._name, _STATE_COLUMNS),
            (self.letters, self._letters_name, _LETTERS_COLUMNS),
        ):
            found = {column for (column,) in await self.fetch(sql, table)}
            if found and not columns <= found:
                raise StateRefused(
                    "use state",
                    name,
                    "there is a table of this name that is not asyncup's state",
                    "give another name with --state postgres:schema.table, of a table that is not there yet",
                )

    def location(self, name: str) -> str:
        """Where a job's checkpoint is."""
        return f"{self._name}#{name}"

    def letters_location(self, name: str) -> str:
        """Where its dead letters are."""
        return f"{self._letters_name}#{name}"

    async def entries(self, retrier: Retrier) -> list[Entry]:
        """Every job that the table knows, by name.

        Raises:
            AsyncupError: it cannot be read.
        """
        sql = (
            f"SELECT name, checkpoint::text, owner::text, coalesce(held_until > now(), false), {_SHOWN} "
            f'FROM {self.state} ORDER BY name COLLATE "C"'
        )
        found = []
        for name, checkpoint, owner, held, until in await retrier.run(self.fetch, sql):
            location, letters = self.location(name), self.letters_location(name)
            try:
                kept = None if checkpoint is None else from_json(json.loads(checkpoint), location)
                holder = Holder(_owner(owner, location), until) if held and owner is not None else None
            except StateRefused as exc:
                found.append(Entry(name, location, letters, error=exc))
                continue
            if holder is not None and await asyncio.to_thread(holder.owner.is_dead):
                holder = None
            if kept is not None or holder is not None:
                found.append(Entry(name, location, letters, kept, holder))
        return found


class PostgresCheckpoints:
    """One job's row: its checkpoint and its lease."""

    def __init__(self, table: StateTable, name: str, owner: Owner, tenure: Tenure) -> None:
        self._table = table
        self._name = name
        self._owner = owner
        self._tenure = tenure
        self._serial = 0
        self._checkpoint: str | None = None
        self.location = table.location(name)

    async def take(self, retrier: Retrier) -> None:
        """Take the job, or refuse to.

        Raises:
            StateRefused: another run holds it.
        """
        state, dead = self._table.state, ""
        sql = (
            f"INSERT INTO {state} AS s (name, token, owner, held_until, serial) "
            f"VALUES ($1, $2, $3::text::json, {_UNTIL.format('$4::float')}, 0) "
            "ON CONFLICT (name) DO UPDATE SET token = excluded.token, owner = excluded.owner, "
            "held_until = excluded.held_until, serial = 0 "
            "WHERE s.token IS NULL OR s.token IN ($2, $5) OR s.held_until <= now() RETURNING checkpoint::text"
        )
        owner = json.dumps(self._owner.to_json())
        seconds = self._tenure.seconds
        while True:
            given = (sql, self._name, self._owner.id, owner, seconds, dead)
            rows = await retrier.run(lambda given: self._tenure.timed(self._table.fetch(*given)), given)
            if rows:
                self._checkpoint = rows[0][0]
                return
            holder = await retrier.run(lambda _: self._holder(), None)
            if holder is None:
                continue  # it has just been given back
            if holder.owner.id == dead or not await asyncio.to_thread(holder.owner.is_dead):
                raise refused(self._name, holder, seconds)
            dead = holder.owner.id

    async def load(self) -> Checkpoint | None:
        """See `CheckpointStore.load`. It came with the lease.

        Raises:
            StateRefused: it is none that this version can read.
        """
        return None if self._checkpoint is None else from_json(json.loads(self._checkpoint), self.location)

    async def save(self, checkpoint: Checkpoint) -> None:
        """See `CheckpointStore.save`."""
        self._checkpoint = json.dumps(to_json(checkpoint))
        await self._replace("save checkpoint")

    async def forget(self) -> None:
        """Remove the checkpoint, durably, and keep the lease."""
        self._checkpoint = None
        await self._replace("forget checkpoint")

    async def keep(self) -> None:
        """See `Lease.keep`."""
        if self._tenure.is_due:
            await self._replace("renew lease")

    async def release(self) -> None:
        """Give the lease back, and leave nothing behind where nothing was saved.

        Raises:
            StateLost: it could not be, so it has to run out.
        """
        change = "UPDATE {0} SET token = NULL, owner = NULL, held_until = NULL"
        if self._checkpoint is None:
            change = "DELETE FROM {0}"
        sql = change.format(self._table.state) + " WHERE name = $1 AND token = $2"
        await self._tenure.insist(
            lambda: self._table.fetch(sql, self._name, self._owner.id),
            "release job",
            self._name,
            patience=RELEASE_SECONDS,
        )

    async def _replace(self, op: str) -> None:
        self._serial += 1
        sql = (
            f"UPDATE {self._table.state} SET checkpoint = $3::text::json, serial = $4, "
            f"held_until = {_UNTIL.format('$5::float')} WHERE name = $1 AND token = $2 AND serial <= $4 RETURNING 1"
        )
        given: tuple[Any, ...] = (self._name, self._owner.id, self._checkpoint, self._serial, self._tenure.seconds)

        async def write() -> None:
            if not await self._table.fetch(sql, *given):
                holder = await self._holder()
                reason = "its row has gone" if holder is None else f"another run has taken this job over: {holder}"
                raise StateLost(op, self.location, reason, "let one run of a job end before the next one begins")

        await self._tenure.insist(write, op, self.location)

    async def _holder(self) -> Holder | None:
        sql = f"SELECT owner::text, {_SHOWN} FROM {self._table.state} WHERE name = $1 AND token IS NOT NULL"
        rows = await self._table.fetch(sql, self._name)
        return Holder(_owner(rows[0][0], self.location), rows[0][1]) if rows else None


def _owner(text: str, location: str) -> Owner:
    try:
        return Owner.of(json.loads(text))
    except (ValueError, KeyError, TypeError) as exc:
        raise unreadable(location) from exc
