"""Rows for asyncup: a table for each size of body, made larger when a run wants more."""

from __future__ import annotations

from asyncup.embedded.postgres import EmbeddedPostgres

#: From this size on bodies are bytea: nobody keeps megabytes in jsonb. Below they are jsonb, with this very text length.
BYTEA_FROM = 256 << 10


class Rows:
    """Tables of one server, with the columns id (bigint) and body."""

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        self.postgres = postgres
        self._rows: dict[int, int] = {}

    def table(self, size: int, rows: int) -> str:
        """The name of a table with at least so many rows, whose bodies are of that size. Its ids count from 1."""
        name = f"rows_{size}"
        have = self._rows.get(size, 0)
        if not have:
            # without a log, since nothing of it is to survive; small rows stay in their pages
            kind = "bytea STORAGE EXTERNAL" if size >= BYTEA_FROM else "jsonb"
            self.postgres.psql(
                f"CREATE UNLOGGED TABLE {name} (id bigint PRIMARY KEY, body {kind} NOT NULL) "
                "WITH (toast_tuple_target = 8160, autovacuum_enabled = off)"
            )
        if rows > have:
            self.postgres.psql(
                f"INSERT INTO {name} SELECT id, {_body(size)} FROM generate_series({have + 1}, {rows}) AS ids(id)"
            )
            self.postgres.psql(f"VACUUM (ANALYZE, FREEZE) {name}")
            self._rows[size] = rows
        return name


def _body(size: int) -> str:
    """SQL for one body: text that does not compress, and with the id in it where it is JSON."""
    text = f"(SELECT string_agg(md5(n::text), '' ORDER BY n) FROM generate_series(1, {size // 32 + 1}) AS ns(n))"
    if size >= BYTEA_FROM:
        return f"substr((SELECT decode(string_agg(md5(n::text), '' ORDER BY n), 'hex') FROM generate_series(1, {size // 16 + 1}) AS ns(n)), 1, {size})"
    around = len('{"id": , "text": ""}')
    return f"jsonb_build_object('id', id, 'text', left({text}, {size - around} - length(id::text)))"
