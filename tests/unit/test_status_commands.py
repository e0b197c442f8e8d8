"""The command that `asyncup status` shows for a job of a configuration file: its name, and what the run had otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asyncup.checkpoints.places import Entry
from asyncup.cli.status import _otherwise
from asyncup.config import Config
from asyncup.model import Checkpoint, Counts
from asyncup.overview import Standing
from asyncup.settings import read_settings

JOB: dict[str, Any] = {"table": "docs", "to": "s3://b/{id}", "name": "docs", "if_exists": "different"}


@pytest.mark.parametrize(
    ("given", "others"),
    [
        ({}, {}),
        ({"to": "s3://b/trial/{id}", "max_rate": "50"}, {"to": "s3://b/trial/{id}", "max_rate": 50.0}),
        ({"if_exists": "overwrite"}, None),  # the default again, which no flag of a command line keeps
    ],
)
def test_flags_that_went_over_the_file_are_in_the_command(
    tmp_path: Path, given: dict[str, Any], others: dict[str, Any] | None
) -> None:
    file = tmp_path / "asyncup.toml"
    file.write_text("[jobs.docs]\ntable = 'docs'\nto = 's3://b/{id}'\nif-exists = 'different'\n")
    options = {**Config.of(**{**JOB, **given}).kept(), "state": "elsewhere"}
    checkpoint = Checkpoint("docs", {}, ("1",), Counts(1), False, "", "", options)
    standing = Standing(Entry("docs", "here", "letters", checkpoint), None, "asyncup sync --table docs")
    assert _otherwise(standing, read_settings(str(file), tmp_path), "docs") == others
