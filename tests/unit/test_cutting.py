"""Where packs are cut: by nothing but the rows, whatever pages they come in and wherever a run begins."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncup.config import Config
from asyncup.errors import TemplateRefused, UsageError
from asyncup.flow.watermark import Watermark
from asyncup.making.cutting import Cutter
from asyncup.making.recipe import Packs
from asyncup.model import Column, Row, RowShape, is_deferred
from asyncup.planning.reckoning import groups_of
from asyncup.planning.sampling import Sample
from asyncup.recipes import Rows, check_increments, open_packing, small_packs
from asyncup.render.template import parse_template

SHAPE = RowShape(1, (Column("g", "text", "text"),))


def packs_of(rows: list[Row], pages: list[int], packs: Packs) -> list[list[int]]:
    """The numbers of the rows of each pack, when rows come in pages of these sizes, over and over."""
    watermark = Watermark()
    cutter = Cutter(packs, SHAPE, watermark.begin())
    found: dict[int, list[int]] = {}
    left, sizes = list(rows), iter(pages * (len(rows) + 1))
    ended = set()
    while left:
        size = next(sizes)
        page, left = left[:size], left[size:]
        load = cutter.cut(page)
        load += [] if left else cutter.end()
        for ticket, piece in load:
            assert id(ticket) not in ended
            if not piece:
                ended.add(id(ticket))
            assert len(piece) == 1 or not any(map(is_deferred, piece))
            found.setdefault(id(ticket), []).extend(int(row[0]) for row in piece)
    assert ended == set(found)
    assert [ticket.open - 1 for ticket in watermark.tracks[0].tickets] == list(map(len, found.values()))
    return list(found.values())


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30) | st.none(), st.booleans()), min_size=1, max_size=60),
    st.lists(st.integers(1, 20), min_size=1, max_size=4),
    st.one_of(st.none(), st.integers(1, 9)),
    st.one_of(st.none(), st.integers(1, 50)),
)
def test_packs_are_the_same_whatever_pages_rows_come_in_and_whichever_pack_a_run_begins_with(
    kinds: list[tuple[str, int | None, bool]], pages: list[int], most_rows: int | None, most_bytes: int | None
) -> None:
    rows: list[Row] = [
        (f"{n:04d}", group, size, None if size is None or deferred else b"x" * size)
        for n, (group, size, deferred) in enumerate(kinds)
    ]
    packs: Any = Packs(None, rows=most_rows, size=most_bytes, by=(1,))  # type: ignore[arg-type]
    whole = packs_of(rows, [len(rows)], packs)
    assert [n for pack in whole for n in pack] == list(range(len(rows)))
    assert packs_of(rows, pages, packs) == whole
    begins = whole[len(whole) // 2][0]
    assert packs_of(rows[begins:], pages, packs) == whole[len(whole) // 2 :]
    for pack, after in zip(whole, [*whole[1:], None], strict=True):
        inside = [rows[n] for n in pack]
        size = sum(row[2] or 0 for row in inside)
        assert len({row[1] for row in inside}) == 1
        assert most_rows is None or len(pack) <= most_rows
        assert most_bytes is None or size <= most_bytes or len(pack) == 1
        if after is not None:  # it ends where one of the three says so, and not before
            behind = rows[after[0]]
            assert (
                behind[1] != inside[0][1]
                or len(pack) == most_rows
                or (most_bytes is not None and size + (behind[2] or 0) > most_bytes)
            )


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"pack_rows": 5}, "--pack-rows"),
        ({"pack": "zip"}, "--pack"),
        ({"pack": "ndjson", "pack_rows": 0}, "--pack-rows"),
        ({"pack": "ndjson", "pack_bytes": "0MiB"}, "--pack-bytes"),
        ({"pack": "ndjson", "pack_member": "{id}"}, "--pack-member"),
        ({"pack": "parquet", "pack_index": True}, "--pack-index"),
        ({"pack": "csv", "body": "payload"}, "--pack"),
        ({"pack": "parquet", "transform": "a:b"}, "--pack"),
        ({"pack": "ndjson", "readers": 2}, "--readers"),
        ({"compress": "lz4"}, "--compress"),
        ({"to": "file:///out/{id}.html", "compress": "gzip"}, "--compress"),
        ({"compress_level": 3}, "--compress-level"),
        ({"compress": "gzip", "compress_level": 10}, "--compress-level"),
        ({"executor": "process"}, "--executor"),
        ({"transform": "a:b", "executor": "gpu"}, "--executor"),
        ({"transform": "a:b", "executor_workers": 0}, "--executor-workers"),
        ({"transform": "a:b", "transform_timeout": 0}, "--transform-timeout"),
        ({"transform": 5}, "--transform"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_flag(options: dict[str, Any], flag: str) -> None:
    with pytest.raises(UsageError) as refused:
        Config.of(**{"table": "t", "to": "null:", **options})
    assert refused.value.subject == flag


TIMES = (Column("id", "bigint", "int8"), Column("changed", "timestamp", "timestamp"), Column("tx", "xid8", "xid8"))


def increments(column: str, template: str, key: tuple[str, ...]) -> None:
    config = Config.of(table="t", to=f"s3://b/{template}", pack="ndjson", incremental=column)
    check_increments(config, parse_template(template), Rows(key, RowShape(len(key), TIMES), TIMES, None))


def test_packs_of_increments_have_names_that_no_other_increment_gives() -> None:
    for lossy in ("{id}", "{changed:%Y/%m/%d}/{id}"):  # two increments may lie in one day, and begin with one row
        with pytest.raises(TemplateRefused, match="replace"):
            increments("changed", lossy, ("changed", "id"))
    increments("changed", "{changed:%Y/%m/%d}/{changed}/{id}", ("changed", "id"))
    increments("tx", "{tx}/{id}", ("id",))


def test_packs_of_increments_are_refused_where_rows_read_twice_have_others_beside_them() -> None:
    for column, template, key in (("id", "{id}", ("id",)), ("changed", "{changed}/{id}", ("id",))):
        with pytest.raises(UsageError, match="read twice"):
            increments(column, template, key)


def test_members_have_names_that_no_other_row_of_their_pack_has() -> None:
    rows = Rows(("id",), RowShape(1, TIMES), TIMES, None, unique_keys=(("id",), ("changed", "tx")))

    def opened(member: str, **options: Any) -> None:
        open_packing(Config.of(table="t", to="null:", pack="tar", pack_member=member, **options), rows)

    opened("{id}.json")
    opened("{changed}.json", pack_by="tx")
    opened("{changed}.json", allow_collisions=True)
    with pytest.raises(TemplateRefused, match="one name in a pack") as refused:
        opened("{changed}.json")
    assert (refused.value.subject, refused.value.hint) == ("--pack-member", "add {id}")


def test_packs_of_hardly_any_rows_are_told_with_the_key_that_mends_them() -> None:
    config = Config.of(table="t", to="null:", pack="ndjson", pack_by="g")
    told = small_packs(config, ("id",), 1000, 1000)
    assert told is not None
    assert told.startswith(
        "packs of 1 row on average, since g changes with nearly every row in the order of id: give --key g,id"
    )
    assert small_packs(config, ("id",), 1000, 100) is None
    assert small_packs(config, ("g", "id"), 1000, 1000) is None
    assert small_packs(Config.of(table="t", to="null:", pack="ndjson"), ("id",), 1000, 1000) is None


def test_a_plan_counts_the_groups_of_its_sample() -> None:
    def groups(values: str, rows: int, *, whole: bool = False) -> int:
        return groups_of(Sample([(value, 1, b"") for value in values], None, whole, False, 0, 0.0), [0], rows)

    assert groups("aabbb", 5, whole=True) == 2
    assert groups("aaaabbbb", 1000) == 2
    assert groups("abababab", 1000) == 1000


def test_a_limit_that_is_given_is_the_only_one() -> None:
    def limits(**options: Any) -> tuple[int | None, int | None]:
        return Config.of(table="t", to="null:", pack="ndjson", **options).pack_limits

    assert limits() == (100_000, 64 << 20)
    assert limits(pack_rows=7) == (7, None)
    assert limits(pack_bytes="1KiB") == (None, 1024)


def test_what_happens_to_rows_is_kept_with_the_job() -> None:
    def function(row: Any) -> bytes:
        return b""

    config = Config.of(table="t", to="null:", transform=function, pack="ndjson", pack_by="a,b", compress="zstd")
    kept = config.kept()
    assert kept["transform"].endswith("test_cutting:test_what_happens_to_rows_is_kept_with_the_job.<locals>.function")
    assert (kept["pack"], kept["pack_by"], kept["compress"]) == ("ndjson", ["a", "b"], "zstd")
    assert Config.of(**{**kept, "transform": "m:f"}).made_of_rows() == {**config.made_of_rows(), "transform": "m:f"}
