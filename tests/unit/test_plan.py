"""What keeps a run from continuing another one."""

from __future__ import annotations

from typing import Any

import pytest

from asyncup.resolved import fingerprint_difference


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ({}, {}, []),
        ({"to": "s3://a/{id}", "key": ["id"]}, {"key": ["id"], "to": "s3://a/{id}"}, []),
        ({"where": None}, {"where": "live"}, ["where: was not given, is 'live'"]),
        ({"key": ["a", "b"]}, {"key": ["b", "a"]}, ["key: was a, b, is b, a"]),
        ({"table": "t"}, {"query": "q"}, ["query: was not given, is 'q'", "table: was 't', is not given"]),
        # a field that an older version did not know changes nothing while it is not used
        ({}, {"transform": None}, []),
        ({"body": ""}, {"body": None}, ["body: was '', is not given"]),
    ],
)
def test_every_field_that_differs_is_named_with_both_values(
    old: dict[str, Any], new: dict[str, Any], lines: list[str]
) -> None:
    assert fingerprint_difference(old, new) == lines
