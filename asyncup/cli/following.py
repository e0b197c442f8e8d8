"""The commands to type next: whole and quoted for a shell, with what was typed before.

What came from the environment stays there, and what stands in a configuration file stays there too. Secrets are left out,
and it is said which flags those were.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from asyncup.cli.jobs import typed
from asyncup.commandline import command_line
from asyncup.report import COMPLETE, PARTIAL, Report, Verdict
from asyncup.values import environment, flag, secrets_of

#: What a run is told beside its job, as it is to be told again.
_OF_A_RUN = ("at_a_time", "fail_fast", "report", "metrics")
_DEFAULTS = {"at_a_time": 8}
_NAMES = {"at_a_time": "jobs"}
#: What says how objects are sent, and nothing of which objects there are: whoever compares does not need it.
_OF_SENDING = frozenset(
    {
        *("dry_run", "expect_rows", "min_rate", "timeout", "dead_letters", "if_exists", "max_failures", "max_attempts"),
        *("concurrency", "max_concurrency", "max_rate", "max_bandwidth", "memory", "drain_timeout", "no_verify_etag"),
        *("page_size", "readers", "s3_client", "storage_class", "acl", "incremental"),
        "lag",
    }
)


class Following:
    """What was typed to a command: its `values`, and those `given` of a job; `jobs` of a configuration file."""

    def __init__(self, values: Mapping[str, Any], given: Mapping[str, Any], jobs: Sequence[str | None] = ()) -> None:
        self._values = values
        self._given = {option: value for option, value in given.items() if not _is_elsewhere(option)}
        self._jobs = [job for job in jobs if job is not None]
        config = values.get("config")
        self._config = None if _is_elsewhere("config") else config

    @property
    def left_out(self) -> tuple[str, ...]:
        """The flags that were typed and that no command here has."""
        secret = [
            option
            for option in ("dsn", "password_command")
            if option in self._given and (option != "dsn" or secrets_of(self._given[option]))
        ]
        return tuple(map(flag, secret))

    def again(self, *, anew: bool = False, sends: bool = False, jobs: Sequence[str] | None = None) -> str:
        """The sync, with what was typed; `anew` where it is to start over if it was told to, and not dry where it `sends`."""
        extra = {
            _NAMES.get(name, name): self._values[name]
            for name in _OF_A_RUN
            if self._values.get(name, _DEFAULTS.get(name)) not in (None, False, _DEFAULTS.get(name))
            and not _is_elsewhere(_NAMES.get(name, name))
        }
        options = {**typed(self._given, self._config, anew=anew), **extra}
        if sends:
            options.pop("dry_run", None)
        return self._line("sync", options, self._jobs if jobs is None else jobs)

    def check(self) -> str:
        """What compares the rows with their objects."""
        options = typed({name: value for name, value in self._given.items() if name not in _OF_SENDING}, self._config)
        return self._line("verify", options, self._jobs)

    def mend(self, *, deep: bool) -> str:
        """The sync that makes every object as its row is, wherever an earlier one has ended.

        What only a comparison of bytes tells apart is the same to `--if-exists different`.
        """
        given = {name: value for name, value in self._given.items() if name not in ("if_exists", "limit")}
        spared = "overwrite" if deep else "different"
        options = {**typed(given, self._config), "if_exists": spared, "restart": True}
        return command_line("sync", options, self._jobs)

    def _line(self, command: str, options: Mapping[str, Any], jobs: Sequence[str]) -> str:
        """A command line; all jobs are named together where they were before."""
        if self._values.get("every") and len(jobs) == len(self._jobs) > 1:
            return command_line(command, {"all": True, **options})
        return command_line(command, options, jobs)

    def of_report(self, report: Report) -> dict[str, Any]:
        """The fields of a report that say what to type next."""
        job = report.job
        is_kept = job is not None and job.checkpoint is not None and not job.dry_run
        sends = job is not None and job.dry_run and job.status in (COMPLETE, PARTIAL)
        place = "" if job is None else job.destination
        check = self.check() if place.startswith(("s3:", "file:")) and not self._given.get("dry_run") else None
        return {"again": self.again(anew=not is_kept, sends=sends), "check": check, "left_out": self.left_out}

    def of_jobs(self, report: Report, left: Sequence[str]) -> dict[str, Any]:
        """The same of several jobs, of which those that are `left` are to run again."""
        sends = report.job is not None and report.job.dry_run and report.status in (COMPLETE, PARTIAL)
        places = [job.destination for job in report.jobs]
        check = self.check() if all(place.startswith(("s3:", "file:")) for place in places) else None
        return {"again": self.again(jobs=left, sends=sends), "check": check, "left_out": self.left_out}

    def of_retry(self, file: str, job: str | None) -> dict[str, Any]:
        """The same of a retry of a file, with the connections of a job."""
        options = {**typed(self._given, self._config), **({} if job is None else {"job": job})}
        return {"again": command_line("retry", options, (file,)), "left_out": self.left_out}

    def of_verdict(self, verdict: Verdict, *, deep: bool) -> dict[str, Any]:
        """The fields of a verdict that say what to type next."""
        found: dict[str, Any] = {"left_out": self.left_out}
        if verdict.complete:
            return found | {"mend": self.mend(deep=deep) if verdict.missing or verdict.different else None}
        options = typed({**self._given, **({"deep": True} if deep else {})}, self._config)
        return found | {"again": command_line("verify", options, self._jobs)}


def _is_elsewhere(option: str) -> bool:
    """Whether an option has its value from the environment, where it still is when the next command is typed."""
    return environment(option) in os.environ and not any(word.partition("=")[0] == flag(option) for word in sys.argv)
