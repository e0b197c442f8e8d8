"""Why a row failed, as plain texts: nothing of a user's exception travels, only what a person reads of it."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from asyncup.errors import AsyncupError, TransformFailed
from asyncup.transforms.products import NotAllowed

_OURS = str(Path(__file__).parent)
#: No message is longer.
_MESSAGE = 2000


class Failure(NamedTuple):
    """What `TransformFailed` says of one row."""

    message: str
    hint: str | None = None
    traceback: str | None = None

    def error(self, name: str) -> TransformFailed:
        """The row's error; `name` is the function's."""
        return TransformFailed("transform", name, self.message, self.hint, self.traceback)


def failure(exc: BaseException) -> Failure:
    """What an exception of a user's function says, with its traceback from the user's first line on."""
    if isinstance(exc, NotAllowed):
        return Failure(str(exc))
    theirs = _theirs(exc.__traceback__)
    try:
        text = "".join(traceback.format_exception(type(exc), exc, theirs))
    except Exception as broken:  # noqa: BLE001 - an exception whose own text cannot be made
        text = f"{type(exc).__name__}, whose text cannot be made: {type(broken).__name__}\n"
    if isinstance(exc, AsyncupError):
        return Failure(_plain(exc.message), _plain(exc.hint or _where(theirs) or "") or None, _plain(text))
    return Failure(said(exc), _where(theirs), _plain(text))


def said(exc: BaseException) -> str:
    """`TypeError: …`, as a traceback's last line says it."""
    try:
        what = str(exc)
    except Exception:  # noqa: BLE001 - an exception whose own text cannot be made
        what = ""
    return _plain((f"{type(exc).__name__}: {what}" if what else type(exc).__name__)[:_MESSAGE])


def _plain(text: object) -> str:
    """A text that UTF-8 can hold, as the dead letters are written."""
    return str(text).encode(errors="backslashreplace").decode()


def own_traceback(exc: BaseException) -> str:
    """The traceback without our frames before the user's first line; the last lines of it where it is long."""
    text = _plain("".join(traceback.format_exception(type(exc), exc, _theirs(exc.__traceback__))))
    lines = text.rstrip().split("\n")
    return "\n".join(lines if len(lines) <= 40 else [lines[0], "  …", *lines[-38:]])


def _theirs(found: TracebackType | None) -> TracebackType | None:
    """From the first line that is neither ours nor the import system's."""
    while found is not None and _is_ours(found.tb_frame.f_code.co_filename):
        found = found.tb_next
    return found


def _is_ours(file: str) -> bool:
    return file.startswith((_OURS, "<frozen importlib")) or file.endswith("/importlib/__init__.py")


def _where(found: TracebackType | None) -> str | None:
    """The innermost line that is the user's: where the exception came from, as far as it is theirs."""
    if found is None:
        return None
    frames = traceback.extract_tb(found)
    own = [frame for frame in frames if "site-packages" not in frame.filename and not _is_ours(frame.filename)]
    frame = (own or frames)[-1]
    return f"{frame.filename}, line {frame.lineno}, in {frame.name}"
