"""A plan as EXPLAIN gives it, walked: what a page has to read beneath its own LIMIT. Pure, no connection.

Rows of a page flow from an index up to the LIMIT through nodes that pass them on one by one. Whatever stands in between
and takes all rows before it gives one (a sort, an aggregate, a LIMIT of the user's own) does all that work for each page;
so does a scan that the key does not bound. Source: https://www.postgresql.org/docs/current/using-explain.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Node = dict[str, Any]

#: What passes rows on in the order in which it gets them, as it gets them.
_PASSES = frozenset(
    {"Append", "Merge Append", "Subquery Scan", "Result", "ProjectSet", "Gather", "Gather Merge", "LockRows"}
    | {"Unique", "Group", "Nested Loop", "Merge Join", "WindowAgg", "Custom Scan"}
)
_JOINS = ("Nested Loop", "Merge Join", "Hash Join")
_INDEXED = ("Index Scan", "Index Only Scan", "Foreign Scan")
_SORTS = ("Sort", "Incremental Sort")
_SCANS = ("Seq Scan", "Sample Scan")
#: Subplans: asked once, or for each row.
_ASIDE = ("InitPlan", "SubPlan")
#: What only SQL of a user has, and what to say of it.
_SHAPES = {
    "Limit": "its own LIMIT comes before that of a page",
    "Aggregate": "it aggregates all rows before it gives one",
    "CTE Scan": "a common table expression is materialized",
    "Function Scan": "a function gives its rows",
    "Table Function Scan": "a function gives its rows",
    "Values Scan": "its rows are a list of values",
    "SetOp": "a set operation compares all rows",
    "Recursive Union": "it is recursive",
    "WorkTable Scan": "it is recursive",
    "Hash Join": "its joins find no index",
}
#: The same of what passes rows on, but not in the order of an index of a column.
_CAUSES = {
    "WindowAgg": "a window function looks at all of its rows",
    "Aggregate": "it groups its rows by something else than an index",
    "Group": "it groups its rows by something else than an index",
    "Unique": "DISTINCT or UNION compares all of its rows",
    "ProjectSet": "a function gives several rows for one",
}


@dataclass(slots=True)
class Reading:
    """What is done for one page.

    Attributes:
        sorts: rows are sorted.
        scans: rows are read from the beginning, or all are.
        shapes: what of the SQL takes all rows, for people.
        indexes: names of the indexes that rows come from.
        places: where rows come from, and by which condition: an index, or a relation of another server.
        beside: schema and name of each relation that is read whole beside those rows, for joins and subselects.
        causes: what of the SQL may keep the server from reading in the order of an index, for people; it need not.
    """

    sorts: bool = False
    scans: bool = False
    shapes: list[str] = field(default_factory=list)
    indexes: list[str] = field(default_factory=list)
    places: list[tuple[str, str]] = field(default_factory=list)
    beside: list[tuple[str, str]] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        return self.sorts or self.scans or bool(self.shapes)


def reading(plan: Node) -> Reading:
    """What is done beneath the page's own LIMIT; what is above it has one page of rows."""
    found, node = Reading(), plan
    while node["Node Type"] != "Limit" and (below := next(_inputs(node), None)):
        _look_aside(node, found)
        node = below
    _look_aside(node, found)
    if node["Node Type"] != "Limit":  # another server has taken it over, or there is nothing to read
        _walk(node, found)
    for child in _inputs(node):
        _walk(child, found)
    return found


def of_pages(first: Reading, later: Reading) -> Reading:
    """What is done for a first page or for one behind a key: that one must begin to read where the key says."""
    found = later if later.is_whole and not first.is_whole else first
    found.beside = first.beside + later.beside
    found.causes = first.causes + later.causes
    found.scans |= any(not condition for _, condition in later.places) or not set(later.places).isdisjoint(first.places)
    return found


def _walk(node: Node, found: Reading) -> None:
    """Follow the rows of a page down to where they come from."""
    kind = node["Node Type"]
    _look_aside(node, found)
    found.causes += [_CAUSES[kind]] if kind in _CAUSES and (found.sorts or kind == "WindowAgg") else []
    if kind in _INDEXED:
        name = node.get("Index Name", "")
        found.places.append((name or node.get("Alias", ""), node.get("Index Cond") or node.get("Remote SQL", "")))
        if name:
            found.indexes.append(name)
        return
    if kind in _SORTS:
        if any(child.get("One-Time Filter") == "false" for child in _inputs(node)):
            return  # there is nothing to sort
        cause = "it has an ORDER BY of its own" if found.sorts else _why_sorted(node)
        found.causes += [cause] if cause is not None else []
        found.sorts = True
    elif kind == "Aggregate" and node.get("Strategy") == "Sorted":
        pass
    elif kind in _SHAPES:
        found.shapes.append(_SHAPES[kind])
    elif kind not in _PASSES or (kind == "Custom Scan" and not node.get("Plans")):
        found.scans = True
    for child in _inputs(node):
        _walk(child, found)


def _why_sorted(sort: Node) -> str | None:
    """Why rows are sorted that an index gives in the order of the key, behind a key; None where none does."""
    child: Node = next(_inputs(sort), {})
    while child.get("Node Type") == "Subquery Scan":
        child = next(_inputs(child), {})
    condition = child.get("Index Cond", "")
    is_behind = "InitPlan" in condition or "$" in condition
    if not is_behind or ("ROW(" not in condition and len(sort.get("Sort Key", ())) > 1):
        return None
    if any("(" in column for column in child.get("Output", ())):
        return "a volatile function, such as random(), gives one of its columns"
    return "the server sorts its rows though an index has them in the order of the key, as it does for WITH"


def _look_aside(node: Node, found: Reading) -> None:
    """What is read for the rows of a node, beside those rows."""
    inputs = list(_inputs(node))
    for child in node.get("Plans", ()):
        if child not in inputs:
            _find_scans(child, found)


def _find_scans(node: Node, found: Reading, *, is_first: bool = False) -> None:
    """`is_first`: no more than the first rows are asked for, as for a min() or max() of an index."""
    kind = node["Node Type"]
    is_bounded = node.get("Index Cond") or "$" in node.get("Remote SQL", "") or (is_first and "Filter" not in node)
    if kind in _SCANS or (kind in _INDEXED and not is_bounded):
        found.beside.append((node.get("Schema", ""), node.get("Relation Name", "")))
    is_first = kind == "Limit" or (is_first and kind in _PASSES)
    for child in node.get("Plans", ()):
        _find_scans(child, found, is_first=is_first)


def _inputs(node: Node) -> Iterator[Node]:
    """The children whose rows a node passes on; of a join, the side whose order it keeps."""
    children = [child for child in node.get("Plans", ()) if child.get("Parent Relationship") not in _ASIDE]
    yield from children[:1] if node["Node Type"] in _JOINS else children
