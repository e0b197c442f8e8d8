"""Real input for the demo: every file of the running Python's standard library, one row each.

Loading and comparing go through psql, so that neither shares code with the reader that they check.
"""

from __future__ import annotations

import hashlib
import mimetypes
import os
import struct
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.embedded.server import EmbeddedError, own_environment

TABLE = """
CREATE TABLE IF NOT EXISTS files (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    path text NOT NULL UNIQUE,
    content bytea STORAGE EXTERNAL NOT NULL,
    mime text NOT NULL,
    size bigint NOT NULL,
    modified timestamptz NOT NULL,
    sha256 text NOT NULL);
TRUNCATE files RESTART IDENTITY
"""
#: A path that no object key may have.
BROKEN = "reports/../figures.txt"
# Binary COPY: https://www.postgresql.org/docs/current/sql-copy.html
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = struct.pack("!h", -1)
_POSTGRES_EPOCH = 946_684_800  # 2000-01-01, in seconds of Unix time
_FOREIGN = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was loaded: rows, their bytes, and the size of the largest."""

    rows: int
    bytes: int
    largest: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """What comparing rows with files found: names by what is wrong with them."""

    same: int
    bytes: int
    missing: tuple[str, ...]
    different: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def identical(self) -> bool:
        return not (self.missing or self.different or self.extra)


def standard_library() -> Iterator[tuple[str, Path]]:
    """Every file of the standard library with its path relative to it, sorted; installed packages are not part of it."""
    root = Path(sysconfig.get_path("stdlib"))
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if name not in _FOREIGN)
        for name in sorted(names):
            path = Path(folder) / name
            if path.is_file():
                yield path.relative_to(root).as_posix(), path


def load(postgres: EmbeddedPostgres, limit: int | None = None) -> Loaded:
    """Make the table `files` and fill it, with `limit` files at most.

    Raises:
        EmbeddedError: the server refused.
    """
    postgres.psql(TABLE)
    rows = total = largest = 0
    columns = "path, content, mime, size, modified, sha256"
    with _psql(postgres, f"COPY files ({columns}) FROM STDIN (FORMAT binary)", stdin=subprocess.PIPE) as copy:
        assert copy.stdin is not None
        copy.stdin.write(_HEADER)
        for name, path in standard_library():
            if rows == limit:
                break
            try:
                content, modified = path.read_bytes(), path.stat().st_mtime
            except OSError:
                continue
            mime = mimetypes.guess_type(name)[0] or "application/octet-stream"
            fields = (
                name.encode(),
                content,
                mime.encode(),
                struct.pack("!q", len(content)),
                struct.pack("!q", int((modified - _POSTGRES_EPOCH) * 1e6)),
                hashlib.sha256(content).hexdigest().encode(),
            )
            copy.stdin.write(struct.pack("!h", len(fields)))
            for field in fields:
                copy.stdin.write(struct.pack("!i", len(field)))
                copy.stdin.write(field)
            rows, total, largest = rows + 1, total + len(content), max(largest, len(content))
        copy.stdin.write(_TRAILER)
        copy.stdin.close()
        _finish(copy)
    postgres.psql("ANALYZE files")
    return Loaded(rows, total, largest)


def break_a_row(postgres: EmbeddedPostgres) -> None:
    """Add a row that cannot be an object at the key that its path says: `BROKEN`."""
    with _psql(
        postgres,
        "INSERT INTO files (path, content, mime, size, modified, sha256) "
        f"VALUES ('{BROKEN}', 'Q4', 'text/plain', 2, now(), '')",
    ) as insert:
        _finish(insert)


def compare(postgres: EmbeddedPostgres, folder: Path, *, without: str | None = None) -> Comparison:
    """Compare every row's bytes with the file of that name below `folder`.

    Raises:
        EmbeddedError: the server refused.
    """
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    missing, different, same, total = [], [], 0, 0
    with _psql(postgres, "COPY (SELECT path, content FROM files ORDER BY id) TO STDOUT (FORMAT binary)") as copy:
        assert copy.stdout is not None
        copy.stdout.read(len(_HEADER))
        while struct.unpack("!h", copy.stdout.read(2))[0] > 0:
            path, expected = _field(copy.stdout).decode(), _field(copy.stdout)
            if path == without:
                continue
            if path not in left:
                missing.append(path)
                continue
            left.discard(path)
            if (folder / path).read_bytes() == expected:
                same, total = same + 1, total + len(expected)
            else:
                different.append(path)
        _finish(copy)
    return Comparison(same, total, tuple(missing), tuple(different), tuple(sorted(left)))


def _field(stream: IO[bytes]) -> bytes:
    """One field of binary COPY; NULL does not occur in this table."""
    return stream.read(struct.unpack("!i", stream.read(4))[0])


def _psql(postgres: EmbeddedPostgres, sql: str, stdin: int | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*postgres.psql_command(), "-c", sql],
        stdin=stdin if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**own_environment(), **postgres.environment},
        start_new_session=True,
    )


def _finish(copy: subprocess.Popen[bytes]) -> None:
    assert copy.stderr is not None
    message = copy.stderr.read()
    if copy.wait():
        raise EmbeddedError(message.decode(errors="replace").strip())
