"""Type-checked, never run: the public face as users write against it."""

from __future__ import annotations

import asyncup
from asyncup.report import Report


async def copy() -> str:
    report: Report = await asyncup.sync(table="documents", to="s3://bucket/{id}.pdf", body="content")
    return report.status
