"""Puts together what happens to rows before they are uploads: a user's function, compression, packs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from asyncup.config import SUFFIXES, Config
from asyncup.errors import TemplateRefused, UsageError
from asyncup.making.recipe import Packs, Recipe
from asyncup.model import Column, Headers, Row, RowShape
from asyncup.names import written
from asyncup.render.headertemplates import HeaderTemplates
from asyncup.render.template import INTEGERS, Template, compile_template, parse_template
from asyncup.render.uniqueness import check_uniqueness, is_lossless

if TYPE_CHECKING:
    from asyncup.packing.formats import RowPacking
    from asyncup.protocols import Transform

#: Fewer packs say nothing of how they are cut.
_MANY = 10


@dataclass(frozen=True, slots=True)
class Rows:
    """What rows are like: their pagination key, their layout, the source's columns and the one that is the body.

    `unique_keys` tell them apart.
    """

    key: tuple[str, ...]
    shape: RowShape
    columns: tuple[Column, ...]
    body: Column | None
    large_object: bool = False
    unique_keys: tuple[tuple[str, ...], ...] = ()


def columns_of(config: Config) -> dict[str, str]:
    """The columns that packs need of each row, with the flag that names them.

    Raises:
        TemplateRefused: `--pack-member` is no template.
    """
    found = dict.fromkeys(config.pack_by, "--pack-by")
    if config.pack_member is not None:
        found |= dict.fromkeys(parse_template(config.pack_member).names, "--pack-member")
    return found


def headers_of(templates: HeaderTemplates, packing: RowPacking | None) -> HeaderTemplates:
    """The templates of headers; a pack is what its format says, not what the extension of its key does."""
    if packing is None or templates.content_type is not None:
        return templates
    return replace(templates, content_type=parse_template(packing.content_type))


def open_packing(config: Config, rows: Rows) -> RowPacking | None:
    """The format of packs; None where each row is an object.

    Raises:
        UsageError: these rows cannot be in it.
        TemplateRefused: `--pack-member` does not fit its columns.
    """
    if config.pack is None:
        return None
    from asyncup.packing.formats import open_packing as opened
    from asyncup.packing.layout import Layout
    from asyncup.render.compression import compile_compression

    return opened(
        config.pack,
        Layout(rows.shape, rows.columns, rows.body, transformed=config.transform is not None),
        compression=compile_compression(config.compress, config.compress_level),
        indexed=config.pack_index,
        member=_member(config, rows) if config.pack == "tar" else None,
    )


async def open_recipe(
    config: Config, rows: Rows, packing: RowPacking | None, *, streams: bool, say: Callable[[str], None]
) -> Recipe | None:
    """What is done with rows; None where each is an object as it stands. `streams`: large packs are sent while they are made.

    Raises:
        ConfigError: the user's function cannot be found, or cannot run as it is to.
    """
    from asyncup.render.compression import compile_compression

    if config.transform is None and packing is None and config.compress == "none":
        return None
    packs = None
    if packing is not None:
        most_rows, most_bytes = config.pack_limits
        headers: Headers = ()
        if packing.content_encoding is not None:
            headers = (("content-encoding", packing.content_encoding),)
        packs = Packs(
            packing,
            rows=most_rows,
            size=most_bytes,
            by=tuple(rows.shape.index(name) for name in config.pack_by),
            headers=headers,
            is_streamed=streams,
            has_index=config.pack_index,
        )
    return Recipe(
        transform=await _open_transform(config, rows, say),
        compression=None if packing is not None else compile_compression(config.compress, config.compress_level),
        suffix=SUFFIXES[config.compress],
        packs=packs,
    )


def check_increments(config: Config, template: Template, rows: Rows) -> None:
    """Refuse packs of increments that could replace packs with other rows; `template` is that of `--to`.

    A row that changes is in a pack of a later increment, which may begin with it. And some rows are read twice
    (`sources.increments`): what follows such a row in its first pack has to follow it in the second one too.

    Raises:
        TemplateRefused, UsageError: they could.
    """
    column, fault = config.incremental_column, "a pack of a later increment could replace one of an earlier increment"
    if config.pack is None or column is None:
        return
    types = {one.name: one.base for one in rows.columns}
    if types[column] in INTEGERS:
        raise UsageError(
            "read flags",
            "--incremental",
            f"{fault}, and its other rows with it: rows of a sequence may be read twice, with others beside them",
            "give a column that is set to now() or to pg_current_xact_id(), or leave --pack out",
        )
    if not any(hole.name == column and is_lossless(hole, types[column]) for hole in template.placeholders):
        raise TemplateRefused(
            "check template",
            "--to",
            f"{fault}, and its other rows with it",
            f"name {{{written(column)}}} in --to, all of its value: then no two increments have packs of one name",
        )
    if types[column] != "xid8" and rows.key[0] != column:
        raise UsageError(
            "read flags",
            "--incremental",
            f"{fault}: rows at its border may be read twice, and they are not read in the order of {written(column)}",
            f"create an index on {written(column)} and the primary key, which gives that order, or leave --pack out",
        )


def small_packs(config: Config, key: Sequence[str], rows: int, packs: int | None) -> str | None:
    """What to say of packs that have hardly any rows, since --pack-by cuts them all the time; None where it does not."""
    by = config.pack_by
    if not by or not packs or packs < _MANY or rows >= 2 * packs or set(key[: len(by)]) == set(by):
        return None
    wanted = ",".join(written(name) for name in dict.fromkeys((*by, *key)))
    mean = f"{rows / packs:.1f}".removesuffix(".0")
    return (
        f"packs of {mean} row{'s' * (mean != '1')} on average, since {' and '.join(map(written, by))} "
        f"change{'s' * (len(by) == 1)} with nearly every row in the order of {', '.join(map(written, key))}: give --key "
        f"{wanted}, and the table an index on these columns"
    )


async def _open_transform(config: Config, rows: Rows, say: Callable[[str], None]) -> Transform | None:
    if config.transform is None:
        return None
    from asyncup.transforms.opening import open_transform
    from asyncup.transforms.record import Layout

    return await open_transform(
        config.transform,
        Layout(rows.key, rows.shape, rows.body, rows.columns, rows.large_object),
        executor=config.executor,
        workers=config.executor_workers,
        timeout=config.transform_timeout,
        say=say,
    )


def _member(config: Config, rows: Rows) -> Callable[[Row], str | None]:
    """The name of a row's file in a tar archive: the template's, or the key."""
    if config.pack_member is not None:
        template = parse_template(config.pack_member)
        _check_members(config, template, rows)
        return compile_template(template, rows.shape)
    ending = ".json" if rows.body is None and config.transform is None else ""
    return lambda row: "-".join(part or "" for part in rows.shape.key(row)) + ending


def _check_members(config: Config, template: Template, rows: Rows) -> None:
    """Refuse names under which two rows could be one member of a pack.

    Raises:
        TemplateRefused: they could.
    """
    if config.allow_collisions:
        return
    # the rows of a pack are alike in the columns of --pack-by
    keys = tuple(tuple(name for name in key if name not in config.pack_by) for key in rows.unique_keys)
    try:
        check_uniqueness(template, rows.shape, keys)
    except TemplateRefused as exc:
        named = " and ".join("{" + written(name) + "}" for name in keys[0]) if keys else ""
        raise TemplateRefused(
            exc.op,
            "--pack-member",
            exc.message.replace("the same object key", "one name in a pack"),
            f"add {named}" if named and "without a format" not in (exc.hint or "") else "name a unique key",
        ) from None
