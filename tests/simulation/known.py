"""Defects that seeds have shown and that are not mended: what is overlooked because of each. An entry goes with its defect."""

from __future__ import annotations

#: Name and what shows it.
KNOWN: dict[str, str] = {
    "a late removal": "old letters in a bucket are removed by name, and a request that comes late removes newer ones",
    "late attempts": "a row may wait for its turn after its three minutes are over",
}
