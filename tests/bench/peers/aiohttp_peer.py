"""aiohttp with SigV4 of our own: what a careful team writes when botocore has become too slow."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import ssl
from urllib.parse import quote, urlsplit

import aiohttp
from yarl import URL

from tests.bench.peers.arguments import BUCKET, REGION, Task, put_all, read_task, run

_SIGNED = "host;x-amz-content-sha256;x-amz-date"


class Signer:
    """Signs PUTs without a query. The key of the day is derived once, and the date is written once a second."""

    def __init__(self, access_key: str, secret_key: str, host: str) -> None:
        self._access_key = access_key
        self._secret_key = secret_key
        self._host = host
        self._day = ""
        self._key = hmac.new(b"", digestmod=hashlib.sha256)

    def headers(self, path: str, body: bytes) -> dict[str, str]:
        """The headers to send. Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html"""
        now = dt.datetime.now(dt.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        if now[:8] != self._day:
            self._day = now[:8]
            secret = b"AWS4" + self._secret_key.encode()
            for part in (self._day, REGION, "s3", "aws4_request"):
                secret = hmac.digest(secret, part.encode(), "sha256")
            self._key = hmac.new(secret, digestmod=hashlib.sha256)
        scope = f"{self._day}/{REGION}/s3/aws4_request"
        digest = hashlib.sha256(body).hexdigest()
        canonical = (
            f"PUT\n{path}\n\nhost:{self._host}\nx-amz-content-sha256:{digest}\nx-amz-date:{now}\n\n{_SIGNED}\n{digest}"
        )
        signature = self._key.copy()
        signature.update(f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}".encode())
        return {
            "x-amz-content-sha256": digest,
            "x-amz-date": now,
            "Content-Type": "application/json",
            "Authorization": f"AWS4-HMAC-SHA256 Credential={self._access_key}/{scope}, "
            f"SignedHeaders={_SIGNED}, Signature={signature.hexdigest()}",
        }


async def main(task: Task) -> None:
    signer = Signer(*task.keys, urlsplit(task.endpoint_url).netloc)
    context = ssl.create_default_context(cafile=task.authority) if task.authority else True
    connector = aiohttp.TCPConnector(limit=task.in_flight, ssl=context)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:

        async def put(key: str) -> None:
            path = f"/{BUCKET}/{quote(key)}"
            url = URL(task.endpoint_url + path, encoded=True)
            async with session.put(url, data=task.body, headers=signer.headers(path, task.body)) as response:
                await response.read()
                if response.status != 200:
                    raise RuntimeError(f"{key}: {response.status}")

        await put_all(task, put)


if __name__ == "__main__":
    run(main(read_task()))
