"""What a plan shows of a database and a relation in it, beyond what a run needs: looked up, never counted.

Sources: https://www.postgresql.org/docs/current/catalog-pg-class.html (`reltuples`, -1 for never analysed),
https://www.postgresql.org/docs/current/monitoring-stats.html (`pg_stat_all_tables`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from asyncup.errors import SourceRefused
from asyncup.names import written
from asyncup.sources.catalog import resolve_query, resolve_table
from asyncup.sources.connection.session import Session
from asyncup.sources.keyset import KeyChoice, Relation, choose_key
from asyncup.sources.postgres import Request

_KINDS = {
    "r": "table",
    "p": "partitioned table",
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
}
#: Relations that TABLESAMPLE takes: https://www.postgresql.org/docs/current/sql-select.html.
SAMPLED = ("table", "partitioned table", "materialized view")

_SERVER = """
SELECT current_setting('server_version') AS version, current_database()::text AS database, current_user::text AS role,
       pg_is_in_recovery() AS standby, host(inet_server_addr()) AS host, inet_server_port() AS port
"""

# of a partitioned table the numbers are those of its leaves: its own statistics are seldom there
_RELATION = """
WITH leaves(oid) AS (
    SELECT $1::text::regclass::oid UNION SELECT relid::oid FROM pg_partition_tree($1::text::regclass) WHERE isleaf)
SELECT (SELECT relkind::text FROM pg_class WHERE oid = $1::text::regclass) AS kind,
       CASE WHEN bool_and(c.reltuples >= 0) THEN sum(c.reltuples)::float8 END AS rows,
       sum(pg_table_size(c.oid))::int8 AS bytes,
       CASE WHEN bool_and(coalesce(s.last_analyze, s.last_autoanalyze) IS NOT NULL)
            THEN to_char(min(greatest(s.last_analyze, s.last_autoanalyze)) AT TIME ZONE 'UTC',
                         'YYYY-MM-DD"T"HH24:MI:SS"Z"') END AS analyzed,
       sum(s.n_mod_since_analyze)::int8 AS changed,
       ARRAY(SELECT a.attname::text FROM pg_index i CROSS JOIN unnest(i.indkey) WITH ORDINALITY k(number, place)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
             WHERE i.indrelid = $1::text::regclass AND i.indisprimary AND k.place <= i.indnkeyatts
             ORDER BY k.place) AS primary_key
FROM leaves JOIN pg_class c ON c.oid = leaves.oid LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
WHERE c.relkind <> 'p'
"""

_PRIVILEGES = """
SELECT c.oid::regclass::text AS name, n.nspname::text AS schema, current_user::text AS role,
       has_schema_privilege(n.oid, 'USAGE') AS usage, has_any_column_privilege(c.oid, 'SELECT') AS any,
       ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             AND NOT has_column_privilege(c.oid, a.attnum, 'SELECT') ORDER BY a.attnum) AS missing
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1::text)
"""


@dataclass(frozen=True, slots=True)
class Server:
    """The server and who we are there. `host` is the address that it answers on, None for a socket."""

    version: str
    database: str
    role: str
    standby: bool
    host: str | None
    port: int | None


@dataclass(frozen=True, slots=True)
class Survey:
    """What the catalogue knows of a relation; of a query, next to nothing.

    `rows` is `reltuples`, None where it was never analysed; `bytes` what it takes on disk, values that are too long for
    their row included; `analyzed` is UTC, ISO 8601, of the leaf that waits for longest, None where one never was;
    `changed` counts rows that were written since. `primary` are the columns of the primary key.
    """

    kind: str = "query"
    rows: int | None = None
    bytes: int | None = None
    analyzed: str | None = None
    changed: int | None = None
    primary: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Denied:
    """Columns that the role may not read, and the statement that mends it."""

    columns: tuple[str, ...]
    grant: str


async def look_at_server(session: Session) -> Server:
    """Raises AsyncupError: no answer."""

    async def look(connection: Any) -> Server:
        (row,) = await connection.fetch(_SERVER)
        return Server(row["version"], row["database"], row["role"], row["standby"], row["host"], row["port"])

    return await session.run(look, "look at", "server")


async def relation_of(session: Session, request: Request) -> tuple[Relation, KeyChoice]:
    """What the catalogue says of a source and its key, whether or not its rows may be read.

    Raises:
        SourceRefused: there is no such source, or it has no such key.
        AsyncupError: no answer.
    """

    async def look(connection: Any) -> tuple[Relation, KeyChoice]:
        if request.table is not None:
            relation = await resolve_table(connection, request.table)
        else:
            relation = await resolve_query(connection, request.query or "", request.query_name)
        if request.key is not None and not set(request.key) <= set(relation.names):
            raise SourceRefused("resolve columns", "--key", f"{relation.label} has no such key")
        return relation, choose_key(relation, request.key)

    return await session.run(look, "look at", request.table or request.query_name)


async def look_at_relation(session: Session, sql: str, label: str) -> Survey:
    """What is known of a table or view; `sql` is its name as the catalogue writes it. Raises AsyncupError: no answer."""

    async def look(connection: Any) -> Survey:
        (row,) = await connection.fetch(_RELATION, sql)
        kind = _KINDS.get(row["kind"], "relation")
        if kind in ("view", "foreign table"):
            return Survey(kind)
        rows = None if row["rows"] is None else round(row["rows"])
        return Survey(kind, rows, row["bytes"], row["analyzed"], row["changed"], tuple(row["primary_key"]))

    return await session.run(look, "look at", label)


async def denied_columns(session: Session, table: str, wanted: Collection[str] | None) -> Denied | None:
    """Which columns of a table the role may not read, of those that are wanted (None for all); None when it may.

    Raises AsyncupError: no answer.
    """

    async def look(connection: Any) -> Denied | None:
        rows = await connection.fetch(_PRIVILEGES, table)
        if not rows:
            return None
        (row,) = rows
        missing = tuple(name for name in row["missing"] if wanted is None or name in wanted)
        if not missing and row["usage"]:
            return None
        role = written(row["role"])
        grants = [] if row["usage"] else [f"GRANT USAGE ON SCHEMA {written(row['schema'])} TO {role};"]
        if missing:
            listed = f" ({', '.join(written(name) for name in missing)})" if row["any"] else ""
            grants.append(f"GRANT SELECT{listed} ON {row['name']} TO {role};")
        return Denied(missing, " ".join(grants))

    return await session.run(look, "look at", table)
