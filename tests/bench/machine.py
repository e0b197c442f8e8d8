"""On what, with what, and how it was measured."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.bench.clients import program
from tests.bench.rows import Rows


def describe_machine() -> dict[str, Any]:
    """Values for JSON."""
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu_name(),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
    }


def versions(rows: Rows) -> dict[str, str]:
    """What was measured, and what it ran on."""
    found = {"Python": platform.python_version(), "PostgreSQL": rows.postgres.psql("SHOW server_version")}
    for name in ("asyncup", "uvloop", "obstore", "aiohttp", "aiobotocore", "boto3"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    for name, arguments in (("s5cmd", ["version"]), ("wrk", ["-v"])):
        if version := _said(program(name), *arguments):
            found[name] = version
    return found


def _said(*command: str) -> str | None:
    """The version that a program tells of itself, whatever its exit code."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    match = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return match and match[0]


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists() and (match := re.search(r"model name\s*:\s*(.+)", info.read_text())):
        return match[1]
    return platform.processor() or "unknown"
