"""What libraries log, and the logger `asyncup.s3`, as lines for people: one record, one line, no secret."""

from __future__ import annotations

import logging
import sys
import time
import traceback

from asyncup.console.text import Redactor, shown


class TextRecords(logging.Handler):
    """Writes to what `sys.stderr` is at that moment, so that a live view has the lines above it."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def emit(self, record: logging.LogRecord) -> None:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        lines = [f"{moment}.{int(record.msecs):03d}Z {record.levelname} {record.name}: {shown(record.getMessage())}"]
        if record.exc_info is not None and record.exc_info[1] is not None:
            lines += map(shown, "".join(traceback.format_exception(record.exc_info[1])).splitlines())
        print(self._redact("\n".join(lines)), file=sys.stderr, flush=True)
