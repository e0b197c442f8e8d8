"""What `verify` found as JUnit XML, which GitLab, Jenkins and reporters for GitHub read.

There is no standard; what is written here is what Jenkins' schema allows
(https://github.com/jenkinsci/xunit-plugin/blob/master/src/main/resources/org/jenkinsci/plugins/xunit/types/model/xsd/junit-10.xsd)
and GitLab parses (https://docs.gitlab.com/ci/testing/unit_test_reports/): one suite for each job, and in it a test case for each
difference that the verdict names, one for those that it does not name, and one for each kind of which there are none.
GitLab takes test cases of one class and name for one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from asyncup.console.text import Redactor, plural, shown
from asyncup.console.verdict import place, verdict_lines
from asyncup.errors import AsyncupError, UsageError
from asyncup.events import Event, Planned
from asyncup.report import Several, Verdict, error_to_json

#: What XML 1.0 cannot hold, however it is written: https://www.w3.org/TR/xml/#charsets.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CHECKS = {
    "missing": "every row has its object",
    "different": "every object is as its row has it",
    "extra": "there are no other objects",
}
_NOT_ALL = "not everything was compared"


@dataclass(frozen=True, slots=True)
class Case:
    """A test case. `kind` is `failure`, `error` or `skipped`; None where it passed."""

    name: str
    kind: str | None = None
    type: str = ""
    message: str = ""
    text: str = ""


class JUnitFile:
    """An observer that writes what a verdict has found to a file.

    Raises:
        UsageError: it could not be written there.
    """

    def __init__(self, path: str, redact: Redactor) -> None:
        self._path = Path(path)
        self._redact = redact
        self._name = "asyncup"
        folder = self._path.parent
        if not folder.is_dir():
            raise _refused(f"there is no folder {folder}", "make it first")
        if self._path.is_dir():
            raise _refused(f"{path} is a folder", "name a file in it")
        if not os.access(self._path if self._path.exists() else folder, os.W_OK):
            raise _refused(f"{path} may not be written", "name another file")

    def on_event(self, event: Event) -> None:
        if isinstance(event, Planned):
            self._name = event.plan.name

    def close(self) -> None:
        """Nothing to clean up."""

    def finish(self, outcome: Any, _exit_code: int) -> None:
        """Write the file.

        Raises:
            AsyncupError: it cannot be written.
        """
        try:
            self._path.write_bytes(junit(outcome, self._name, self._redact))
        except OSError as exc:
            raise AsyncupError(
                "write",
                str(self._path),
                f"it cannot be written: {exc.strerror or exc}",
                "name another file with --junit",
            ) from exc


def junit(outcome: Verdict | Several[Verdict], name: str, redact: Redactor) -> bytes:
    """The document; `name` is that of the job, where there is one."""
    verdicts = outcome.parts if isinstance(outcome, Several) else ((name, outcome),)
    suites = [_suite(label, verdict, redact) for label, verdict in verdicts]
    root = ET.Element("testsuites", {"name": "asyncup verify", **_sums(suites)})
    root.extend(suites)
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def cases(verdict: Verdict) -> Iterator[Case]:
    """The test cases of a verdict; each failure is there once."""
    if verdict.error is not None:
        found = error_to_json(verdict.error)
        lines = [
            f"where: {found['op']} {found['subject']}".rstrip(),
            *([f"hint: {found['hint']}"] if found["hint"] else []),
        ]
        yield Case("it could be compared", "error", found["type"], found["message"], "\n".join(lines))
    elif verdict.signal is not None:
        yield Case("it could be compared", "error", "Interrupted", f"signal {verdict.signal} ended it: {_NOT_ALL}")
    for kind, promise in _CHECKS.items():
        named = [one for one in verdict.differences if one.kind == kind]
        for one in named:
            name = f"{kind}: {place(one)}"
            yield Case(name, "failure", kind, one.reason or "there is no such row", name)
        left = getattr(verdict, kind) - sum(one.rows for one in named)
        if left > 0:
            more = f"{plural(left, 'object' if kind == 'extra' else 'row')} more"
            yield Case(f"{kind}: others", "failure", kind, f"{more}, which are not named")
        elif not named:
            yield _none(verdict, kind, promise)


def _none(verdict: Verdict, kind: str, promise: str) -> Case:
    """The case of a kind of which nothing was found."""
    if not verdict.complete:
        return Case(promise, "skipped", message=_NOT_ALL)
    if kind == "extra" and verdict.limited:
        return Case(promise, "skipped", message="not looked for: only some rows were read")
    return Case(promise)


def _suite(label: str, verdict: Verdict, redact: Redactor) -> ET.Element:
    found = list(cases(verdict))
    kinds = [case.kind for case in found]
    suite = ET.Element(
        "testsuite",
        {
            "name": _text(redact(shown(label))),
            "tests": str(len(found)),
            "failures": str(kinds.count("failure")),
            "errors": str(kinds.count("error")),
            "skipped": str(kinds.count("skipped")),
            "time": f"{verdict.seconds:.3f}",
            "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        },
    )
    for number, case in enumerate(found):
        time = verdict.seconds if number == 0 else 0.0  # rows are not timed one by one; readers add up
        names = {"classname": _text(redact(shown(label))), "name": _text(redact(shown(case.name)))}
        element = ET.SubElement(suite, "testcase", {**names, "time": f"{time:.3f}"})
        if case.kind is not None:
            said = {"message": _text(redact(case.message))} | ({"type": case.type} if case.type else {})
            ET.SubElement(element, case.kind, said).text = _text(redact(case.text)) or None
    ET.SubElement(suite, "system-out").text = _text("\n".join(map(redact, verdict_lines(verdict)))) or None
    return suite


def _sums(suites: list[ET.Element]) -> dict[str, str]:
    sums = {
        name: str(sum(int(suite.get(name, "0")) for suite in suites))
        for name in ("tests", "failures", "errors", "skipped")
    }
    return sums | {"time": f"{sum(float(suite.get('time', '0')) for suite in suites):.3f}"}


def _text(text: str) -> str:
    """A text that XML can hold: other control characters as they would be written, what is none at all left out."""
    return _FORBIDDEN.sub("", "\n".join(map(shown, text.split("\n"))))


def _refused(message: str, hint: str) -> UsageError:
    return UsageError("read flags", "--junit", message, hint)
