"""The JUnit file of `verify`: what readers of it count, whatever keys and messages hold."""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncup.console.junit import JUnitFile, junit
from asyncup.console.text import Redactor
from asyncup.errors import AsyncupError, SourceRefused, Unreachable, UsageError
from asyncup.events import Planned
from asyncup.report import Difference, Several, Verdict
from asyncup.resolved import Plan

REDACT = Redactor(("sesame-open",))
MISSING = Difference("missing", ("1",), "d/1", "there is no such object")
DIFFERENT = Difference("different", ("2", None), "d/2", "it has 6 bytes, and should have 2")
EXTRA = Difference("extra", None, "d/9", "it is the object of no row")


def read(document: bytes) -> list[tuple[str, list[tuple[str, str | None, str | None]]]]:
    """Suites with their cases as name, kind and message; counts and order are as readers want them."""
    root = ET.fromstring(document)
    suites = []
    assert root.tag == "testsuites"
    for suite in root:
        names = [child.tag for child in suite]
        assert names == ["testcase"] * (len(names) - 1) + ["system-out"]
        cases, kinds = [], []
        for case in suite.findall("testcase"):
            assert case.get("classname") == suite.get("name")
            assert float(case.get("time", "")) >= 0
            assert len(case) <= 1
            kinds += [child.tag for child in case]
            first = case[0] if len(case) else None
            cases.append(
                (
                    case.get("name", ""),
                    None if first is None else first.tag,
                    None if first is None else first.get("message"),
                )
            )
        counted = {
            "tests": len(cases),
            "failures": kinds.count("failure"),
            "errors": kinds.count("error"),
            "skipped": kinds.count("skipped"),
        }
        assert {name: int(suite.get(name, "")) for name in counted} == counted
        assert len({name for name, *_ in cases}) == len(cases), "GitLab takes cases of one name for one"
        suites.append((suite.get("name", ""), cases))
    for name in ("tests", "failures", "errors", "skipped"):
        assert int(root.get(name, "")) == sum(int(suite.get(name, "")) for suite in root)
    return suites


def test_what_is_the_same_passes_and_each_kind_is_a_test() -> None:
    assert read(junit(Verdict(complete=True, rows=40, objects=40, seconds=1.5), "docs", REDACT)) == [
        (
            "docs",
            [
                ("every row has its object", None, None),
                ("every object is as its row has it", None, None),
                ("there are no other objects", None, None),
            ],
        )
    ]


def test_each_difference_that_is_named_is_a_failure_and_the_others_are_counted_in_one() -> None:
    verdict = Verdict(
        complete=True, rows=40, objects=40, missing=3, different=1, extra=1, differences=(MISSING, DIFFERENT, EXTRA)
    )
    ((_, cases),) = read(junit(verdict, "docs", REDACT))
    assert cases == [
        ("missing: d/1 (row 1)", "failure", "there is no such object"),
        ("missing: others", "failure", "2 rows more, which are not named"),
        ("different: d/2 (row 2, NULL)", "failure", "it has 6 bytes, and should have 2"),
        ("extra: d/9", "failure", "it is the object of no row"),
    ]


def test_what_was_not_looked_at_is_skipped_and_not_passed() -> None:
    ((_, limited),) = read(junit(Verdict(complete=True, rows=5, limited=True), "docs", REDACT))
    assert [kind for _, kind, _ in limited] == [None, None, "skipped"]
    error = Unreachable("connect", "postgresql://me:sesame-open@h/d", "nobody answers", "look there")
    ((_, broken),) = read(junit(Verdict(error=error, missing=1, differences=(MISSING,)), "docs", REDACT))
    assert [kind for _, kind, _ in broken] == ["error", "failure", "skipped", "skipped"]
    ((_, ended),) = read(junit(Verdict(signal=15), "docs", REDACT))
    assert ended[0] == ("it could be compared", "error", "signal 15 ended it: not everything was compared")
    assert b"sesame" not in junit(Verdict(error=error), "docs", REDACT)


def test_every_job_is_a_suite() -> None:
    parts = (
        ("one", Verdict(complete=True)),
        ("two", Verdict(error=SourceRefused("resolve", "t", "there is no table t"))),
    )
    found = read(junit(Several(parts, worst=(1, 2, 4)), "", REDACT))
    assert [(name, cases[0][1]) for name, cases in found] == [("one", None), ("two", "error")]


@given(st.text(), st.text(), st.text())
def test_keys_and_messages_may_hold_whatever_they_like(key: str, object_key: str, reason: str) -> None:
    found = Difference("missing", (key,), object_key, reason)
    error = UsageError("read", key, reason, object_key)
    read(junit(Verdict(missing=1, differences=(found,), error=error), key, REDACT))


def test_the_file_has_the_name_of_the_job_and_is_written_when_the_run_is_over(tmp_path: Path) -> None:
    path = tmp_path / "out.xml"
    file = JUnitFile(str(path), REDACT)
    file.on_event(Planned(Plan("docs", "public.docs", ("id",), "s3://b/{id}", None, False, 0, {}, None)))
    file.close()
    assert not path.exists()
    file.finish(Verdict(complete=True), 0)
    assert read(path.read_bytes())[0][0] == "docs"


def test_a_file_that_cannot_be_written_is_refused_before_the_run_or_an_error_at_its_end(tmp_path: Path) -> None:
    for wrong, message in ((tmp_path, "is a folder"), (tmp_path / "no" / "x.xml", "there is no folder")):
        with pytest.raises(UsageError, match=message):
            JUnitFile(str(wrong), REDACT)
    folder = tmp_path / "gone"
    folder.mkdir()
    file = JUnitFile(str(folder / "x.xml"), REDACT)
    folder.rmdir()
    with pytest.raises(AsyncupError, match="cannot be written"):
        file.finish(Verdict(complete=True), 0)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(UsageError, match="may not be written"):
        JUnitFile(str(tmp_path / "x.xml"), REDACT)
