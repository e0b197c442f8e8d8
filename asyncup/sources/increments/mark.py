"""What an incremental run's checkpoint keeps: the bounds that were pinned before it read, and what the next run begins with.

Values stay the texts that the server wrote, and only the server compares those of a column.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from asyncup.errors import StateRefused
from asyncup.model import Column
from asyncup.names import quote
from asyncup.sources.keyset import Relation

#: The rules, as a mark names them.
XID, TIME, SEQUENCE = "xid8", "time", "sequence"

#: What the server writes for a value of such a column, or a place in its log; nothing else gets into SQL.
_VALUE = re.compile(r"[0-9A-Za-z:.+/ -]{1,64}")
#: Transaction ids of 32 bits are compared in a circle (https://www.postgresql.org/docs/current/routine-vacuuming.html).
_ROUND = 1 << 32


@dataclass(frozen=True, slots=True)
class Mark:
    """The bounds of one incremental run, and what the next one has to know.

    Attributes:
        column: the column whose values are compared.
        rule: which of the rules holds for it.
        lo: where the run begins; None for the beginning. For a sequence this value itself is not read.
        hi: where it ends. For a sequence this value itself is read; None where the table was empty.
        next: where the next run begins.
        open: transactions that were open and may still go back to a value below `hi`, with the value that they cannot
            go below; None for the beginning.
        since: for a sequence: the versions of rows that transactions before this one wrote were read by earlier runs;
            None where none were.
        xmin: for a sequence: what `since` is for the next run.
        storage: of each table that is read, its partitions and its sequence, by name: what changes when it is emptied or
            made anew.
        blind: for a sequence: whether the server, a standby, could not say which transactions were open.
        timeline: of the server's history: another one when a standby has taken over. None where the role may not ask.
        lsn: the place in the log that a server must have come to, so that it has all rows within the bounds.
        letters: how many dead letters earlier runs have left.
    """

    column: str
    rule: str
    lo: str | None = None
    hi: str | None = None
    next: str | None = None
    open: dict[str, str | None] = field(default_factory=dict)
    since: str | None = None
    xmin: str | None = None
    storage: dict[str, str] = field(default_factory=dict)
    blind: bool = False
    timeline: int | None = None
    lsn: str | None = None
    letters: int = 0

    def to_json(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return asdict(self)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Mark | None:
        """The mark that a checkpoint keeps; None where it keeps none.

        Raises:
            StateRefused: it is none of this version's.
        """
        if "rule" not in value:
            return None
        texts = [value.get(name) for name in ("lo", "hi", "next", "since", "xmin", "lsn")]
        sound = all(text is None or (isinstance(text, str) and _VALUE.fullmatch(text)) for text in texts)
        sound = sound and isinstance(value.get("storage", {}), dict)
        if not sound or not value.keys() <= {entry.name for entry in fields(cls)}:
            raise StateRefused(
                "resume",
                str(value.get("column")),
                "the bounds in the checkpoint are none of this version of asyncup",
                "start over with --restart",
            )
        return cls(**value)

    def conditions(self, relation: Relation) -> tuple[str, ...]:
        """The bounds as SQL conditions on a relation; NULL meets none of them."""
        if self.hi is None:
            return ("false",)
        column = relation.column(self.column)
        name = f"{quote(relation.alias)}.{quote(column.name)}"
        above, below = (">", "<=") if self.rule == SEQUENCE else (">=", "<")
        found = [f"{name} {below} {_literal(self.hi, column)}"]
        if self.lo is not None:
            found.insert(0, f"{name} {above} {_literal(self.lo, column)}")
        if self.since is not None:
            # Rows that anybody may still have to read have an xmin of less than half a circle ago; one that was frozen
            # long before may seem to be one of them, and is read again.
            oldest = int(self.since) % _ROUND
            xmin = f"{quote(relation.alias)}.xmin::text::bigint"
            found.append(f"({xmin} - {oldest} + {_ROUND}) % {_ROUND} < {_ROUND // 2}")
        return tuple(found)


def anew(mark: Mapping[str, Any]) -> dict[str, Any]:
    """What a run keeps that begins the range of an unfinished one once more, with an upper bound of its own."""
    return {**mark, "next": mark.get("lo"), "hi": mark.get("lo"), "xmin": mark.get("since")}


def _literal(text: str, column: Column) -> str:
    return f"'{text}'::{column.type}"
