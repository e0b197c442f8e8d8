"""The frame of a report, and what stands in it: sections, tables, tiles and texts, with the style sheet of them all.

The file is whole in itself: nothing is loaded, and nothing runs. A policy in it forbids both
(https://www.w3.org/TR/CSP3/#meta-element), so that what a row says could not even if it were markup. It is light or dark as
the reader's system is, and light on paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asyncup.console.report.elements import Element, Node, Trusted, el

STYLE = Trusted("""
:root{--paper:#fff;--soft:#f4f6f8;--ink:#1b1f24;--dim:#57606a;--rule:#d0d7de;--link:#0550ae;--good:#116329;--warn:#7d4e00;--bad:#a40e26;--c0:#0550ae;--c1:#b34700;--c2:#116329;--c3:#7a2ea0}
@media screen and (prefers-color-scheme:dark){:root{--paper:#0d1117;--soft:#171d26;--ink:#e6edf3;--dim:#9aa7b4;--rule:#343c46;--link:#79b8ff;--good:#56d364;--warn:#e3b341;--bad:#ff8b82;--c0:#6cb0ff;--c1:#ffa657;--c2:#56d364;--c3:#d2a8ff}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem 1rem 3rem;max-width:66rem;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .3rem}
h2{font-size:1.25rem;margin:2.2rem 0 .6rem;padding-top:.5rem;border-top:1px solid var(--rule)}
h3{font-size:1.05rem;margin:1.6rem 0 .5rem}
h1,h2,h3,p,li,td,th,dd,figcaption{overflow-wrap:anywhere}
p{margin:.4rem 0}
a{color:var(--link)}
code,pre,.value{font:.92em/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
code{unicode-bidi:isolate;overflow-wrap:anywhere}
pre{margin:.5rem 0;padding:.7rem .8rem;background:var(--soft);border-radius:6px;white-space:pre-wrap;overflow-wrap:anywhere}
.dim,.note,.none{color:var(--dim)}.note{font-size:.86rem}
.badge{display:inline-block;padding:.05rem .6rem;border:1.5px solid;border-radius:1rem;font-size:.95rem;font-weight:600;vertical-align:middle}
.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}
.problem{border-left:4px solid var(--bad);background:var(--soft);padding:.5rem .9rem;margin:.8rem 0;border-radius:0 6px 6px 0}
.tiles{display:flex;flex-wrap:wrap;gap:.6rem;margin:.8rem 0;padding:0;list-style:none}
.tiles li{flex:1 1 7.5rem;background:var(--soft);border-radius:6px;padding:.5rem .8rem}
.tiles b{display:block;white-space:nowrap;font-size:1.3rem;line-height:1.3;font-weight:600;font-variant-numeric:tabular-nums}
.tiles span{color:var(--dim);font-size:.86rem}
.scroll{overflow-x:auto;margin:.6rem 0}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--dim);font-size:.9rem;padding:.2rem 0}
th,td{text-align:left;vertical-align:top;padding:.28rem .9rem .28rem 0;border-bottom:1px solid var(--rule)}
thead th{color:var(--dim);font-weight:600;font-size:.9rem}
tbody th{font-weight:500}.scroll th:not(.n),.scroll td:not(.n){min-width:6.5rem}
.n{text-align:right}td.n,th.n{overflow-wrap:normal;white-space:nowrap}
.facts th{width:11rem;color:var(--dim)}
.scroll td.w{min-width:12rem}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1.2rem 1.6rem}
figure{margin:0;min-width:0}
figcaption{font-weight:600}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{fill:var(--dim);font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;font-variant-numeric:tabular-nums}
.end{text-anchor:end}.middle{text-anchor:middle}
.grid{stroke:var(--rule);stroke-width:.7}.axis{stroke:var(--dim)}
.mark{stroke:var(--c1);stroke-width:1.2;stroke-dasharray:4 3}
.curve{fill:none;stroke-width:1.8;stroke-linejoin:round}
.bar{fill:var(--c0)}
.curve.c0{stroke:var(--c0)}.curve.c1{stroke:var(--c1);stroke-dasharray:6 3}.curve.c2{stroke:var(--c2);stroke-dasharray:2 2}.curve.c3{stroke:var(--c3);stroke-dasharray:8 3 2 3}
.dot.c0{fill:var(--c0)}.dot.c1{fill:var(--c1)}.dot.c2{fill:var(--c2)}.dot.c3{fill:var(--c3)}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.1rem 1rem;margin:0;padding:0;font-size:.86rem}
.key{display:inline-block;width:1.6rem;border-top:3px solid;vertical-align:middle;margin-right:.4rem}
.key.c0{border-color:var(--c0)}.key.c1{border-color:var(--c1);border-top-style:dashed}.key.c2{border-color:var(--c2);border-top-style:dotted}.key.c3{border-color:var(--c3);border-top-style:dashed}
details{margin:.6rem 0}summary{cursor:pointer}
footer{margin-top:2.5rem;color:var(--dim);font-size:.86rem}
@media (max-width:36rem){body{padding:1rem .8rem 2rem}h1{font-size:1.3rem}.facts th{width:7rem}th,td{padding-right:.6rem}.tiles li{flex-basis:40%}}
@media print{@page{margin:14mm}body{max-width:none;padding:0;font-size:10pt}a{color:inherit;text-decoration:none}figure,.tiles,.problem,tr,.cause{break-inside:avoid}h2,h3,caption,figcaption{break-after:avoid}thead{display:table-header-group}.scroll{overflow:visible}.charts{grid-template-columns:1fr 1fr}.job{break-before:page}.tiles li,.problem,pre{border:1px solid var(--rule)}details:not([open]){display:none}.tiles li{flex-basis:5.5rem}.tiles b{font-size:1.1rem}}
""")
_POLICY = Trusted("default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'")

GOOD, WARN, BAD = "good", "warn", "bad"


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page with a heading. `anchor` is the name that links lead to; `kind` a class of the style sheet."""

    title: str
    content: Sequence[Node]
    anchor: str | None = None
    kind: str | None = None


def page(title: str, header: Sequence[Node], sections: Sequence[Section], footer: str) -> Element:
    """A whole document. `elements.written` makes the text of it."""
    return el(
        "html",
        el(
            "head",
            el("meta", charset="utf-8"),
            el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
            el("meta", name="viewport", content="width=device-width, initial-scale=1"),
            el("meta", name="color-scheme", content="light dark"),
            el("meta", name="referrer", content="no-referrer"),
            el("link", rel="icon", href="data:,"),
            el("title", title),
            el("style", STYLE),
        ),
        el(
            "body",
            el("header", header),
            el("main", [_section(section) for section in sections]),
            el("footer", el("p", footer)),
        ),
        lang="en",
    )


def _section(section: Section) -> Element:
    return el("section", el("h2", section.title), section.content, id=section.anchor, class_=section.kind)


def badge(words: str, kind: str) -> Element:
    """A state in a few words; `kind` is GOOD, WARN or BAD."""
    return el("span", words, class_=f"badge {kind}")


def problem(*children: Node) -> Element:
    """What went wrong, set off from the rest."""
    return el("div", children, class_="problem")


def value(text: str) -> Element:
    """A text of somebody else's, in its own direction of writing."""
    return el("code", text, dir="auto")


def figure_of(name: str, number: float, text: str) -> Element:
    """A figure of the JSON summary: `name` is its field there, `number` its exact value, `text` what is read."""
    return el("data", text, value=Trusted(repr(number)), data_field=name)


def tiles(entries: Sequence[tuple[Node, str]]) -> Element:
    """The few figures that matter, each with what it is."""
    return el("ul", [el("li", el("b", figure), el("span", label)) for figure, label in entries], class_="tiles")


def facts(caption: str, rows: Sequence[tuple[str, Node]]) -> Element:
    """A table of names and values."""
    lines = [el("tr", el("th", name, scope="row"), el("td", told)) for name, told in rows]
    return el("table", el("caption", caption), el("tbody", lines), class_="facts")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: of numbers, which stand on the right, or of texts, which are `wide`."""

    title: str
    kind: str | None = None


NUMBERS, TEXTS = "n", "w"


def table(
    caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Node]], last: Sequence[Node] = ()
) -> Element:
    """A table with a head; the first cell of a row is its name. `last` are the cells of a sum. It scrolls by itself."""
    head = el("tr", [el("th", column.title, scope="col", class_=column.kind) for column in columns])

    def line(cells: Sequence[Node]) -> Element:
        first, *rest = cells
        texts = [el("td", cell, class_=column.kind) for cell, column in zip(rest, columns[1:], strict=True)]
        return el("tr", el("th", first, scope="row", class_=columns[0].kind), texts)

    whole = el(
        "table",
        el("caption", caption),
        el("thead", head),
        el("tbody", [line(row) for row in rows]),
        el("tfoot", line(last)) if last else None,
    )
    return el("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def several_lines(text: str) -> list[Node]:
    """A text with its own line ends, and no other control characters."""
    first, *others = text.splitlines() or [""]
    return [first, [(el("br"), line) for line in others]]


def preformatted(lines: Sequence[str]) -> Element:
    """Lines as they would stand on a terminal."""
    return el("pre", [(line, Trusted("\n")) for line in lines])
