"""Whether a command is a step of a pipeline, and whose; and how often it says how far it is."""

from __future__ import annotations

import io

import pytest

from asyncup.console.ci.detection import GITHUB, GITLAB, OTHER, asked_for, detect
from asyncup.console.jobs import PlainJobs
from asyncup.console.plain import CALM_SECONDS, LINE_SECONDS, PlainView
from asyncup.console.text import Redactor
from asyncup.events import OfJob, Planned, Progress
from asyncup.model import Counts
from asyncup.resolved import Plan

ON_GITHUB = {"CI": "true", "GITHUB_ACTIONS": "true"}
PLAN = Plan("docs", "public.docs", ("id",), "s3://b/{id}", None, False, 0, {}, None)


@pytest.mark.parametrize(
    ("asked", "environ", "found"),
    [
        (None, {}, None),
        (None, {"CI": "true"}, OTHER),
        (None, {"CI": "1", "BUILDKITE": "true"}, OTHER),
        (None, {"CI": "woodpecker"}, OTHER),
        (None, {"CI": "false"}, None),
        (None, {"CI": "0"}, None),
        (None, {"CI": ""}, None),
        (None, ON_GITHUB, GITHUB),
        (None, {"CI": "true", "GITLAB_CI": "true"}, GITLAB),
        (False, ON_GITHUB, None),
        (True, {}, OTHER),
        (True, {"GITLAB_CI": "true"}, GITLAB),
        (True, {"CI": "false", "GITHUB_ACTIONS": "true"}, GITHUB),
    ],
)
def test_a_flag_goes_over_what_the_environment_says(
    asked: bool | None, environ: dict[str, str], found: str | None
) -> None:
    assert detect(asked, environ) == found


@pytest.mark.parametrize(
    ("arguments", "environ", "asked"),
    [
        (["sync"], {}, None),
        (["sync", "--ci"], {"ASYNCUP_CI": "no"}, True),
        (["sync", "--ci", "--no-ci"], {}, False),
        (["sync"], {"ASYNCUP_CI": "1"}, True),
        (["sync"], {"ASYNCUP_CI": "off"}, False),
        (["sync"], {"ASYNCUP_CI": "perhaps"}, None),
        (["sync"], {"ASYNCUP_CI": ""}, None),
    ],
)
def test_a_command_line_that_cannot_be_parsed_is_asked_too(
    arguments: list[str], environ: dict[str, str], asked: bool | None
) -> None:
    assert asked_for(arguments, environ) is asked


def moments(view: PlainView, out: io.StringIO, until: int) -> list[int]:
    """At which seconds a view wrote a line, where progress comes every second."""
    view.on_event(Planned(PLAN))
    found = []
    for second in range(until):
        begin = out.tell()
        view.on_event(Progress(Counts(second), float(second), 1, 1, second, 0, 0, 0))
        found += [second] if out.tell() > begin else []
    return found


def test_in_ci_a_line_of_progress_comes_every_half_minute_and_the_first_one_sooner() -> None:
    out, calm = io.StringIO(), io.StringIO()
    assert moments(PlainView(out, Redactor(), every=LINE_SECONDS), out, 21) == [5, 10, 15, 20]
    assert moments(PlainView(calm, Redactor(), every=CALM_SECONDS), calm, 80) == [10, 40, 70]


def test_of_several_jobs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now, out = [0.0], io.StringIO()
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    view = PlainJobs(out, Redactor(), ["docs"], every=CALM_SECONDS)
    view.on_event(OfJob("docs", Planned(PLAN)))
    said = []
    for second in range(80):
        now[0], begin = float(second), out.tell()
        view.on_event(OfJob("docs", Progress(Counts(second), float(second), 1, 1, second, 0, 0, 0)))
        said += [second] if out.tell() > begin else []
    assert said == [10, 40, 70]
