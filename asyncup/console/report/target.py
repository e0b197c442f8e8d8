"""The file that a report goes to: looked at before anything is sent, and written in one step at the end."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from asyncup.errors import AsyncupError, UsageError

_FLAG = "--report"
_PAGES = (".html", ".htm")


class Target:
    """A file to be. What is there is replaced when the report is whole; until then it stays as it is."""

    def __init__(self, path: str) -> None:
        self.path = path
        # a link stays one
        self._file = Path(os.path.realpath(path))

    def check(self) -> None:
        """See that it can be written.

        Raises:
            UsageError: it cannot, or it is something else than a report.
        """
        if not self.path.strip():
            raise UsageError("read flags", _FLAG, f"{_FLAG} is empty", "give the name of a file, such as run.html")
        try:
            self._refuse_others()
            descriptor, beside = self._open()
            os.close(descriptor)
            beside.unlink()
        except (OSError, ValueError) as exc:
            said = exc.strerror if isinstance(exc, OSError) else None
            reason = "there is no such folder" if isinstance(exc, FileNotFoundError) else said or str(exc)
            raise UsageError(
                "read flags", _FLAG, f"{self.path} cannot be written: {reason}", "give a file in a folder that is there"
            ) from exc

    def write(self, text: str) -> None:
        """Put the report there: written beside, made durable, then renamed.

        Raises:
            AsyncupError: it cannot be written; what was there still is.
        """
        try:
            descriptor, beside = self._open()
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(text.encode("utf-8", "backslashreplace"))
                    file.flush()
                    os.fsync(file.fileno())
                beside.replace(self._file)
            except BaseException:
                with contextlib.suppress(OSError):
                    beside.unlink()
                raise
        except OSError as exc:
            raise AsyncupError(
                "write report",
                self.path,
                f"it cannot be written: {exc.strerror or exc}",
                "make room for it, or give another file",
            ) from exc

    def _open(self) -> tuple[int, Path]:
        """A new file beside it, with the permissions that a new file has here."""
        beside = self._file.with_name(f".{self._file.name[:100]}.{os.getpid()}.new")
        return os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), beside

    def _refuse_others(self) -> None:
        """Refuse what no report may replace.

        Raises:
            UsageError: it is that.
        """
        try:
            found = self._file.stat()
        except FileNotFoundError:
            if self.path.endswith(("/", os.sep)):
                raise UsageError("read flags", _FLAG, f"{self.path} is a folder", "give a file in it") from None
            return
        if stat.S_ISDIR(found.st_mode):
            raise UsageError("read flags", _FLAG, f"{self.path} is a folder", "give a file in it, such as run.html")
        if not stat.S_ISREG(found.st_mode):
            raise UsageError("read flags", _FLAG, f"{self.path} is no file, but a device, a pipe or a socket")
        if found.st_size and self._file.suffix.lower() not in _PAGES and not self._is_page():
            raise UsageError(
                "read flags", _FLAG, f"{self.path} is there, and is no report", "give another name, such as run.html"
            )

    def _is_page(self) -> bool:
        with self._file.open("rb") as file:
            return file.read(64).lstrip().lower().startswith(b"<!doctype html")
