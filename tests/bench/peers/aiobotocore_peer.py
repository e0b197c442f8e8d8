"""aiobotocore's put_object in as many tasks as are to be in flight."""

from __future__ import annotations

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from tests.bench.peers.arguments import BUCKET, REGION, Task, put_all, read_task, run


async def main(task: Task) -> None:
    config = AioConfig(max_pool_connections=task.in_flight, request_checksum_calculation="when_required")
    async with get_session().create_client(
        "s3", region_name=REGION, endpoint_url=task.endpoint_url, verify=task.authority, config=config
    ) as client:

        async def put(key: str) -> None:
            await client.put_object(Bucket=BUCKET, Key=key, Body=task.body, ContentType="application/json")

        await put_all(task, put)


if __name__ == "__main__":
    run(main(read_task()))
