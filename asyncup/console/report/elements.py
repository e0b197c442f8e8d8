"""Elements of a page, which become text in one place alone.

There, every text is redacted, then cut where it is very long, then made visible (control characters, and what would turn the
direction of writing, are shown as escapes), then escaped: what rows and servers say can be nothing but text, whoever forgets what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from html import escape
from typing import TypeAlias

from asyncup.console.text import shown

#: Elements that end where they begin: https://html.spec.whatwg.org/multipage/syntax.html#void-elements
_VOID = frozenset({"meta", "link", "br", "hr"})
#: Elements of SVG that may be closed where they are opened.
_SHAPES = frozenset({"path", "line", "rect", "circle"})

#: Characters of a text that are shown: there is no bound to what a server or a row can say.
LONGEST = 2000


class Trusted(str):
    """A text of this program's own that has no foreign part, such as a style sheet: it is written as it is."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Element:
    """One element. `None` among its children is left out."""

    name: str
    attributes: tuple[tuple[str, str], ...]
    children: tuple[Node, ...]


#: What an element can hold. A text is one of anybody's, unless it is `Trusted`.
Node: TypeAlias = "Element | str | Iterable[Node] | None"


def el(name: str, /, *children: Node, **attributes: str | float | None) -> Element:
    """An element. Attributes are named as in Python: `class_`, `aria_label`; one that is None is left out.

    Numbers are lengths of a drawing, and have at most one digit behind the point.
    """
    given = tuple(
        (attribute.rstrip("_").replace("_", "-"), value if isinstance(value, str) else length(value))
        for attribute, value in attributes.items()
        if value is not None
    )
    return Element(name, given, children)


def length(value: float) -> Trusted:
    """A number of a drawing, as short as it may be."""
    return Trusted(f"{value:.1f}".removesuffix(".0"))


def written(root: Element, redact: Callable[[str], str]) -> str:
    """A whole document. No text in it holds what `redact` takes out."""
    return "<!doctype html>\n" + "".join(_written(root, redact)) + "\n"


def _written(node: Node, redact: Callable[[str], str]) -> Iterator[str]:
    if node is None:
        return
    if isinstance(node, str):
        yield _text(node, redact)
    elif isinstance(node, Element):
        attributes = "".join(f' {name}="{_text(value, redact)}"' for name, value in node.attributes)
        if node.name in _SHAPES and not node.children:
            yield f"<{node.name}{attributes}/>"
            return
        yield f"<{node.name}{attributes}>"
        if node.name not in _VOID:
            for child in node.children:
                yield from _written(child, redact)
            yield f"</{node.name}>"
    else:
        for child in node:
            yield from _written(child, redact)


def _text(value: str, redact: Callable[[str], str]) -> str:
    return str(value) if isinstance(value, Trusted) else escape(shown(shortened(redact(value), LONGEST)))


def shortened(text: str, longest: int) -> str:
    """A text without its middle where it is longer than `longest` characters, which is said. Redact it before: half a secret
    is not recognized.
    """
    if len(text) <= longest:
        return text
    return f"{text[: longest * 2 // 3]} … {text[-longest // 3 :]} ({len(text):,} characters)"
