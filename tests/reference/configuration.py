"""docs/reference/configuration.md: the keys of asyncup.toml, as its JSON Schema has them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from asyncup.cli.resolving import FOREIGN
from asyncup.cli.schema import default_of, schema_of_files, text_of
from asyncup.config import CHOICES, Config
from asyncup.settings import SHARED, key_of
from asyncup.values import grammar
from tests.reference.flags import plain
from tests.reference.tables import code, page, table

INTRODUCTION = """Every key of `[defaults]` and of `[jobs.NAME]` in `asyncup.toml`, and below `[tool.asyncup]` in `pyproject.toml`. \
[Jobs in a file](../jobs.md) says how the file is found and read, [configuration](../configuration.md) has the commands about it; \
`asyncup config schema` prints all of this as JSON Schema. Every key is a flag of [`asyncup sync`](flags.md#asyncup-sync), but for \
`password`."""


def _kind(option: str, kind: str) -> str:
    if kind == "bool":
        return "`true` or `false`"
    if option in CHOICES:
        return ", ".join(code(f'"{word}"') for word in CHOICES[option])
    if kind.startswith("tuple[tuple"):
        return 'a table of texts, or a list of `"name=template"`'
    if kind.startswith("tuple["):
        return "a text as in SQL, or a list of plain names"
    if grammar(option) is None:
        return "a text"
    if option in ("memory", "max_bandwidth", "pack_bytes"):
        return 'a size: `"64MiB"`, or bytes'
    if "float" in kind:
        is_rate = option in ("max_rate", "min_rate")
        return "a number" if is_rate else 'a duration: `"1m30s"`, or seconds'
    if option == "expect_rows":
        return 'a text: `"10:20"`, `"10:"`, `":20"`'
    return '`"auto"`, or a number' if option in ("page_size", "concurrency") else "a number"


def _rows() -> Iterator[tuple[str, ...]]:
    known: dict[str, Any] = schema_of_files()["$defs"]["options"]["properties"]
    for entry in fields(Config):
        key = key_of(entry.name)
        assert key in known
        yield (
            code(key),
            _kind(entry.name, str(entry.type)),
            plain(text_of(entry.name)),
            plain(default_of(entry.name) or ""),
        )


def text() -> str:
    shared = ", ".join(code(key_of(option)) for option in SHARED)
    foreign = ", ".join(f"{code(key_of(option))} ({code(variable)})" for option, variable in FOREIGN.items())
    return page(
        "Keys of asyncup.toml",
        INTRODUCTION,
        table(("key", "value", "meaning", "default"), _rows()),
        f"In `[defaults]`, {shared} are for all jobs of a run together.",
        f"Where no flag, no variable of asyncup's and no key says one, another tool's variable does: {foreign}.",
    )
