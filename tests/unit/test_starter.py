"""A first asyncup.toml: which job a table could be, what a file says, and what is asked on a terminal."""

from __future__ import annotations

import io
import re
import tomllib

import pytest
from rich.console import Console

from asyncup.cli.asking import Asking, select
from asyncup.cli.init import _connections
from asyncup.errors import DestinationRefused, SourceRefused
from asyncup.model import Column
from asyncup.sources.planner.survey import Server
from asyncup.sources.tables import Layout, Table
from asyncup.starter.looking import Source
from asyncup.starter.proposing import Proposal, job_name, propose
from asyncup.starter.writing import Starter


def table(name: str = "docs", schema: str = "public") -> Table:
    return Table(name, schema, name, f"{schema}.{name}", "r", True, 10, 8192)


def layout(*columns: tuple[str, str, float], key: tuple[str, ...] = ("id",)) -> Layout:
    """`columns` are those behind the key, with their types and mean lengths."""
    whole = tuple(Column(name, "bigint", "int8", not_null=True) for name in key)
    return Layout(
        key,
        (key,),
        (*whole, *(Column(name, base, base) for name, base, _ in columns)),
        {name: length for name, base, length in columns if base not in ("timestamptz", "oid")},
    )


@pytest.mark.parametrize(
    ("columns", "body", "template", "content_type"),
    [
        ([("content", "bytea", 5000.0), ("note", "text", 9000.0)], "content", "{id}.bin", None),
        ([("content", "bytea", 5000.0), ("mime_type", "text", 10.0)], "content", "{id}", "{mime_type}"),
        ([("digest", "bytea", 32.0), ("payload", "jsonb", 3000.0)], "payload", "{id}.json", None),
        ([("digest", "bytea", 32.0), ("name", "text", 20.0)], None, "{id}.json", None),
        ([("content", "bytea", 0.0)], "content", "{id}.bin", None),
        ([("mime_type", "text", 10.0)], None, "{id}.json", None),
        ([("page", "xml", 4000.0)], "page", "{id}.xml", None),
    ],
)
def test_the_body_is_the_column_that_is_an_object_by_itself_else_the_row(
    columns: list[tuple[str, str, float]], body: str | None, template: str, content_type: str | None
) -> None:
    found = propose(table(), "docs", layout(*columns))
    assert (found.body and found.body.name, found.template, found.content_type) == (body, template, content_type)


def test_objects_are_named_by_every_column_of_the_key() -> None:
    assert propose(table(), "docs", layout(key=("site", "We ird"))).template == '{site}/{"We ird"}.json'


def test_jobs_have_names_of_their_own_that_need_no_quotes() -> None:
    taken: list[str] = []
    for one in (table("a b"), table("a b", "sales"), table("a b", "sales"), table("a-b"), table("Ä")):
        taken.append(job_name(one, taken))
    assert taken == ["a-b", "sales-a-b", "sales-a-b-2", "public-a-b", "table"]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in taken)


REFUSED = Proposal(table("log"), "log", reason=SourceRefused("choose key", "log", "no\nkey", "add one\n[jobs.x]"))
PROPOSALS = [
    propose(table("docs"), "docs", layout(("updated_at", "timestamptz", 8.0))),
    propose(table("b}{ ad"), "b-ad", layout(key=('q"uo',))),
    REFUSED,
]


def test_the_file_is_toml_with_the_chosen_tables_as_jobs_and_the_others_as_comments_that_would_be_jobs() -> None:
    starter = Starter({"dsn": "${DATABASE_URL}"}, ["docs"], PROPOSALS, "s3://bucket/${x}/", ["other\nname"])
    text = starter.text()
    found = tomllib.loads(text)
    assert found == {
        "defaults": {"dsn": "${DATABASE_URL}"},
        "jobs": {"docs": {"table": "docs", "key": "id", "body": "row", "to": "s3://bucket/$${x}/docs/{id}.json"}},
    }
    uncommented = re.sub(r"(?m)^# (?=\[jobs\.|[a-z-]+ = )", "", text)
    more = tomllib.loads(uncommented)["jobs"]
    assert list(more) == ["docs", "b-ad"]
    assert more["docs"]["incremental"] == "updated_at"
    assert more["b-ad"]["key"] == '"q""uo"'
    assert "# no job: no key" in text
    assert "and 1 more: other name" in text


@pytest.mark.parametrize(
    ("given", "variables", "dsn", "before"),
    [
        (None, {"DATABASE_URL": "postgresql://a:secret@h/d"}, "${DATABASE_URL}", 0),
        (None, {}, None, 0),
        ("postgresql://a@h/d", {}, "postgresql://a@h/d", 0),
        ("postgresql://a:secret@h/d", {}, "${DATABASE_URL}", 1),
        ("postgresql://a:secret@h/d", {"DATABASE_URL": "postgresql://a:secret@h/d"}, "${DATABASE_URL}", 0),
        ("host=h password=secret", {"DATABASE_URL": "postgresql://other"}, "${SOURCE_DATABASE_URL}", 1),
        ("host=h password=secret", {"ASYNCUP_DSN": "host=h password=secret"}, None, 0),
    ],
)
def test_no_password_is_written(
    given: str | None,
    variables: dict[str, str],
    dsn: str | None,
    before: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    options = {"password_command": "echo secret", "endpoint_url": "http://a:secret@h", "region": "eu"}
    defaults, said, steps = _connections(options | ({} if given is None else {"dsn": given}))
    assert (defaults.get("dsn"), defaults["region"], len(steps)) == (dsn, "eu", before + 1)
    assert "secret" not in str((defaults, steps)) + " ".join(said).replace("may hold a secret", "")


@pytest.mark.parametrize(
    ("answer", "jobs"),
    [("all", ["docs", "b-ad"]), ("2", ["b-ad"]), ("1-2", ["docs", "b-ad"]), ("b}{ ad, 1", ["b-ad", "docs"])],
)
def test_tables_are_chosen_by_numbers_names_or_all(answer: str, jobs: list[str]) -> None:
    assert [one.job for one in select(answer, PROPOSALS[:2])] == jobs


@pytest.mark.parametrize("answer", ["0", "3", "2-1", "1-3", "nope", "", ",", "²", "1x"])
def test_an_answer_that_means_no_table_is_refused(answer: str) -> None:
    with pytest.raises(ValueError, match=r"none of the numbers|there is no table|at least one"):
        select(answer, PROPOSALS[:2])


def test_on_a_terminal_it_asks_again_until_an_answer_is_of_use() -> None:
    said = io.StringIO()
    source = Source(Server("18.4", "shop", "me", False, None, None), PROPOSALS)

    def look(prefix: str) -> bool:
        if prefix == "s3://nope":
            raise DestinationRefused("check bucket", prefix, "there is no bucket nope", "make one")
        return True

    asking = Asking(source, Console(file=said, width=100), io.StringIO("9\n2\nnope\ns3://bucket/x\n\n"))
    assert [one.job for one in asking.tables()] == ["b-ad"]
    assert asking.prefix(look) == ("s3://bucket/x", True)
    assert asking.prefix(look) == (None, None)
    assert "there is no bucket nope" in said.getvalue()
    assert "no usable key: log" in said.getvalue()
