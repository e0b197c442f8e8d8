"""Packs that are tar archives: one member a record, the same bytes at every run and on every machine.

Headers are ustar (https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html#tag_20_92_13_06), mode 0644, with
owner, group and time 0. A name that ustar cannot hold, over 100 bytes or beyond ASCII, goes into a pax header before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from asyncup.model import Row
from asyncup.packing.layout import Codec, Layout
from asyncup.packing.outlet import Outlet
from asyncup.packing.records import refused

_BLOCK = 512
_LONGEST_NAME = 100
#: Eleven octal digits.
_MAX_SIZE = 8 << 30
_END = bytes(2 * _BLOCK)

_BEFORE_SIZE = b"0000644\x000000000\x000000000\x00"
_BEFORE_CHECKSUM = b"\x0000000000000\x00"
_BEHIND = bytes(100) + b"ustar\x0000" + bytes(247)
#: What every header adds to its own checksum; the checksum counts as eight blanks.
_SUM = sum(_BEFORE_SIZE + _BEFORE_CHECKSUM + _BEHIND) + 8 * 0x20

#: A `.` or `..` segment, with either slash: some systems take `\\` for one.
_DOTS = re.compile(r"(?:^|[/\\])\.{1,2}(?:[/\\]|$)")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class TarPack:
    """One archive. Remembers the names of its members, about 150 bytes each."""

    def __init__(self, layout: Layout, outlet: Outlet, member: Callable[[Row], str | None]) -> None:
        self._keys = layout.shape.keys
        self._outlet = outlet
        self._member = member
        self._names: set[str] = set()

    def add(self, row: Row) -> bytes:
        """See `Pack`."""
        body: bytes = row[-1] or b""
        name = self._member(row)
        _check(name)
        assert name is not None  # noqa: S101 - for the type checker
        if name in self._names:
            raise refused(
                "tar",
                f"another record of this pack is the member {name!r}; a unique key in --pack-member tells them apart",
                "name members by a unique key",
            )
        size = len(body)
        if size >= _MAX_SIZE:
            raise refused("tar", f"the record is {size} bytes long; a member takes up to {_MAX_SIZE - 1}")
        head = _head(name, size)
        self._names.add(name)
        outlet = self._outlet
        out = outlet.add(head) + outlet.record(tuple(row[: self._keys]), body, name)
        return out + outlet.add(bytes(-size % _BLOCK)) if size % _BLOCK else out

    def finish(self) -> bytes:
        """See `Pack`."""
        return self._outlet.add(_END) + self._outlet.finish()

    def index(self) -> bytes:
        """See `Pack`."""
        return self._outlet.index()


def open_tar(
    layout: Layout, codec: Codec | None, member: Callable[[Row], str | None], *, indexed: bool
) -> Callable[[], TarPack]:
    """What begins archives; `member` names the member that a row becomes, None where it has no name."""
    return lambda: TarPack(layout, Outlet(codec, indexed=indexed), member)


def _check(name: str | None) -> None:
    """Refuse a name that would leave the folder that an archive is unpacked in, or not come out of it as it went in."""
    if (
        name
        and name.isascii()
        and name.isprintable()
        and name[0] not in "./"
        and name[-1] != "/"
        and "/." not in name
        and "\\" not in name
    ):
        return  # nearly every name
    if not name:
        fault = "a column that its member's name needs is NULL" if name is None else "its member's name is empty"
    elif name.startswith("/"):
        fault = f"the member {name!r} has an absolute name"
    elif name.endswith("/"):
        fault = f"the member {name!r} has the name of a folder"
    elif _DOTS.search(name):
        fault = f"the member {name!r} has a '.' or '..' segment"
    elif _CONTROL.search(name):
        fault = f"the member {name!r} has a character that names do not have"
    else:
        return
    raise refused("tar", fault, "change the value, or the template in --pack-member")


def _head(name: str, size: int) -> bytes:
    """The header of a member, behind a pax header where it needs one."""
    plain = name.encode("ascii", "replace")
    if name.isascii() and len(plain) <= _LONGEST_NAME:
        return _ustar(plain, size, b"0")
    record = _pax(name.encode())
    return (
        _ustar(b"././@PaxHeader", len(record), b"x")
        + record
        + bytes(-len(record) % _BLOCK)
        + _ustar(plain[:_LONGEST_NAME], size, b"0")
    )


def _ustar(name: bytes, size: int, kind: bytes) -> bytes:
    digits = b"%011o" % size
    checksum = b"%06o\x00 " % (_SUM + sum(name) + sum(digits) + kind[0])
    return name.ljust(_LONGEST_NAME, b"\x00") + _BEFORE_SIZE + digits + _BEFORE_CHECKSUM + checksum + kind + _BEHIND


def _pax(path: bytes) -> bytes:
    """`LENGTH path=…`, where the length counts its own digits too."""
    rest = b" path=" + path + b"\n"
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest
