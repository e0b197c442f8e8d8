"""What is done with rows before they are uploads: frozen values, put together before a run."""

from __future__ import annotations

from dataclasses import dataclass

from asyncup.model import Headers
from asyncup.protocols import Compression, Packing, Transform


@dataclass(frozen=True, slots=True)
class Packs:
    """How rows become packs. A pack is cut by nothing but the rows as they are read, in the order of their keys.

    Attributes:
        packing: how the rows of a pack are written.
        rows: the most rows of a pack, None for any number.
        size: the most bytes of its bodies as they are read, None for any number; one row that has more is alone.
        by: where in a row those columns are of which all rows of a pack have the same values.
        headers: what every pack has beside the headers of its first row.
        is_streamed: whether a large pack may be sent while it is made.
        has_index: whether an index goes beside each pack.
    """

    packing: Packing
    rows: int | None = None
    size: int | None = None
    by: tuple[int, ...] = ()
    headers: Headers = ()
    is_streamed: bool = True
    has_index: bool = False


@dataclass(frozen=True, slots=True)
class Recipe:
    """What happens to rows, in this order: a user's function, then packing; or compression of each object.

    `suffix` at the end of an object key says only that its object is compressed.
    """

    transform: Transform | None = None
    compression: Compression | None = None
    suffix: str = ""
    packs: Packs | None = None
