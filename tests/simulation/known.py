"""Defects that seeds have shown and that are not mended: what is overlooked because of each. An entry goes with its defect."""

from __future__ import annotations

#: Name and what shows it.
KNOWN: dict[str, str] = {
    "failed rows are held during a save": (
        "a row that fails gives its memory back before it waits for the save of the thousandth letter"
    ),
    "a header may be cut short": "the first line of dead letters is written by one write, whatever that says",
    "a full disk at the end": "an empty file of dead letters that cannot be removed ends the run without a report",
    "half a line may stay": "a letter that was written in part, and cannot be cut off, is followed by the next",
    "an abandoned save": "a cancellation during the last save leaves it behind, and closes its files",
    "an abandoned opening": "a signal while the lock is taken, or the dead letters are opened, leaves them open",
    "late attempts": "a row may wait for its turn after its three minutes are over",
}
