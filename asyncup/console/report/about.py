"""What a report says of a run beside what happened in it: the command, when, on what, and how it was configured."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import datetime

from asyncup.console.report.elements import Element, Node, el
from asyncup.console.report.page import Column, Section, problem, several_lines, table, value
from asyncup.console.text import duration
from asyncup.errors import AsyncupError
from asyncup.version import __version__

_CODES = {
    0: "as it should be",
    1: "aborted, or a server could not be reached, or a gate was missed",
    2: "only another configuration mends it, and nothing was sent",
    3: "complete, but rows failed",
    4: "there are differences",
    130: "interrupted by SIGINT (Ctrl-C)",
    143: "interrupted by SIGTERM",
}


@dataclass(frozen=True, slots=True)
class Option:
    """The value of an option as TOML writes it, and where it was said."""

    name: str
    value: str
    where: str


@dataclass(frozen=True, slots=True)
class Configured:
    """What one job was told. `name` is None for one that has none."""

    name: str | None
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class About:
    """What is known before a run begins.

    Attributes:
        command: that of asyncup: `sync`.
        line: the command line as it could be typed again, without secrets.
        began: when, in UTC.
        configured: what each job was told.
        defaults: what an option is that nobody set.
        file: the configuration file, if there is one.
    """

    command: str
    line: str
    began: datetime
    configured: tuple[Configured, ...] = ()
    defaults: tuple[Option, ...] = ()
    file: str | None = None

    def facts(self, ended: datetime, exit_code: int) -> list[tuple[str, Node]]:
        """What ran, when and on what, as names and values."""
        words = _CODES.get(exit_code)
        system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
        return [
            ("Command", value(self.line)),
            ("Program", f"asyncup {__version__}; {system}"),
            ("Began", moment(self.began)),
            ("Ended", [moment(ended), f", after {duration((ended - self.began).total_seconds())}"]),
            ("Exit code", [el("data", str(exit_code), value=str(exit_code), data_field="exit_code"), f": {words}"]),
        ]

    def configuration(self) -> Section:
        """What each job was told, and where; and what was left to the defaults."""
        content: list[Node] = [
            el("p", "From ", value(self.file), ", the environment and flags.") if self.file else None
        ]
        columns = [Column("Option"), Column("Value", "w"), Column("Said by")]
        for job in self.configured:
            caption = "What was set" if job.name is None else f"What was set for {job.name}"
            rows = [(option.name, value(option.value), option.where) for option in job.options]
            content.append(table(caption, columns, rows))
        if not self.configured:
            content.append(el("p", "Nothing is known of it: it could not be read.", class_="none"))
        if self.defaults:
            usual = [(option.name, value(option.value)) for option in self.defaults]
            whole = table("Options that nobody set, with their defaults", columns[:2], usual)
            content.append(el("details", el("summary", "What nobody set, with the defaults"), whole))
        return Section("Configuration", content, "configuration")


def moment(time: datetime) -> Element:
    """A moment in UTC, to the second."""
    text = time.strftime("%Y-%m-%d %H:%M:%S UTC")
    return el("time", text, datetime=time.isoformat(timespec="milliseconds"))


def told(error: AsyncupError) -> Node:
    """What went wrong, where, and what to do about it."""
    where = f"{error.op} {error.subject}".strip()
    return problem(
        el("p", el("strong", "Error: "), several_lines(error.message)),
        el("p", el("span", "Where: ", class_="dim"), several_lines(where)),
        el("p", el("span", "What to do: ", class_="dim"), several_lines(error.hint)) if error.hint else None,
        el("p", error.type, class_="dim"),
    )
