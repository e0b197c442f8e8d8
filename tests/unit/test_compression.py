"""Compression: other readers read it, the same body is the same bytes, and what is compressed already is left alone."""

from __future__ import annotations

import gzip
import threading
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncup.errors import UsageError
from asyncup.render.compression import LEVELS, Compression, compile_compression
from tests.unit.packs import decompressed, zstd

BODY = b'{"id":1,"text":"as it was in the beginning"}' * 50


def compiled(name: str, level: int | None = None) -> Compression:
    compression = compile_compression(name, level)
    assert compression is not None
    return compression


@pytest.mark.parametrize("name", ["gzip", "zstd"])
@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=6))
def test_other_readers_give_back_a_body_that_was_compressed_whole_or_in_slices(name: str, pieces: list[bytes]) -> None:
    compression, stream, body = compiled(name), compiled(name).stream(), b"".join(pieces)
    sliced = b"".join([*map(stream.add, pieces), stream.finish()])
    assert decompressed(name, sliced) == decompressed(name, compression.compress(body)) == body
    assert decompressed(name, compression.compress(body) + sliced) == body * 2, "one behind the other"


@pytest.mark.parametrize(("name", "level"), [(name, level) for name in LEVELS for level in (None, *LEVELS[name])])
def test_the_same_body_is_the_same_bytes_whatever_was_compressed_before_and_in_which_thread(
    name: str, level: int | None
) -> None:
    first = compiled(name, level).compress(BODY)
    found: list[bytes] = []

    def elsewhere() -> None:
        compression = compiled(name, level)
        compression.compress(bytes(1000))
        compression.compress(BODY[::-1])
        found.append(compression.compress(BODY))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [first]
    assert compiled(name, level).encoding == name


def test_a_large_body_and_a_small_one_go_the_same_way_through_zstd() -> None:
    for body in (b"x" * (64 << 10), b"x" * ((64 << 10) + 1)):
        assert compiled("zstd").compress(body) == zstd().compress(body, 3)


@pytest.mark.parametrize("level", [1, 6, 9])
def test_a_gzip_member_has_no_time_no_name_and_the_header_of_no_system(level: int) -> None:
    compression = compiled("gzip", level)
    stream = compression.stream()
    body = compression.compress(BODY)
    assert body == stream.add(BODY) + stream.finish()
    assert body[:8] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00"
    assert body[9:10] == b"\xff"
    assert body[8] == gzip.compress(BODY, level, mtime=0)[8], "how hard it was tried"
    assert zlib.decompress(body, 31) == BODY


def test_no_zstd_frame_needs_a_window_that_http_readers_need_not_have() -> None:
    stream = compiled("zstd", 19).stream()
    whole = stream.add(b"abcdefgh" * (3 << 20)) + stream.finish()
    options = {zstd().DecompressionParameter.window_log_max: 23}
    assert len(zstd().decompress(whole, options=options)) == 24 << 20


@pytest.mark.parametrize(
    ("key", "content_type", "applies"),
    [
        ("a/1.json", None, True),
        ("a/1", "application/json; charset=utf-8", True),
        ("a/1", None, True),
        ("a/1.svg", "image/svg+xml", True),
        ("a/gz", None, True),
        ("a.gz/1", None, True),
        ("a/1.tar", "application/x-tar", True),
        ("a/1.JPG", None, False),
        ("a/1.json.gz", "application/json", False),
        ("a/1.parquet", "application/octet-stream", False),
        ("a/1", "image/png", False),
        ("a/1", "Video/MP4", False),
        ("a/1", "application/zip", False),
        ("a/1", "application/epub+zip", False),
        ("a/1", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", False),
        ("a/1", "font/woff2", False),
        ("a/1", "application/pdf", False),
    ],
)
def test_what_is_compressed_already_is_left_alone(key: str, content_type: str | None, applies: bool) -> None:
    compression = compiled("gzip")
    assert compression.applies(key, content_type) is applies
    headers = () if content_type is None else (("content-type", content_type),)
    assert compression.applies(key, None, headers) is applies


def test_a_body_with_an_encoding_and_an_empty_one_are_left_alone() -> None:
    compression = compiled("zstd")
    assert not compression.applies("1.json", None, (("cache-control", "no-cache"), ("content-encoding", "br")))
    assert not compression.applies("1.json", None, size=0)


def test_the_heavier_the_level_the_sooner_a_body_is_too_heavy_for_the_loop() -> None:
    for name, (lowest, _, highest) in LEVELS.items():
        limits = [
            next(size for size in range(0, 1 << 20, 1024) if compiled(name, level).is_heavy(size))
            for level in range(lowest, highest + 1)
        ]
        assert limits == sorted(limits, reverse=True)
        assert 4 << 10 < limits[-1] < limits[0] < 1 << 20


@pytest.mark.parametrize(
    ("name", "level", "flag"),
    [
        ("brotli", None, "--compress"),
        ("none", 3, "--compress-level"),
        ("gzip", 0, "--compress-level"),
        ("gzip", 10, "--compress-level"),
        ("zstd", 20, "--compress-level"),
    ],
)
def test_a_compression_that_is_not_there_is_refused(name: str, level: int | None, flag: str) -> None:
    with pytest.raises(UsageError) as refused:
        compile_compression(name, level)
    assert refused.value.subject == flag


def test_no_compression_is_none() -> None:
    assert compile_compression("none") is None
