"""Dead letters in S3: numbered objects `NAME.dead-letters/000001.jsonl`, each beginning with the line that holds the job.

An object is durable when its PUT is acknowledged, and holds what was written between two saves. Its number is that of its first
letter, so that a run that resumes knows which objects a checkpoint counts without reading them all.

No condition of S3 binds one object to another, the letters to the lease. So each request that changes something is made
only while the lease will surely outlast it, and renews it first where that is not so.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

from asyncup.checkpoints.codec import letter_header, letter_line
from asyncup.checkpoints.deadletters import KIND, VERSION, job_of
from asyncup.checkpoints.files import file_name
from asyncup.checkpoints.places import Documents
from asyncup.checkpoints.s3 import S3Checkpoints
from asyncup.errors import StateLost, StateRefused
from asyncup.flow.retry import Retrier
from asyncup.model import DeadLetter

_SUFFIX = ".jsonl"


def folder(prefix: str, name: str) -> str:
    """What the keys of a job's dead letters begin with."""
    return prefix + file_name(name, ".dead-letters/")


class S3DeadLetters:
    """One job's dead letters, below `folder` in a bucket. `place` is `s3://bucket`."""

    def __init__(
        self, documents: Documents, place: str, folder: str, job: dict[str, Any], lease: S3Checkpoints
    ) -> None:
        self._documents = documents
        self._folder = folder
        self._header = letter_header(KIND, VERSION, job)
        self._lease = lease
        self.location = f"{place}/{folder}"
        self.letters = 0

    async def open(self, retrier: Retrier, *, keep: int) -> None:
        """Keep the first `keep` letters of an earlier run and no others.

        Raises:
            StateRefused: what is there is none of ours, or cannot be read or removed.
            StateLost: another run has the job.
        """
        confirm = self._lease.confirm

        async def delete(key: str) -> None:
            await confirm()
            await self._documents.delete(key)

        async def put(given: tuple[str, bytes]) -> None:
            await confirm()
            await self._documents.put(*given)

        numbers = sorted(await retrier.run(lambda _: _numbers(self._documents, self._folder, confirm), None))
        kept = [number for number in numbers if number <= keep]
        for number in numbers[len(kept) :]:
            await retrier.run(delete, self._key(number))
        if not kept:
            return
        last = self._key(kept[-1])
        document = await retrier.run(self._documents.get, last)
        lines = [] if document is None else document.content.splitlines(keepends=True)[1:]
        self.letters = kept[-1] - 1 + min(len(lines), keep - kept[-1] + 1)
        if self.letters < kept[-1] - 1 + len(lines):
            content = b"".join([self._header, *lines[: self.letters - kept[-1] + 1]])
            await retrier.run(put, (last, content))

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        """See `DeadLetterStore.append`."""
        key = self._key(self.letters + 1)
        content = b"".join([self._header, *map(letter_line, letters)])

        async def write() -> None:
            await self._lease.confirm()
            if await self._documents.put(key, content, new=self._lease.is_guarded) is None:
                found = await self._documents.get(key)
                if found is None or found.content != content:  # else our own, whose answer was lost
                    raise StateLost(
                        "write dead letters",
                        self.location,
                        f"another run has written {key}",
                        "let one run of a job end before the next one begins",
                    )

        await self._lease.tenure.insist(write, "write dead letters", self.location, extends=False)
        self.letters += len(letters)

    def _key(self, number: int) -> str:
        return f"{self._folder}{number:06d}{_SUFFIX}"


async def read(
    documents: Documents, folder: str, location: str, retrier: Retrier
) -> tuple[dict[str, Any], AsyncGenerator[bytes, None]]:
    """The job of dead letters, and their lines, object by object.

    Raises:
        StateRefused: there are none.
    """
    numbers = sorted(await retrier.run(lambda _: _numbers(documents, folder, _nothing), None))

    async def contents() -> AsyncGenerator[list[bytes], None]:
        for number in numbers:
            document = await retrier.run(documents.get, f"{folder}{number:06d}{_SUFFIX}")
            if document is not None:
                yield document.content.splitlines(keepends=True)

    async def lines() -> AsyncGenerator[bytes, None]:
        async for content in contents():
            for line in content[1:]:
                yield line

    if numbers:
        first = await retrier.run(documents.get, f"{folder}{numbers[0]:06d}{_SUFFIX}")
        if first is not None:
            return job_of(first.content.splitlines()[0], location), lines()
    raise StateRefused("open dead letters", location, "there are no dead letters", "no row has failed there")


async def _numbers(documents: Documents, folder: str, meanwhile: Callable[[], Awaitable[None]]) -> list[int]:
    numbers = []
    async for key in documents.keys(folder):
        await meanwhile()
        name = key.removeprefix(folder).removesuffix(_SUFFIX)
        if name.isascii() and name.isdigit():
            numbers.append(int(name))
    return numbers


async def _nothing() -> None:
    pass
