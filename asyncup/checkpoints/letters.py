"""Dead letters as they are read again: the job in the first line, then one row in each line.

The file is only read, and line by line, whatever its length. It is looked through once when it is opened, so that a
line that is none of ours is refused before anything is sent, and read once more as its rows are.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any, BinaryIO

from asyncup.checkpoints.deadletters import KIND, VERSION
from asyncup.errors import StateLost, StateRefused
from asyncup.model import Key

#: A longer first line than this is none of ours.
_LONGEST_HEADER = 16 << 20
_OPENING = b'{"kind": "' + KIND.encode()


class LetterFile:
    """A dead-letter file that is open for reading.

    Attributes:
        location: where it is, as it was asked for.
        job: what the first line says of the job; empty when the file is.
        letters: how many rows it has.
        torn: whether a crash cut its last line short; that row is not among `letters`, and no checkpoint has passed it.
    """

    def __init__(self, location: str, file: BinaryIO) -> None:
        self.location = location
        self.job: dict[str, Any] = {}
        self.letters = 0
        self.torn = False
        self._file = file
        self._left = 0
        self._stamp = self._now()

    @classmethod
    def open(cls, path: Path) -> LetterFile:
        """Open a file and look through all of it.

        Raises:
            StateRefused: there is none, it is none of ours, or of a version that is not known.
        """
        location = str(path)
        try:
            file = path.open("rb")
        except FileNotFoundError:
            raise StateRefused(
                "open dead letters",
                location,
                "there is no such file",
                "a run that ends with failed rows names its file",
            ) from None
        except OSError as exc:
            raise StateRefused("open dead letters", location, f"it cannot be read: {exc.strerror or exc}") from exc
        return cls.of(location, file)

    @classmethod
    def of(cls, location: str, file: BinaryIO) -> LetterFile:
        """Look through all of a file that is open at its beginning; it is closed when that fails.

        Raises:
            StateRefused: it is none of ours, or of a version that is not known.
        """
        found = cls(location, file)
        try:
            found._look()
        except OSError as exc:
            file.close()
            raise StateRefused("open dead letters", location, f"it cannot be read: {exc.strerror or exc}") from exc
        except BaseException:
            file.close()
            raise
        return found

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of the pagination key."""
        return tuple(self.job["key"])

    def is_file(self, path: Path) -> bool:
        """Whether a path is this very file, by whatever name."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), path.stat())
        except OSError:
            return False

    async def take(self, most: int) -> list[Key]:
        """The keys of the next rows, `most` of them at most; none at the end.

        Raises:
            StateLost: the file has changed since it was opened.
        """
        return await asyncio.to_thread(self._take, most) if self._left else []

    def check_unchanged(self) -> None:
        """See that nobody has written to the file since it was looked through.

        Raises:
            StateRefused: somebody has.
        """
        if self._now() != self._stamp:
            raise StateRefused(
                "open dead letters",
                self.location,
                "another run has written to it meanwhile",
                "run the same command again",
            )

    def close(self) -> None:
        self._file.close()

    def _now(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def _look(self) -> None:
        head = self._file.readline(_LONGEST_HEADER)
        if not head or (not head.endswith(b"\n") and (_OPENING.startswith(head) or head.startswith(_OPENING))):
            self.torn = bool(head)  # cut short in its first line: no row can have followed
            return
        self.job = self._read_header(head)
        start = self._file.tell()
        for number, line in enumerate(self._file, 2):
            try:
                _ = self._key(line)
            except ValueError as exc:
                if not line.endswith(b"\n"):
                    self.torn = True
                    break
                raise StateRefused(
                    "read dead letters",
                    self.location,
                    f"line {number} is no dead letter: {exc}",
                    "mend that line or take it out",
                ) from None
            self.letters += 1
        self._file.seek(start)
        self._left = self.letters

    def _read_header(self, line: bytes) -> dict[str, Any]:
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if not isinstance(value, dict) or value.get("kind") != KIND:
            raise StateRefused(
                "open dead letters",
                self.location,
                "it is not a dead-letter file of asyncup",
                "give the file that a run with failed rows names in its summary",
            )
        version, job = value.get("version"), value.get("job") or {}
        if not isinstance(version, int) or version > VERSION:
            raise StateRefused(
                "open dead letters",
                self.location,
                f"it was written by a newer version of asyncup (version {version} of such files; this one knows "
                f"{VERSION})",
                "upgrade asyncup",
            )
        try:
            named = isinstance(job["name"], str) and all(isinstance(column, str) for column in job["key"])
        except (KeyError, TypeError):
            named = False
        if not named:
            raise StateRefused("open dead letters", self.location, "its first line does not hold a job")
        return dict(job)

    def _take(self, most: int) -> list[Key]:
        try:
            keys = [self._key(self._file.readline()) for _ in range(min(most, self._left))]
        except (OSError, ValueError) as exc:
            raise StateLost(
                "read dead letters",
                self.location,
                f"it cannot be read any more, or has changed: {exc}",
                "rows that were sent stay; run the same command again",
            ) from exc
        self._left -= len(keys)
        return keys

    def _key(self, line: bytes) -> Key:
        """The key in a line. Raises ValueError."""
        value = json.loads(line)
        key = value.get("key") if isinstance(value, dict) else None
        if not isinstance(key, list):
            raise ValueError("it has no key")  # noqa: TRY004 - one kind of error for all that can be wrong
        if len(key) != len(self.job["key"]):
            raise ValueError(f"its key has {len(key)} columns, and the job's {len(self.job['key'])}")
        for part in key:
            if part is not None and (not isinstance(part, str) or "\0" in part):
                raise ValueError("its key is not made of texts")
            if part is not None:
                part.encode()  # half of a surrogate pair is no text for a database
        return tuple(key)
