"""docs/ci.md: its action, workflow and template are YAML that fits together, of flags and outputs that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from asyncup.cli.commands import build
from asyncup.console.ci.github import OUTPUTS

PAGE = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")
ACTION, WORKFLOW, TEMPLATE = (
    yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
)


def commands(value: Any) -> Iterator[str]:
    """Every command of asyncup that a document runs."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from commands(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from commands(inner)
    elif isinstance(value, str) and (found := re.match(r"(?:exec )?asyncup (.*)", value)):
        yield found[1]


FOUND = [*commands(ACTION), *commands(WORKFLOW), *commands(TEMPLATE)]


@pytest.mark.parametrize("line", FOUND)
def test_every_command_in_it_has_such_flags(line: str) -> None:
    flags = next(
        step["with"]["flags"] for step in WORKFLOW["jobs"]["pages"]["steps"] if "flags" in step.get("with", {})
    )
    name, *words = line.replace("$FLAGS", flags).replace("$JOBS", "pages").split()
    build(name).make_context(name, words)


def test_the_commands_are_found() -> None:
    assert len(FOUND) == 3


def test_the_workflow_gives_the_action_what_it_takes_and_takes_what_it_gives() -> None:
    (used,) = (step for step in WORKFLOW["jobs"]["pages"]["steps"] if step.get("uses", "").startswith("./"))
    inputs = ACTION["inputs"]
    assert used["with"].keys() <= inputs.keys()
    assert {name for name, given in inputs.items() if given.get("required")} <= used["with"].keys()
    (step,) = (step for step in ACTION["runs"]["steps"] if step.get("id"))
    assert all(step.get("shell") for step in ACTION["runs"]["steps"] if "run" in step), "a composite action needs it"
    assert not [step["run"] for step in ACTION["runs"]["steps"] if "${{" in step.get("run", "")], (
        "a shell would run inputs"
    )
    for name, output in ACTION["outputs"].items():
        assert output["value"] == f"${{{{ steps.{step['id']}.outputs.{name} }}}}"
    assert ACTION["outputs"].keys() <= set(OUTPUTS)
    assert set(re.findall(r"steps\.pages\.outputs\.(\w+)", yaml.safe_dump(WORKFLOW))) <= ACTION["outputs"].keys()


def test_every_output_is_named() -> None:
    (line,) = re.findall(r"\*\*Outputs\*\* of the step: (.*?)They are", PAGE, re.DOTALL)
    assert set(OUTPUTS) | {"exit_code", "error", "error_type", "report", "junit"} <= set(re.findall(r"`(\w+)`", line))
