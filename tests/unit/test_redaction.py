"""No password of a DSN survives in anything that people or programs get to see."""

from __future__ import annotations

import io
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncup.config import Config
from asyncup.console.live import LiveView
from asyncup.console.plain import PlainView
from asyncup.console.summary import error_text, json_summary, summary_lines
from asyncup.console.text import Redactor
from asyncup.errors import AsyncupError, Unreachable
from asyncup.events import Event, Notice, Planned, RowFailed, Waiting
from asyncup.model import Counts, DeadLetter
from asyncup.report import ABORTED, JobReport, Report
from asyncup.resolved import Plan
from asyncup.values import secrets_of


def config(dsn: str) -> Config:
    return Config.of(dsn=dsn, table="t", to="null:")


def renderings(text: str, redact: Redactor) -> list[str]:
    """A text on every way to the outside that there is."""
    error = Unreachable("connect", text, f"cannot reach {text}", f"check {text}")
    error.__cause__ = AsyncupError("inner", text, text)
    job = JobReport(text, ABORTED, Counts(put=1), checkpoint=text, dead_letters=text, error=error, seconds=1.0)
    report = Report(job, error)
    plan = Plan(text, text, (text,), text, 10, (text,), 1, {"where": text}, text)
    letter = DeadLetter((text,), text, "RowRefused", "put", text, 1, "now")
    events: list[Event] = [Planned(plan), Waiting(text, 10.0, 5), RowFailed(letter), Notice(text)]
    plain, live = io.StringIO(), io.StringIO()
    for view in (PlainView(plain, redact), LiveView(live, redact)):
        for event in events:
            view.on_event(event)
        view.close()
    return [
        plain.getvalue(),
        live.getvalue(),
        json_summary(report, redact),
        *map(redact, error_text(report)),
        *map(redact, summary_lines(report)),
        redact(repr(text)),
    ]


#: Passwords that no other text contains; percent-encoding, quoting and regular expressions have to work for them.
PASSWORDS = st.text(st.characters(exclude_categories=["C"]), max_size=8).map(lambda text: f"S3cr3t{text}zq")


@given(PASSWORDS, st.sampled_from(["postgresql", "postgres"]), st.booleans())
def test_an_encoded_password_is_found_in_every_form_of_uri(password: str, scheme: str, as_parameter: bool) -> None:
    encoded = quote(password, safe="")
    dsn = (
        f"{scheme}://user@host:5432/shop?sslmode=require&password={encoded}&application_name=x"
        if as_parameter
        else f"{scheme}://user:{encoded}@host:5432/shop"
    )
    redact = Redactor(secrets_of(config(dsn).dsn))
    for text in (dsn, f"no user with {password!s} here", f"{encoded}", f"password={encoded}", f"a {dsn} b {dsn}"):
        out = redact(text)
        assert password not in out
        assert encoded not in out


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://user:hunter2-hunter2@host/db",
        "postgresql://user:hunter2%2Dhunter2@host1:1,host2:2/db",
        "postgresql://user:hunter2-hunter2@[::1]:5432/db",
        "postgresql://user@server:hunter2-hunter2@server.example.com/db",
        "postgresql://:hunter2-hunter2@/db?host=/var/run",
        "postgresql:///db?user=u&password=hunter2-hunter2",
        "postgresql://host/db?password=hunter2-hunter2#x",
        # not encoded as they ought to be
        "postgresql://user:hunter2@hunter2@host/db",
        "postgresql://user:hunter2/hunter2@host/db",
        "postgresql://user:hunter2:hunter2@host/db",
        "postgresql://user:hunter2#hunter2@host/db",
        "postgresql://user:hunter2?hunter2@host/db",
        # no URIs at all
        "host=h user=u password=hunter2-hunter2 dbname=d",
        "host=h user=u password = 'hunter2 hunter2' dbname=d",
        'password="hunter2 hunter2"',
        "PASSWORD=hunter2-hunter2",
        "postgresql://host/db?sslpassword=hunter2",
        "PGPASSWORD=hunter2 asyncup sync",
        "aws_secret_access_key=hunter2/hunter2+x aws_session_token=hunter2",
        # other servers
        "https://key:hunter2-hunter2@s3.example.com/bucket",
        "https://key:hunter2@hunter2@s3.example.com/bucket",
    ],
)
def test_a_password_in_its_place_is_taken_out_of_every_rendering_even_when_nobody_knows_it(dsn: str) -> None:
    for out in renderings(dsn, Redactor()):
        assert "hunter2" not in out


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://user:hunter2-hunter2@host/db",
        "postgresql://user:hunter2%2Dhunter2@host/db",
        "postgresql:///db?user=u&password=hunter2-hunter2",
        "postgresql:///db?user=u&password=hunter2%2dhunter2",
    ],
)
def test_a_known_password_is_taken_out_wherever_it_stands(dsn: str) -> None:
    redact = Redactor(secrets_of(config(dsn).dsn))
    for out in renderings("the server said: hunter2-hunter2 is wrong", redact):
        assert "hunter2" not in out


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://user@host:5432/db",
        "postgresql://[::1]:5432/db",
        "s3://bucket/{id}/user@example.com",
        "http://127.0.0.1:9000/bucket/user@example.com",
        "file:///folder/a:b@c",
        "wrong password for user x",
        "12:30 a@b",
    ],
)
def test_what_is_no_secret_stays_readable(text: str) -> None:
    assert Redactor(("other-secret", ""))(text) == text


def test_a_short_secret_is_only_looked_for_in_its_place() -> None:
    redact = Redactor(secrets_of(config("postgresql://user:db@host/db").dsn))
    assert redact("the db at postgresql://user:db@host/db") == "the db at postgresql://user:***@host/db"


def test_a_secret_within_another_one_leaves_nothing_behind() -> None:
    assert Redactor(("secret", "secret-longer"))("a secret-longer b secret") == "a *** b ***"


def test_a_redacted_summary_is_still_the_same_object() -> None:
    report = Report(JobReport("secret-name", ABORTED, Counts(put=3)))
    value = json.loads(json_summary(report, Redactor(("secret-name",))))
    assert value == {**report.to_json(), "jobs": [{**report.to_json()["jobs"][0], "name": "***"}]}
