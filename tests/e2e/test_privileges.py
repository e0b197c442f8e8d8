"""The grants that the README names are all that a run needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.conftest import Bucket, Database, Program

PASSWORD = "least-of-all"
TABLE = """
CREATE SCHEMA shop; CREATE SCHEMA ops;
CREATE TABLE shop.documents (id bigint PRIMARY KEY, content bytea, secret text, changed timestamptz DEFAULT now());
INSERT INTO shop.documents SELECT n, 'x', 's' FROM generate_series(1, 300) n; ANALYZE shop.documents;
"""

#: What the README says, for a role `asyncup_reader`.
READING = """
GRANT CONNECT ON DATABASE {database} TO asyncup_reader;
GRANT USAGE ON SCHEMA shop TO asyncup_reader;
"""
WHOLE = "GRANT SELECT ON shop.documents TO asyncup_reader;"
COLUMNS = "GRANT SELECT (id, content) ON shop.documents TO asyncup_reader;"
STATE = "GRANT USAGE, CREATE ON SCHEMA ops TO asyncup_reader;"
STATE_THAT_IS_THERE = """
GRANT USAGE ON SCHEMA ops TO asyncup_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON ops.asyncup, ops.asyncup_dead_letters TO asyncup_reader;
"""


@dataclass
class Reader:
    """A role that has what it is granted, and nothing else."""

    database: Database
    program: Program

    def grant(self, text: str) -> None:
        self.database.sql(text.format(database=self.database.name))


@pytest.fixture
def reader(connected: Program, database: Database) -> Iterator[Reader]:
    database.sql(
        f"{TABLE} CREATE ROLE asyncup_reader LOGIN PASSWORD '{PASSWORD}';"
        f"REVOKE ALL ON DATABASE {database.name} FROM public; REVOKE ALL ON SCHEMA public FROM public"
    )
    connected.environment |= {"PGUSER": "asyncup_reader", "PGPASSWORD": PASSWORD}
    yield Reader(database, connected)
    database.sql("DROP OWNED BY asyncup_reader CASCADE; DROP ROLE asyncup_reader")


@pytest.mark.parametrize(
    ("grants", "flags"),
    [
        (WHOLE, ["--readers=2"]),
        (WHOLE, ["--shard=0/1", "--where=id > 0"]),
        (COLUMNS, ["--body=content", "--readers=2"]),
        (WHOLE + STATE, ["--state=postgres:ops.asyncup"]),
    ],
    ids=["table", "shard", "columns", "state"],
)
def test_a_role_with_the_grants_of_the_readme_copies_everything(
    reader: Reader, bucket: Bucket, grants: str, flags: list[str]
) -> None:
    reader.grant(READING + grants)
    run = reader.program("sync", "--table=shop.documents", f"--to=s3://{bucket.name}/{{id}}", "--output=json", *flags)
    assert run.code == 0, run.stderr
    assert run.summary["put"] == 300
    assert len(bucket.objects()) == 300


def test_a_role_may_keep_state_in_tables_that_somebody_else_has_made(reader: Reader) -> None:
    flags = ("sync", "--table=shop.documents", "--to=null:", "--state=postgres:ops.asyncup", "--output=json")
    owner = reader.program(*flags, **reader.database.server.environment | {"PGDATABASE": reader.database.name})
    assert owner.code == 0, owner.stderr
    reader.grant(READING + WHOLE + STATE_THAT_IS_THERE)
    run = reader.program(*flags)
    assert (run.code, run.summary["rows"]) == (0, 300), run.stderr
