"""SQL that a user wrote, made fit to stand between brackets in ours.

A semicolon at its end has to go, wherever comments stand; a bracket that closes ours, or a parameter that would take
one of our arguments, would change what is read without a word, so they are refused. Reading its words is enough for
that; whether it is valid SQL, the server says (https://www.postgresql.org/docs/current/sql-syntax-lexical.html).
"""

from __future__ import annotations

import re

from asyncup.errors import SourceRefused

_WORDS = re.compile(
    r"""
      (?P<space> \s+ | --[^\n]* )
    | (?P<comment> /\* )
    | [eE]'(?: [^'\\] | \\. | '' )*'
    | '[^']*'
    | "[^"]*"
    | (?P<tag> \$ (?: [^\W\d]\w* )? \$ ) .*? (?P=tag)
    | (?P<parameter> \$\d+ )
    | [^\W\d][\w$]*
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


def embeddable(sql: str, flag: str) -> str:
    """The SQL without the semicolons at its end.

    Raises:
        SourceRefused: it would not stay within brackets.
    """
    position, end, depth = 0, 0, 0
    semicolons: list[int] = []
    while match := _WORDS.match(sql, position):
        position = match.end() if match["comment"] is None else _comment_end(sql, match.end())
        if match["space"] is not None or match["comment"] is not None:
            continue
        if match["other"] == ";":
            semicolons.append(match.start())
            continue
        end = position
        if match["parameter"] is not None:
            raise SourceRefused(
                "read SQL", flag, f"it has a parameter, {match['parameter']}, and no value for it", "write the value"
            )
        depth += {"(": 1, ")": -1}.get(match["other"] or "", 0)
        if depth < 0:
            raise SourceRefused("read SQL", flag, "it closes a bracket that it has not opened", "check its brackets")
    for semicolon in reversed(semicolons):
        if semicolon >= end:
            sql = sql[:semicolon] + sql[semicolon + 1 :]
    return sql


def _comment_end(sql: str, position: int) -> int:
    """Where the comment ends whose opening ends at `position`; comments nest."""
    depth = 1
    while depth and (edge := _COMMENT_EDGE.search(sql, position)):
        depth += 1 if edge[0] == "/*" else -1
        position = edge.end()
    return position if not depth else len(sql)
