"""boto3's put_object in as many threads as are to be in flight: what most teams begin with."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config

from tests.bench.peers.arguments import BUCKET, REGION, Task, read_task


def main(task: Task) -> None:
    client = boto3.client(
        "s3",
        region_name=REGION,
        endpoint_url=task.endpoint_url,
        verify=task.authority,
        config=Config(max_pool_connections=task.in_flight, request_checksum_calculation="when_required"),
    )

    def put(number: int) -> None:
        client.put_object(Bucket=BUCKET, Key=f"{number}.json", Body=task.body, ContentType="application/json")

    with ThreadPoolExecutor(task.in_flight) as pool:
        for _ in pool.map(put, range(1, task.objects + 1)):
            pass


if __name__ == "__main__":
    main(read_task())
