"""The page of `--report`: its figures are those of the summary, what comes from rows is only text, and its memory is bounded."""

from __future__ import annotations

import itertools
import math
import os
import random
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from asyncup.cli.main import run
from asyncup.console.causes import ALIKE, OTHERS, Causes
from asyncup.console.report.about import About, Configured, Option
from asyncup.console.report.charts import Axis, Mark, Series, histogram, line_chart
from asyncup.console.report.elements import LONGEST, el, written
from asyncup.console.report.html import HtmlReport
from asyncup.console.report.scales import scale_of
from asyncup.console.report.target import Target
from asyncup.console.report.timeline import Span, Timeline, percentile
from asyncup.console.text import Redactor
from asyncup.errors import AsyncupError, DestinationRefused, GateMissed, InternalError, UsageError
from asyncup.events import Draining, Event, Finished, Notice, OfJob, Planned, Progress, RowFailed, Waiting
from asyncup.flow.histogram import Histogram
from asyncup.model import Counts, DeadLetter
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
from tests.unit.htmlpages import Page, same_as_summary

SECRET = "open-sesame-&-<please>"
HOSTILE = [
    "<script>alert(1)</script>",
    "'\"><img src=x onerror=alert(1)>",
    "a\x00\x1b[31m\u202eb",
    f"it was {SECRET}",
    "]]>&lt;",
]
BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLAN = Plan("docs", "public.docs", ("id",), "s3://bucket/{id}", 100, False, 0, {}, ".asyncup/docs.json")
SPREAD = ((0.01, 40), (0.012, 50), (0.1, 10))
JOB = JobReport(
    "docs",
    COMPLETE,
    Counts(put=1000, skipped=20, failed=3, bytes=5_000_000),
    attempts=1010,
    retries=7,
    throttled=2,
    seconds=4.0,
    latency=Latency(1.25, 20.0, 300.5),
    limit=64,
    peak=60,
    checkpoint=".asyncup/docs.json",
    destination="s3://bucket/{id}",
    priced=True,
    latencies=SPREAD,
)


class Stage:
    """A report of a command whose time is told by hand."""

    def __init__(self, folder: Path, about: About | None = None) -> None:
        self.path, self.now = folder / "run.html", 0.0
        about = about or About("sync", "asyncup sync --table docs", BEGAN)
        self.report = HtmlReport(
            str(self.path), about, Redactor((SECRET,)), clock=lambda: self.now, today=lambda: BEGAN
        )

    def tell(self, *events: Event) -> None:
        for event in events:
            self.report.on_event(event)

    def finish(self, outcome: object, exit_code: int = 0) -> Page:
        self.report.finish(outcome, exit_code)
        return Page.of(self.path.read_text("utf-8"))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def progress(seconds: float, rows: int, **more: object) -> Progress:
    fields = {"in_flight": 5, "limit": 8, "attempts": rows, "retries": 0, "throttled": 0, "memory": 1000, **more}
    return Progress(Counts(put=rows, bytes=10 * rows), seconds, **fields)  # type: ignore[arg-type]


def letter(number: int, message: str, **more: object) -> DeadLetter:
    fields = {"error": "RowRefused", "op": "put", "attempts": 1, "at": "", **more}
    return DeadLetter((str(number),), f"docs/{number}", message=message, **fields)  # type: ignore[arg-type]


# --- what stands in it ------------------------------------------------------------------------------------------

ERROR = DestinationRefused("put", "bucket", "no such bucket", "make it")


@pytest.mark.parametrize(
    "job",
    [
        JOB,
        replace(JOB, status=PARTIAL, dead_letters="dead.jsonl", resumed=True, settled_before=5),
        replace(JOB, status=ABORTED, error=ERROR, latencies=(), peak=0),
        replace(JOB, status=ABORTED, error=GateMissed("sync", "docs", "too few rows")),
        replace(JOB, dry_run=True, requests=1200, packs=7),
        replace(JOB, counts=Counts(), seconds=0.0, attempts=0, latencies=(), gone=0, retried="x.jsonl"),
    ],
    ids=["complete", "partial", "aborted", "gate", "dry", "nothing"],
)
def test_every_figure_on_the_page_is_that_of_the_summary(stage: Stage, job: JobReport) -> None:
    stage.tell(Planned(PLAN), progress(1, 400), progress(4, 1000))
    report = Report(job, job.error)
    page = stage.finish(report, report.exit_code)
    same_as_summary(page, report.to_json())
    assert (job.error is not None) == ("Error: " in page.text)


def test_jobs_have_an_overview_and_a_section_each_with_their_own_figures(stage: Stage) -> None:
    other = replace(JOB, name="pages", status=ABORTED, error=ERROR, counts=Counts(put=7), seconds=2.0)
    report = Report.of([JOB, other], seconds=5.0, latency=JOB.latency, most=64, peak=60)
    for second in range(1, 9):
        stage.now = float(second)
        stage.tell(OfJob("docs", progress(stage.now, 100 * second)), OfJob("pages", progress(stage.now, second)))
    stage.tell(OfJob("docs", Planned(PLAN)), OfJob("pages", RowFailed(letter(1, "no"))), Finished(report))
    page = stage.finish(report, 1)
    same_as_summary(page, report.to_json())
    assert sorted(page.jobs) == ["job-1", "job-2"]
    assert {"#job-1", "#job-2"} <= set(page.addresses)
    assert page.text.count("no such bucket") == 2


def test_a_run_that_ended_before_there_was_a_job_says_why(stage: Stage) -> None:
    page = stage.finish(Report(error=ERROR), 2)
    assert "aborted before anything was read" in page.text
    assert "no such bucket" in page.text
    assert "make it" in page.text


def test_an_interrupted_run_says_what_was_said_on_the_way(stage: Stage) -> None:
    stage.tell(Planned(PLAN), Notice("take care"), progress(1, 10), Draining("SIGINT", 3, 30.0))
    stage.tell(*(Waiting(f"put docs/{number}: SlowDown", 2.0, 1) for number in range(50)))
    page = stage.finish(Report(replace(JOB, status=INTERRUPTED), signal=2), 130)
    assert "warning: take care" in page.text
    assert "SIGINT: reading has stopped" in page.text
    assert "put docs/0: SlowDown502.0s" in page.text.replace("\n", "")


def test_a_verdict_has_its_counts_and_its_differences(stage: Stage) -> None:
    differences = tuple(Difference("missing", (str(number),), f"docs/{number}", HOSTILE[0]) for number in range(300))
    stage.tell(Planned(PLAN), progress(1, 10), progress(2, 300))
    verdict = Verdict(complete=True, rows=300, missing=300, differences=differences)
    page = stage.finish(verdict, 4)
    assert {name: page.figures[name] for name in ("rows", "missing", "extra")} == {
        "rows": {300},
        "missing": {300},
        "extra": {0},
    }
    assert "the first 200 of 300" in page.text
    assert "docs/199" in page.text
    assert "docs/200" not in page.text


def test_verdicts_of_several_jobs_are_on_one_page(stage: Stage) -> None:
    stage.tell(
        Planned(PLAN), progress(1, 10), Finished(Report(JOB)), Planned(replace(PLAN, name="two")), progress(1, 20)
    )
    parts = (("one", Verdict(complete=True, rows=10)), ("two", Verdict(error=ERROR)))
    page = stage.finish(Several(parts, worst=(1, 2, 4), sums=("rows", "objects", "missing", "different", "extra")), 2)
    assert "Job one" in page.text
    assert "no such bucket" in page.text


# --- what comes from elsewhere ------------------------------------------------------------------------------------


def test_what_rows_servers_and_files_say_is_text_and_no_secret_is_in_it(tmp_path: Path) -> None:
    options = tuple(Option(text, text, text) for text in HOSTILE)
    about = About(
        "sync", f"asyncup sync {' '.join(HOSTILE)}", BEGAN, (Configured(HOSTILE[0], options),), options, HOSTILE[1]
    )
    stage = Stage(tmp_path, about)
    everything = " ".join(HOSTILE)
    stage.tell(Planned(replace(PLAN, source=everything, key=tuple(HOSTILE))), progress(1, 10), progress(2, 20))
    for text in HOSTILE:
        failed = replace(
            letter(1, text), key=(text, None), object_key=text, error=text, op=text, traceback=f"{text}\n{text}"
        )
        stage.tell(RowFailed(failed), Notice(text), Waiting(text, 1.0, 1))
    error = DestinationRefused(everything, everything, f"{everything}\n{everything}", everything)
    job = replace(
        JOB,
        name=everything,
        status=ABORTED,
        error=error,
        dead_letters=everything,
        level=everything,
        skips=(everything,),
    )
    page = stage.finish(Report(job, error), 1)
    text = stage.path.read_text("utf-8")
    assert {"script", "img"}.isdisjoint(page.elements)
    assert "<script>alert(1)</script>" in page.text
    assert "a\\x00\\x1b[31m\\u202eb" in page.text
    assert SECRET not in page.text
    assert "sesame" not in text
    assert all(char.isprintable() or char == "\n" for char in text)


def test_the_file_is_whole_in_itself(stage: Stage) -> None:
    stage.tell(Planned(PLAN), *(progress(second / 4, second, latencies=((0.01, second),)) for second in range(1, 4000)))
    page = stage.finish(Report(JOB))
    text = stage.path.read_text("utf-8")
    assert [address for address in page.addresses if not address.startswith(("#", "data:"))] == []
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text.replace("&#x27;", "'")
    assert {"svg", "desc", "caption", "figcaption"} <= page.elements
    assert len(text) < 100_000


def test_no_text_is_endless_and_none_is_cut_before_its_secrets_are_out() -> None:
    text = "x" * (LONGEST * 2 // 3 - 4) + SECRET + "y" * LONGEST
    found = written(el("p", text), Redactor((SECRET,)))
    assert len(found) < LONGEST + 100
    assert "***" in found
    assert "open" not in found


# --- why rows failed ---------------------------------------------------------------------------------------------


def test_rows_that_failed_for_one_reason_are_counted_together_whatever_their_keys_and_values() -> None:
    causes = Causes(Redactor())
    for number in range(1000, 1500):
        causes.add(
            letter(
                number,
                f"docs/{number}: the value 'x{number}' of row {number} is wrong, says request 9f{number}ab77cd00ef",
            )
        )
        causes.add(letter(number, "the body is NULL"))
        causes.add(letter(number, "AccessDenied: HTTP status 403" if number % 2 else "Gone: HTTP status 410"))
    assert [(cause.count, len(cause.examples), cause.message) for cause in causes.most_first()] == [
        (500, 3, "…: the value … of row … is wrong, says request …"),
        (500, 3, "the body is NULL"),
        (250, 3, "Gone: HTTP status 410"),
        (250, 3, "AccessDenied: HTTP status 403"),
    ]


def test_reasons_that_are_all_different_are_bounded_and_all_counted() -> None:
    causes, words = Causes(Redactor()), random.Random(7)
    for number in range(1000):
        causes.add(
            letter(number, "".join(words.choices("abcdefgh ", k=2000)), op=f"op {number % 30}", traceback="x" * 9000)
        )
    found = causes.most_first()
    assert sum(cause.count for cause in found) == causes.count == 1000
    assert len(found) <= 30 * (ALIKE + 1)
    assert len(found) < 200
    assert any(cause.general == OTHERS for cause in found)
    assert sum(len(cause.traceback or "") for cause in found) <= 40_000


# --- curves ------------------------------------------------------------------------------------------------------


def test_days_of_progress_take_a_thousand_points_and_lose_neither_sums_nor_maxima() -> None:
    timeline, spans = Timeline(), 100_003
    for number in range(spans):
        end = (number + 1) / 4
        timeline.add(
            Span(
                number / 4, end, put=number % 7, in_flight=number == 77_777, lag=float(number == 5), latencies={0.1: 1}
            )
        )
    for most in (10**9, 240):
        kept = timeline.spans(most)
        assert len(kept) <= min(most, 1000)
        assert sum(span.put for span in kept) == sum(number % 7 for number in range(spans))
        assert sum(span.latencies[0.1] for span in kept) == spans
        assert (max(span.in_flight for span in kept), max(span.lag for span in kept)) == (1, 1.0)
        assert all(before.end == after.begin for before, after in itertools.pairwise(kept))
        assert (kept[0].begin, kept[-1].end) == (0, spans / 4)


def test_a_sliver_at_the_end_makes_no_spike() -> None:
    timeline = Timeline()
    for number in range(8):
        timeline.add(Span(number / 4, (number + 1) / 4, put=10))
    timeline.add(Span(2.0, 2.0001, put=10))
    assert max(span.rate("put") or 0 for span in timeline.spans()) < 81


def test_percentiles_of_a_spread_are_near_those_of_the_durations() -> None:
    draw, durations = random.Random(3), Histogram()
    found = sorted(draw.lognormvariate(-4, 0.8) for _ in range(20_000))
    for duration in found:
        durations.record(duration)
    for share in (0.5, 0.95, 0.99):
        assert percentile(dict(durations.spread()), share) == pytest.approx(found[int(share * len(found))], rel=0.1)
    assert percentile({}, 0.5) is None
    assert percentile({math.inf: 1}, 1.0) == 2**20


@pytest.mark.parametrize(
    ("axis", "values", "named"),
    [
        (Axis("x"), [3, 1480], ["0", "500", "1,000", "1,500"]),
        (Axis("x"), [0.0], ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (
            Axis("x", kind="log", least=None),
            [0.3, 250],
            ["0.2", "0.5", "1", "2", "5", "10", "20", "50", "100", "200", "500"],
        ),
        (Axis("t", kind="time"), [0, 5400], ["0", "20", "40", "60", "80", "100"]),
        (Axis("t", kind="time"), [0, 200_000], ["0", "12", "24", "36", "48", "60"]),
    ],
)
def test_ticks_are_round(axis: Axis, values: list[float], named: list[str]) -> None:
    assert [name for _, name in scale_of(axis, values).ticks] == named


def test_a_curve_has_gaps_where_nothing_was_measured_and_a_name_for_whoever_cannot_see_it() -> None:
    series = [Series("a", [(0, 1.0), (1, None), (2, 3.0), (3, 4.0)]), Series("b", [(0, None)])]
    drawn = written(line_chart("Rates", series, Axis("n"), Axis("objects/s"), marks=[Mark(2, "knee")]), str)
    assert drawn.count("<path") == 1
    assert drawn.count("M") == 2
    assert "a between 1 and 4." in drawn
    assert 'role="img"' in drawn
    assert "knee" in drawn


@pytest.mark.parametrize("values", [[], [0.0], [1e-9], [1e12, 1e12], [-5.0, 5.0]])
@pytest.mark.parametrize("kind", ["linear", "log"])
def test_whatever_is_measured_can_be_drawn(values: list[float], kind: str) -> None:
    axis = Axis("v", kind=kind)
    chart = line_chart("t", [Series("s", [(i, value) for i, value in enumerate(values)], "step")], Axis("n"), axis)
    bars = histogram("t", [(value, value * 2, 1) for value in values if value > 0], axis, Axis("n"))
    for drawing in (chart, bars):
        assert "nan" not in written(drawing, str)
        assert "inf" not in written(drawing, str)


# --- the file ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "none/run.html", "new/", "pipe", "notes.toml", "a.html/b.html"])
def test_a_file_that_cannot_be_one_is_refused_before_anything_is_sent(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.toml").write_text("x = 1")
    Path("a.html").write_text("")
    os.mkfifo("pipe")
    assert run(["sync", "--table=t", "--to=null:", f"--report={name}"]) == 2
    assert "--report" in capsys.readouterr().err
    assert Path("notes.toml").read_text() == "x = 1"
    assert len(list(tmp_path.iterdir())) == 3


def test_an_older_report_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, link = tmp_path / "run.html", tmp_path / "latest.html"
    path.write_text("old")
    link.symlink_to(path)
    target = Target(str(link))
    target.check()
    assert path.read_text() == "old"
    target.write("new \ud800")
    assert (path.read_text(), link.is_symlink()) == ("new \\ud800", True)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(AsyncupError, match="No space left"):
        target.write("newer")
    assert [one.name for one in sorted(tmp_path.iterdir())] == ["latest.html", "run.html"]
    assert path.read_text() == "new \\ud800"


def test_a_defect_of_the_page_is_an_error_of_its_own_and_leaves_the_older_one(stage: Stage) -> None:
    stage.path.write_text("old")
    with pytest.raises(InternalError, match="TypeError"):
        stage.finish(Report(replace(JOB, seconds="soon")))  # type: ignore[arg-type]
    assert stage.path.read_text() == "old"


def test_a_command_that_is_wrong_has_a_report_that_says_so_without_the_secrets_that_were_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [
        "sync",
        "missing",
        "--dsn=host=db password=pw user=u",
        "--password-command",
        "echo secret-word",
        "--report=r.html",
    ]
    monkeypatch.setattr("sys.argv", ["asyncup", *arguments])
    assert run(arguments) == 2
    page = Page.of((tmp_path / "r.html").read_text("utf-8"))
    assert "aborted before anything was read" in page.text
    assert "password=***" in page.text
    assert "echo ***" in page.text
    assert "secret-word" not in page.text
    assert "=pw" not in page.text


@pytest.mark.parametrize("command", ["plan", "config"])
def test_what_sends_nothing_has_no_report(command: str) -> None:
    assert run([command, *(["show"] if command == "config" else []), "--report=x.html"]) == 2


def test_usage_errors_are_of_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        Target(str(tmp_path)).check()
