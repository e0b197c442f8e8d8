"""Requests to S3 as records of the logger `asyncup.s3`, with what AWS support asks for: when, which, and both of its ids.

At INFO those that failed or were tried again, and what is asked beside objects (the bucket, listings, uploads in parts); at
DEBUG every one. Where nobody listens when a run begins, nothing of this is in the way of a request. A record holds no header of a
request and no query, so neither signatures nor tokens.

The ids: https://docs.aws.amazon.com/AmazonS3/latest/userguide/get-request-ids.html
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp
from botocore.exceptions import HTTPClientError

from asyncup.sinks.s3.exchange import Answer, Connection
from asyncup.sinks.s3.framing import Place

log = logging.getLogger("asyncup.s3")

REQUEST_ID, HOST_ID = b"x-amz-request-id", b"x-amz-id-2"
#: Requests that failed and were not tried again yet; more than may be in flight, and an end to those that never are.
_REMEMBERED = 20_000
#: What botocore sends for single objects.
_OF_ROWS = frozenset({"PutObject", "UploadPart", "HeadObject", "GetObject", "DeleteObject"})
#: Answers that tell what was asked: it is not there, it is as before, it is there already.
_TELLING = frozenset({("HEAD", 404), ("GET", 404), ("GET", 304), ("PUT", 412)})
_CODE = re.compile(rb"<Code>([^<]{1,200})</Code>")
_PART = re.compile(r"(?:^|&)partNumber=(\d+)")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. `query` only tells it from others; no record has it."""

    method: str
    host: str
    key: str
    query: str
    is_of_row: bool
    begun: float

    @property
    def part(self) -> int | None:
        """The number of a part."""
        found = _PART.search(self.query)
        return int(found[1]) if found else None


@dataclass(frozen=True, slots=True)
class Record:
    """What is said of a request: `record.request` has these as a dict. `seconds` from its beginning to its answer or failure."""

    method: str
    host: str
    bucket: str
    key: str | None
    part: int | None
    status: int | None
    code: str | None
    failure: str | None
    request_id: str | None
    host_id: str | None
    attempt: int
    seconds: float

    def __str__(self) -> str:
        told = {name: value for name, value in asdict(self).items() if value is not None and name not in _FIRST}
        return " ".join([self.method, self.host, *(f"{name}={_said(value)}" for name, value in told.items())])


_FIRST = frozenset({"method", "host"})


def _said(value: object) -> str:
    """A value on one line: what rows and servers say must not steer a terminal."""
    plain = isinstance(value, (int, float)) or re.fullmatch(r"[\w./:+=~@-]+", str(value), re.ASCII)
    return str(value) if plain else json.dumps(value)


#: What a task has asked through botocore and has no answer to yet.
_under_way: ContextVar[Asked | None] = ContextVar("asyncup_asked", default=None)


class RequestLog:
    """What becomes of the requests of one client to one bucket."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        self._failed: dict[tuple[str, str, str], int] = {}
        self._clock = time.perf_counter

    @classmethod
    def open(cls, bucket: str) -> RequestLog | None:
        """One, if somebody listens."""
        return cls(bucket) if log.isEnabledFor(logging.INFO) else None

    def connections(self, place: Place) -> Callable[[Callable[[Connection], None]], Connection]:
        """What makes the connections of the wire lane to a place, so that they tell of their exchanges."""
        return partial(ToldConnection, self, place)

    def watch(self, events: Any) -> None:
        """Be told of the requests of a botocore client, by its event emitter."""
        events.register("request-created.s3", self._on_created, unique_id="asyncup-log-created")
        events.register("response-received.s3", self._on_received, unique_id="asyncup-log-received")

    def asked(self, place: Place, data: bytes) -> Asked:
        """A request of the wire lane, by its head."""
        method, target, _ = data[: data.index(b"\r\n")].decode("latin-1").split(" ", 2)
        path, _, query = target.partition("?")
        return Asked(method, place.host, unquote(path.removeprefix(place.base)), query, True, self._clock())

    def answered(
        self, asked: Asked, status: int, code: str | None, request_id: str | None, host_id: str | None
    ) -> None:
        """An answer came."""
        has_failed = (status >= 300 or code is not None) and (asked.method, status) not in _TELLING
        self._tell(asked, status, code, request_id, host_id, None, has_failed=has_failed)

    def broke(self, asked: Asked, why: str) -> None:
        """No answer came."""
        self._tell(asked, None, None, None, None, why, has_failed=True)

    def unanswered(self, exc: Exception) -> None:
        """What this task has asked through botocore came to its end, and botocore did not say so."""
        asked = _under_way.get()
        if asked is not None:
            _under_way.set(None)
            self.broke(asked, "no answer in time" if isinstance(exc, TimeoutError) else str(exc) or type(exc).__name__)

    def _tell(
        self,
        asked: Asked,
        status: int | None,
        code: str | None,
        request_id: str | None,
        host_id: str | None,
        failure: str | None,
        *,
        has_failed: bool,
    ) -> None:
        which = (asked.method, asked.key, asked.query)
        before = self._failed.pop(which, 0)
        if has_failed:
            self._failed[which] = before + 1
            if len(self._failed) > _REMEMBERED:
                del self._failed[next(iter(self._failed))]
        level = logging.INFO if has_failed or before or not asked.is_of_row else logging.DEBUG
        if log.isEnabledFor(level):
            seconds = round(self._clock() - asked.begun, 6)
            record = Record(
                method=asked.method,
                host=asked.host,
                bucket=self._bucket,
                key=asked.key or None,
                part=asked.part,
                status=status,
                code=code,
                failure=failure,
                request_id=request_id,
                host_id=host_id,
                attempt=before + 1,
                seconds=seconds,
            )
            log.log(level, "%s", record, extra={"request": asdict(record)})

    def _on_created(self, request: Any, operation_name: str, **_: Any) -> None:
        url = urlsplit(request.url)
        key = unquote(url.path).removeprefix("/")
        if not url.netloc.startswith(f"{self._bucket}."):
            key = key.removeprefix(self._bucket).removeprefix("/")
        host, is_of_row = url.netloc.rpartition("@")[2], operation_name in _OF_ROWS
        _under_way.set(Asked(request.method, host, key, url.query, is_of_row, self._clock()))

    def _on_received(
        self,
        response_dict: Mapping[str, Any] | None,
        parsed_response: Mapping[str, Any] | None,
        exception: Exception | None,
        **_: Any,
    ) -> None:
        asked = _under_way.get()
        if asked is None:
            return
        _under_way.set(None)
        if response_dict is not None:
            code = str((parsed_response or {}).get("Error", {}).get("Code") or "") or None
            headers = response_dict.get("headers", {})
            ids = (headers.get(name.decode()) for name in (REQUEST_ID, HOST_ID))
            status = int(response_dict.get("status_code", 0))
            self.answered(asked, status, None if code == str(status) else code, *ids)
        elif isinstance(exception, (HTTPClientError, aiohttp.ClientError, OSError)):  # others end it before it is sent
            self.broke(asked, str(exception) or type(exception).__name__)


class ToldConnection(Connection):
    """A connection whose exchanges are told of."""

    def __init__(self, told: RequestLog, place: Place, lost: Callable[[Connection], None]) -> None:
        super().__init__(lost)
        self._told, self._place = told, place
        self._asked: Asked

    def request(self, data: bytes) -> asyncio.Future[Answer]:
        """See `Connection.request`."""
        self._asked = self._told.asked(self._place, data)
        return super().request(data)

    def _finish(self, answer: Answer) -> None:
        if self._waiter is not None:
            found = _CODE.search(answer.body) if answer.body else None
            code = found[1].decode(errors="replace") if found else None
            ids = (answer.header(name) for name in (REQUEST_ID, HOST_ID))
            self._told.answered(self._asked, answer.status, code, *ids)
        super()._finish(answer)

    def _break(self, reason: str, *, silent: bool = False, clean: bool = False) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._told.broke(self._asked, reason)
        super()._break(reason, silent=silent, clean=clean)
