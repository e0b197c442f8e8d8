"""Configuration files: `asyncup.toml`, or `[tool.asyncup]` in pyproject.toml, with `[defaults]` and `[jobs.NAME]`.

Every option of `Config` has a key, its flag without the dashes in front; underscores do as well. `${VAR}` in a text is
the variable's value, `$${VAR}` that text itself; any other `$` stays, since SQL has its own. A path is relative to the
file's folder. The state of a file that was found is beside it, unless something says otherwise, so that a job is the same
job wherever below the file it is started from; that of one that was named is where it always is.

Everything that is wrong is said with the file and the table. What stands in a job that nobody asked for, or under a flag,
is never looked up in the environment.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from asyncup.config import Config
from asyncup.errors import UsageError
from asyncup.stateplace import parse_state
from asyncup.values import flag, secrets_of

FILE, PYPROJECT = "asyncup.toml", "pyproject.toml"
#: The tables of a file: what every job has, and the jobs.
DEFAULTS, JOBS = "defaults", "jobs"
#: Options that several jobs share: what they say is for all of them together.
SHARED = ("memory", "concurrency", "max_concurrency", "max_rate", "max_bandwidth", "timeout")
_OP = "read configuration"
_VARIABLE = re.compile(r"(\$?)\$\{([^}]*)\}?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Variables whose values no output may hold, by their names.
_SECRET = re.compile(r"(?i)pass|pwd|secret|token|credential")
#: What only a command has.
_OF_A_COMMAND = frozenset(("jobs", "all", "fail-fast", "config", "deep", "junit"))
#: How a command is presented, whatever its jobs, and which kind of value says it. It stands in `[defaults]`.
PRESENTATION: Mapping[str, type] = {
    "output": str,
    "progress": str,
    "log_format": str,
    "ci": bool,
    "report": str,
    "metrics": str,
    "verbose": int,
    "quiet": bool,
}
#: What gives a password, each in its own way.
_PASSWORDS = ("password", "password_command")
#: Options that hold a path, whole.
_PATHS = ("ca_bundle", "dead_letters")


@dataclass(frozen=True, slots=True)
class Setting:
    """A value, and where it was written: `asyncup.toml [jobs.docs] page-size`."""

    value: Any = field(repr=False)
    origin: str


@dataclass(frozen=True, slots=True)
class Settings:
    """What a file says, checked for keys and kinds of values, and not yet looked up in the environment.

    Attributes:
        path: the file, as a person would name it; None where there is none.
        folder: where it lies, which its paths are relative to.
        is_found: whether nobody named it.
        defaults: what holds for every job.
        jobs: each job's own.
        presentation: how commands are presented.
    """

    path: str | None = None
    folder: Path = field(default_factory=Path)
    is_found: bool = False
    defaults: Mapping[str, Setting] = field(default_factory=dict)
    jobs: Mapping[str, Mapping[str, Setting]] = field(default_factory=dict)
    presentation: Mapping[str, Setting] = field(default_factory=dict)

    def presented(self, given: Collection[str], environment: Mapping[str, str], secrets: list[str]) -> dict[str, Any]:
        """How commands are presented, but for what is `given` otherwise. Secrets that are met are added to `secrets`.

        Raises:
            UsageError: a variable is not set.
        """
        found = {
            option: _interpolated(setting, setting.value, environment, secrets)
            for option, setting in self.presentation.items()
            if option not in given
        }
        if found.get("report"):
            found["report"] = _from_here(self.folder / Path(found["report"]).expanduser())
        return found

    def named(self, names: Iterable[str]) -> tuple[str, ...]:
        """The jobs of these names, each once.

        Raises:
            UsageError: there is no such job, or no file.
        """
        chosen = tuple(dict.fromkeys(names))
        for name in chosen:
            if self.path is None:
                raise UsageError(
                    _OP,
                    name,
                    f"a job's name stands in {FILE}, and there is none, in this folder or above it",
                    f"write [{JOBS}.{name}] there, name a file with --config, or give a table with --table",
                )
            if name not in self.jobs:
                raise UsageError(_OP, f"{self.path} [{JOBS}]", f"there is no job {name}", near(name, self.jobs))
        return chosen

    def resolve(
        self,
        job: str | None,
        given: Collection[str],
        environment: Mapping[str, str],
        secrets: list[str],
        among: Collection[str] | None = None,
    ) -> dict[str, Setting]:
        """The options of a job, those of `[defaults]` where it has none of its own; None asks for the defaults alone.

        What is `given` otherwise is left out, and what is not `among` those that are wanted. Secrets that are met are added
        to `secrets`.

        Raises:
            UsageError: a variable is not set.
        """
        own = self.jobs[job] if job is not None else {}
        written = {**self.defaults, **own}
        for option, other in (_PASSWORDS, _PASSWORDS[::-1]):  # the nearer one of the two goes over the other
            if other in given or (other in own and option not in own):
                written.pop(option, None)
        found = {
            option: Setting(_interpolated(setting, setting.value, environment, secrets), setting.origin)
            for option, setting in written.items()
            if option not in given and (among is None or option in among)
        }
        secrets += secrets_of(found["dsn"].value) if "dsn" in found else ()
        secrets += [found["password"].value] if "password" in found else ()
        if job is not None and "name" not in given:
            found.setdefault("name", Setting(job, f"{self.path} [{JOBS}.{job}]"))
        if self.is_found and "state" not in given:
            found.setdefault("state", Setting(_default_state(), f"the folder of {self.path}"))
        return {option: self._placed(option, setting) for option, setting in found.items()}

    def _placed(self, option: str, setting: Setting) -> Setting:
        """A setting whose path, if it is one, is found from the current folder too."""
        value = setting.value
        is_path = option in _PATHS or (option == "state" and _is_folder(value))
        if not is_path or not value:
            return setting
        return Setting(_from_here(self.folder / Path(value).expanduser()), setting.origin)


def read_settings(named: str | None, folder: Path | None) -> Settings:
    """What the file says that is named, else that which is found in a folder or above it; nothing where there is none.

    Raises:
        UsageError: it cannot be read, or something in it is wrong.
    """
    path = Path(named) if named else None if folder is None else find(folder)
    if path is None:
        return Settings()
    shown = _from_here(path) if path.is_absolute() and not named else str(path)
    content, prefix = _content(path, shown), ""
    if path.name == PYPROJECT:
        prefix = "tool.asyncup."
        tool = content.get("tool", {})
        if not isinstance(tool, dict) or "asyncup" not in tool:
            raise UsageError(_OP, shown, "there is no table [tool.asyncup]", "write [tool.asyncup.jobs.NAME] there")
        content = tool["asyncup"]
    _check_keys(content, (DEFAULTS, JOBS), shown, prefix.rstrip("."))
    presentation, others = _presentation(content.get(DEFAULTS, {}), shown, prefix + DEFAULTS)
    defaults = _options(others, shown, prefix + DEFAULTS)
    jobs = content.get(JOBS, {})
    _check_table(jobs, shown, prefix + JOBS)
    return Settings(
        shown,
        path.absolute().parent,
        not named,
        defaults,
        {name: _options(table, shown, f"{prefix}{JOBS}.{name}") for name, table in jobs.items()},
        presentation,
    )


def find(folder: Path) -> Path | None:
    """The nearest file, in a folder or above it; in one folder asyncup.toml goes before pyproject.toml.

    A pyproject.toml without `[tool.asyncup]` is passed over, as by uv and ruff. In a folder that everybody may write to, such as
    /tmp, a file of somebody else is too: it could name a command that gives the password.
    """
    for place in (folder, *folder.parents):
        for path in (place / FILE, place / PYPROJECT):
            try:
                if path.is_file() and _is_trusted(path) and (path.name == FILE or _is_ours(path)):
                    return path
            except OSError:
                continue  # nobody may look there
    return None


def _is_trusted(path: Path) -> bool:
    if not hasattr(os, "geteuid") or not path.parent.stat().st_mode & stat.S_IWOTH:
        return True
    return path.stat().st_uid in (0, os.geteuid())


def _is_ours(pyproject: Path) -> bool:
    """Whether it has a `[tool.asyncup]`. Most have none, and need not be parsed to tell."""
    if b"asyncup" not in pyproject.read_bytes():
        return False
    tool = _content(pyproject, str(pyproject)).get("tool", {})
    return isinstance(tool, dict) and "asyncup" in tool


def _content(path: Path, shown: str) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - most runs have no file

    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as exc:
        raise UsageError(_OP, shown, f"it cannot be read: {exc.strerror or exc}", "see --config") from None
    except UnicodeDecodeError as exc:
        raise UsageError(_OP, shown, f"it is not UTF-8, at byte {exc.start}", "save it as UTF-8") from None
    except tomllib.TOMLDecodeError as exc:
        raise UsageError(
            _OP, shown, f"it is no TOML: {str(exc)[:1].lower()}{str(exc)[1:]}", "see https://toml.io"
        ) from None


def _presentation(table: Any, shown: str, name: str) -> tuple[dict[str, Setting], dict[str, Any]]:
    """What of `[defaults]` says how commands are presented, and the rest of it."""
    _check_table(table, shown, name)
    found: dict[str, Setting] = {}
    others = {}
    for key, value in table.items():
        option, origin = key.replace("-", "_"), f"{shown} [{name}] {key}"
        kind = PRESENTATION.get(option)
        if kind is None:
            others[key] = value
        elif type(value) is not kind:
            wanted = {bool: "true or false", int: "a whole number", str: "a text"}[kind]
            raise UsageError(_OP, origin, f"{_kind(value)} is not {wanted}")
        else:
            found[option] = Setting(value, origin)
    return found, others


def _options(table: Any, shown: str, name: str) -> dict[str, Setting]:
    """The options of one table, by their names in `Config`."""
    _check_table(table, shown, name)
    known = {entry.name: entry for entry in fields(Config)}
    _check_keys(table, [key_of(option) for option in known], shown, name)
    found: dict[str, Setting] = {}
    for key, value in table.items():
        option, origin = key.replace("-", "_"), f"{shown} [{name}] {key}"
        if option in found:
            raise UsageError(_OP, origin, f"it is there twice, as {key_of(option)} and {option}", "write one of them")
        if (wanted := _misfit(known[option], value)) is not None:
            raise UsageError(_OP, origin, f"{_kind(value)} is not {wanted}", _example(option))
        found[option] = Setting(value, origin)
    return found


def is_secret(variable: str) -> bool:
    """Whether the value of a variable of this name is in no output."""
    return _SECRET.search(variable) is not None


def key_of(option: str) -> str:
    """The key of an option: `page_size` → `page-size`."""
    return flag(option)[2:]


def _check_table(value: Any, shown: str, name: str) -> None:
    if not isinstance(value, dict):
        raise UsageError(_OP, f"{shown} [{name}]", f"{_kind(value)} is no table", f"write it as [{name}]")


def _check_keys(table: Any, known: Collection[str], shown: str, name: str) -> None:
    _check_table(table, shown, name)
    for key in table:
        if key.replace("_", "-") not in known:
            where = f"{shown} [{name}] {key}" if name else f"{shown} {key}"
            hint = near(key.replace("_", "-"), known)
            if key.replace("_", "-") in _OF_A_COMMAND:
                hint = f"--{key.replace('_', '-')} is given on the command line"
            elif key.replace("-", "_") in PRESENTATION:
                hint = f"it is for the whole command: write it in [{DEFAULTS}]"
            raise UsageError(_OP, where, f"there is no key {key}", hint)


def near(name: str, known: Collection[str]) -> str:
    """A hint: the name that was probably meant, or those that there are."""
    folded = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), folded, n=1)
    if found:
        return f"did you mean {folded[found[0]]}?"
    shown = list(known)[:20]
    return f"there are: {', '.join(shown)}{', …' if len(known) > len(shown) else ''}" if shown else "there are none"


def _misfit(entry: Field[Any], value: Any) -> str | None:
    """What a value of this option has to be, if it is not; None if it is. `Config.of` looks closer."""
    kind = str(entry.type)
    if kind == "bool":
        return None if isinstance(value, bool) else "true or false"
    if kind.startswith("tuple[tuple"):
        texts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        return (
            None if all(isinstance(text, str) for text in texts) else 'a table of texts, or a list of "name=template"'
        )
    if kind.startswith("tuple["):
        texts = value if isinstance(value, list) else [value]
        return None if all(isinstance(text, str) for text in texts) else "a text, or a list of texts"
    if isinstance(value, str):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "a whole number" if kind.startswith("int") else "a number" if kind.startswith("float") else "a text"
    if kind.startswith("float"):
        return None
    return (
        None
        if kind.startswith("int") and isinstance(value, int)
        else "a whole number"
        if kind[:3] == "int"
        else "a text"
    )


def _kind(value: Any) -> str:
    """What a value is, without saying it: it may be a secret."""
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", dict: "a table"}
    return kinds.get(type(value), "a date or time")


def _example(option: str) -> str | None:
    if option in ("page_size", "concurrency"):
        return 'write a number, or "auto"'
    return 'in quotes, such as "64MiB"' if option in ("memory", "max_bandwidth", "pack_bytes") else None


def _interpolated(setting: Setting, value: Any, environment: Mapping[str, str], secrets: list[str]) -> Any:
    if isinstance(value, dict):
        return {name: _interpolated(setting, part, environment, secrets) for name, part in value.items()}
    if isinstance(value, list):
        return [_interpolated(setting, part, environment, secrets) for part in value]
    if not isinstance(value, str):
        return value

    def replaced(match: re.Match[str]) -> str:
        escaped, name = match.groups()
        if escaped:
            return match[0][1:]
        if not match[0].endswith("}") or not _NAME.fullmatch(name):
            raise UsageError(
                _OP,
                setting.origin,
                f"{match[0][:40]} names no variable",
                "write ${NAME}, or $${ for these two characters",
            )
        if name not in environment:
            like = difflib.get_close_matches(name, environment, n=1)
            raise UsageError(
                _OP,
                setting.origin,
                f"the variable {name} is not set",
                f"{f'did you mean {like[0]}? ' if like else ''}export {name}, or write $${{{name}}} for that text itself",
            )
        if is_secret(name):
            secrets.append(environment[name])
        return environment[name]

    return _VARIABLE.sub(replaced, value)


def _default_state() -> str:
    return str(next(entry.default for entry in fields(Config) if entry.name == "state"))


def _is_folder(state: str) -> bool:
    try:
        return parse_state(state).kind == "folder"
    except UsageError:
        return False  # whoever makes a Config of it says what is wrong


def _from_here(path: Path) -> str:
    """A path as it is found from the current folder, short where that is above or below."""
    try:
        return os.path.relpath(path)
    except ValueError:  # another drive of Windows
        return str(path)
