"""The lanes of a dry run: every request is made, hashed and signed as to be sent, and nothing that writes is sent.

The wire lane stops where the bytes would go to a socket. botocore's client stops before its connection, whatever is asked of
it that is no GET or HEAD, so that no way around the lanes leads to the bucket. What is left out is the connection: its TLS, the
network, and the server's answer.
"""

from __future__ import annotations

from typing import Any

from asyncup.model import Receipt, Upload, tuple_of
from asyncup.sinks.s3.client import ControlClient
from asyncup.sinks.s3.compatible import CompatibleLane
from asyncup.sinks.s3.exchange import INLINE_BODY
from asyncup.sinks.s3.integrity import THREAD_BYTES, Seal
from asyncup.sinks.s3.resolve import Seen
from asyncup.sinks.s3.wire import WireLane

_READS = frozenset({"GET", "HEAD"})
#: What stands in an answer for what only a server could say.
_NAME = '"unsent"'


class UnsentClient(ControlClient):
    """botocore's client, whose requests that write are answered here. `made` is how many there were."""

    made = 0

    @classmethod
    def over(cls, control: ControlClient) -> UnsentClient:
        """Take over a client; it sends no more than questions from now on."""
        control.client.meta.events.register("before-send.s3", _hold_back)
        held = cls.__new__(cls)
        held.__dict__.update(control.__dict__)
        return held

    async def call(self, operation: str, patience: float, **given: Any) -> Any:
        """See `ControlClient.call`."""
        try:
            return await super().call(operation, patience, **given)
        except Seen:
            self.made += 1
            return {"UploadId": _NAME, "ETag": _NAME, "ResponseMetadata": {"HTTPStatusCode": 200, "HTTPHeaders": {}}}


class UnsentWire(WireLane):
    """The wire lane up to the socket. `made` is how many requests there were, of `size` bytes together."""

    made = 0
    size = 0

    async def put(self, upload: Upload) -> Receipt:
        """See `Sink.put`."""
        body: bytes  # a streamed one goes in parts
        key, body, headers = upload  # type: ignore[assignment]
        size, integrity = len(body), self._integrity
        seal = integrity.seal(body) if size <= THREAD_BYTES else await integrity.seal_apart(body)
        head = await self._head(key, "", headers, size, seal)
        self.made += 1
        self.size += len(head + body) if size <= INLINE_BODY else len(head) + size  # which go in one write, or apart
        return tuple_of(Receipt, (key, size, None))

    async def put_part(self, key: str, upload_id: str, number: int, body: memoryview) -> tuple[str, str | None]:
        """See `WireLane.put_part`."""
        seal = await self._integrity.seal_apart(body)
        head = await self._head(key, self.part_query(upload_id, number), None, len(body), seal)
        self.made += 1
        self.size += len(head) + len(body)
        return _NAME, seal.checksum


class UnsentCompatible(CompatibleLane):
    """botocore's lane over an `UnsentClient`."""

    def _check(self, seal: Seal, etag: str | None, answer: dict[str, Any], op: str, key: str) -> None:
        """There is no answer to be checked."""


def _hold_back(request: Any, **_: Any) -> None:
    if request.method not in _READS:
        raise Seen(request)
