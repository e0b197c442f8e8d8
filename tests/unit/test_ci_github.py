"""A step on GitHub: annotations, outputs and the step summary, of data that would be something else."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from asyncup.benchmark import Benchmark
from asyncup.console.causes import Causes
from asyncup.console.ci.annotations import Outcome, annotate
from asyncup.console.ci.github import GithubStep, command, outputs
from asyncup.console.ci.markdown import code, step_summary
from asyncup.console.text import Redactor
from asyncup.errors import GateMissed, SourceRefused, Unreachable
from asyncup.events import Notice, OfJob, Planned, RowFailed
from asyncup.model import Counts, DeadLetter
from asyncup.preflight import Preflight
from asyncup.report import (
    ABORTED,
    COMPLETE,
    INTERRUPTED,
    PARTIAL,
    Difference,
    JobReport,
    Latency,
    Report,
    Several,
    Verdict,
)
from asyncup.resolved import Plan
from tests.unit.test_ci_guard import commands

REDACT = Redactor(("sesame-open",))
HOSTILE = "a|b `c` <b>x</b> **d** [l](http://e) @me #1 \\ &lt; $x$ www.e.f\n::error::y ##[add-mask]z --- sesame-open"
GONE = SourceRefused("resolve", "table t", "there is no table t", "there are: docs")


def letter(number: int, message: str = "it is NULL", object_key: str | None = None) -> DeadLetter:
    return DeadLetter((str(number),), object_key, "RowRefused", "render", message, 1, "2026-01-31T00:00:00Z")


def causes(*letters: DeadLetter, job: str | None = None) -> Causes:
    found = Causes(REDACT)
    for one in letters:
        found.take(RowFailed(one) if job is None else OfJob(job, RowFailed(one)))
    return found


class Step:
    """What a step wrote, in a folder of its own."""

    def __init__(self, folder: Path, **files: str) -> None:
        self.err, self.warned = io.StringIO(), list[str]()
        self.summary, self.output = folder / "summary.md", folder / "output"
        environ = {"GITHUB_STEP_SUMMARY": str(self.summary), "GITHUB_OUTPUT": str(self.output)}
        self.step = GithubStep(self.err, REDACT, environ, files, self.warned.append)

    def outputs(self) -> dict[str, str]:
        """As the runner reads them (FileCommandManager.cs)."""
        found, lines = {}, iter(self.output.read_text().split("\n"))
        for line in lines:
            name, equals, value = line.partition("=")
            before, heredoc, end = line.partition("<<")
            if heredoc and (not equals or len(before) < len(name)):
                parts = []
                while (part := next(lines)) != end:
                    parts.append(part)
                found[before] = "\n".join(parts)
            elif line:
                assert equals, line
                found[name] = value
        return found


def test_rows_that_failed_for_one_reason_are_one_cause_whatever_their_names_and_numbers() -> None:
    found = causes(
        *(letter(number, f"the object key is {number} bytes long") for number in range(2000, 2010)),
        letter(1),
        *(letter(number, f"column '{number}' of \"x{number}\" is odd") for number in range(2)),
    )
    assert [(cause.count, len(cause.examples)) for cause in found.most_first()] == [(10, 3), (2, 2), (1, 1)]


def said(outcome: Outcome, found: Causes | None = None, *notices: str) -> list[tuple[str, str, str]]:
    return [(one.level, one.title, one.message) for one in annotate(outcome, found or Causes(REDACT), REDACT, notices)]


def test_a_step_that_fails_has_its_reason_as_an_error_and_causes_are_warnings() -> None:
    job = JobReport("docs", PARTIAL, Counts(47, 0, 13), dead_letters=".asyncup/docs.jsonl")
    assert said(Report(job), causes(letter(3), letter(7, object_key="o/7")), "look out") == [
        ("error", "asyncup: docs: rows failed", "13 of 60 rows failed; they are in .asyncup/docs.jsonl"),
        ("warning", "asyncup: 2 rows failed: RowRefused", "it is NULL\nrow 3\nrow 7 (o/7)"),
        ("notice", "asyncup", "look out"),
    ]
    assert said(Report(error=GONE)) == [
        ("error", "asyncup: SourceRefused", "there is no table t\nwhere: resolve table t\nhint: there are: docs")
    ]
    assert said(Report(JobReport("docs", COMPLETE, Counts(3)))) == []
    stopped = Report(JobReport("docs", INTERRUPTED, Counts(3), checkpoint="c.json"), signal=15)
    ((level, title, message),) = said(stopped)
    assert (level, title, "resumes from the checkpoint c.json" in message) == ("warning", "asyncup: interrupted", True)


def test_verify_and_plan_have_theirs() -> None:
    differences = tuple(Difference("missing", (str(number),), f"d/{number}", "gone") for number in range(5))
    verdict = Verdict(complete=True, rows=40, missing=7, differences=differences)
    assert said(Several((("one", Verdict(complete=True)), ("two", verdict)), worst=(1, 2, 4))) == [
        ("error", "asyncup: two: differences", "7 missing, 0 different, 0 extra, of 40 rows"),
        ("warning", "asyncup: two: missing", "d/0 (row 0): gone\nd/1 (row 1): gone\nd/2 (row 2): gone\nand 4 more"),
    ]
    assert [level for level, *_ in said(Preflight(reasons=(GONE, GONE)))] == ["error", "error"]


def test_no_more_than_ten_of_a_level_are_said_and_the_rest_is_counted() -> None:
    found = causes(*(letter(number, "x" * number) for number in range(1, 26)))
    errors = [JobReport(f"job {number}", ABORTED, error=GateMissed("o", "s", "m")) for number in range(12)]
    told = said(Report.of(errors, seconds=1.0, latency=Latency(), most=1, peak=1), found)
    assert [level for level, *_ in told] == ["error"] * 10 + ["warning"] * 10
    assert told[9][2] == "and 3 more; the log has them"
    assert told[19][2] == "and 12 more; the log has them"


@given(st.text(), st.text())
def test_a_workflow_command_is_one_line_and_says_what_it_should(title: str, message: str) -> None:
    (one,) = annotate(Report(error=SourceRefused("o", title, message)), Causes(Redactor()), Redactor())
    line = command(one)
    assert commands(line) == [line]
    assert not set(line) & {"\n", "\r"}
    head, _, data = line[2:].partition("::")
    assert re.fullmatch(r"error title=[^:,]*", head)
    assert data.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%").replace(
        "# #", "##"
    ) == one.message.replace("# #", "##")


def test_a_title_is_escaped_as_a_property() -> None:
    report = Report.of([JobReport("50 %: a,b", ABORTED, error=GONE)], seconds=1.0, latency=Latency(), most=1, peak=1)
    (one,) = annotate(report, Causes(REDACT), REDACT)
    assert command(one).startswith("::error title=asyncup%3A 50 %25%3A a%2Cb%3A SourceRefused::there is")


class Seen(HTMLParser):
    """The tags of a page, and the text of every `<code>`."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.codes, self._inside = set[str](), list[str](), False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        if tag == "code":
            self.codes.append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "code"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.codes[-1] += data


def page(markdown: str) -> Seen:
    return Seen(MarkdownIt("gfm-like", {"linkify": False}).render(markdown))


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=60))
def test_data_in_a_table_is_shown_as_it_is(text: str) -> None:
    seen = page(f"| a | b |\n| --- | --- |\n| {code(text)} | x |\n")
    assert seen.tags == {"table", "thead", "tbody", "tr", "th", "td", "code"}
    assert seen.codes == [text]


REPORT = Report(
    JobReport(HOSTILE, PARTIAL, Counts(1, 0, 1), dead_letters=HOSTILE, error=GateMissed("o", HOSTILE, HOSTILE, HOSTILE))
)
VERDICT = Verdict(complete=True, missing=1, differences=(Difference("missing", (HOSTILE,), HOSTILE, HOSTILE),))


@pytest.mark.parametrize(
    "outcome",
    [
        REPORT,
        Report.of([REPORT.job, REPORT.job], seconds=1.0, latency=Latency(), most=1, peak=1),  # type: ignore[list-item]
        VERDICT,
        Several(((HOSTILE, VERDICT),), worst=(4,)),
        Preflight(reasons=(SourceRefused("o", HOSTILE, HOSTILE, HOSTILE),), notices=(HOSTILE,)),
        Benchmark(error=SourceRefused("o", HOSTILE, HOSTILE)),
    ],
    ids=["sync", "several", "verify", "verify several", "plan", "bench"],
)
def test_neither_summary_nor_annotations_nor_outputs_are_what_data_wants_them_to_be(
    outcome: Outcome, tmp_path: Path
) -> None:
    step = Step(tmp_path)
    step.step.on_event(RowFailed(DeadLetter((HOSTILE,), HOSTILE, "RowRefused", "o", HOSTILE, 1, "")))
    step.step.on_event(Notice(HOSTILE))
    step.step.finish(outcome, 4)
    seen = page(step.summary.read_text())
    assert seen.tags <= {
        *("h3", "p", "table", "thead", "tbody", "tr", "th", "td", "code", "pre", "br", "blockquote", "strong"),
        *("details", "summary", "ul", "li"),
    }
    assert any("a|b `c` <b>x</b>" in text for text in seen.codes)
    lines = step.err.getvalue().splitlines()
    assert commands(step.err.getvalue()) == lines != []
    assert all(re.match(r"::(error|warning|notice) title=asyncup", line) for line in lines)
    assert step.outputs()["exit_code"] == "4"
    for text in (step.summary.read_text(), step.err.getvalue(), step.output.read_text()):
        assert "sesame" not in text


def test_outputs_are_the_fields_of_the_summary_and_what_was_written_beside(tmp_path: Path) -> None:
    step = Step(tmp_path, report="run.html")
    job = JobReport("docs", COMPLETE, Counts(3, 1, 0, 99), seconds=2.0, resumed=True, checkpoint="a\nb=c", attempts=3)
    step.step.finish(Report(job), 0)
    found = step.outputs()
    assert found == {
        "status": "complete",
        "rows": "4",
        "put": "3",
        "skipped": "1",
        "failed": "0",
        "bytes": "99",
        "seconds": "2.0",
        "objects_per_second": "1.5",
        "attempts": "3",
        "retries": "0",
        "throttled": "0",
        "resumed": "true",
        "checkpoint": "a\nb=c",
        "dead_letters": "",
        "exit_code": "0",
        "error": "",
        "error_type": "",
        "report": "run.html",
    }
    assert "report: <code>run&#46;html</code>" in step.summary.read_text()


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text()))
def test_an_output_of_many_lines_is_one_output(values: dict[str, str]) -> None:
    ends = re.findall(r"<<(asyncup_[0-9a-f]{32})\n", outputs(values))
    assert len(set(ends)) == len(ends) == sum(not value.isprintable() for value in values.values())


def test_a_summary_stays_small_however_much_there_is_to_say() -> None:
    long = "<" * 5000
    found = causes(*(letter(number, long + "x" * number, long) for number in range(150)))
    verdicts = Verdict(complete=True, missing=9, differences=(Difference("missing", (long,), long, long),) * 1000)
    for outcome in (
        Report.of(
            [JobReport(long, ABORTED, error=Unreachable("o", long, long, long))] * 500,
            seconds=1.0,
            latency=Latency(),
            most=1,
            peak=1,
        ),
        Several((("x", verdicts),) * 300, worst=(4,)),
    ):
        text = step_summary(outcome, found, REDACT)
        assert 10_000 < len(text.encode()) < 1 << 19


def test_files_that_cannot_be_written_are_named_and_cost_nothing_else(tmp_path: Path) -> None:
    step = Step(tmp_path / "nowhere")
    step.step.finish(Report(error=GONE), 2)
    assert [line.split()[0] for line in step.warned] == ["GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"]
    assert step.err.getvalue().startswith("::error ")
    full = Step(tmp_path)
    full.summary.write_bytes(b"x" * ((1 << 20) - 10))
    full.step.finish(Report(error=GONE), 2)
    assert full.summary.stat().st_size == (1 << 20) - 10
    assert "more than a MiB" in full.warned[0]
    assert full.outputs()["status"] == "aborted"


def test_the_name_of_the_one_job_is_known_from_its_plan(tmp_path: Path) -> None:
    plan = Plan("docs", "public.docs", ("id",), "s3://b/{id}", None, False, 0, {}, None)
    one, several = Step(tmp_path), Step(tmp_path)
    for step, times in ((one, 1), (several, 2)):
        for _ in range(times):
            step.step.on_event(Planned(plan))
        step.step.finish(VERDICT, 4)
    assert one.err.getvalue().startswith("::error title=asyncup%3A docs%3A differences::")
    assert several.err.getvalue().startswith("::error title=asyncup%3A differences::")
    assert one.summary.read_text().startswith("### asyncup verify <code>docs</code>: there are differences\n")
    assert one.outputs()["exit_code"] == "4", "what both have appended is read"
