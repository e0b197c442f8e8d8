"""The options of incremental runs, and what a checkpoint keeps of one."""

from __future__ import annotations

from typing import Any

import pytest

from asyncup.config import Config
from asyncup.errors import StateRefused, UsageError
from asyncup.model import Checkpoint, Column, Counts
from asyncup.sources.increments.mark import Mark
from asyncup.sources.keyset import Relation
from asyncup.state import to_go_on_from

RIGHT: dict[str, Any] = {"table": "docs", "to": "s3://bucket/{id}"}
BY_MARK = {"table": "docs", "incremental": "mark", "key": ["mark", "id"]}
MARK = Mark("mark", "time", lo="1", hi="5", next="4").to_json()


@pytest.mark.parametrize(
    ("options", "flag", "message"),
    [
        ({"lag": "1m"}, "--lag", "has no meaning without --incremental"),
        ({"incremental": "a", "lag": "-1s"}, "--lag", "is not a duration"),
        ({"incremental": "a", "lag": -1}, "--lag", "must not be negative"),
        ({"incremental": "a", "lag": float("nan")}, "--lag", "must not be negative"),
        ({"incremental": "a,b"}, "--incremental", "'a,b' is not a column's name"),
        ({"incremental": ""}, "--incremental", "is not a column's name"),
        ({"incremental": "a", "snapshot": True}, "--snapshot", "cannot be combined with --incremental"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], flag: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Config.of(**RIGHT, **options)
    assert caught.value.subject == flag


@pytest.mark.parametrize(("written", "column"), [("updated_at", "updated_at"), ('"We ird"', "We ird"), ("UPD", "upd")])
def test_the_column_is_written_as_in_sql(written: str, column: str) -> None:
    config = Config.of(**RIGHT, incremental=written, lag="1m30s")
    assert (config.incremental_column, config.lag) == (column, 90.0)
    assert Config.of(**config.kept()) == config


def found(**fields: Any) -> Checkpoint:
    given = {"fingerprint": BY_MARK, "watermark": ("3", "7"), "counts": Counts(put=3), "finished": True, "mark": MARK}
    return Checkpoint(**{"name": "docs", "started": "then", "saved": "then", **given, **fields})


def test_a_finished_run_is_followed_by_one_that_counts_anew() -> None:
    checkpoint = to_go_on_from(found(counts=Counts(put=3, failed=2)), "docs", BY_MARK)
    assert (checkpoint.watermark, checkpoint.counts, checkpoint.finished) == (None, Counts(), False)
    assert checkpoint.mark == {**MARK, "letters": 2}
    assert checkpoint.letters == 2


def test_an_unfinished_run_is_gone_on_with() -> None:
    unfinished = found(finished=False)
    assert to_go_on_from(unfinished, "docs", BY_MARK) == unfinished


def test_an_unfinished_run_that_would_be_read_in_another_order_begins_its_range_once_more() -> None:
    checkpoint = to_go_on_from(found(finished=False), "docs", {**BY_MARK, "key": ["id"]})
    assert not checkpoint.has_begun
    assert (checkpoint.mark["next"], checkpoint.mark["hi"]) == ("1", "1")


@pytest.mark.parametrize("finished", [True, False])
def test_dead_letters_are_not_mixed_with_those_of_another_order(finished: bool) -> None:
    left, other = found(finished=finished, counts=Counts(failed=1)), {**BY_MARK, "key": ["id"]}
    assert to_go_on_from(left, "docs", other).fingerprint == BY_MARK
    with pytest.raises(StateRefused, match="key: was mark, id"):
        to_go_on_from(left, "docs", other, has_key=True)


def test_an_unfinished_run_goes_on_by_its_key_when_an_index_has_come() -> None:
    unfinished = found(finished=False, fingerprint={**BY_MARK, "key": ["id"]})
    assert to_go_on_from(unfinished, "docs", BY_MARK) == unfinished
    assert not to_go_on_from(unfinished, "docs", BY_MARK, has_key=True).has_begun


@pytest.mark.parametrize("after", [{}, {"incremental": "mark"}])
def test_a_finished_full_run_is_followed_by_one_that_reads_everything(after: dict[str, Any]) -> None:
    full = {"table": "docs", "key": ["id"]}
    checkpoint = to_go_on_from(found(fingerprint=full, mark={}), "docs", {**full, **after})
    assert (checkpoint.mark, checkpoint.watermark, checkpoint.fingerprint) == ({}, None, {**full, **after})


def test_a_full_run_does_not_take_the_place_of_increments() -> None:
    with pytest.raises(StateRefused, match="would forget how far they have come"):
        to_go_on_from(found(), "docs", {"table": "docs", "key": ["id"]})


@pytest.mark.parametrize(
    ("mark", "conditions"),
    [
        (Mark("mark", "time", hi="2026-01-01 00:00:00+00"), ["< '2026-01-01 00:00:00+00'::xid8"]),
        (Mark("mark", "xid8", lo="7", hi="9"), [">= '7'::xid8", "< '9'::xid8"]),
        (Mark("mark", "sequence", lo="7", hi="9"), ["> '7'::xid8", "<= '9'::xid8"]),
    ],
)
def test_bounds_are_conditions_on_the_column(mark: Mark, conditions: list[str]) -> None:
    relation = Relation("docs", "docs", 'My "docs"', (Column("mark", "xid8", "xid8"),), (), is_query=False, database="")
    assert list(mark.conditions(relation)) == [f'"My ""docs"""."mark" {condition}' for condition in conditions]
    assert Mark.of(mark.to_json()) == mark


def test_an_empty_table_has_nothing_within_its_bounds() -> None:
    relation = Relation("docs", "docs", "docs", (), (), is_query=False, database="")
    assert Mark("mark", "sequence").conditions(relation) == ("false",)
