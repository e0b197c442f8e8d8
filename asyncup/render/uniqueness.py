"""Whether a template gives every row an object key of its own.

It does when it names every column of one unique, NOT NULL key, each rendered without loss, and when the values can
be read back out of the object key. Whether a format spec loses anything, and whether values touch, is decided
before the run. What only a value can tell (it contains the very literal that separates it from its neighbour)
is decided row by row: such a row fails, it is never written over another one's object.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from asyncup.errors import RowRefused, TemplateRefused
from asyncup.model import Row, RowShape
from asyncup.names import written
from asyncup.render.template import DIRECTIVE, INTEGERS, Placeholder, Template, compile_template, formatter

_LOSSLESS_INTEGER = re.compile(r"(?:[ 0]?[>=])?[+\- ]?#?0?\d*[_,]?[dboxX]?")
_DIRECTIVES: dict[str, frozenset[str]] = {
    "date": frozenset("Ymd"),
    "timestamp": frozenset("YmdHMSf"),
    "timestamptz": frozenset("YmdHMSf"),
    "time": frozenset("HMSf"),
}

#: Directives that always give the same number of characters.
_FIXED = frozenset("YmdHMSfjyIUVWuw%")
#: Those that give letters alone; what is left without them is of fixed length.
_LETTERS = frozenset("aAbBp")

#: Types no text of which begins or ends another one of the same type: they need no separator at all.
_SELF_DELIMITING = frozenset({"uuid", "bool"})

#: Every character that a type's texts may have: a separator with any other one is in none of them. A type that is
#: not here may contain anything.
_ALPHABETS: dict[str, str] = {
    **dict.fromkeys(INTEGERS, "0123456789-"),
    "date": "0123456789- BCinfty",
    "timestamp": "0123456789-:. BCinfty",
    "timestamptz": "0123456789-:.+ BCinfty",
    "time": "0123456789:.",
}
_FORMATTED_INTEGER = "0123456789abcdefoxABCDEFOX+-_, "

#: How the usual texts of a type begin. No text of the type ends within this part, and none begins later in a text
#: that begins so: what a separator has in common with it is never mistaken for the separator.
_USUAL: dict[str, re.Pattern[str]] = {
    "date": re.compile(r"\d{4}-\d\d-\d\d"),
    "timestamp": re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"),
    "timestamptz": re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?\+00"),
    "time": re.compile(r"\d\d:\d\d:\d\d"),
}


def is_lossless(placeholder: Placeholder, base: str) -> bool:
    """Whether two different values of a column of type `base` always render to different texts."""
    spec = placeholder.spec
    if not spec:
        return True
    if base in INTEGERS:
        return _LOSSLESS_INTEGER.fullmatch(spec) is not None
    if base in _DIRECTIVES:
        return _DIRECTIVES[base] <= set(DIRECTIVE.findall(spec)) <= _FIXED | _LETTERS
    return False


def unique_key(template: Template, shape: RowShape, unique_keys: Sequence[Collection[str]]) -> Collection[str] | None:
    """The first of these keys whose every column the template renders without loss; None where there is none."""
    types = {column.name: column.base for column in shape.columns}
    faithful = {hole.name for hole in template.placeholders if is_lossless(hole, types[hole.name])}
    return next((key for key in unique_keys if set(key) <= faithful), None)


def check_uniqueness(template: Template, shape: RowShape, unique_keys: Sequence[Collection[str]]) -> None:
    """Refuse a template under which two rows could have one object key.

    Raises:
        TemplateRefused: with the reason, and the key that would do; or a format spec fits no value of its column.
    """
    wish = "name a unique key"
    if unique_keys:
        wish = "add " + " and ".join("{" + written(name) + "}" for name in unique_keys[0])
    hint = f"{wish}, or allow later rows to overwrite earlier ones with --allow-collisions"
    types = {column.name: column.base for column in shape.columns}
    faithful = {hole.name for hole in template.placeholders if is_lossless(hole, types[hole.name])}
    if unique_key(template, shape, unique_keys) is None:
        compile_template(template, shape)  # a spec that is wrong is to be mended first
        reason = "it names no unique key of the source completely"
        named = next((key for key in unique_keys if set(key) <= set(template.names)), None)
        if named is not None:
            lossy = next(hole for hole in template.placeholders if hole.name in set(named) - faithful)
            reason = f"{lossy} renders different values to the same text"
            hint = f"use {Placeholder(lossy.name)} without a format spec, or --allow-collisions"
        raise TemplateRefused(
            "check template", template.text, f"two rows could get the same object key: {reason}", hint
        )
    for left, literal, right in zip(
        template.placeholders, template.literals[1:-1], template.placeholders[1:], strict=False
    ):
        if not literal:
            raise TemplateRefused(
                "check template",
                template.text,
                f"two rows could get the same object key: nothing separates {left} from {right}",
                f"put a literal between them, such as {left}/{right}, or use --allow-collisions",
            )


def compile_guard(template: Template, shape: RowShape) -> Callable[[Row], None] | None:
    """A function that refuses a row whose values could not be read back out of its object key; None if none is needed.

    The values to the left of one pivot are found from the left, those to its right from the right; so none of them
    may contain the literal that separates it. The pivot itself may contain anything, and is chosen to leave the
    least to check.
    """
    holes, literals = template.placeholders, template.literals
    candidates = []
    for pivot in range(len(holes)):
        checks = [(position, literals[position + 1], True) for position in range(pivot)]
        checks += [(position, literals[position], False) for position in range(pivot + 1, len(holes))]
        risks = [_risk(holes[position], shape, literal) for position, literal, _ in checks]
        candidates.append((sum(risks), [check for check, risk in zip(checks, risks, strict=True) if risk]))
    _, needed = min(reversed(candidates), key=lambda candidate: candidate[0], default=(0, []))
    if not needed:
        return None
    compiled = [
        (
            shape.index(holes[position].name),
            formatter(template, holes[position], shape),
            None if holes[position].spec else _USUAL.get(_base(holes[position], shape)),
            holes[position],
            text,
            left,
        )
        for position, text, left in needed
    ]

    def guard(row: Row) -> None:
        for index, form, usual, hole, separator, left in compiled:
            value = row[index] if form is None else form(row[index])
            if usual is not None and (found := usual.match(value)):
                if not left:
                    continue
                value = value[found.end() :]
            if (value + separator).index(separator) != len(value) if left else (separator + value).rindex(separator):
                raise RowRefused(
                    "render",
                    template.text,
                    f"the value of column {hole.name} contains {separator!r}, which separates it from its neighbour: "
                    "another row could get the same object key",
                    "choose another separator in --to, or use --allow-collisions",
                )

    return guard


def _risk(placeholder: Placeholder, shape: RowShape, separator: str) -> int:
    """How likely a value is taken apart wrongly at its separator: 0 never, 1 seldom, 2 anything goes."""
    base = _base(placeholder, shape)
    if placeholder.spec and base in _DIRECTIVES:
        return 0 if set(DIRECTIVE.findall(placeholder.spec)) <= _FIXED else 2
    if base in _SELF_DELIMITING:
        return 0
    alphabet = _ALPHABETS.get(base)
    if placeholder.spec:
        alphabet = _FORMATTED_INTEGER if base in INTEGERS and is_lossless(placeholder, base) else None
    if alphabet is None:
        return 2
    return 1 if set(separator) <= set(alphabet) else 0


def _base(placeholder: Placeholder, shape: RowShape) -> str:
    return shape.columns[shape.index(placeholder.name) - shape.keys].base
