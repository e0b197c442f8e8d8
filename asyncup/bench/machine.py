"""What a benchmark is made on, and what it costs there to start."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from asyncup.version import __version__

_IMPORTS = "import asyncup.cli.sync, asyncup.app, asyncup.sources.postgres, asyncup.sinks.s3, asyncup.console.plain"


def machine() -> dict[str, object]:
    """What was measured on: figures of another machine are not comparable."""
    return {
        "asyncup": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def _processor() -> str:
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open() as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def import_seconds() -> float:
    """How long a new process takes until everything that a run needs is imported; the shorter of two times."""
    taken = []
    for _ in range(2):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", _IMPORTS], check=True, stdin=subprocess.DEVNULL, start_new_session=True)
        taken.append(time.perf_counter() - begun)
    return min(taken)
