"""The plan of one job: what a configuration came to, once the database and the destination were asked.

Frozen, printable, and the source of the fingerprint that ties a checkpoint to its configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Plan:
    """One job, resolved.

    Attributes:
        name: the job's name; its state lies under it.
        source: what is read, as a person would name it.
        key: the pagination key's columns.
        destination: the bucket or directory with the template.
        estimated_rows: the planner's estimate, None when it has none.
        resumed: whether it continues what an earlier run began.
        settled_before: rows that earlier runs of this checkpoint settled.
        fingerprint: what must not change between runs that share a checkpoint.
        checkpoint: where the state is kept, None when the run leaves none.
        counted: what `put` counts, as people say it: objects, or rows where many are packed into one.
        settles: what becomes of a row that is done, as people say it: put; or, of one that is compared, the same.
        dry_run: whether nothing is sent.
        priced: whether the destination bills requests as AWS does.
    """

    name: str
    source: str
    key: tuple[str, ...]
    destination: str
    estimated_rows: int | None
    resumed: bool
    settled_before: int
    fingerprint: dict[str, Any]
    checkpoint: str | None
    priced: bool = False
    counted: str = "objects"
    settles: str = "put"
    dry_run: bool = False


def fingerprint_difference(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """One line for each field that differs, old value first."""
    lines = []
    for field in sorted(old.keys() | new.keys()):
        before, after = old.get(field), new.get(field)
        if before != after:
            lines.append(f"{field}: was {_said(before)}, is {_said(after)}")
    return lines


def _said(value: Any) -> str:
    """A value of a fingerprint, for people."""
    if value is None:
        return "not given"
    if isinstance(value, dict):
        return ", ".join(f"{name}={text}" for name, text in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "given" if value is True else f"'{value}'"
