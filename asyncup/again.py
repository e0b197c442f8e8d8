"""What dead letters say of their job, and the file for the rows that fail once more.

They hold no secret, so what says how to reach the database and the destination comes from flags and the environment;
whether that is the job's database and destination is checked before anything is sent.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asyncup.checkpoints.letters import LetterFile
from asyncup.config import Config
from asyncup.errors import StateRefused
from asyncup.names import written
from asyncup.resolved import fingerprint_difference
from asyncup.values import OBJECT_OPTIONS, flag

#: What is said of a row whose letter a crash cut short.
TORN = "its row is left out here, and is sent when the job goes on (asyncup sync), since no checkpoint has passed it"

_OTHER_CONNECTIONS = (
    "give the connections of that job (--dsn, --endpoint-url, --region); where the database or the destination has "
    "moved, copy the rows with asyncup sync"
)

_AGAIN_FROM_PYTHON = (
    "send all rows again from Python with asyncup.sync(..., restart=True); what failed with a transform that has a name at the "
    "top of a module can be retried"
)

#: What a retry does not take over: where the first run kept its letters, how it read, and that it was to end early.
_ONCE = ("dead_letters", "limit", "restart", "readers", "snapshot")
#: What happens to rows before they are objects.
_MAKING = (
    "transform",
    "compress",
    "compress_level",
    "pack",
    "pack_rows",
    "pack_bytes",
    "pack_by",
    "pack_index",
    "pack_member",
)
#: What the first line holds of the job beside its fingerprint.
_NOT_FINGERPRINT = ("name", "options")
#: A function that another program finds by its name: of a module, and not of the program that gave it.
_FUNCTION = re.compile(r"(?!__main__:)[^\W\d][\w.]*:[^\W\d][\w.]*")
_NAME = re.compile(r"(?P<base>.*?)(?:\.retry-(?P<number>\d{1,9}))?(?P<suffix>\.jsonl)?", re.DOTALL)


def configuration(job: Mapping[str, Any], location: str, given: Mapping[str, Any]) -> Config:
    """The configuration of the run that left the letters behind, with what is given now over it.

    Raises:
        StateRefused: an older version wrote them and kept no options.
        UsageError: an option of either is wrong.
    """
    options = job.get("options")
    if not isinstance(options, dict):
        raise StateRefused(
            "open dead letters",
            location,
            "it was written by an older version of asyncup, and does not hold all options of the job",
            f"run the job itself again: {_command(job)}",
        )
    kept = {option: value for option, value in options.items() if option not in _ONCE}
    function = kept.get("transform")
    if function is not None and "transform" not in given and not _FUNCTION.fullmatch(function):
        raise StateRefused(
            "retry",
            location,
            f"the job's transform, {function}, was given from Python, and a file cannot hold such a function",
            _AGAIN_FROM_PYTHON,
        )
    return Config.of(**{**kept, "key": job["key"], **given})


def check_job(
    job: Mapping[str, Any], location: str, fingerprint: dict[str, Any], hint: str = _OTHER_CONNECTIONS
) -> None:
    """Refuse to look for the rows, or to put them, where they are not from or not to go.

    In another database every row would seem to have gone.

    Raises:
        StateRefused: database, destination or anything else of the job is another one.
    """
    before = {field: value for field, value in job.items() if field not in _NOT_FINGERPRINT}
    now = {field: fingerprint.get(field) for field in before} | {
        field: fingerprint.get(field) for field in _MAKING if field in fingerprint
    }
    differences = fingerprint_difference(before, now)
    if differences:
        changed = [field for field in _MAKING if before.get(field) != now.get(field)]
        if hint == _OTHER_CONNECTIONS and not _FUNCTION.fullmatch(before.get("transform") or "any:any"):
            hint = _AGAIN_FROM_PYTHON
        elif hint == _OTHER_CONNECTIONS and changed:
            flags = ", ".join(map(flag, changed))
            hint = (
                f"leave {flags} out: the rows are made as the job made them; to make all objects in another way, run the "
                "job itself with --restart"
            )
        raise StateRefused(
            "retry",
            location,
            "its rows are of another job than this: " + "; ".join(differences),
            hint,
        )


def failing_again(retried: LetterFile, wanted: str | None, fingerprint: dict[str, Any]) -> tuple[Path, int]:
    """The file for the rows that fail again, and how many lines of letters it has already.

    It is one beside the file that is retried, or the one that is wanted: what an earlier try has left there stays.

    Raises:
        StateRefused: the file that is wanted is the one that is retried, or holds something else.
    """
    if wanted is None:
        return next_file(Path(retried.location)), 0
    path = Path(wanted)
    if retried.is_file(path):
        raise StateRefused(
            "open dead letters",
            wanted,
            "it is the file that is to be retried",
            "rows that fail again go to a file of their own: give another with --dead-letters, or none",
        )
    if not path.exists():
        return path, 0
    earlier = LetterFile.open(path)
    earlier.close()
    if earlier.job:
        check_job(earlier.job, wanted, fingerprint, "give another file with --dead-letters, or none")
    return path, earlier.letters + earlier.repeated


def next_file(path: Path) -> Path:
    """The file for the rows that fail again: `x.jsonl` → `x.retry-1.jsonl` → `x.retry-2.jsonl`; never one that is."""
    match = _NAME.fullmatch(path.name)
    base, number = (match["base"], int(match["number"] or 0)) if match is not None else (path.name, 0)
    while True:
        number += 1
        found = path.with_name(f"{base}.retry-{number}.jsonl")
        if not found.exists():
            return found


def _command(job: Mapping[str, Any]) -> str:
    """The command line that says what the first line says, as far as it does."""
    words = ["asyncup", "sync"]
    for option in ("table", "query", "where", "key", "to", "body", "on_null", *OBJECT_OPTIONS):
        value = job.get(option)
        if value is None:
            continue
        if option == "key":
            value = ",".join(written(name) for name in value)
        elif option == "body":
            value = written(value)
        values = [f"{name}={text}" for name, text in value.items()] if isinstance(value, dict) else [str(value)]
        for text in values:
            words += [flag(option), text]
    return shlex.join(words)
