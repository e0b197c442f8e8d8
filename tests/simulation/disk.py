"""A disk: what was written is in the machine's memory, what was synced is on it, and a crash shows the difference.

The state room runs on it unchanged: `os`, `Path` and `FileLock` of its modules are replaced by those of this page.
When the process dies, the memory of the machine stays. When the power fails, of each file and of the folder some
first part of what was not synced survives, its last write cut anywhere: nothing promises more
(https://pubs.opengroup.org/onlinepubs/9799919799/functions/fsync.html).
"""

from __future__ import annotations

import errno
import io
import os
import random
import stat
from collections.abc import Callable
from typing import Any, Self

from tests.simulation.loop import Crash


class Inode:
    """A file's content, what of it is durable, and the writes in between, in order."""

    __slots__ = ("content", "durable", "pending")

    def __init__(self, durable: bytes = b"") -> None:
        self.content = bytearray(durable)
        self.durable = durable
        self.pending: list[tuple[int, bytes | None]] = []

    def write(self, data: bytes) -> None:
        self.pending.append((len(self.content), data))
        self.content += data

    def truncate(self, size: int) -> None:
        self.pending.append((size, None))
        del self.content[size:]

    def sync(self) -> None:
        self.durable = bytes(self.content)
        self.pending.clear()

    def survive(self, dice: random.Random) -> None:
        """What the power failure leaves: some of the first writes, the last of them torn."""
        content, kept = bytearray(self.durable), dice.randint(0, len(self.pending))
        for number, (offset, data) in enumerate(self.pending[: kept + 1]):
            if data is None:
                if number < kept:
                    del content[offset:]
            else:
                content[offset:] = data if number < kept else data[: dice.randint(0, len(data))]
        self.durable = bytes(content)
        self.content = content
        self.pending.clear()


class Disk:
    """One folder with files.

    Attributes:
        fails: says for an operation whether it fails now.
        operations: how many there were; the process dies in the one numbered `crash_at`.
        replaced: told of a file that took the place of another.
        dead: the process that had this disk is gone; whatever is left of it reaches nothing.
    """

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.names: dict[str, Inode] = {}
        self._durable_names: dict[str, Inode] = {}
        self._moves: list[tuple[str, Inode | None]] = []
        self._open: dict[int, Inode | None] = {}
        self._numbers = 100
        self.locks: set[str] = set()
        self.operations = 0
        self.crash_at = 0
        self.dead = False
        self.fails: Callable[[str], bool] = lambda operation: False
        self.replaced: Callable[[str, Inode], None] = lambda name, inode: None
        self.happened: Callable[[str, int], None] = lambda operation, number: None

    def crash(self, *, power: bool) -> None:
        """The process dies; with `power`, the machine with it."""
        self._open.clear()
        self.locks.clear()
        if power:
            for name, inode in self._moves[: self._dice.randint(0, len(self._moves))]:
                self._link(self._durable_names, name, inode)
            self._moves.clear()
            self.names = dict(self._durable_names)
            for inode in {id(inode): inode for inode in self.names.values()}.values():
                inode.survive(self._dice)

    def durable(self, name: str) -> bytes:
        """What of a file is certain to be there after a power failure."""
        inode = self._durable_names.get(name)
        return inode.durable if inode is not None and self.names.get(name) is inode else b""

    def descriptors(self) -> int:
        return len(self._open)

    def begin(self, operation: str) -> None:
        """Something is asked of the disk.

        Raises:
            Crash: it is the process's last.
            OSError: it fails.
        """
        if self.dead:
            raise OSError(errno.EIO, "the process is gone")
        self.operations += 1
        self.happened(operation, self.operations)
        if self.operations == self.crash_at:
            self.dead = True
            raise Crash
        if self.fails(operation):
            raise OSError(errno.ENOSPC, "No space left on device")

    # --- what the folder's files are called -------------------------------------------------------------------

    def move(self, name: str, inode: Inode | None) -> None:
        self._link(self.names, name, inode)
        self._moves.append((name, inode))

    @staticmethod
    def _link(names: dict[str, Inode], name: str, inode: Inode | None) -> None:
        if inode is None:
            names.pop(name, None)
        else:
            for other in [other for other, linked in names.items() if linked is inode]:
                del names[other]  # renamed
            names[name] = inode

    # --- descriptors ------------------------------------------------------------------------------------------

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        self.begin("open")
        self._numbers += 1
        if str(path) == ROOT:
            self._open[self._numbers] = None
            return self._numbers
        name = SimulatedPath(path).name
        inode = self.names.get(name)
        if inode is None:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, "No such file", name)
            inode = Inode()
            self.move(name, inode)
        elif flags & os.O_EXCL:
            raise FileExistsError(errno.EEXIST, "File exists", name)
        if flags & os.O_TRUNC and inode.content:
            inode.truncate(0)
        self._open[self._numbers] = inode
        return self._numbers

    def inode(self, descriptor: int) -> Inode:
        inode = self._open.get(descriptor)
        if inode is None:
            raise OSError(errno.EBADF, "Bad file descriptor")
        return inode

    def write(self, descriptor: int, data: bytes) -> int:
        inode = self.inode(descriptor)
        try:
            self.begin("write")
        except OSError:
            if not self.dead:
                inode.write(data[: self._dice.randint(0, len(data))])
            raise
        except Crash:
            inode.write(data[: self._dice.randint(0, len(data))])
            raise
        count = len(data)
        if self._dice.random() < 0.1:
            count = self._dice.randint(1, count)  # as write(2) may
        inode.write(data[:count])
        return count

    def fsync(self, descriptor: int) -> None:
        self.begin("fsync")
        if self._open.get(descriptor, self) is None:  # the folder
            for name, inode in self._moves:
                self._link(self._durable_names, name, inode)
            self._moves.clear()
        else:
            self.inode(descriptor).sync()

    def ftruncate(self, descriptor: int, size: int) -> None:
        self.begin("truncate")
        self.inode(descriptor).truncate(size)

    def close(self, descriptor: int) -> None:
        if not self.dead and self._open.pop(descriptor, self) is self:
            raise OSError(errno.EBADF, "Bad file descriptor")


ROOT = "/state"


class Stage:
    """The disk that is there now; what replaces modules cannot be given one."""

    disk: Disk


class SimulatedOS:
    """The part of `os` that the state room uses; constants are the real ones."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("O_", "W_", "X_", "R_")) or name in ("name", "fspath", "PathLike", "getpid", "environ"):
            return getattr(os, name)
        raise AttributeError(f"the simulated disk has no os.{name}")

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        return Stage.disk.open(path, flags, mode)

    def write(self, descriptor: int, data: bytes) -> int:
        return Stage.disk.write(descriptor, bytes(data))

    def fsync(self, descriptor: int) -> None:
        Stage.disk.fsync(descriptor)

    def ftruncate(self, descriptor: int, size: int) -> None:
        Stage.disk.ftruncate(descriptor, size)

    def fstat(self, descriptor: int) -> Any:
        size = len(Stage.disk.inode(descriptor).content)
        return os.stat_result((stat.S_IFREG | 0o600, 1, 1, 1, 0, 0, size, 0, 0, 0))

    def close(self, descriptor: int) -> None:
        Stage.disk.close(descriptor)

    def access(self, path: Any, mode: int) -> bool:
        return True

    def fdopen(self, descriptor: int, mode: str) -> Any:
        if mode == "rb":
            content = bytes(Stage.disk.inode(descriptor).content)
            Stage.disk.close(descriptor)  # what was opened to be read is not asked about again
            return io.BytesIO(content)
        return SimulatedFile(descriptor)


class SimulatedFile:
    """A buffered file, open for writing."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = b""

    def write(self, data: bytes) -> int:
        self._buffer += data
        return len(data)

    def flush(self) -> None:
        while self._buffer:
            buffer, self._buffer = self._buffer, b""
            self._buffer = buffer[Stage.disk.write(self._descriptor, buffer) :]

    def fileno(self) -> int:
        return self._descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.flush()
        finally:
            Stage.disk.close(self._descriptor)


class SimulatedPath:
    """A path in the one folder that there is."""

    __slots__ = ("_text",)

    def __init__(self, *parts: Any) -> None:
        self._text = "/".join(str(part) for part in parts)

    def __str__(self) -> str:
        return self._text

    def __truediv__(self, name: str) -> SimulatedPath:
        return SimulatedPath(self._text, name)

    @property
    def name(self) -> str:
        return self._text.rpartition("/")[2]

    @property
    def parent(self) -> SimulatedPath:
        return SimulatedPath(self._text.rpartition("/")[0])

    def with_name(self, name: str) -> SimulatedPath:
        return self.parent / name

    def mkdir(self, **_: Any) -> None:
        pass

    def exists(self) -> bool:
        return self._text == ROOT or self.name == ".gitignore" or self.name in Stage.disk.names

    def read_bytes(self) -> bytes:
        Stage.disk.begin("read")
        if self.name not in Stage.disk.names:
            raise FileNotFoundError(errno.ENOENT, "No such file", self._text)
        return bytes(Stage.disk.names[self.name].content)

    def write_text(self, text: str) -> None:
        """Only what people may read is written like this; nothing hangs on it."""

    def open(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.read_bytes())

    def unlink(self, *, missing_ok: bool = False) -> None:
        Stage.disk.begin("unlink")
        if self.name in Stage.disk.names:
            Stage.disk.move(self.name, None)
        elif not missing_ok:
            raise FileNotFoundError(errno.ENOENT, "No such file", self._text)

    def replace(self, target: SimulatedPath) -> None:
        disk = Stage.disk
        disk.begin("rename")
        inode = disk.names[self.name]
        disk.move(target.name, inode)
        disk.replaced(target.name, inode)


class SimulatedLock:
    """The kernel's lock on a file: it ends with its process."""

    def __init__(self, path: Any, **_: Any) -> None:
        self._name = str(path)

    def acquire(self, **_: Any) -> None:
        if self._name in Stage.disk.locks:
            raise AssertionError("two runs of one job")
        Stage.disk.locks.add(self._name)

    def release(self) -> None:
        Stage.disk.locks.discard(self._name)
