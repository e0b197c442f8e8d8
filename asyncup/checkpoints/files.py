"""The state folder: one checkpoint, one lock and one dead-letter file for each job name.

Everything here blocks; the stores built on it call it in threads.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from pathlib import Path
from urllib.parse import quote, unquote

from filelock import FileLock, Timeout

from asyncup.checkpoints.codec import from_json, unreadable
from asyncup.checkpoints.lease import Holder
from asyncup.checkpoints.owner import Owner
from asyncup.checkpoints.places import Entry
from asyncup.errors import StateRefused

#: What is said of a device, a pipe or a socket.
NO_FILE = "it is a device, a pipe or a socket, and no file that could be read again"

#: For how long a lock that is taken may be that of somebody who only looks at who holds it; and between two tries.
_LOOK_SECONDS, _POLL_SECONDS = 0.2, 0.01


class StateFolder:
    """A folder that holds the state of jobs. `--state` names it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Make the folder, unreadable to others and ignored by git.

        Raises:
            StateRefused: it cannot be made or written to.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            ignore = self.path / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError("permission denied")
        except OSError as exc:
            raise StateRefused(
                "open state",
                str(self.path),
                f"the state folder cannot be used: {exc.strerror or exc}",
                "give a folder that can be written to with --state",
            ) from exc

    def file(self, name: str, suffix: str) -> Path:
        """The file of a job. Names that could not be file names are encoded, so that no two share a file."""
        return self.path / file_name(name, suffix)

    def lock(self, name: str) -> FileLock:
        """Take the job's lock; the kernel gives it back when the process ends, however it ends.

        Raises:
            StateRefused: another run holds it.
        """
        path = self.file(name, ".lock")
        holder = _holder(path)
        lock = FileLock(path, mode=0o600, thread_local=False)
        try:
            _acquire(lock)
        except Timeout:
            raise StateRefused(
                "lock job",
                name,
                f"another run of this job is in progress{f': {holder}' if holder else ''} (it holds {path})",
                "wait for it, or give this run a --name of its own",
            ) from None
        except OSError as exc:
            raise StateRefused("lock job", name, f"cannot lock {path}: {exc.strerror or exc}") from exc
        with contextlib.suppress(OSError):  # it is only for people; the lock is the kernel's
            path.write_text(json.dumps(Owner.here().to_json()) + "\n")
        return lock

    def unlock(self, name: str, lock: FileLock) -> None:
        """Give the job's lock back."""
        with contextlib.suppress(OSError):
            self.file(name, ".lock").write_text("")
        lock.release()

    def entries(self) -> list[Entry]:
        """Every job whose state is here, by name. A folder that is not there holds none.

        Raises:
            StateRefused: it cannot be read.
        """
        try:
            paths = sorted(self.path.iterdir())
        except FileNotFoundError:
            return []
        except OSError as exc:
            hint = "give the place that a run had as --state: a folder, s3://bucket/prefix or postgres:schema.table"
            raise StateRefused("read state", str(self.path), exc.strerror or str(exc), hint) from exc
        saved = [path for path in paths if path.suffix == ".json" and not path.name.startswith(".")]
        begun = [path for path in paths if path.suffix == ".lock" and path.with_suffix(".json") not in saved]
        held = [self._held(path) for path in begun]
        return sorted(
            [*map(self._entry, saved), *(entry for entry in held if entry.holder is not None)],
            key=lambda entry: entry.location,
        )

    def look(self, name: str) -> Entry:
        """What is here of a job, whether or not anything was saved. Nothing is made.

        Raises:
            StateRefused: a run could not keep its state here.
        """
        fault = unwritable(self.path)
        if fault is not None:
            reason = f"the state folder cannot be used: {fault}"
            raise StateRefused(
                "open state", str(self.path), reason, "give a folder that can be written to with --state"
            )
        path = self.file(name, ".json")
        if path.exists():
            return self._entry(path)
        letters = str(self.file(name, ".dead-letters.jsonl"))
        return Entry(name, str(path), letters, holder=_holder(self.file(name, ".lock")))

    def _held(self, lock: Path) -> Entry:
        """What there is of a job by its lock alone."""
        letters = str(lock.with_suffix(".dead-letters.jsonl"))
        return Entry(unquote(lock.stem), str(lock.with_suffix(".json")), letters, holder=_holder(lock))

    def _entry(self, path: Path) -> Entry:
        name, letters = unquote(path.stem), str(path.with_suffix(".dead-letters.jsonl"))
        try:
            checkpoint = from_json(json.loads(path.read_bytes()), str(path))
        except StateRefused as exc:
            return Entry(name, str(path), letters, error=exc)
        except (OSError, ValueError):
            return Entry(name, str(path), letters, error=unreadable(str(path)))
        return Entry(checkpoint.name, str(path), letters, checkpoint, _holder(path.with_suffix(".lock")))


def unwritable(folder: Path) -> str | None:
    """Why a folder cannot be written to, or made where it is missing; None when it can. Nothing is made."""
    found = folder.absolute()
    while not os.path.lexists(found) and found != found.parent:
        found = found.parent
    if not found.is_dir():
        return f"{found} is no folder"
    return None if os.access(found, os.W_OK | os.X_OK) else f"permission denied: {found}"


def _acquire(lock: FileLock) -> None:
    """Take a lock. `_holder` holds it too for an instant, which is no reason to believe that a run does.

    Raises:
        Timeout: somebody has it.
        OSError: it cannot be taken.
    """
    end = time.monotonic() + _LOOK_SECONDS
    while True:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if time.monotonic() >= end:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            return


def _holder(path: Path) -> Holder | None:
    """Who holds a lock, None when nobody does."""
    try:
        owner = Owner.of(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if os.name == "nt":
        return Holder(owner)
    import fcntl  # noqa: PLC0415 - not on Windows

    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return Holder(owner)
    return None


def file_name(name: str, suffix: str) -> str:
    """The file name of a job, or the last part of an object key. No two names give the same one."""
    safe = quote(name, safe=" \"'()+,=@[]")
    if safe.startswith("."):
        safe = "%2E" + safe[1:]
    if len(safe) > 160:
        safe = safe[:120] + "-" + hashlib.sha256(name.encode()).hexdigest()[:16]
    return safe + suffix


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file atomically and durably: write beside it, sync, rename, sync the folder; mode 0600.

    Raises:
        OSError: nothing was replaced.
    """
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def open_file(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open a file, and nothing else: to open a pipe would wait, and to read a device would never end.

    Raises:
        OSError: it cannot be opened, or is no file.
    """
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), mode)
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        raise OSError("it is a folder" if stat.S_ISDIR(kind) else NO_FILE)
    return descriptor


def sync_folder(path: Path) -> None:
    """Make a rename or a new file in a folder durable, where the system can (not on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
