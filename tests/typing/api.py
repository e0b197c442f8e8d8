"""Type-checked, never run: the public face as users write against it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import aclosing
from typing import assert_type

import asyncup
from asyncup.model import DeadLetter, Receipt, Upload
from asyncup.preflight import Preflight
from asyncup.protocols import Sink
from asyncup.report import Report
from asyncup.testing import Published, publish


async def copy() -> str:
    report: Report = await asyncup.sync(table="documents", to="s3://bucket/{id}.pdf", body="content")
    return report.status


async def copy_several() -> list[tuple[str, str]]:
    report: Report = await asyncup.sync_all(
        [{"table": "documents", "to": "s3://bucket/{id}.pdf"}, {"name": "pages", "table": "pages", "to": "null:"}],
        memory="512MiB",
        at_a_time=2,
        fail_fast=True,
    )
    return [(job.name, job.status) for job in report.jobs]


async def look() -> tuple[str, int | None, list[str]]:
    found: Preflight = await asyncup.plan(table="documents", to="s3://bucket/{id}.pdf", body="content")
    return found.status, found.rows.estimate, [reason.message for reason in found.reasons]


async def thumbnail(row: int) -> bytes:
    return bytes(row)


def blocking(row: int) -> str:
    return str(row)


async def each(rows: list[int], pages: AsyncIterator[int], pool: Executor) -> None:
    async for made in asyncup.map(thumbnail, rows, concurrency=150, on_error="raise"):
        assert_type(made, asyncup.Mapped[int, bytes])
        assert_type(made.value, bytes | None)
        assert_type(made.unwrap(), bytes)
    async for text in asyncup.map(blocking, pages, ordered=True, executor=pool):
        assert_type(text.unwrap(), str)
        assert_type((text.index, text.item, text.error), tuple[int, int, Exception | None])
    async with aclosing(asyncup.map(thumbnail, set(rows), on_error="skip")) as outcomes:
        assert_type(await anext(outcomes), asyncup.Mapped[int, bytes])
    asyncup.map(thumbnail, ["text"])  # type: ignore[arg-type]
    asyncup.map(blocking, rows, on_error="ignore")  # type: ignore[call-overload]


class Own:
    def put(self, upload: Upload) -> str | None:
        return upload.key


async def own_sink() -> Receipt:
    sink: Sink = asyncup.ExecutorSink(Own(), threads=8, whole_bodies=True)
    await asyncup.ExecutorSink(lambda upload: upload.key).check()
    published: Published = await publish([b"body", None], Own())
    assert_type(published.letters, tuple[DeadLetter, ...])
    return await sink.put(Upload("key", b"body"))
