"""What a job for a table could be: its key, what an object is, and how objects are named. Nothing here asks a server."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from asyncup.errors import AsyncupError, TemplateRefused
from asyncup.model import Column, RowShape
from asyncup.names import written
from asyncup.render.template import Placeholder, parse_template
from asyncup.render.uniqueness import check_uniqueness
from asyncup.sources.tables import Layout, Table

#: A text that is at least so long on average is rather an object than a field of one; bytes.
LONG = 1000
#: How objects end that are a value of a type.
_ENDINGS = {"bytea": ".bin", "json": ".json", "jsonb": ".json", "xml": ".xml", "text": ".txt", "varchar": ".txt"}
#: Columns that say what kind of thing the body is.
_CONTENT_TYPES = ("content_type", "mime_type", "media_type", "mimetype", "contenttype", "mime")
#: Columns that say when a row was written.
_WRITTEN = ("updated_at", "modified_at", "changed_at", "last_modified", "updated", "modified")
_UNUSUAL = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Proposal:
    """A job for a table: `job` names it. Without a usable key it is none, for the `reason`."""

    table: Table
    job: str
    key: tuple[str, ...] = ()
    body: Column | None = None
    length: float = 0.0
    template: str = ""
    content_type: str | None = None
    incremental: str | None = None
    reason: AsyncupError | None = field(default=None, repr=False)

    @property
    def is_usable(self) -> bool:
        return self.reason is None

    def to(self, prefix: str) -> str:
        """Where its objects go below a prefix; every job has a part of it to itself."""
        return f"{prefix.rstrip('/')}/{self.job}/{self.template}"

    def to_json(self) -> dict[str, Any]:
        return {
            "table": self.table.name,
            "job": self.job,
            "rows": self.table.rows,
            "bytes": self.table.bytes,
            "key": list(self.key),
            "body": "row" if self.body is None else written(self.body.name),
            "template": self.template or None,
            "reason": None if self.reason is None else self.reason.message,
        }


def job_name(table: Table, taken: Collection[str]) -> str:
    """A name for the job of a table that needs no quotes, and that no other job has."""
    bare = _UNUSUAL.sub("-", table.bare).strip("-") or "table"
    whole = f"{_UNUSUAL.sub('-', table.schema).strip('-')}-{bare}".strip("-")
    numbered = (f"{whole}-{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (bare, whole, *numbered) if name not in taken)


def propose(table: Table, job: str, layout: Layout) -> Proposal:
    """A job for a table whose rows lie so."""
    body = _body(layout)
    # values are told apart by a literal between them that few of them have
    template = "/".join(str(Placeholder(name)) for name in layout.key)
    content_type = _named(layout, _CONTENT_TYPES, ("text", "varchar")) if body is not None else None
    if content_type is None:
        template += ".json" if body is None else _ENDINGS[body.base]
    try:
        shape = RowShape(len(layout.key), layout.columns)
        check_uniqueness(parse_template(template), shape, layout.unique_keys)
    except TemplateRefused as refused:
        return Proposal(table, job, reason=refused)
    return Proposal(
        table,
        job,
        layout.key,
        body,
        0.0 if body is None else layout.lengths[body.name],
        template,
        None if content_type is None else str(Placeholder(content_type)),
        _named(layout, _WRITTEN, ("timestamptz", "timestamp")),
    )


def _body(layout: Layout) -> Column | None:
    """The column that is most likely an object by itself; None where the whole row is."""
    found = [column for column in layout.columns if column.name in layout.lengths]
    blobs = [column for column in found if column.base == "bytea"]
    # a short bytea is a digest or a token; where there are no rows yet, nobody knows
    long = [column for column in found if layout.lengths[column.name] >= LONG]
    unknown = [column for column in blobs if not any(layout.lengths.values())]
    likely = [column for column in long if column.base == "bytea"] or long or unknown
    return max(likely, key=lambda column: layout.lengths[column.name], default=None)


def _named(layout: Layout, names: Collection[str], types: Collection[str]) -> str | None:
    """The first of these names that is a column of one of these types."""
    columns = {column.name for column in layout.columns if column.base in types}
    return next((name for name in names if name in columns), None)
