"""What `asyncup init` asks on a terminal. Questions go to stderr; Ctrl-C and the end of input end the command."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.prompt import Prompt
from rich.table import Table as Grid

from asyncup.console.text import error_lines, shown, size
from asyncup.errors import ConfigError
from asyncup.names import nearest, written
from asyncup.starter.looking import Source
from asyncup.starter.proposing import Proposal

#: Tables that are shown; the file names the others.
_SHOWN = 30
_RANGE = re.compile(r"(\d+)\s*-\s*(\d+)")


class Asking:
    """The questions about one database."""

    def __init__(self, source: Source, console: Console | None = None, answers: TextIO | None = None) -> None:
        """`answers` is what is typed, stdin unless it is another one."""
        self._answers = answers
        self._source = source
        self._console = console or Console(stderr=True, highlight=False)
        self._usable = [one for one in source.proposals if one.is_usable]

    def tables(self) -> list[Proposal]:
        """The tables that are to be jobs, at least one."""
        server = self._source.server
        where = f" at {server.host}" if server.host else ""
        self._console.print(
            f"[bold]{escape(shown(server.database))}[/bold]{where}, PostgreSQL {escape(server.version)}\n"
        )
        self._console.print(self._grid())
        self._tell_others()
        usual = "1" if len(self._usable) > 5 else "all"
        while True:
            answer = self._ask("\nWhich tables are to be jobs? Numbers such as 1,3-5, names, or all", usual)
            try:
                return select(answer, self._usable)
            except ValueError as exc:
                self._console.print(f"[yellow]{escape(str(exc))}[/yellow]")

    def prefix(self, look: Callable[[str], bool | None]) -> tuple[str | None, bool | None]:
        """Where objects go, and whether that may be listed; None for later. `look` says whether it is of use."""
        while True:
            answer = self._ask("Where do objects go? s3://bucket/prefix; Enter: later", "")
            if not answer:
                return None, None
            prefix = answer if ":" in answer else f"s3://{answer}"
            try:
                listing = look(prefix)
            except ConfigError as refused:
                for line in error_lines(refused):
                    self._console.print(f"[yellow]{escape(line)}[/yellow]")
                continue
            if listing is False:
                self._console.print("It is there; listing is not permitted, which only some jobs need.")
            return prefix, listing

    def _ask(self, question: str, usual: str) -> str:
        try:
            answer = Prompt.ask(
                question, console=self._console, default=usual, show_default=bool(usual), stream=self._answers
            )
        except EOFError:
            self._console.print()
            raise KeyboardInterrupt from None
        except BaseException:  # Ctrl-C: what follows begins on a line of its own
            self._console.print()
            raise
        return (answer or "").strip()

    def _grid(self) -> Grid:
        grid = Grid(box=None, pad_edge=False, header_style="dim")
        for heading, side in (("", "right"), ("table", "left"), ("rows", "right"), ("size", "right")):
            grid.add_column(heading, justify="right" if side == "right" else "left", no_wrap=True)
        grid.add_column("key", max_width=24, overflow="ellipsis", no_wrap=True)
        grid.add_column("object", overflow="ellipsis", no_wrap=True)
        for number, one in enumerate(self._usable[:_SHOWN], 1):
            table = one.table
            rows = "?" if table.rows is None else f"{table.rows:,}"
            body = "row as JSON" if one.body is None else f"{written(one.body.name)} ({one.body.type})"
            parts = (str(number), table.name, rows, size(table.bytes), ", ".join(map(written, one.key)), body)
            grid.add_row(*(escape(shown(part)) for part in parts))
        return grid

    def _tell_others(self) -> None:
        left = [one.table.name for one in self._usable[_SHOWN:]] + list(self._source.others)
        if left:
            self._console.print(f"[dim]and {len(left):,} more, which the file names[/dim]")
        refused = [one.table.name for one in self._source.proposals if not one.is_usable]
        if refused:
            names = ", ".join(map(shown, refused[:8])) + (", …" if len(refused) > 8 else "")
            self._console.print(f"\n[dim]no usable key: {escape(names)}; the file says why[/dim]")


def select(answer: str, usable: Sequence[Proposal]) -> list[Proposal]:
    """The tables that an answer means: numbers from 1, ranges of them, names, or `all`.

    Raises:
        ValueError: it means none.
    """
    if answer.lower() == "all":
        return list(usable)
    known = {one.table.name: one for one in usable} | {one.table.sql: one for one in usable}
    found: dict[str, Proposal] = {}
    for part in filter(None, (part.strip() for part in answer.split(","))):
        span = _RANGE.fullmatch(part)
        first, last = (int(span[1]), int(span[2])) if span else (int(part), int(part)) if part.isdecimal() else (0, 0)
        if part in known:
            found[known[part].job] = known[part]
        elif not part[0].isdecimal():
            raise ValueError(f"there is no table {part} with a usable key; {nearest(part, known)}")
        elif 1 <= first <= last <= len(usable):
            found |= {one.job: one for one in usable[first - 1 : last]}
        else:
            raise ValueError(f"{part} is none of the numbers 1 to {len(usable)}")
    if not found:
        raise ValueError("name at least one")
    return list(found.values())
