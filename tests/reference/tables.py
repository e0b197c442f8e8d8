"""Markdown: tables, and what stands in their cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

#: How every page begins that nobody writes by hand.
GENERATED = "<!-- Written by scripts/docs from the code: change that, then run scripts/docs. -->"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a `|` within a cell is written so that it is none between cells."""
    lines = [[cell.replace("\n", " ").strip() for cell in row] for row in (head, *rows)]
    lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], ["---"] * len(head), *lines[1:]]) + "\n"


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def page(title: str, *parts: str) -> str:
    return "\n\n".join([f"{GENERATED}\n\n# {title}", *(part.strip("\n") for part in parts)]) + "\n"
