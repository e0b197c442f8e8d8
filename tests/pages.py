"""README.md and docs/ as their tests read them: blocks, links, headings, and the command lines in them."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from asyncup.cli import commands
from asyncup.cli.commands import program

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")]
)
PLAYED = [
    page for page in PAGES if "```" in (ROOT / page).read_text(encoding="utf-8") and "docs/reference/" not in page
]

REDIRECTIONS = (">", ">>", ">&")
_MARKDOWN = MarkdownIt().enable("table")


@cache
def parsed(page: str) -> list[Token]:
    return _MARKDOWN.parse((ROOT / page).read_text(encoding="utf-8"))


#: A command, built once: that takes as long as to run it.
build = cache(commands.build)


@dataclass(frozen=True)
class Block:
    """A fenced block: `before` is the text above it."""

    line: int
    language: str
    text: str
    before: str

    @property
    def file(self) -> str | None:
        """The file that the text above names: "in `pages.py`:"."""
        found = re.findall(r"`([\w/.-]+\.(?:py|toml|yaml|yml))`", self.before)
        return found[-1] if found else None


def blocks(page: str) -> Iterator[Block]:
    before = ""
    for token in parsed(page):
        if token.type == "inline":
            before = token.content
        elif token.type == "fence":
            assert token.map is not None
            yield Block(token.map[0] + 1, token.info.strip(), token.content, before)


def commands_of(text: str) -> Iterator[str]:
    """The lines of a shell script, each whole, without its comments."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def without_comment(line: str) -> str:
    return line.partition("  #")[0].strip()


def means(command: str, line: str) -> bool:
    """Whether a line is this command, or begins as it does up to its …"""
    return line.startswith(command[:-1]) if command.endswith("…") else line == command


def words_of(line: str, environment: dict[str, str]) -> list[str]:
    """A line as the shell takes it apart; variables that are known are put in, but for what stands in single quotes."""
    parts = line.split("'")
    for number in range(0, len(parts), 2):
        parts[number] = re.sub(r"\$\{?(\w+)\}?", lambda found: environment.get(found[1], found[0]), parts[number])
    lexer = shlex.shlex("'".join(parts), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


def split(words: list[str], by: str) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for word in words:
        if word == by:
            found.append([])
        else:
            found[-1].append(word)
    return found


def parse(arguments: list[str]) -> None:
    """See that the command line has such a command with such flags."""
    group: Any = program()
    name, *rest = arguments
    if name.startswith("-"):
        return
    assert name in group.commands, f"asyncup {name}"
    command = build(name)
    if hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context(name, rest)


def parse_script(text: str) -> None:
    """Parse every command of asyncup in a script, up to where its output goes."""
    for line in commands_of(text) if re.search(r"^\s*(exec )?asyncup ", text, re.MULTILINE) else ():
        for command in split(words_of(line, {}), "&&"):
            words = split(command, "|")[0]
            words = words[1:] if words[0] == "exec" else words
            if words[0] == "asyncup":
                ends = next((at for at, word in enumerate(words) if word in (*REDIRECTIONS, "||")), None)
                parse(words[1:ends])


def inline(page: str, kind: str) -> Iterator[Token]:
    """The parts of running text, tables and headings that are of a kind."""
    for token in parsed(page):
        yield from (child for child in token.children or () if child.type == kind)


def anchors(page: str) -> set[str]:
    """The headings of a page as links name them, the way GitHub does."""
    found, tokens = [], parsed(page)
    for opening, heading in itertools.pairwise(tokens):
        if opening.type == "heading_open":
            text = "".join(child.content for child in heading.children or ())
            found.append(re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-"))
    return {f"{name}-{found[:at].count(name)}" if name in found[:at] else name for at, name in enumerate(found)}


def flags_of(command: Any) -> set[str]:
    inner = [flag for part in getattr(command, "commands", {}).values() for flag in flags_of(part)]
    return {*inner, *(name for one in command.params for name in (*one.opts, *one.secondary_opts))}
