"""Files for clients that put files: one of each size, with as many names as a run wants."""

from __future__ import annotations

import os
from pathlib import Path


def files(folder: Path, size: int, count: int) -> Path:
    """A folder with exactly so many files of that size: links to one, so that they cost neither memory nor time."""
    target = folder / f"files-{size}-{count}"
    if not target.exists():
        target.mkdir(parents=True)
        first = target / "1.json"
        first.write_bytes(os.urandom(size))
        for number in range(2, count + 1):
            (target / f"{number}.json").hardlink_to(first)
    return target
