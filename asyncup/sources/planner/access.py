"""How the server comes to a page: the word about it that a run is refused by, and that `asyncup plan` shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Access:
    """How each page of a relation is read.

    Attributes:
        indexes: the indexes that give a page in key order, as SQL names them; of partitions each its own.
        sorts: whether each page sorts rows that it does not return.
        scans: whether each page reads rows from the relation's beginning.
        reason: why an index does not give the pages, as a sentence without its end; None where one does.
        mend: the `CREATE INDEX` that would mend it, None where none is needed or none would.
        at_once: whether all rows come through one cursor in one transaction instead of pages: such a run is not
            resumable.
        rows: the planner's estimate of all rows; None where it has none.
    """

    indexes: tuple[str, ...] = ()
    sorts: bool = False
    scans: bool = False
    reason: str | None = None
    mend: str | None = None
    at_once: bool = False
    rows: int | None = None

    @property
    def index(self) -> str | None:
        """The index that gives the pages; the first where there are several."""
        return self.indexes[0] if self.indexes else None

    @property
    def paged(self) -> bool:
        """Whether each page costs what a page costs, however far the run has come."""
        return not (self.sorts or self.scans)
