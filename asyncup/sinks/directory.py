"""Objects as files below one directory.

A file appears whole or not at all: it is written beside its place under a name made from its object key, synced, and
renamed; so a run that resumes after a crash replaces what was left unfinished.
No object key can leave the directory: not by `..`, which no key may contain, and not by a symbolic link, since the
real path of every folder is checked before the first file goes into it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import itertools
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, TypeVar

from asyncup.errors import DestinationRefused, ObjectExists, RowRefused, ServerFault
from asyncup.flow.ending import to_its_end
from asyncup.model import Receipt, Streamed, Upload

R = TypeVar("R")

#: What only this one file cannot have.
_ROW_ERRORS = frozenset(
    {
        errno.ENAMETOOLONG,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.EEXIST,
        errno.EINVAL,
        errno.EILSEQ,
        errno.EFBIG,
    }
)
#: What every file after it would meet as well.
_RUN_ERRORS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
#: What may end when somebody makes room.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
#: File systems without hard links say one of these.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK})
#: Asks to create an object, and never to replace one.
_CREATE = ("if-none-match", "*")
_PART = re.compile(r"\.asyncup-[0-9a-f]{32}\.part(?:\.[0-9]+)?")
#: Segments that name no file of their own.
_DOTS = frozenset({"", ".", ".."})


def is_part(name: str) -> bool:
    """Whether a file of this name is one that a run has begun and not finished."""
    return name.startswith(".asyncup-") and _PART.fullmatch(name) is not None


class DirectorySink:
    """Writes below `root`, in `threads` threads of its own."""

    def __init__(self, root: Path, threads: int) -> None:
        self._root = root
        self._real_root = ""
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="asyncup-file")
        self._folders: set[str] = set()
        self._parts: set[str] = set()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    async def check(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, self._check)

    async def put(self, upload: Upload) -> Receipt:
        body = upload.body
        if isinstance(body, Streamed):
            return await self._put_slices(upload, body)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._write, upload, body)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _check(self) -> None:
        root = self._root
        try:
            root.mkdir(parents=True, exist_ok=True)
            if not os.access(root, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as exc:
            raise DestinationRefused(
                "open directory", str(root), exc.strerror or str(exc), "give a folder that can be written to"
            ) from exc
        self._real_root = os.path.realpath(root)

    def _write(self, upload: Upload, body: bytes) -> Receipt:
        with self._writing(upload) as file:
            file.write(body)
        return Receipt(upload.key, len(body))

    async def _put_slices(self, upload: Upload, body: Streamed) -> Receipt:
        """The same, one step after the other in whichever thread is free; each is waited for, or two would meet."""
        size = 0
        async with body.open() as (_, slices):
            writing = self._writing(upload)
            try:
                file = await self._step(writing.__enter__)
                async for piece in slices:
                    size += len(piece)
                    await self._step(file.write, piece)
                    del piece
            except BaseException as exc:
                await self._step(writing.__exit__, type(exc), exc, exc.__traceback__)
                raise
            await self._step(writing.__exit__, None, None, None)
        return Receipt(upload.key, size)

    async def _step(self, work: Callable[..., R], *arguments: Any) -> R:
        async def done() -> R:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

        return await to_its_end(done(), "asyncup-file")

    @contextlib.contextmanager
    def _writing(self, upload: Upload) -> Iterator[IO[bytes]]:
        """A file that has the object's name once it is written, and is gone if it is not."""
        if not self._real_root:
            self._check()
        segments = upload.key.split("/")
        if not _DOTS.isdisjoint(segments) or "\0" in upload.key or ("\\" in upload.key and os.sep == "\\"):
            raise RowRefused(
                "put",
                upload.key,
                "as a file path it would be another name: it has an empty segment, one of dots, or a NUL",
                "change the template in --to",
            )
        path = os.path.join(self._real_root, *segments)
        create = _CREATE in upload.headers
        folder = os.path.dirname(path)
        temporary = os.path.join(folder, f".asyncup-{hashlib.sha256(upload.key.encode()).hexdigest()[:32]}.part")
        with self._lock:
            if temporary in self._parts:  # two rows of one object key: each needs a file of its own
                temporary += f".{next(self._numbers)}"
            self._parts.add(temporary)
        try:
            if create:
                _look(path)
            if folder not in self._folders:
                self._make_folder(folder, upload.key)
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if create and _link(temporary, path):
                os.unlink(temporary)
            else:
                os.replace(temporary, path)
        except _Taken as exc:
            with contextlib.suppress(OSError):  # a run that was killed between the two may have left it behind
                os.unlink(temporary)
            raise ObjectExists("put", upload.key, "there is a file of this name already") from exc
        except BaseException as exc:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            self._folders.discard(folder)
            if isinstance(exc, OSError):
                raise _mapped(exc, upload.key) from exc
            raise
        finally:
            self._parts.discard(temporary)

    def _make_folder(self, folder: str, key: str) -> None:
        real = os.path.realpath(folder)
        if os.path.commonpath([real, self._real_root]) != self._real_root:
            raise RowRefused("put", key, f"its folder leads out of {self._root} through a symbolic link")
        os.makedirs(folder, exist_ok=True)
        self._folders.add(folder)


class _Taken(Exception):
    """A file has the name that another was to have."""


def _look(path: str) -> None:
    """Raise _Taken when something has the name, and OSError when that is a folder: then it is no object's."""
    if os.path.lexists(path):
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise _Taken


def _link(temporary: str, path: str) -> bool:
    """Give the file a second name if nothing has it: a link, unlike a rename, replaces nothing.

    False where there are no links; then it was only looked, so that a file that comes in between is replaced.

    Raises:
        _Taken: something has it.
    """
    try:
        os.link(temporary, path)
    except FileExistsError as exc:
        _look(path)
        raise _Taken from exc
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        _look(path)
        return False
    return True


def _mapped(exc: OSError, key: str) -> RowRefused | DestinationRefused | ServerFault:
    reason = exc.strerror or str(exc)
    if exc.errno in _ROW_ERRORS:
        return RowRefused("put", key, f"it cannot be a file: {reason}", "change the template in --to")
    if exc.errno in _RUN_ERRORS:
        return DestinationRefused("put", key, reason, "give a folder that can be written to")
    return ServerFault("put", key, reason, "make room on the disk" if exc.errno in _FULL else None)
