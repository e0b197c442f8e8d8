"""What a packing has to know of the source, and what it asks of a compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from asyncup.errors import UsageError
from asyncup.model import Column, RowShape
from asyncup.protocols import CompressedStream


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a row's parts lie, and what its record is.

    Attributes:
        shape: of the rows.
        columns: all columns of the source, in its order, whether a template names them or not.
        body: the column that is the record; None for the row as JSON.
        transformed: whether a user's function made the record of it.
    """

    shape: RowShape
    columns: tuple[Column, ...]
    body: Column | None = None
    transformed: bool = False

    def check_plain(self, name: str) -> None:
        """Refuse a format that is made of columns where the record is anything but the row as the server gave it.

        Raises:
            UsageError: with what to do.
        """
        if self.transformed:
            raise refused(
                f"{name} is made of the table's columns, not of what --transform gives",
                "leave --transform out, or use --pack ndjson or --pack tar",
            )
        if self.body is not None:
            raise refused(
                f"{name} is made of whole rows, and --body says {self.body.name}",
                "leave --body out; --query chooses columns",
            )
        names = [column.name for column in self.columns]
        twice = next((one for one in names if names.count(one) > 1), None)
        if twice is not None:
            raise refused(
                f"two columns are named {twice!r}, and {name} has one of each name", "name one otherwise: AS …"
            )


def refused(message: str, hint: str) -> UsageError:
    """A packing that cannot be had."""
    return UsageError("read flags", "--pack", message, hint)


class Codec(Protocol):
    """What packs need of a `Compression`. What `compress` gives can stand behind other such, and the whole is read as one."""

    @property
    def encoding(self) -> str:
        """`gzip` or `zstd`."""
        ...

    @property
    def level(self) -> int: ...

    def compress(self, body: bytes) -> bytes: ...

    def stream(self) -> CompressedStream: ...
