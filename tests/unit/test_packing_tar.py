"""Archives: tarfile and tar read what was packed, and nobody can be made to write outside of the folder."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncup.errors import RowRefused
from asyncup.packing.formats import RowPacking, open_packing
from tests.unit.packs import decompressed, layout, packed, packing, row

NAMES = st.lists(
    st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\."), min_size=1, max_size=60),
    min_size=1,
    max_size=5,
).map("/".join)


def archive() -> RowPacking:
    """Of members named by the row's second column."""
    return open_packing("tar", layout(), member=lambda row: row[1])


def members(data: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    found = []
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            found.append((member, content.read()))
    return found


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(NAMES, st.binary(max_size=1100), max_size=5))
def test_another_reader_finds_each_member_under_its_name(bodies: dict[str, bytes]) -> None:
    data, _ = packed(archive(), [("1", name, len(body), body) for name, body in bodies.items()])
    assert {member.name: body for member, body in members(data)} == bodies
    assert [member.name for member, _ in members(data)] == list(bodies)
    assert len(data) % 512 == 0
    assert data.endswith(bytes(1024))


@pytest.mark.parametrize("name", ["docs/1.json", "d" * 100, "a b"])
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513])
def test_a_plain_member_is_the_same_bytes_as_that_of_pythons_own_writer(name: str, size: int) -> None:
    body = b"x" * size
    info = tarfile.TarInfo(name)
    info.size = size
    expected = info.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-size % 512) + bytes(1024)
    assert packed(archive(), [("1", name, size, body)])[0] == expected


@pytest.mark.parametrize("name", ["d" * 101, "d/" * 511 + "d", "é.json", "d" * 99 + "é", "日" * 300])
@pytest.mark.parametrize("digits", [0, 1])
def test_a_name_of_any_length_and_script_comes_back(name: str, digits: int) -> None:
    name += "d" * digits
    data, _ = packed(archive(), [("1", name, 1, b"x"), ("2", "plain", 1, b"y")])
    assert [(member.name, body) for member, body in members(data)] == [(name, b"x"), ("plain", b"y")]


def test_a_member_has_no_owner_no_time_and_may_be_read_by_all() -> None:
    ((member, body),) = members(packed(archive(), [("1", "日.json", 2, b"{}")])[0])
    assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
    assert (member.mode, member.type, body) == (0o644, tarfile.REGTYPE, b"{}")


@pytest.mark.parametrize(
    "name",
    [
        None,
        "",
        "/a",
        "//a",
        "a/",
        ".",
        "..",
        "../a",
        "a/..",
        "a/../b",
        "./a",
        "a/.",
        "a\\..\\b",
        "..\\a",
        "a\nb",
        "a\x00",
        "\ud800",
    ],
)
def test_a_name_that_would_not_stay_in_its_folder_is_refused_and_leaves_the_pack_as_it_was(name: str | None) -> None:
    pack = archive().begin()
    before = pack.add(("1", "a", 1, b"1"))
    with pytest.raises(RowRefused):
        pack.add(("2", name, 1, b"2"))
    after = before + pack.add(("3", "...b/.c/d..e", 1, b"3")) + pack.finish()
    assert [(member.name, body) for member, body in members(after)] == [("a", b"1"), ("...b/.c/d..e", b"3")]


def test_two_records_are_never_one_member() -> None:
    pack = archive().begin()
    pack.add(("1", "a", 1, b"1"))
    with pytest.raises(RowRefused, match="another record"):
        pack.add(("2", "a", 1, b"2"))
    archive().begin().add(("2", "a", 1, b"2"))


@pytest.mark.parametrize("compress", ["gzip", "zstd"])
def test_an_archive_is_compressed_as_a_whole(compress: str) -> None:
    rows = [row(n, b"%d" % n) for n in range(3)]
    plain, _ = packed(packing("tar", layout()), rows)
    data, _ = packed(packing("tar", layout(), compress=compress), rows)
    assert decompressed(compress, data) == plain
    assert len(data) < 300
