"""What a directory holds: its files, found folder by folder, and compared byte by byte. Nothing here writes."""

from __future__ import annotations

import asyncio
import itertools
import os
import stat
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path

from asyncup.errors import DestinationRefused, ObjectMissing, RowRefused
from asyncup.model import Likeness, Listed, Streamed, Upload
from asyncup.sinks.directory import is_part

#: Files of one page.
_PAGE = 1000
#: Bytes of a file that are compared at a time.
_CHUNK = 1 << 20


class DirectoryObjects:
    """The files below `root`, but for those that a run has begun and not finished."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)

    async def check(self) -> None:
        """Ask whether the folder is there, without making it.

        Raises:
            DestinationRefused: it is not.
        """
        if not await asyncio.to_thread(os.path.isdir, self._root):
            raise DestinationRefused("list", self._root, "there is no such folder", "check the folder in --to")

    async def pages(self, prefix: str) -> AsyncGenerator[Sequence[Listed], None]:
        """See `Objects.pages`. Files come in the order in which the file system names them."""
        files = _files(self._root, prefix)
        while page := await asyncio.to_thread(self._page, files):
            yield page

    async def look(self, key: str) -> Listed | None:
        """See `Objects.look`."""
        return await asyncio.to_thread(self._look, key)

    async def compare(self, upload: Upload, listed: Listed, *, deep: bool = False) -> Likeness | str:
        """See `Objects.compare`. A file has no checksum, and is near: its bytes are read, `deep` or not."""
        del deep
        if isinstance(upload.body, Streamed):
            return await self._compare_slices(upload.key, upload.body, listed)
        if listed.size != len(upload.body):
            return _sizes(listed.size, len(upload.body))
        return await asyncio.to_thread(self._compare, upload.key, upload.body, 0, listed.size)

    async def _compare_slices(self, key: str, body: Streamed, listed: Listed) -> Likeness | str:
        async with body.open() as (size, slices):
            if listed.size != size:
                return _sizes(listed.size, size)
            done = 0
            async for piece in slices:
                found = await asyncio.to_thread(self._compare, key, piece, done, size)
                if found is not Likeness.BYTES:
                    return found
                done += len(piece)
        return Likeness.BYTES

    def _page(self, files: Iterator[Listed]) -> list[Listed]:
        try:
            return list(itertools.islice(files, _PAGE))
        except OSError as exc:
            raise DestinationRefused(
                "list", exc.filename or self._root, exc.strerror or str(exc), "check the folder in --to"
            ) from exc

    def _look(self, key: str) -> Listed | None:
        try:
            found = os.stat(self._path(key))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise RowRefused("look at", key, exc.strerror or str(exc)) from exc
        return None if stat.S_ISDIR(found.st_mode) else Listed(key, found.st_size)

    def _compare(self, key: str, body: bytes, begin: int, size: int) -> Likeness | str:
        """Compare a file of `size` bytes with what a body has from `begin` on."""
        view, done = memoryview(body), 0
        try:
            with open(self._path(key), "rb") as file:
                file.seek(begin)
                while done < len(view) and (chunk := file.read(min(_CHUNK, len(view) - done))):
                    if view[done : done + len(chunk)] != chunk:
                        return "its bytes differ from the row's"
                    done += len(chunk)
                is_longer = begin + done == size and file.read(1)
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise ObjectMissing("read", key, "the file has gone since it was listed") from exc
        except OSError as exc:
            raise RowRefused("read", key, exc.strerror or str(exc)) from exc
        return "its bytes differ from the row's" if is_longer or done < len(view) else Likeness.BYTES

    def _path(self, key: str) -> str:
        return os.path.join(self._root, *key.split("/"))


def _sizes(size: int, wanted: int) -> str:
    return f"it has {size:,} bytes, and should have {wanted:,}"


def _files(root: str, prefix: str) -> Iterator[Listed]:
    """The files below a folder whose keys begin with `prefix`; folders are read entry by entry, as deep as they go.

    Links to files are what they lead to; links to folders are not followed, as they may lead in a circle.
    """
    open_folders = [("", os.scandir(root))]
    try:
        while open_folders:
            above, entries = open_folders[-1]
            entry = next(entries, None)
            if entry is None:
                open_folders.pop()
                entries.close()
                continue
            # a name that is no UTF-8 cannot be a row's
            key = above + entry.name.encode(errors="surrogateescape").decode(errors="backslashreplace")
            if entry.is_dir(follow_symlinks=False):
                if key.startswith(prefix) or prefix.startswith(key + "/"):
                    open_folders.append((key + "/", os.scandir(entry.path)))
            elif key.startswith(prefix) and not is_part(entry.name) and not entry.is_dir():
                size = entry.stat(follow_symlinks=os.path.exists(entry.path)).st_size
                yield Listed(key, size)
    finally:
        for _, entries in open_folders:
            entries.close()
