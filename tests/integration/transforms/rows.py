"""Rows and layouts for tests of transforms."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from asyncup.errors import RowRefused
from asyncup.model import Column, Products, Row, RowShape
from asyncup.protocols import Transform
from asyncup.transforms.opening import open_transform
from asyncup.transforms.record import Layout

HERE = "tests.integration.transforms.functions"
ID, NAME = Column("id", "bigint", "int8"), Column("name", "text", "text")

#: Rows whose body is the row as JSON: a number and a name.
LAYOUT = Layout(("id",), RowShape(1, ()), None, (ID, NAME))


def rows(*names: str | None) -> list[Row]:
    """Rows of `LAYOUT`."""
    made: list[Row] = []
    for number, name in enumerate(names, 1):
        body = json.dumps({"id": number, "name": name}).encode()
        made.append((str(number), len(body), body))
    return made


@contextlib.asynccontextmanager
async def opened(function: str | Callable[..., Any], **options: Any) -> AsyncIterator[Transform]:
    """A transform of that name in `functions`."""
    spec = f"{HERE}:{function}" if isinstance(function, str) and ":" not in function else function
    transform = await open_transform(spec, options.pop("layout", LAYOUT), **options)
    try:
        yield transform
    finally:
        await transform.close()


def told(made: Sequence[Products | RowRefused]) -> list[Any]:
    """Products as they are, failures as their messages."""
    return [one.message if isinstance(one, RowRefused) else one for one in made]
