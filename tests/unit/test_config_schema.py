"""The JSON Schema of asyncup.toml takes what a file may say, and refuses what it may not."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from asyncup.cli.commands import program
from asyncup.cli.schema import schema_of_files
from asyncup.config import Config
from asyncup.errors import UsageError
from asyncup.settings import key_of, read_settings
from asyncup.tomltext import toml_value
from asyncup.values import parsed

SCHEMA = schema_of_files()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
DOCS = Path(__file__).parents[2] / "docs" / "jobs.md"


def test_it_is_a_schema_that_has_every_option_with_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    VALIDATOR.check_schema(SCHEMA)
    known = SCHEMA["$defs"]["options"]["properties"]
    assert list(known) == [key_of(entry.name) for entry in fields(Config)]
    assert all(option["description"] for option in known.values())
    assert "\\[" not in json.dumps([option["description"] for option in known.values()])
    program().main(args=["config", "schema"], prog_name="asyncup", standalone_mode=False)
    assert json.loads(capsys.readouterr().out) == SCHEMA


@pytest.mark.parametrize("file", re.findall(r"```toml\n(.*?)```", DOCS.read_text(), re.DOTALL))
def test_it_takes_the_files_of_the_documentation(file: str) -> None:
    VALIDATOR.validate(tomllib.loads(file))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("page-size", value) for value in (5, "auto", "5", "many", 2.5, True)],
        *[("page_size", value) for value in (5, "auto", "many")],
        *[("readers", value) for value in (2, "2", "auto")],
        *[("memory", value) for value in (1000, "64MiB", "1.5 GB", "much", 1.5, ["1"])],
        *[("lag", value) for value in (1, 1.5, "1m30s", "500ms", "2", "soon")],
        *[("max-rate", value) for value in (1, 2.5, "2.5", "fast")],
        *[("compress", value) for value in ("gzip", "zip", 1)],
        *[("snapshot", value) for value in (True, "true", 1)],
        *[("metadata", value) for value in ({"a": "b"}, ["a=b"], "a=b", {"a": 1}, 1)],
        *[("key", value) for value in ("a,b", ["a", "b"], 1, [1])],
        *[("table", value) for value in ("t", 1, True)],
        ("tabel", "t"),
    ],
)
def test_it_takes_a_value_where_a_file_may_have_it(key: str, value: Any, tmp_path: Path) -> None:
    def is_taken() -> bool:
        """Whether it is read, and of the kind that its option has."""
        file = tmp_path / "asyncup.toml"
        file.write_text(f"[jobs.j]\n{key} = {toml_value(value)}\n")
        try:
            (found,) = read_settings(str(file), None).jobs["j"].items()
            option, setting = found
            parsed(option, setting.value)
            if option == "compress":
                Config.of(table="t", to="null:", compress=value)
        except (UsageError, ValueError):
            return False
        return True

    assert VALIDATOR.is_valid({"jobs": {"j": {key: value}}}) == is_taken()


@pytest.mark.parametrize("key", ["memory", "readers", "compress", "lag", "to"])
def test_it_takes_a_variable_wherever_a_text_may_be(key: str) -> None:
    VALIDATOR.validate({"defaults": {key: "${ANY}"}})
