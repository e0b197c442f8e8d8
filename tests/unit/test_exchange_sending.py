"""How a request is sent: no faster than the peer takes it, no longer than somebody listens, and never half for a success."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from asyncup.sinks.s3.exchange import _SLICE, Answer, ExchangeError
from tests.unit.turns import settle
from tests.unit.wires import HIGH, LOW, Wire

HEAD = b"PUT / HTTP/1.1\r\n\r\n"
BODY = bytes(range(256)) * 12_000  # 3 MB, twelve slices
ACCEPTED = b'HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Length: 0\r\n\r\n'
REFUSED = b"HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\n<Err>"
ENDED = b"HTTP/1.1 403 No\r\n\r\n<Err>"


@pytest.fixture(autouse=True)
async def nobody_complains() -> AsyncIterator[None]:
    """What the loop has to say of futures and tasks that nobody asked for their exceptions: nothing."""
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    yield
    gc.collect()
    await settle()
    assert said == []


@pytest.mark.parametrize("step", [1000, LOW, _SLICE, 1 << 20])
async def test_a_long_body_is_sent_as_fast_as_the_peer_takes_it(step: int) -> None:
    wire = Wire(blocked=True)
    task = asyncio.create_task(wire.connection.stream(HEAD, BODY))
    await settle()
    while wire.waiting:
        wire.drain(step)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert wire.written == HEAD + BODY
    assert wire.most_waiting <= HIGH + _SLICE
    assert not task.done()
    wire.receive(ACCEPTED)
    assert await task == Answer(200, {b"ETag": b'"a"', b"Content-Length": b"0"}, b"")
    assert wire.connection.usable


async def test_a_peer_that_takes_all_at_once_is_sent_all_at_once() -> None:
    wire = Wire()
    task = asyncio.create_task(wire.connection.stream(HEAD, memoryview(BODY)))
    await asyncio.sleep(0)
    assert wire.written == HEAD + BODY
    wire.receive(ACCEPTED)
    assert (await task).whole


async def test_a_connection_streams_again_after_it_has_streamed() -> None:
    wire = Wire(blocked=True)
    for _ in range(2):
        wire.written.clear()
        task = asyncio.create_task(wire.connection.stream(HEAD, BODY))
        while not wire.written.endswith(BODY):
            await asyncio.sleep(0)
            wire.drain(wire.waiting)
        wire.drain(wire.waiting)
        wire.receive(ACCEPTED)
        assert (await task).whole


@pytest.mark.parametrize("drained", [True, False])
@pytest.mark.parametrize("data", [REFUSED, ACCEPTED, REFUSED + b"more"])
async def test_an_answer_ends_the_sending_and_is_not_that_of_a_whole_request(data: bytes, drained: bool) -> None:
    wire = Wire(blocked=True)
    task = asyncio.create_task(wire.connection.stream(HEAD, BODY))
    await settle()
    sent = len(wire.written)
    assert 0 < sent < len(BODY)
    if drained:
        wire.drain(sent)  # there is room for more, but the sender does not know it yet
    wire.receive(data)
    answer = await task
    assert (answer.status, answer.whole) == (int(data[9:12]), False)
    assert wire.aborted
    wire.end()
    assert len(wire.written) == sent


@pytest.mark.parametrize("left", [1, HIGH])
async def test_an_answer_to_a_request_that_is_not_all_on_its_way_is_not_that_of_a_whole_one(left: int) -> None:
    """All of it was written, but some of it not yet sent."""
    for send in (lambda wire: asyncio.create_task(wire.connection.stream(HEAD, BODY)), _request):
        wire = Wire(blocked=True)
        waiter = send(wire)
        await settle()
        while wire.waiting > left:
            wire.drain(min(1000, wire.waiting - left))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        wire.receive(ACCEPTED)
        assert not (await waiter).whole
        assert wire.aborted


def _request(wire: Wire) -> asyncio.Future[Answer]:
    return wire.connection.request(HEAD + bytes(HIGH))


async def test_an_answer_that_ends_with_its_connection_is_not_whole_before_the_request_is_sent() -> None:
    wire = Wire(blocked=True)
    task = asyncio.create_task(wire.connection.stream(HEAD, BODY))
    await settle()
    wire.receive(ENDED)
    wire.end()
    answer = await task
    assert (answer.status, answer.body, answer.whole) == (403, b"<Err>", False)


@pytest.mark.parametrize("exc", [None, ConnectionResetError("reset")])
@pytest.mark.parametrize("blocked", [True, False])
async def test_a_connection_that_ends_ends_the_sending(exc: Exception | None, blocked: bool) -> None:
    wire = Wire(blocked=blocked)
    task = asyncio.create_task(wire.connection.stream(HEAD, BODY))
    await settle()
    wire.end(exc)
    with pytest.raises(ExchangeError) as caught:
        await task
    assert caught.value.silent
    with pytest.raises(ExchangeError):
        await wire.connection.stream(HEAD, BODY)


# --- cancellation ---------------------------------------------------------------------------------------------

Event = Callable[[Wire], None]
#: What can happen while a request is under way.
EVENTS: dict[str, Event] = {
    "nothing": lambda wire: None,
    "room": lambda wire: wire.drain(wire.waiting),
    "an answer": lambda wire: wire.receive(REFUSED),
    "half an answer": lambda wire: wire.receive(REFUSED[:20]),
    "garbage": lambda wire: wire.receive(b"garbage"),
    "an end": lambda wire: wire.end(),
    "a reset": lambda wire: wire.end(ConnectionResetError("reset")),
    "no time": lambda wire: wire.connection.give_up(float("inf")),
}


async def request(wire: Wire) -> Answer:
    return await wire.connection.request(HEAD)


async def stream(wire: Wire) -> Answer:
    return await wire.connection.stream(HEAD, BODY)


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("blocked", [True, False])
@pytest.mark.parametrize("send", [request, stream])
async def test_a_request_that_is_cancelled_anywhere_leaves_nothing_behind(
    send: Callable[[Wire], Any], blocked: bool, event: str
) -> None:
    for before in range(6):  # turns of the loop: before the request is sent, and at each place where it waits
        for after in range(4):
            wire = Wire(blocked=blocked)
            task = asyncio.create_task(send(wire))
            for _ in range(before):
                await asyncio.sleep(0)
                wire.drain(_SLICE)
            EVENTS[event](wire)
            for _ in range(after):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()
            sent = len(wire.written)
            wire.connection.abort()  # as the lane does
            if not wire.lost:
                wire.end()
            await asyncio.sleep(0)
            assert len(wire.written) == sent
            for future in (wire.connection._waiter, wire.connection._room):
                assert future is None or future.done()
