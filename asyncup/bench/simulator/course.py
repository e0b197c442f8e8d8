"""A request under way: what it asks, what happens to it, and what of its body is kept until it is answered."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from asyncup.bench.simulator.answers import Refusal
from asyncup.bench.simulator.asked import Asked
from asyncup.bench.simulator.framing import Head, read_fields

#: Faults that take the answer away.
SILENT = frozenset({"reset", "reset-after", "hang", "hang-after"})
#: Faults that spoil an answer on its way.
SPOILED = frozenset({"truncated", "garbage", "html"})


@dataclass(slots=True)
class Body:
    """A body that is kept. It takes the place of its digest, and can be used as one."""

    data: bytearray = field(default_factory=bytearray)
    _digest: Any = field(default_factory=lambda: hashlib.md5(usedforsecurity=False))

    def update(self, piece: memoryview) -> None:
        self.data += piece
        self._digest.update(piece)

    def hexdigest(self) -> str:
        digest: str = self._digest.hexdigest()
        return digest


@dataclass(slots=True)
class Course:
    """`fault` is what happens to the request, `refusal` what it is refused with whatever is in its body."""

    head: Head
    raw: bytes
    asked: Asked
    fault: str = ""
    refusal: Refusal | None = None
    body: Body | None = None
    _fields: dict[str, str] | None = None

    @property
    def fields(self) -> dict[str, str]:
        """The headers, read when they are first needed: most faults do not need them."""
        if self._fields is None:
            self._fields = read_fields(self.raw)
        return self._fields

    @property
    def spoils(self) -> bool:
        """Whether the answer does not arrive as it was meant."""
        return self.fault in SPOILED

    @property
    def ends(self) -> bool:
        """Whether the connection ends behind the answer."""
        return self.refusal is not None and self.refusal.closes
