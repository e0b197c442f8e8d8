"""Type-checked, never run: the public face as users write against it."""

from __future__ import annotations

import asyncup
from asyncup.preflight import Preflight
from asyncup.report import Report


async def copy() -> str:
    report: Report = await asyncup.sync(table="documents", to="s3://bucket/{id}.pdf", body="content")
    return report.status


async def look() -> tuple[str, int | None, list[str]]:
    found: Preflight = await asyncup.plan(table="documents", to="s3://bucket/{id}.pdf", body="content")
    return found.status, found.rows.estimate, [reason.message for reason in found.reasons]
