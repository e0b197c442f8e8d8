"""The text of a first `asyncup.toml`: jobs that were chosen, and what else there could be as comments. It holds no secret."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from asyncup.names import written
from asyncup.starter.proposing import Proposal
from asyncup.tomltext import toml_comment, toml_key, toml_value

#: What stands for a bucket that nobody has named.
PLACEHOLDER = "s3://BUCKET"
_COLUMN = 48
#: Examples of tables that were not chosen; behind them only the names are told.
_EXAMPLES = 20

_BEGINNING = """\
# Jobs of asyncup. Every flag of `asyncup sync --help` has its key here, and ${VARIABLE} is looked up in the environment.
#
#   asyncup plan --all      what would each job do?
#   asyncup sync --all      do it; asyncup sync NAME does one of them
#   asyncup config show     what each job comes to, and where that was said
#   asyncup config schema   for editors that complete this file"""

_OPTIONS = """\
# if-exists = "different"   # send only what is not there, or not the same
# max-rate = 500            # requests a second at most
# state = "s3://bucket/asyncup-state"   # where checkpoints are kept; beside this file, unless something else is said"""


@dataclass(frozen=True, slots=True)
class Starter:
    """What is to be written. `defaults` are connections without secrets; `said` stands above them, a line each."""

    defaults: Mapping[str, Any]
    chosen: Collection[str]
    proposals: Collection[Proposal]
    prefix: str | None
    others: Collection[str] = ()
    said: Collection[str] = ()

    def text(self) -> str:
        """The whole file."""
        return "\n".join(self._lines()) + "\n"

    @property
    def jobs(self) -> list[Proposal]:
        """The jobs that it has."""
        return [one for one in self.proposals if one.job in self.chosen and one.is_usable]

    def _lines(self) -> Iterator[str]:
        yield _BEGINNING
        yield "\n[defaults]"
        for line in self.said:
            yield toml_comment(line)
        for key, value in self.defaults.items():
            yield f"{toml_key(key)} = {toml_value(value)}"
        yield _OPTIONS
        for one in self.jobs:
            yield ""
            yield from self._job(one)
        rest = [one for one in self.proposals if one not in self.jobs]
        if rest:
            yield "\n# --- other tables; take the # away from one that is to be a job ---"
        for one in rest[:_EXAMPLES]:
            yield "#"
            yield from (line if line.startswith("#") else f"# {line}" for line in self._job(one))
        left = [*(one.table.name for one in rest[_EXAMPLES:]), *self.others]
        if left:
            yield "#"
            yield toml_comment(f"and {len(left):,} more: {', '.join(left[:200])}{', …' if len(left) > 200 else ''}")

    def _job(self, one: Proposal) -> Iterator[str]:
        yield toml_comment(about(one))
        if one.reason is not None:
            yield toml_comment(f"no job: {one.reason.message}")
            if one.reason.hint:
                yield toml_comment(f"        {one.reason.hint}")
            return
        yield f"[jobs.{toml_key(one.job)}]"
        yield f"table = {toml_value(one.table.name)}"
        yield f"key = {toml_value(','.join(map(written, one.key)))}"
        if one.body is None:
            yield _explained("body", "row", "each object is its row as JSON; or a column")
        else:
            yield _explained("body", written(one.body.name), f"{one.body.type}{_long(one.length)}")
        prefix = (self.prefix or PLACEHOLDER).replace("${", "$${")
        yield _explained("to", one.to(prefix), "" if self.prefix else "put your bucket here")
        if one.content_type is not None:
            yield f"content-type = {toml_value(one.content_type)}"
        if one.incremental is not None:
            yield f"# incremental = {toml_value(written(one.incremental))}   # only what is new or changed since the last run"


def about(one: Proposal) -> str:
    """A table in a line: how many rows and bytes it has, and by what they are told apart."""
    table = one.table
    rows = "rows not counted yet (ANALYZE)" if table.rows is None else f"about {table.rows:,} rows"
    size = "" if table.kind in ("v", "f") else f", {_size(table.bytes)}"
    kind = {"v": "view", "m": "materialized view", "f": "foreign table", "p": "partitioned table"}.get(table.kind)
    counted = "" if kind in ("view", "foreign table") else f": {rows}{size}"
    return f"{table.schema}.{table.bare}{f' ({kind})' if kind else ''}{counted}"


def _explained(key: str, value: str, why: str) -> str:
    line = f"{key} = {toml_value(value)}"
    return f"{line:<{_COLUMN}}  {toml_comment(why)}" if why else line


def _long(length: float) -> str:
    return f", about {_size(length)} each" if length else ""


def _size(bytes_: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if round(bytes_) < 1000:
            return f"{bytes_:,.0f} {unit}"
        bytes_ /= 1000
    return f"{bytes_:,.1f} TB"
