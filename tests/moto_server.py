"""Moto's server: the behaviour of S3 without its signatures, read past asyncup with boto3.

It remembers what it was asked, can refuse requests as S3 does when it is busy, and can hold them back, so that a test
can act while they are under way.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config as BotoConfig
from botocore.exceptions import ClientError
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

_buckets = itertools.count(1)


class _Silent(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """A line for each request is of no use."""


@dataclass
class Hold:
    """Requests that are held back: `reached` is set when there is one, and `released` lets it go on."""

    holds: Callable[[str], bool]
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


@dataclass
class MotoServer:
    """A running server. `requests` are those that it was asked, as `PUT /bucket/key?query`."""

    port: int
    requests: list[str] = field(default_factory=list)
    hold: Hold | None = None
    refuses: Callable[[str], bool] | None = None

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The AWS variables that lead here."""
        return {
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "moto takes every one",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint_url,
        }

    @contextmanager
    def bucket(self) -> Iterator[MotoBucket]:
        """A new bucket."""
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
            aws_secret_access_key="moto takes every one",
            config=BotoConfig(retries={"total_max_attempts": 1}),
        )
        name = f"bucket-{next(_buckets)}"
        client.create_bucket(Bucket=name)
        yield MotoBucket(self, name, client)
        client.close()

    @contextmanager
    def holding(self, holds: Callable[[str], bool]) -> Iterator[Hold]:
        """Hold back the requests that `holds` is true for, until the block ends or they are released."""
        self.hold = Hold(holds)
        try:
            yield self.hold
        finally:
            self.hold.released.set()
            self.hold = None

    @contextmanager
    def refusing(self, refuses: Callable[[str], bool]) -> Iterator[None]:
        """Answer the requests that `refuses` is true for with SlowDown, until the block ends."""
        self.refuses = refuses
        try:
            yield
        finally:
            self.refuses = None


@dataclass(frozen=True)
class MotoBucket:
    """A bucket of a test's own."""

    server: MotoServer
    name: str
    client: Any

    def names(self) -> list[str]:
        return [entry["Key"] for entry in self.client.list_objects_v2(Bucket=self.name).get("Contents", [])]

    def objects(self) -> dict[str, bytes]:
        return {key: self.client.get_object(Bucket=self.name, Key=key)["Body"].read() for key in self.names()}

    def uploads(self) -> list[str]:
        """The ids of multipart uploads that are neither completed nor aborted."""
        return [one["UploadId"] for one in self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])]

    def description(self, key: str) -> dict[str, Any]:
        """All that S3 can be asked about an object, but not when it was stored."""
        place = {"Bucket": self.name, "Key": key}
        head = self.client.head_object(**place, ChecksumMode="ENABLED")
        found = {name: value for name, value in head.items() if name not in ("ResponseMetadata", "LastModified")}
        found["Body"] = self.client.get_object(**place)["Body"].read()
        found["Tags"] = {tag["Key"]: tag["Value"] for tag in self.client.get_object_tagging(**place)["TagSet"]}
        try:
            grants = self.client.get_object_acl(**place)["Grants"]
        except ClientError:
            grants = []  # moto cannot say it of an object that came in parts and was given none
        found["Grants"] = sorted((grant["Grantee"].get("URI", ""), grant["Permission"]) for grant in grants)
        return found


@contextmanager
def moto_server() -> Iterator[MotoServer]:
    """Run the server in threads of this process."""
    inner = DomainDispatcherApplication(create_backend_app)

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        query = environ["QUERY_STRING"]
        asked = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}" + (f"?{query}" if query else "")
        moto.requests.append(asked)
        hold = moto.hold
        if hold is not None and hold.holds(asked):
            hold.reached.set()
            hold.released.wait(30)
        if moto.refuses is not None and moto.refuses(asked):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"]
        return inner(environ, start_response)

    server: BaseWSGIServer = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Silent)
    moto = MotoServer(server.server_port)
    thread = threading.Thread(target=server.serve_forever, name="moto", daemon=True)
    thread.start()
    try:
        yield moto
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
