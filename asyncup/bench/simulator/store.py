"""What is kept of what was accepted: of every object its size and its MD5, and its bytes where they are asked for."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

#: What `--keep` takes.
KEEPS = ("none", "digest", "all")
#: Lines of a streamed list that are made at a time.
_LINES = 500


class Entry(NamedTuple):
    """An object. `modified` is in seconds since 1970, `headers` are whole lines, `body` is None unless bodies are kept."""

    size: int
    etag: str
    modified: float
    kind: str
    headers: str
    body: bytes | None


class Part(NamedTuple):
    """A part of a multipart upload; `md5` is in hexadecimal digits."""

    size: int
    md5: str
    body: bytes | None


@dataclass(slots=True)
class Upload:
    """A multipart upload that is neither completed nor aborted."""

    bucket: str
    key: str
    started: float
    kind: str
    headers: str
    parts: dict[int, Part] = field(default_factory=dict)


@dataclass(slots=True)
class Bucket:
    """Objects by key. The order of the keys is that of their UTF-8 bytes, as S3 lists them; it is made when it is needed."""

    entries: dict[str, Entry] = field(default_factory=dict)
    _order: list[str] = field(default_factory=list)
    _new: list[str] = field(default_factory=list)

    def put(self, key: str, entry: Entry) -> bool:
        """Store an object; whether there was another one."""
        is_new = key not in self.entries
        self.entries[key] = entry
        if is_new:
            self._new.append(key)
        return not is_new

    def delete(self, key: str) -> None:
        if self.entries.pop(key, None) is not None:
            del self.keys()[bisect_left(self._order, key)]

    def keys(self) -> list[str]:
        """All keys in order; code points have the order of UTF-8 bytes. The list changes with the bucket."""
        if self._new:
            self._order += self._new
            self._order.sort()  # of two runs, the first of which is sorted: linear, for new keys that came in order
            self._new = []
        return self._order


@dataclass(slots=True)
class Store:
    """All buckets; each exists when it is first asked for. `overwritten` counts PUTs of keys that had an object."""

    keeps_bodies: bool = False
    buckets: dict[str, Bucket] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    overwritten: int = 0
    _numbers: int = 0

    def bucket(self, name: str) -> Bucket:
        found = self.buckets.get(name)
        if found is None:
            found = self.buckets[name] = Bucket()
        return found

    def put(self, bucket: str, key: str, entry: Entry) -> None:
        self.overwritten += self.bucket(bucket).put(key, entry)

    def begin(self, upload: Upload) -> str:
        """Begin a multipart upload; its id."""
        self._numbers += 1
        name = f"upload-{self._numbers}"
        self.uploads[name] = upload
        return name

    def forget(self) -> None:
        """Forget all objects and uploads."""
        self.buckets.clear()
        self.uploads.clear()
        self.overwritten = 0

    def summary(self, bucket: str | None, prefix: str) -> dict[str, Any]:
        """How many objects there are below a prefix, and a digest that two sets of them can be compared by."""
        pairs = [(key, entry) for _, key, entry in self._walk(bucket, prefix)]
        return {
            "objects": len(pairs),
            "bytes": sum(entry.size for _, entry in pairs),
            "digest": digest_of((key, entry.etag) for key, entry in pairs),
            "overwritten": self.overwritten,
            "uploads": len(self.uploads),
        }

    def lines(self, bucket: str | None, prefix: str) -> Iterator[bytes]:
        """A line of JSON for each object: `bucket`, `key`, `size`, `md5`; some hundred lines at a time."""
        walk = self._walk(bucket, prefix)
        while some := list(islice(walk, _LINES)):
            lines = [
                json.dumps({"bucket": name, "key": key, "size": entry.size, "md5": entry.etag})
                for name, key, entry in some
            ]
            yield ("\n".join(lines) + "\n").encode()

    def _walk(self, bucket: str | None, prefix: str) -> Iterator[tuple[str, str, Entry]]:
        """Objects in order; those that are deleted meanwhile are left out."""
        for name in sorted(self.buckets) if bucket is None else [bucket]:
            found = self.bucket(name)
            keys = found.keys()
            begin = bisect_left(keys, prefix)
            for key in keys[begin:]:
                if not key.startswith(prefix):
                    break
                entry = found.entries.get(key)
                if entry is not None:
                    yield name, key, entry


def digest_of(pairs: Iterable[tuple[str, str]]) -> str:
    """A digest of keys and their ETags (MD5s, in hexadecimal digits) that does not depend on their order.

    It is the sum, modulo 2**128, of the MD5 of each `key NUL etag`, in 32 hexadecimal digits.
    """
    total = 0
    for key, etag in pairs:
        text = f"{key}\0{etag}".encode(errors="surrogateescape")
        total += int.from_bytes(hashlib.md5(text, usedforsecurity=False).digest(), "big")
    return f"{total % (1 << 128):032x}"
