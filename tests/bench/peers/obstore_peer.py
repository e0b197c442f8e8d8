"""obstore's put_async: Rust's object_store, called from Python. It finds the authority to trust in SSL_CERT_FILE."""

from __future__ import annotations

from obstore import put_async
from obstore.store import S3Store

from tests.bench.peers.arguments import BUCKET, REGION, Task, put_all, read_task, run


async def main(task: Task) -> None:
    access_key, secret_key = task.keys
    store = S3Store(
        BUCKET,
        endpoint=task.endpoint_url,
        region=REGION,
        access_key_id=access_key,
        secret_access_key=secret_key,
        client_options={"allow_http": True},
    )

    async def put(key: str) -> None:
        await put_async(store, key, task.body, attributes={"Content-Type": "application/json"}, use_multipart=False)

    await put_all(task, put)


if __name__ == "__main__":
    run(main(read_task()))
