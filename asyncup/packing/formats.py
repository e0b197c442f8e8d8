"""The formats that rows are packed in, by the names that `--pack` has for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from asyncup.errors import UsageError
from asyncup.model import Row
from asyncup.packing.layout import Codec, Layout, refused
from asyncup.packing.lines import open_csv, open_ndjson
from asyncup.packing.tar import open_tar
from asyncup.protocols import Pack

_CONTENT_TYPES = {
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "tar": "application/x-tar",
    "parquet": "application/vnd.apache.parquet",
}
FORMATS = tuple(_CONTENT_TYPES)


@dataclass(frozen=True, slots=True)
class RowPacking:
    """How rows become one object: a `Packing`, and what the object is called.

    Attributes:
        content_type: of the object.
        content_encoding: the same, where what comes out is compressed as a whole (RFC 9110, section 8.4); or None.
        extension: what object keys of this format usually end with; of the content, not of its encoding.
        is_heavy: whether taking rows in compresses or converts them, so that many are better not taken in on the event loop.
    """

    content_type: str
    content_encoding: str | None
    extension: str
    is_heavy: bool
    open: Callable[[], Pack]

    def begin(self) -> Pack:
        """A pack that is still empty."""
        return self.open()


def open_packing(
    name: str,
    layout: Layout,
    *,
    compression: Codec | None = None,
    indexed: bool = False,
    member: Callable[[Row], str | None] | None = None,
) -> RowPacking:
    """The packing that `--pack` names.

    `compression` is that of the whole object, with an index that of each record; with parquet that of its columns, which
    are compressed in any case. `indexed` asks for an index of the records. `member` names the members of a tar archive.

    Raises:
        UsageError: there is no such format, or these records cannot be in it, or something has to be installed first.
    """
    if name not in FORMATS:
        raise refused(f"{name!r} is none of {', '.join(FORMATS)}", f"use --pack {FORMATS[0]}")
    if member is not None and name != "tar":
        raise UsageError(
            "read flags", "--pack-member", f"only the records of a tar archive have names, not {name}", "leave it out"
        )
    begin: Callable[[], Pack]
    if name == "ndjson":
        begin = open_ndjson(layout, compression, indexed=indexed)
    elif name == "csv":
        begin = open_csv(layout, compression, indexed=indexed)
    elif name == "tar":
        if member is None:
            raise UsageError(
                "read flags",
                "--pack-member",
                "the members of a tar archive need names",
                "write --pack-member '{id}.json'",
            )
        begin = open_tar(layout, compression, member, indexed=indexed)
    else:
        if indexed:
            raise UsageError(
                "read flags",
                "--pack-index",
                "a row of a parquet file lies in as many places as it has columns, so no range of bytes is one row",
                "leave it out: parquet's readers find rows by its own statistics; or use another --pack",
            )
        begin = _open_parquet(layout, compression)
    encoding = None if compression is None or name == "parquet" else compression.encoding
    heavy = name == "parquet" or compression is not None
    return RowPacking(_CONTENT_TYPES[name], encoding, f".{name}", heavy, begin)


def _open_parquet(layout: Layout, compression: Codec | None) -> Callable[[], Pack]:
    try:
        from asyncup.packing.parquet import open_parquet
    except ImportError as exc:
        hint = "pip install 'asyncup[parquet]', or '.[parquet]' in a checkout"
        raise refused(f"parquet needs pyarrow, which cannot be imported: {exc}", hint) from exc
    return open_parquet(layout, compression)
