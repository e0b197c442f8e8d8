"""Dead letters as a file of JSON lines: first a line that holds the job, then one line for each row.

Lines are synced before `append` returns, so that a checkpoint never passes a failed row that is not on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from asyncup.checkpoints.codec import letter_header, letter_line
from asyncup.checkpoints.files import open_file, sync_folder, unwritable
from asyncup.errors import StateLost, StateRefused
from asyncup.model import DeadLetter

KIND = "asyncup dead letters"
#: What the name of a run for trying out ends with: its letters give way to those of the job, never the other way.
TRIAL = ".trial"
VERSION = 1
#: A longer first line than this is none of ours.
LONGEST_HEADER = 16 << 20
_OPENING = b'{"kind": "' + KIND.encode()


class DeadLetterFile:
    """One job's dead letters. `job` describes the job without any secret."""

    def __init__(self, path: Path, job: dict[str, Any]) -> None:
        self._path = path
        self._job = job
        self._descriptor = -1
        self._size = 0  # up to here the file is as it should be
        self.letters = 0

    @property
    def location(self) -> str:
        return str(self._path)

    def open(self, *, keep: int) -> None:
        """Open the file for appending, with the first `keep` letters of an earlier run and no others.

        Those behind them, one that a crash cut short among them, are of rows that no checkpoint has passed.

        Raises:
            StateRefused: the file cannot be written, or is something else than this job's dead letters.
        """
        try:
            descriptor = open_file(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        except OSError as exc:
            raise StateRefused(
                "open dead letters",
                self.location,
                f"it cannot be written: {exc.strerror or exc}",
                "give another file with --dead-letters",
            ) from exc
        try:
            with self._path.open("rb") as file:
                head = file.readline(LONGEST_HEADER)
                complete = head.endswith(b"\n")
                self._check(head)
                whole, letters = len(head) if complete else 0, 0
                if whole and keep:
                    for line in itertools.islice(file, keep):
                        if line.endswith(b"\n"):
                            whole += len(line)
                            letters += 1
            os.ftruncate(descriptor, whole if keep else 0)
            if not (whole and keep):
                whole = _write(descriptor, letter_header(KIND, VERSION, self._job))
            os.fsync(descriptor)
            sync_folder(self._path.parent)
        except OSError as exc:
            os.close(descriptor)
            raise StateRefused("open dead letters", self.location, exc.strerror or str(exc)) from exc
        except StateRefused:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        self._size = whole
        self.letters = letters

    def look(self, *, keep: int, makes_folder: bool) -> None:
        """Refuse what `open` would refuse, and count letters as it does; nothing is made or changed.

        With `makes_folder` the folder will be made before the file.

        Raises:
            StateRefused: with the reason.
        """
        hint, kept = "give another file with --dead-letters", 0
        try:
            with open_letters(self._path) as file:
                self._check(file.readline(LONGEST_HEADER))
                kept = sum(1 for _ in itertools.islice(file, keep))
            fault = None if os.access(self._path, os.W_OK) else os.strerror(errno.EACCES)
        except FileNotFoundError:
            there = makes_folder or self._path.parent.is_dir()
            fault = unwritable(self._path.parent) if there else f"there is no folder {self._path.parent}"
        except OSError as exc:
            fault = exc.strerror or str(exc)
        if fault is not None:
            raise StateRefused("open dead letters", self.location, f"it cannot be written: {fault}", hint)
        self.letters = kept

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        """See `DeadLetterStore.append`."""
        await asyncio.to_thread(self._append, letters)

    def close(self) -> None:
        """Close the file, and remove it when no row failed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            if not self.letters:
                with contextlib.suppress(OSError):  # an empty one does no harm
                    self._path.unlink(missing_ok=True)

    def _append(self, letters: Sequence[DeadLetter]) -> None:
        content = b"".join(letter_line(letter) for letter in letters)
        try:
            os.ftruncate(self._descriptor, self._size)  # no half line of a write that failed
            size = _write(self._descriptor, content)
            os.fsync(self._descriptor)
        except OSError as exc:
            raise StateLost(
                "write dead letters",
                self.location,
                f"a failed row cannot be recorded: {exc.strerror or exc}",
                "make room there, then run the same command again",
            ) from exc
        self._size += size
        self.letters += len(letters)

    def _check(self, head: bytes) -> None:
        """Refuse a file with such a first line, unless it is ours, empty, or the beginning of a line that a crash cut short."""
        if (
            not head.endswith(b"\n")
            and len(head) < LONGEST_HEADER
            and (_OPENING.startswith(head) or head.startswith(_OPENING))
        ):
            return
        try:
            value = json.loads(head)
            if value["kind"] == KIND and value["job"]["name"] in (self._job["name"], self._job["name"] + TRIAL):
                return
            reason = f"it holds the dead letters of another job, {value['job']['name']}"
        except (ValueError, KeyError, TypeError):
            reason = "it exists and does not hold dead letters"
        raise StateRefused("open dead letters", self.location, reason, "give another file with --dead-letters")


def _write(descriptor: int, content: bytes) -> int:
    """Write all of it, however small the steps are in which the disk takes it; how much it is."""
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
    return len(content)


def open_letters(path: Path) -> BinaryIO:
    """Open a file of dead letters for reading.

    Raises:
        OSError: it cannot be opened, or is no file.
    """
    return os.fdopen(open_file(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)), "rb")


def job_of(header: bytes | str, location: str) -> dict[str, Any]:
    """The job in the line that dead letters begin with, wherever they are. It has a name and the columns of its key.

    Raises:
        StateRefused: it is no such line, or of a version that is not known.
    """
    try:
        value = json.loads(header)
    except ValueError:
        value = None
    if not isinstance(value, dict) or value.get("kind") != KIND:
        raise StateRefused(
            "open dead letters",
            location,
            "it is not a dead-letter file of asyncup",
            "give the file that a run with failed rows names in its summary",
        )
    version, job = value.get("version"), value.get("job") or {}
    if not isinstance(version, int) or version > VERSION:
        raise StateRefused(
            "open dead letters",
            location,
            f"it was written by a newer version of asyncup (version {version} of such files; this one knows {VERSION})",
            "upgrade asyncup",
        )
    try:
        named = isinstance(job["name"], str) and all(isinstance(column, str) for column in job["key"])
    except (KeyError, TypeError):
        named = False
    if not named:
        raise StateRefused("open dead letters", location, "its first line does not hold a job")
    return dict(job)
