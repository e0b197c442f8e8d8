"""What the live views are laid out of: cells of a fixed width, so that figures change in their places, and lines of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.text import Text

from asyncup.console.terminal import has_colours

_GAP = "  "
#: Where they cannot be encoded, these stand in.
_BAR, _HALF, _PLAIN_BAR = "━", "╸", "="
#: What is left of it, where no colour tells it apart.
_THIN_BAR = "─"
#: A latency beyond this many milliseconds is said in seconds.
_LONG = 9999.5


class Painter:
    """Makes lines for a terminal of texts, in what its stream can encode and in the colours that the environment allows."""

    def __init__(self, stream: TextIO) -> None:
        self._is_utf8 = (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")
        self._has_colours = has_colours(stream)
        self._console = Console(
            file=stream,
            force_terminal=True,
            no_color=not self._has_colours,
            highlight=False,
            width=1000,
            legacy_windows=False,
            _environ={**os.environ, "COLUMNS": "", "LINES": ""},
        )

    def lines(self, texts: Sequence[Text], width: int) -> list[str]:
        """Each text as a line of at most `width` columns."""
        if not texts:
            return []
        whole = Text("\n").join(self._cut(text, width) for text in texts)
        with self._console.capture() as taken:
            self._console.print(whole, end="", soft_wrap=True)
        return taken.get().split("\n")

    def _cut(self, text: Text, width: int) -> Text:
        text = text.copy()
        text.rstrip()
        text.truncate(width, overflow="ellipsis" if self._is_utf8 else "crop")
        return text

    def bar(self, share: float, width: int) -> Text:
        """How much is done: as many halves of `width` columns."""
        halves = int(min(1.0, max(0.0, share)) * width * 2)
        if not self._is_utf8:
            done = _PLAIN_BAR * (halves // 2)
            return Text.assemble(("[" + done, "green"), (" " * (width - len(done)) + "]", "dim"))
        done = _BAR * (halves // 2) + _HALF * (halves % 2)
        rest = _BAR if self._has_colours else _THIN_BAR
        return Text.assemble((done, "green"), (rest * (width - len(done)), "bright_black"))


def cell(figure: str, words: str, *, width: int = 0, right: int = 0, style: str = "bold") -> Text:
    """A figure with its words; the figure ends at the column `right`, all of it takes `width`."""
    text = Text.assemble(" " * (right - len(figure)), (figure, style), words)
    text.pad_right(max(0, width - text.cell_len))
    return text


def packed(cells: Sequence[Text], width: int, indent: str = "") -> list[Text]:
    """Cells in as few lines as they fit in, in their order."""
    lines: list[Text] = []
    for one in cells:
        needed = len(one.plain.rstrip())
        if lines and lines[-1].cell_len + len(_GAP) + needed <= width:
            lines[-1].append(_GAP).append_text(one)
        else:
            lines.append(Text.assemble(indent, one))
    return lines


def milliseconds(value: float) -> str:
    """A latency: `1.2 ms`, `240 ms`, `12.3 s`."""
    if value < 9.95:
        return f"{value:.1f} ms"
    return f"{value:.0f} ms" if value < _LONG else f"{value / 1000:.1f} s"
