"""A step on GitHub: annotations as workflow commands, a step summary and outputs in the files that it names.

Commands are read from stdout and stderr alike, line by line (ScriptHandler of https://github.com/actions/runner), so they go
to stderr, whatever stdout is for. What cannot be written is said there, and costs nothing else.
https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from asyncup.console.causes import Causes
from asyncup.console.ci.annotations import MOST, Annotation, Outcome, annotate
from asyncup.console.ci.guard import WITHIN
from asyncup.console.ci.markdown import step_summary
from asyncup.console.terminal import write_line
from asyncup.console.text import Redactor, shown
from asyncup.events import Event, Notice, OfJob, Planned

#: Bytes of a step summary; of more than that GitHub shows nothing.
SUMMARY_BYTES = 1 << 20
#: Which fields of a summary are outputs of the step.
OUTPUTS = (
    *("status", "dry_run", "rows", "put", "skipped", "failed", "bytes", "seconds", "objects_per_second", "attempts"),
    *("retries", "throttled", "resumed", "checkpoint", "dead_letters"),
    *("objects", "missing", "different", "extra"),
)


class GithubStep:
    """An observer that keeps what failed, and tells GitHub at the end. `files` are those that the run writes beside, by option.

    Without a `stream` there are no annotations. `warn` says what cannot be written.
    """

    def __init__(
        self,
        stream: TextIO | None,
        redact: Redactor,
        environ: Mapping[str, str],
        files: Mapping[str, str],
        warn: Callable[[str], None],
    ) -> None:
        self._stream = stream
        self._warn = warn
        self._redact = redact
        self._environ = environ
        self._files = files
        self._causes = Causes(redact)
        self._notices: list[str] = []
        self._name: str | None = None
        self._planned = 0

    def on_event(self, event: Event) -> None:
        self._causes.take(event)
        inner, label = (event.event, f"{event.label}: ") if isinstance(event, OfJob) else (event, "")
        if isinstance(inner, Planned):  # of several jobs, that are looked at in turn, none is the one
            self._planned += 1
            self._name = inner.plan.name if self._planned == 1 else None
        if isinstance(inner, Notice) and not inner.is_routine and len(self._notices) < MOST:
            self._notices.append(shown(f"{label}{inner.message}"))

    def close(self) -> None:
        """Nothing to clean up."""

    def finish(self, outcome: Outcome, exit_code: int) -> None:
        """Annotate, and append to the files of the step."""
        said = annotate(outcome, self._causes, self._redact, self._notices, self._name)
        if self._stream is not None:
            for one in said:
                write_line(self._stream, command(one))
        self._append("GITHUB_STEP_SUMMARY", lambda held: self._summary(outcome, held))
        self._append("GITHUB_OUTPUT", lambda _: outputs(self._values(outcome, exit_code)))

    def _summary(self, outcome: Outcome, held: int) -> str:
        text = step_summary(outcome, self._causes, self._redact, list(self._files.items()), self._name)
        if held + 1 + len(text.encode(errors="replace")) > SUMMARY_BYTES:
            raise OSError(0, "GitHub would show nothing of more than a MiB, and the step has almost written that")
        return text

    def _values(self, outcome: Outcome, exit_code: int) -> dict[str, str]:
        found = outcome.to_json()
        error = found["error"] or {}
        values = {name: found[name] for name in OUTPUTS if name in found and not isinstance(found[name], dict)}
        values |= {
            "exit_code": exit_code,
            "error": error.get("message"),
            "error_type": error.get("type"),
            **self._files,
        }
        return {name: self._redact(_text(value)) for name, value in values.items()}

    def _append(self, variable: str, text: Any) -> None:
        """Append to the file that a variable names, if there is one."""
        if not (name := self._environ.get(variable)):
            return
        path = Path(name)
        try:
            with path.open("ab") as file:
                held = file.tell()
                file.write(b"\n" * bool(held) + text(held).encode(errors="replace"))
        except OSError as exc:
            self._warn(
                shown(f"{variable} cannot be written, which the run does not need: {exc.strerror or exc}: {path}")
            )


def command(annotation: Annotation) -> str:
    """The workflow command of an annotation, escaped as the toolkit does it (packages/core/src/command.ts)."""
    title = _data(annotation.title).replace(":", "%3A").replace(",", "%2C")
    return f"::{annotation.level} title={title}::{_data(annotation.message)}"


def outputs(values: Mapping[str, str]) -> str:
    """Outputs as lines of GITHUB_OUTPUT; a value that may have lines of its own stands between some that nobody can foresee."""
    lines = []
    for name, value in values.items():
        end = f"asyncup_{secrets.token_hex(16)}"
        lines.append(f"{name}={value}\n" if value.isprintable() else f"{name}<<{end}\n{value}\n{end}\n")
    return "".join(lines)


def _data(text: str) -> str:
    return WITHIN.sub("# #", text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _text(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
