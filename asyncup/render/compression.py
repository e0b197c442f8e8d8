"""Compression of bodies: gzip and zstd, the same bytes for the same body at every run. Pure and synchronous.

A gzip member has no name and no time (RFC 1952, 2.3.1: MTIME 0 is none), and the same header on every platform. What a
later version of zlib or zstd makes of a body may be other bytes, of the same content.

zstd comes from the standard library (https://docs.python.org/3.14/library/compression.zstd.html) where there is one
that has it, and from its backport before. Levels end at 19: a reader of `Content-Encoding: zstd` need not have a window
of more than 8 MiB (RFC 9659, section 3), which higher levels exceed.
"""

from __future__ import annotations

import sys
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asyncup.errors import UsageError
from asyncup.model import Headers
from asyncup.protocols import CompressedStream
from asyncup.render.compressed import is_compressed

NAMES = ("none", "gzip", "zstd")
#: The lowest level, the default, the highest.
LEVELS = {"gzip": (1, 6, 9), "zstd": (1, 3, 19)}

#: About how many bytes a millisecond compresses, from each level on. Measured with words at random, which is slower than
#: what most bodies hold: zlib 1.2.13, zstd 1.5.7, one core of 2023.
_PER_MILLISECOND = {
    "gzip": ((4, 48 << 10), (1, 96 << 10)),
    "zstd": ((13, 8 << 10), (8, 48 << 10), (5, 96 << 10), (1, 192 << 10)),
}
#: Bodies up to here are compressed with what the thread used before: for 200 bytes that is 3 µs in place of 11. What is
#: made for larger ones may be tens of megabytes, and is given back.
_KEPT_UP_TO = 64 << 10


class _Kept(threading.local):
    """The compressors of one thread, by level."""

    def __init__(self) -> None:
        self.compressors: dict[int, Any] = {}


_kept = _Kept()


@dataclass(frozen=True, slots=True)
class Compression:
    """How bodies are compressed. `encoding` is the `Content-Encoding` of what comes out (RFC 9110, section 8.4.1).

    Safe in several threads at a time, each with streams of its own. zlib and zstd let go of the interpreter's lock.
    """

    encoding: str
    level: int

    def compress(self, body: bytes) -> bytes:
        """A whole body, as one gzip member or zstd frame: several, one behind the other, are as good as one."""
        if self.encoding == "zstd":
            if len(body) > _KEPT_UP_TO:
                return bytes(_zstd().compress(body, self.level))
            compressor = _thread_compressor(self.level)
            return bytes(compressor.compress(body, compressor.FLUSH_FRAME))
        deflated = zlib.compress(body, self.level, -zlib.MAX_WBITS)
        return _gzip_head(self.level) + deflated + _gzip_tail(zlib.crc32(body), len(body))

    def stream(self) -> CompressedStream:
        """A body that comes in slices."""
        return _Zstd(self.level) if self.encoding == "zstd" else _Gzip(self.level)

    def applies(self, key: str, content_type: str | None, headers: Headers = (), size: int = 1) -> bool:
        """Whether such a body is to be compressed: not when it is empty, is compressed already or has an encoding.

        `headers` may be those of the upload, whose names are lower case; `content_type` wins over theirs.
        """
        if size == 0:
            return False
        for name, value in headers:
            if name == "content-encoding":
                return False
            if name == "content-type" and content_type is None:
                content_type = value
        return not is_compressed(key, content_type)

    def is_heavy(self, size: int) -> bool:
        """Whether compressing that many bytes takes more than about a millisecond, which is too long for the event loop."""
        return size > next(most for level, most in _PER_MILLISECOND[self.encoding] if self.level >= level)


def compile_compression(name: str, level: int | None = None) -> Compression | None:
    """What `--compress` and `--compress-level` ask for; None for `none`.

    Raises:
        UsageError: there is no such compression, or it has no such level.
    """
    if name not in NAMES:
        raise UsageError("read flags", "--compress", f"{name!r} is none of {', '.join(NAMES)}")
    if name == "none":
        if level is not None:
            raise UsageError(
                "read flags", "--compress-level", "nothing is compressed", "add --compress gzip or --compress zstd"
            )
        return None
    lowest, usual, highest = LEVELS[name]
    if level is not None and not lowest <= level <= highest:
        raise UsageError(
            "read flags",
            "--compress-level",
            f"{level} is no level of {name}",
            f"use {lowest} (fast) to {highest} (small); {usual} is the default",
        )
    return Compression(name, usual if level is None else level)


class _Gzip:
    """One member."""

    def __init__(self, level: int) -> None:
        self._deflate = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._head = _gzip_head(level)
        self._crc = 0
        self._size = 0

    def add(self, piece: bytes) -> bytes:
        self._crc = zlib.crc32(piece, self._crc)
        self._size += len(piece)
        deflated = self._deflate.compress(piece)
        if self._head:
            deflated, self._head = self._head + deflated, b""
        return deflated

    def finish(self) -> bytes:
        return self._head + self._deflate.flush() + _gzip_tail(self._crc, self._size)


def _gzip_head(level: int) -> bytes:
    """By hand, since zlib's says on what system it was made: magic, deflate, no flags, no time, effort, unknown system."""
    return b"\x1f\x8b\x08\x00\x00\x00\x00\x00" + {1: b"\x04", 9: b"\x02"}.get(level, b"\x00") + b"\xff"


def _gzip_tail(crc: int, size: int) -> bytes:
    return crc.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")


class _Zstd:
    """One frame."""

    def __init__(self, level: int) -> None:
        compressor = _zstd().ZstdCompressor(level)
        self.add: Callable[[bytes], bytes] = compressor.compress
        self.finish: Callable[[], bytes] = compressor.flush


def _zstd() -> Any:
    """The module, imported by those who use it."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def _thread_compressor(level: int) -> Any:
    """The compressor of that level that belongs to the thread that calls."""
    found = _kept.compressors.get(level)
    if found is None:
        found = _kept.compressors[level] = _zstd().ZstdCompressor(level)
    return found
