"""Removing many objects: what a server did not remove with the others is asked for by itself, and that again if need be."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from asyncup.errors import AsyncupError
from asyncup.flow.retry import Retrier, RetryPolicy
from asyncup.sinks.s3.removal import TOGETHER, Removal
from asyncup.sinks.s3.settings import S3Settings


def refusal(status: int, code: str) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "DeleteObjects")  # type: ignore[typeddict-item]


class Server:
    """Has some objects; `many` says whether it removes many at once, `busy` for which keys it is once too busy."""

    def __init__(self, keys: list[str], *, many: bool, busy: tuple[str, ...] = ()) -> None:
        self.objects, self.many, self.busy = set(keys), many, list(busy)
        self.asked: list[str] = []

    async def call(self, operation: str, _seconds: float, **given: Any) -> dict[str, Any]:
        self.asked.append(operation)
        if operation == "delete_object":
            if given["Key"] in self.busy:
                self.busy.remove(given["Key"])
                raise refusal(503, "SlowDown")
            self.objects.discard(given["Key"])
            return {}
        if not self.many:
            raise refusal(501, "NotImplemented")
        keys = [one["Key"] for one in given["Delete"]["Objects"]]
        self.objects.difference_update(key for key in keys if key not in self.busy)
        return {"Errors": [{"Key": key, "Code": "SlowDown"} for key in keys if key in self.busy]}


async def at_once(_seconds: float) -> bool:
    return True


async def removed(server: Server, keys: list[str]) -> list[int]:
    told: list[int] = []
    retried: list[AsyncupError] = []
    retrier = Retrier(RetryPolicy(), at_once, lambda error, *_: retried.append(error))
    control: Any = server
    await Removal(S3Settings(bucket="b"), control, retrier).remove(keys, told.append)
    assert server.objects == set()
    return told


async def test_what_was_not_removed_with_the_others_is_asked_for_by_itself() -> None:
    keys = [f"k/{number}" for number in range(TOGETHER + 5)]
    server = Server(keys, many=True, busy=("k/7", "k/9"))
    assert await removed(server, keys) == [TOGETHER, TOGETHER + 5]
    assert server.asked == ["delete_objects", *["delete_object"] * 4, "delete_objects"]


async def test_where_many_cannot_be_removed_at_once_each_is_removed() -> None:
    keys = [f"k/{number}" for number in range(3)]
    server = Server(keys, many=False)
    assert await removed(server, keys) == [3]
    assert server.asked == ["delete_objects", *["delete_object"] * 3]
