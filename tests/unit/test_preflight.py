"""What a plan came to: its status and exit code, its JSON, its screen."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from asyncup.console.preflight import preflight_lines
from asyncup.errors import AsyncupError, DestinationRefused, InternalError, SourceRefused, Unreachable
from asyncup.preflight import (
    COUNTED,
    AccessFacts,
    BytesEstimate,
    DestinationFacts,
    KeyColumn,
    KeyFacts,
    Permissions,
    Preflight,
    Price,
    RowsEstimate,
    SampledRow,
    SourceFacts,
    StateFacts,
    TemplateFacts,
    Trial,
)
from asyncup.pricing import Requests, times_at

AWAY = Unreachable("connect", "database", "nobody answers")
REFUSED = SourceRefused("resolve", "docs", "permission denied", "GRANT SELECT ON docs TO me;")

USUAL = Preflight(
    looked=True,
    source=SourceFacts("public.documents", "table", "18.4", "shop", "10.0.0.3", 5432, "app", False, 4_000_000_000),
    key=KeyFacts((KeyColumn("id", "bigint", False),), "primary key", True),
    access=AccessFacts(
        "documents_pkey", ("documents_pkey",), False, False, False, page_rows=128, page_milliseconds=2.1
    ),
    rows=RowsEstimate(1_204_000, False, "reltuples", 1_204_000, "2026-11-20T03:12:00Z", 40),
    bytes=BytesEstimate(2_400_000_000, 2_000.0, 90_000, "100 rows, from all over the table"),
    sample=tuple(
        SampledRow((str(n),), f"docs/{n}.pdf", 2000 + n, {"content-type": "application/pdf"}, "put")
        for n in (1, 250_113, 500_007, 751_234, 999_999)
    ),
    trial=Trial(100, 98, 2, 0, (("the body is NULL", 2),)),
    template=TemplateFacts("docs/{id}.pdf", True, ("id",), 1, ("docs/",), 3500),
    destination=DestinationFacts(
        "s3",
        "my-bucket",
        "eu-west-1",
        "https://s3.eu-west-1.amazonaws.com",
        "https://my-bucket.s3.eu-west-1.amazonaws.com/",
        "wire",
        "virtual",
        "overwrite",
        "nothing",
        0,
        False,
    ),
    permissions=Permissions(True, True),
    state=StateFacts("public.documents", ".asyncup", ".asyncup/public.documents.json", False, False, False),
    requests=Requests(1_180_000, 0, 0, 0, 0),
    price=Price(5.9, 0.06, "S3 Standard, us-east-1", "2025-01", "https://aws.amazon.com/s3/pricing/"),
    times=times_at(1_180_000, 2_400_000_000, max_rate=None, max_bandwidth=None),
    command="asyncup sync --table documents --to 's3://my-bucket/docs/{id}.pdf' --body content",
)


@pytest.mark.parametrize(
    ("reasons", "signal", "status", "code"),
    [
        ((), None, "ready", 0),
        ((REFUSED,), None, "refused", 2),
        ((AWAY,), None, "aborted", 1),
        ((REFUSED, AWAY), None, "refused", 2),  # a server that comes back changes nothing about the refusal
        ((InternalError("run", "asyncup", "a defect"),), None, "aborted", 1),
        ((), 2, "interrupted", 130),
        ((REFUSED,), 15, "interrupted", 143),
    ],
)
def test_the_exit_code_says_whether_a_sync_would_run(
    reasons: tuple[AsyncupError, ...], signal: int | None, status: str, code: int
) -> None:
    found = Preflight(looked=not reasons and signal is None, reasons=reasons, signal=signal)
    assert (found.status, found.exit_code, found.to_json()["status"]) == (status, code, status)


def test_every_field_is_there_in_every_outcome() -> None:
    def names(value: object) -> object:
        return {name: names(part) for name, part in value.items()} if isinstance(value, dict) else None

    shapes = [found.to_json() for found in (USUAL, Preflight(reasons=(REFUSED,)), Preflight(signal=2), Preflight())]
    for shape in shapes:
        json.dumps(shape)  # plain values only
        shape.pop("error")
    assert names(shapes[0]) == names(shapes[1]) == names(shapes[2]) == names(shapes[3])


def test_a_usual_job_is_one_screen_of_80_columns() -> None:
    lines = preflight_lines(USUAL, 80)
    assert len(lines) < 24  # the prompt stands below
    assert max(len(line) for line in lines[:-1]) <= 80
    assert lines[-1] == f"  {USUAL.command}"
    text = "\n".join(lines)
    for words in (
        "Ready; nothing was sent or written.",
        "about 1,204,000 (statistics, analysed 2026-11-20 03:12 UTC)",
        "about 2.4 GB",
        "by index documents_pkey, no sort",
        "unique by id; of 100 rows 98 put, 2 skipped (the body is NULL)",
        "docs/250113.pdf  252.1 kB",
        "content-type: application/pdf",
        "about 1,180,000 PUTs: $5.90",
        "100/s: 3h16m, 1,000/s: 19m40s",
        "1 in the sample (docs/)",
    ):
        assert words in text, words


@pytest.mark.parametrize("width", [1, 40, 60, 200])
def test_lines_keep_to_the_width_of_the_terminal_and_to_one_that_can_be_read(width: int) -> None:
    lines = [line for line in preflight_lines(USUAL, width)[:-1] if " " in line.strip() and "https://" not in line]
    assert max(len(line) for line in lines) <= max(40, min(width, 110))


def test_the_command_is_as_it_was_given_whatever_is_in_it() -> None:
    command = "asyncup sync --query 'select 1\n\tas id' --key id --to null:"
    assert preflight_lines(replace(USUAL, command=command), 40)[-1] == f"  {command}"


def test_what_was_found_is_shown_beside_the_refusal_and_no_command() -> None:
    lines = preflight_lines(Preflight(reasons=(REFUSED, DestinationRefused("put", "s3://b", "no")), rows=USUAL.rows))
    assert lines[0] == "Refused, for 2 reasons; nothing was sent or written."
    assert any(line.startswith("rows ") for line in lines)
    assert "asyncup sync" not in "\n".join(lines)


def test_a_long_object_key_is_cut_and_what_is_skipped_is_no_failure() -> None:
    found = Preflight(
        template=TemplateFacts("{id}", True, ("id",)),
        trial=Trial(4, 1, 2, 1, (("the body is NULL", 2), ("too long", 1))),
        sample=(SampledRow(("1",), "k" * 1000, 1, {}, "put"),),
    )
    lines = preflight_lines(found, 60)
    assert any(line.startswith("  kkk") and line.endswith("…  1 B") and len(line) == 60 for line in lines)
    assert "of 4 rows 1 put, 2 skipped (the body is NULL), 1 fail (too long)" in " ".join(" ".join(lines).split())


def test_headers_that_differ_stand_below_their_row_and_nothing_of_a_row_steers_the_terminal() -> None:
    found = Preflight(
        looked=True,
        rows=RowsEstimate(2, True, COUNTED, 2),
        template=TemplateFacts("{id}", True, ("id",)),
        trial=Trial(3, 2, 0, 1, (("a control\x1b[31m character", 1),)),
        sample=(
            SampledRow(("1",), "a", 1, {"cache-control": "1"}, "put"),
            SampledRow(("2",), "b", 1, {"cache-control": "2"}, "put"),
            SampledRow(("3",), "c\x1b[31m", None, {}, "failed", "a control\x1b[31m character"),
        ),
    )
    text = "\n".join(preflight_lines(found))
    assert "  a  1 B\n      cache-control: 1\n  b  1 B\n      cache-control: 2\n" in text
    assert "\x1b" not in text
