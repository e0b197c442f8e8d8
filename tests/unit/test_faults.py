"""What each SQLSTATE, and each word of a pooler, means for a run."""

from __future__ import annotations

import pytest

from asyncup.errors import (
    AsyncupError,
    Disposition,
    ReadingBroken,
    ServerFault,
    SourceRefused,
    StatementTimedOut,
    Unreachable,
)
from asyncup.sources.connection.faults import Fault, error_of

RETRIED = {
    Unreachable: ["08000", "08001", "08003", "08004", "08006", "57P01", "57P02", "57P03", "57P05", "25P03", "53300"],
    ServerFault: ["40001", "40P01", "55P03"],
    StatementTimedOut: ["57014", "25P04"],
}
REFUSED = ["08P01", "28000", "28P01", "3D000", "42501", "42601", "42P01", "22003", "22P02", "0A000", "2F000", "25006"]
BROKEN = ["XX000", "XX001", "XX002", "53100", "53200", "58030", "57P04", "P0001", "F0000", ""]


@pytest.mark.parametrize(
    ("kind", "state"),
    [(kind, state) for kind, states in RETRIED.items() for state in states]
    + [(SourceRefused, state) for state in REFUSED]
    + [(ReadingBroken, state) for state in BROKEN],
)
def test_an_sqlstate_says_whether_to_try_again(kind: type[AsyncupError], state: str) -> None:
    error = error_of(Fault(state, "something"), "read", "t")
    assert type(error) is kind
    assert (error.disposition is Disposition.RETRY) is (kind in RETRIED)
    assert "something" in error.message


@pytest.mark.parametrize(
    ("what", "grant"),
    [
        ("table docs", "GRANT SELECT ON shop.docs TO reader;"),
        ("view other", "GRANT SELECT ON other TO reader;"),
        ("schema shop", "GRANT USAGE ON SCHEMA shop TO reader; GRANT SELECT ON shop.docs TO reader;"),
        ("schema Other", 'GRANT USAGE ON SCHEMA "Other" TO reader;'),
        ("database db", "GRANT CONNECT ON DATABASE db TO reader;"),
    ],
)
def test_the_grant_that_is_missing_has_its_names(what: str, grant: str) -> None:
    error = error_of(Fault("42501", f"permission denied for {what}", role="reader"), "read", "shop.docs")
    assert error.hint == f"the role needs: {grant}"


def test_a_row_that_fails_for_its_large_object_says_which_grant_it_needs() -> None:
    error = error_of(Fault("42501", "permission denied for large object 7", role="Reader"), "read", "shop.docs")
    assert error.message.endswith('; it needs GRANT SELECT ON LARGE OBJECT 7 TO "Reader"')


@pytest.mark.parametrize(
    ("state", "message", "kind", "hint"),
    [
        ("57014", "canceling statement due to user request", ServerFault, None),
        ("0A000", "cached plan must not change result type", ServerFault, None),
        ("40001", "canceling statement due to conflict with recovery", ServerFault, "hot_standby_feedback"),
        ("26000", 'prepared statement "x" does not exist', SourceRefused, "pool_mode=transaction"),
        ("42P05", 'prepared statement "x" already exists', SourceRefused, "pool_mode=transaction"),
        ("08P01", "transaction blocks not allowed in statement pooling mode", SourceRefused, "pool_mode=transaction"),
        ("08P01", "unsupported startup parameter: options", SourceRefused, "ignore_startup_parameters"),
        ("08P01", "query_wait_timeout", Unreachable, None),
        ("08P01", "server login has been failing, try again later (server_login_retry)", Unreachable, None),
        ("08P01", "server conn crashed?", Unreachable, None),
        ("08P01", "client_login_timeout (server down)", Unreachable, None),
        ("08P01", "query timeout", StatementTimedOut, "query_timeout"),
        ("08P01", "idle transaction timeout", Unreachable, None),
        ("08P01", "no such database: x", SourceRefused, None),
        ("42P01", 'relation "t" does not exist', SourceRefused, "run it again"),
        ("42883", "operator does not exist: text > integer", SourceRefused, "run it again"),
    ],
)
def test_words_say_what_a_code_does_not(state: str, message: str, kind: type[AsyncupError], hint: str | None) -> None:
    error = error_of(Fault(state, message), "read", "t")
    assert type(error) is kind
    assert (hint or "") in (error.hint or "")


def test_what_closes_a_connection_without_a_reason_that_is_known_is_tried_again() -> None:
    assert type(error_of(Fault("08P01", "who knows", closed=True), "read", "t")) is Unreachable
