"""The JSON object in which S3 keeps a job's checkpoint together with the lease of the run that has the job."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any

from asyncup.checkpoints.codec import unreadable
from asyncup.checkpoints.lease import Holder
from asyncup.checkpoints.owner import Owner
from asyncup.model import Document

KIND = "asyncup state"
VERSION = 1
#: `Last-Modified` and `Date` are whole seconds: an age may be a second less than it seems.
_GRACE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class LeasedState:
    """What the object says: the run that wrote it last and its how many-th write it was, the lease, the checkpoint."""

    writer: str
    serial: int
    lease: Owner | None
    seconds: float
    checkpoint: Any

    def encoded(self) -> bytes:
        lease = None if self.lease is None else {**self.lease.to_json(), "seconds": self.seconds}
        value = {"kind": KIND, "version": VERSION, "writer": self.writer, "serial": self.serial, "lease": lease}
        return json.dumps({**value, "checkpoint": self.checkpoint}, ensure_ascii=False, indent=1).encode() + b"\n"

    @classmethod
    def decoded(cls, document: Document, location: str) -> LeasedState:
        """Raises StateRefused: it is none of ours."""
        try:
            value = json.loads(document.content)
            if value["kind"] != KIND or value["version"] != VERSION:
                raise ValueError("unknown version")  # noqa: TRY301 - one kind of error for all that can be wrong
            lease = value["lease"]
            return cls(
                str(value["writer"]),
                int(value["serial"]),
                None if lease is None else Owner.of(lease),
                0.0 if lease is None else float(lease["seconds"]),
                value["checkpoint"],
            )
        except (ValueError, KeyError, TypeError) as exc:
            raise unreadable(location) from exc

    def holder(self, document: Document) -> Holder | None:
        """Who holds the lease as far as the server's clock says: None when nobody does, or it has run out."""
        if self.lease is None:
            return None
        if document.written is None or document.now is None:
            return Holder(self.lease)
        if document.now - document.written >= self.seconds + _GRACE_SECONDS:
            return None
        until = dt.datetime.fromtimestamp(document.written + self.seconds, dt.timezone.utc)
        return Holder(self.lease, until.isoformat(timespec="seconds").replace("+00:00", "Z"))
