"""The JSON Schema of `asyncup.toml`, made of `Config` and of what the flags' help says: no second list of options.

Source: https://json-schema.org/draft/2020-12. What only a whole configuration can tell, such as that a query needs a key, is
left to `asyncup config show` and `asyncup plan`.
"""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any

from asyncup.cli import sync
from asyncup.cli.options import parameters
from asyncup.config import CHOICES, Config
from asyncup.settings import DEFAULTS, JOBS, PRESENTATION, SHARED, key_of
from asyncup.values import as_typed, grammar

DRAFT = "https://json-schema.org/draft/2020-12/schema"
#: A text that is another one when a run looks it up in the environment.
_INTERPOLATED: dict[str, Any] = {"type": "string", "pattern": r"\$\{"}
#: What no flag has.
_PASSWORD = "The database's password, best as ${VARIABLE}."  # noqa: S105 - a help text
_BEFORE_DEFAULT = " Default: "


def schema_of_files() -> dict[str, Any]:
    """The schema of a whole file."""
    return {
        "$schema": DRAFT,
        "title": "asyncup.toml",
        "description": "Jobs of asyncup: rows of Postgres tables or queries as objects in S3.",
        "type": "object",
        "properties": {
            DEFAULTS: {
                "description": "What holds for every job that says nothing else, and for a job that is given by flags.",
                **_defaults(),
            },
            JOBS: {
                "description": "Each job by its name: asyncup sync NAME",
                "type": "object",
                "additionalProperties": {"$ref": "#/$defs/options"},
            },
        },
        "additionalProperties": False,
        "$defs": {"options": _options()},
    }


def _defaults() -> dict[str, Any]:
    """The options of `[defaults]`: those of every job, and how commands are presented."""
    options = _options()
    names = {bool: "boolean", int: "integer", str: "string"}
    shown = {key_of(name): {"description": text_of(name), "type": names[kind]} for name, kind in PRESENTATION.items()}
    return {**options, "properties": {**options["properties"], **shown, "log_format": shown["log-format"]}}


def text_of(option: str) -> str:
    """What the help says of an option, without its default."""
    return _help_of(option).partition(_BEFORE_DEFAULT)[0]


def default_of(option: str) -> str | None:
    """What the help says that happens where nobody gives an option; None where it says nothing."""
    return _help_of(option).partition(_BEFORE_DEFAULT)[2].rstrip(".") or None


@cache
def _help_of(option: str) -> str:
    if option == "password":
        return _PASSWORD
    (declared,) = parameters(sync.sync)[option].annotation.__metadata__
    return str(declared.help).replace("\\[", "[")


def _options() -> dict[str, Any]:
    """The schema of `[defaults]` and of each job. Underscores do as well as dashes, but no editor need propose both."""
    known = {key_of(entry.name): _option(entry.name, str(entry.type), entry.default) for entry in fields(Config)}
    return {
        "type": "object",
        "properties": known,
        "patternProperties": {
            f"^{key.replace('-', '_')}$": {"$ref": f"#/$defs/options/properties/{key}"} for key in known if "-" in key
        },
        "additionalProperties": False,
    }


def _option(option: str, kind: str, default: Any) -> dict[str, Any]:
    described = text_of(option)
    if option in SHARED:
        described += " Of several jobs together, in [defaults]."
    if (usual := default_of(option)) is not None:
        described += f"{_BEFORE_DEFAULT}{usual}."
    found = {"description": described, **_values(option, kind)}
    if default not in (None, "", ()):
        typed = as_typed(option, default)
        found["default"] = default if isinstance(default, bool) or typed == str(default) else typed
    return found


def _values(option: str, kind: str) -> dict[str, Any]:
    """Which values an option may have, as `asyncup.settings` takes them."""
    if kind == "bool":
        return {"type": "boolean"}
    texts = {"type": "array", "items": {"type": "string"}}
    if kind.startswith("tuple[tuple"):
        return {"anyOf": [{"type": "object", "additionalProperties": {"type": "string"}}, texts, {"type": "string"}]}
    if kind.startswith("tuple["):
        return {"anyOf": [{"type": "string"}, texts]}
    if option in CHOICES:
        return {"anyOf": [{"enum": list(CHOICES[option])}, _INTERPOLATED]}
    if (written := grammar(option)) is not None:
        number = {"type": "number" if kind.startswith("float") else "integer", "minimum": 0}
        return {"anyOf": [number, {"type": "string", "pattern": f"^(?:{written})$"}, _INTERPOLATED]}
    return {"type": "string"}
