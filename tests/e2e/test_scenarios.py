"""The demo's scenarios, which are recorded in docs/scenarios.md."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests import recording
from tests.conftest import Program

PAGE = recording.PAGE.read_text()


def test_the_ci_scenario_is_told_as_a_pipeline_is_and_all_but_the_broken_row_arrives(
    asyncup: Program, room: Path
) -> None:
    run = asyncup("demo", "--scenario=ci", "--rows=60", TMPDIR=str(room))
    assert run.code == 0, run.stderr
    assert "::error title=asyncup" in run.stderr
    assert re.search(r"^failed=1$", run.stdout, re.MULTILINE)
    assert re.search(r"^exit_code=3$", run.stdout, re.MULTILINE)
    assert "### asyncup sync" in run.stdout
    assert "60 identical" in run.stdout
    assert list(room.glob("asyncup-demo-*")) == []


def test_a_scenario_that_there_is_not_is_refused(asyncup: Program) -> None:
    run = asyncup("demo", "--scenario=moon")
    assert (run.code, "none of terminal, ci, benchmark" in run.stderr) == (2, True)


def test_the_page_has_every_scenario_with_its_command() -> None:
    from asyncup.cli.demo import SCENARIOS, command_line

    assert list(recording.TEXTS) == list(SCENARIOS)
    for name, (title, *_) in recording.TEXTS.items():
        assert f"\n## {title}\n" in PAGE
        # a terminal breaks long lines
        assert "".join(command_line(SCENARIOS[name].command).split()) in "".join(PAGE.split())


@pytest.mark.soak
def test_the_scenarios_can_be_recorded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "scenarios.md"
    monkeypatch.setattr(sys, "argv", ["record", "--rows=1500", f"--page={page}"])
    recording.main()
    headings = re.compile(r"^## .*$", re.MULTILINE)
    assert headings.findall(page.read_text()) == headings.findall(PAGE)
