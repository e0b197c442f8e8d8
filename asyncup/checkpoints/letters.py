"""Dead letters as they are read again: the job in the first line, then one row in each line.

The file is only read, and line by line, whatever its length. It is looked through once when it is opened, so that a
line that is none of ours is refused before anything is sent, and read once more as its rows are.
"""

from __future__ import annotations

import asyncio
import json
import os
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

from asyncup.checkpoints.deadletters import KIND, LONGEST_HEADER, job_of, open_letters
from asyncup.errors import StateLost, StateRefused
from asyncup.model import Key

#: Rows that are recognized when they come again: some 50 MB while the file is looked through. Others are sent twice.
_KNOWN = 500_000
_NAMED = "give the file that a run with failed rows names in its summary"
_OPENING = b'{"kind": "' + KIND.encode()


class LetterFile:
    """A dead-letter file that is open for reading.

    Attributes:
        location: where it is, as it was asked for.
        job: what the first line says of the job; empty when the file is, or that line is torn.
        letters: how many rows it has, each counted once.
        repeated: how many lines more there are, of rows that were met before: a try that was interrupted leaves such.
        torn: whether a crash cut its last line short; that row is not among `letters`, and no checkpoint has passed it.
    """

    def __init__(self, location: str, file: BinaryIO) -> None:
        self.location = location
        self.job: dict[str, Any] = {}
        self.letters = self.repeated = 0
        self.torn = False
        self._file = file
        self._left = 0
        self._line = 0
        self._skipped: set[int] = set()
        self._stamp = self._now()

    @classmethod
    def open(cls, path: Path) -> LetterFile:
        """Open a file and look through all of it.

        Raises:
            StateRefused: there is none, it is none of ours, or of a version that is not known.
        """
        location = str(path)
        try:
            file = open_letters(path)
        except FileNotFoundError:
            raise StateRefused(
                "open dead letters",
                location,
                "there is no such file",
                "a run that ends with failed rows names its file",
            ) from None
        except OSError as exc:
            reason = f"it cannot be read: {exc.strerror or exc}"
            raise StateRefused("open dead letters", location, reason, _NAMED) from exc
        try:
            return cls.of(location, file)
        except StateRefused as refused:
            beside = path.with_suffix(".dead-letters.jsonl")
            if path.suffix == ".json" and beside.exists():
                refused.hint = f"a checkpoint is no such file; the rows that failed are in {beside}"
            raise

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
            reason = f"it cannot be read: {exc.strerror or exc}"
            raise StateRefused("open dead letters", location, reason, _NAMED) from exc
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
        head = self._file.readline(LONGEST_HEADER)
        if not head or (not head.endswith(b"\n") and (_OPENING.startswith(head) or head.startswith(_OPENING))):
            self.torn = bool(head)  # cut short in its first line: no row can have followed
            return
        self.job = job_of(head, self.location)
        start = self._file.tell()
        seen: set[bytes] = set()
        for number, line in enumerate(self._file, 2):
            try:
                digest = blake2b(json.dumps(self._key(line)).encode(), digest_size=16).digest()
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
            if digest in seen:
                self._skipped.add(number)
                self.repeated += 1
                continue
            self.letters += 1
            if len(seen) < _KNOWN:
                seen.add(digest)
        self._file.seek(start)
        self._line, self._left = 2, self.letters

    def _take(self, most: int) -> list[Key]:
        try:
            keys = [self._key(self._next_line()) for _ in range(min(most, self._left))]
        except (OSError, ValueError) as exc:
            raise StateLost(
                "read dead letters",
                self.location,
                f"it cannot be read any more, or has changed: {exc}",
                "rows that were sent stay; run the same command again",
            ) from exc
        self._left -= len(keys)
        return keys

    def _next_line(self) -> bytes:
        while self._line in self._skipped:
            self._file.readline()
            self._line += 1
        self._line += 1
        return self._file.readline()

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
