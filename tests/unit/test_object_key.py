"""Object keys: what S3, and every client and file system on the way, keeps as it is; the rest is refused."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncup.errors import Disposition, RowRefused
from asyncup.render.objectkey import MAX_KEY_BYTES, check_object_key


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "/leading",
        "//",
        "a//b",
        "a/",
        "...",
        "a/.../b",
        ".hidden",
        "a/.hidden",
        "a..b/c.",
        "..a/b..",
        " ",
        "a b+c%2F?&#",
        'quote"\\back',
        "größe/日本/🎉",
        "e\u0301",
        "x" * 1024,
        "é" * 512,
        "🎉" * 256,
    ],
)
def test_an_object_key_may_be_any_text_that_arrives_as_written(key: str) -> None:
    check_object_key(key)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "empty"),
        ("x" * 1025, "is 1025 bytes long; S3 takes 1024"),
        ("é" * 512 + "x", "is 1025 bytes long; S3 takes 1024"),
        ("🎉" * 257, "is 1028 bytes long; S3 takes 1024"),
        (".", "segment"),
        ("..", "segment"),
        ("./a", "segment"),
        ("../a", "segment"),
        ("a/.", "segment"),
        ("a/..", "segment"),
        ("a/./b", "segment"),
        ("a/../../etc/passwd", "segment"),
        ("/..", "segment"),
        ("//../", "segment"),
        ("é/../x", "segment"),
        ("a\nb", "control character"),
        ("a\r\nHost: evil", "control character"),
        ("\0", "control character"),
        ("é\t", "control character"),
        ("a\x7f", "control character"),
        ("a\x85b", "control character"),
        ("..\n", "control character"),
        ("a\ud800", "UTF-8"),
    ],
)
def test_an_object_key_that_could_arrive_as_another_one_fails_its_row(key: str, reason: str) -> None:
    with pytest.raises(RowRefused, match=reason) as caught:
        check_object_key(key)
    assert caught.value.disposition is Disposition.DEAD_LETTER
    assert caught.value.hint
    assert len(caught.value.subject) <= 200


@given(st.text(st.sampled_from("./a\né"), max_size=8) | st.text(max_size=600))
def test_a_key_passes_exactly_when_the_rules_say_so(key: str) -> None:
    allowed = (
        0 < len(key.encode()) <= MAX_KEY_BYTES
        and not any(unicodedata.category(char) == "Cc" for char in key)
        and not {".", ".."} & set(key.split("/"))
    )
    try:
        check_object_key(key)
    except RowRefused:
        assert not allowed
    else:
        assert allowed
