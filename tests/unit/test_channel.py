"""The channel: bounded, in order, and nobody who waits at it is forgotten, whoever is cancelled meanwhile."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncup.flow.channel import Channel, ChannelClosed, ChannelStatistics
from tests.unit.turns import cancel, settle

STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["send", "send", "offer", "receive", "take", "turn", "settle"]), st.just(0)),
        st.tuples(st.sampled_from(["cancel sender", "cancel receiver"]), st.integers(0, 9)),
    ),
    min_size=8,
    max_size=24,
)


class Play:
    """Senders and receivers at one channel; what is sent is numbered in the order in which it came."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.channel: Channel[int] = Channel(capacity)
        self.number = 0
        self.senders: dict[int, asyncio.Task[None]] = {}
        self.receivers: list[asyncio.Task[None]] = []
        self.offered: set[int] = set()
        self.sent: set[int] = set()
        self.received: list[int] = []

    def step(self, step: str, value: int) -> None:
        self.number += 1
        if step == "send":
            self.senders[self.number] = asyncio.create_task(self._send(self.number))
        elif step == "offer":
            if self.channel.offer(self.number):
                self.offered.add(self.number)
        elif step == "receive":
            self.receivers.append(asyncio.create_task(self._receive()))
        elif step == "take":
            self.take()
        elif step == "cancel sender" and self.senders:
            self.senders[sorted(self.senders)[value % len(self.senders)]].cancel()
        elif step == "cancel receiver" and self.receivers:
            self.receivers[value % len(self.receivers)].cancel()

    def take(self) -> bool:
        number = self.channel.take()
        if number is not None:
            self.received.append(number)
        return number is not None

    async def _send(self, number: int) -> None:
        await self.channel.send(number)
        self.sent.add(number)

    async def _receive(self) -> None:
        self.received.append(await self.channel.receive())

    @property
    def waiting(self) -> list[int]:
        return [number for number, task in self.senders.items() if not task.done()]

    @property
    def hungry(self) -> list[asyncio.Task[None]]:
        return [task for task in self.receivers if not task.done()]

    def check_bounds(self) -> None:
        assert self.channel.statistics().items <= self.capacity

    def check_nobody_is_forgotten(self) -> None:
        items = self.channel.statistics().items
        assert not self.hungry or not items
        assert not self.waiting or items > self.capacity // 2, "whoever waits for room gets it when half of it is free"

    def check_order(self) -> None:
        for kind in (self.offered, self.sent):
            numbers = [number for number in self.received if number in kind]
            assert numbers == sorted(numbers)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 5), STEPS)
async def test_under_any_schedule_bounds_hold_order_is_kept_and_nobody_is_forgotten(
    capacity: int, steps: list[tuple[str, int]]
) -> None:
    play = Play(capacity)
    for step, value in steps:
        play.step(step, value)
        if step == "turn":
            await asyncio.sleep(0)
        elif step == "settle":
            await settle()
            play.check_nobody_is_forgotten()
        play.check_bounds()
    await settle()
    play.check_nobody_is_forgotten()
    while play.take():
        await settle()
        play.check_bounds()
    assert not play.waiting
    await cancel(*play.hungry)
    play.check_order()
    assert sorted(play.received) == sorted(play.sent | play.offered), "what was sent is received, once"


@pytest.mark.parametrize("discard", [False, True])
@pytest.mark.parametrize("waiters", ["senders", "receivers"])
async def test_closing_wakes_everyone_whoever_is_cancelled_in_the_same_turn(waiters: str, discard: bool) -> None:
    for first, second in itertools.product(range(8), repeat=2):  # who of three is cancelled before, and who after
        channel: Channel[int] = Channel(1)
        if waiters == "senders":
            channel.offer(0)
            tasks = [asyncio.create_task(channel.send(number)) for number in range(1, 4)]
        else:
            tasks = [asyncio.create_task(_receive(channel)) for _ in range(3)]
        await settle()
        for cancelled, task in zip(f"{first:03b}", tasks, strict=True):
            if cancelled == "1":
                task.cancel()
        channel.close(discard=discard)
        for cancelled, task in zip(f"{second:03b}", tasks, strict=True):
            if cancelled == "1":
                task.cancel()
        await settle()
        for task in tasks:
            assert task.cancelled() or isinstance(task.exception(), ChannelClosed)
        assert channel.take() == (0 if waiters == "senders" and not discard else None)
        assert channel.take() is None
        with pytest.raises(ChannelClosed):
            await channel.receive()
        with pytest.raises(ChannelClosed):
            await channel.send(0)
        with pytest.raises(ChannelClosed):
            channel.offer(0)


async def _receive(channel: Channel[int]) -> None:
    await channel.receive()


async def test_things_come_out_as_they_went_in() -> None:
    channel: Channel[str] = Channel(3)
    assert channel.offer("a")
    assert channel.offer("b")
    await channel.send("c")
    assert [channel.take(), await channel.receive(), channel.take(), channel.take()] == ["a", "b", "c", None]


async def test_whoever_waits_for_room_gets_it_in_turn_when_half_of_it_is_free() -> None:
    channel: Channel[str] = Channel(4)
    for name in "abcd":
        assert channel.offer(name)
    waiting = [asyncio.create_task(channel.send(name)) for name in ("e", "f")]
    await settle()
    channel.take()
    await settle()
    assert [task.done() for task in waiting] == [False, False]
    assert not channel.offer("overtaker")
    channel.take()
    await settle()
    assert [task.done() for task in waiting] == [True, True]
    assert [channel.take() for _ in range(5)] == ["c", "d", "e", "f", None]


async def test_a_cancelled_sender_sends_nothing_and_lets_the_next_one_through() -> None:
    channel: Channel[str] = Channel(1)
    channel.offer("first")
    gone = asyncio.create_task(channel.send("gone"))
    next_ = asyncio.create_task(channel.send("next"))
    await settle()
    channel.take()  # this wakes the one that is cancelled in the same turn
    gone.cancel()
    await settle()
    assert gone.cancelled()
    assert next_.done()
    assert [channel.take(), channel.take()] == ["next", None]


async def test_many_receivers_each_get_one_of_what_comes_at_once() -> None:
    channel: Channel[int] = Channel(10)
    receivers = [asyncio.create_task(channel.receive()) for _ in range(5)]
    await settle()
    for number in range(5):
        channel.offer(number)
    await asyncio.sleep(0)  # in one turn of the loop, not one after another
    assert [receiver.result() for receiver in receivers] == [0, 1, 2, 3, 4]


async def test_receivers_that_were_woken_in_vain_miss_nothing_that_comes_in_the_meantime() -> None:
    channel: Channel[str] = Channel(10)
    receivers = [asyncio.create_task(channel.receive()) for _ in range(2)]
    await settle()

    async def offer_two() -> None:
        channel.offer("c")
        channel.offer("d")

    # The first is woken, someone else will offer, the second is woken, and what they were woken for is gone again.
    channel.offer("a")
    offering = asyncio.create_task(offer_two())
    channel.offer("b")
    assert [channel.take(), channel.take()] == ["a", "b"]
    await offering
    await settle()
    assert [receiver.done() for receiver in receivers] == [True, True]


async def test_a_channel_that_is_closed_gives_what_is_left() -> None:
    channel: Channel[str] = Channel(10)
    channel.offer("left")
    channel.close()
    channel.close()
    assert await channel.receive() == "left"
    with pytest.raises(ChannelClosed):
        await channel.receive()


async def test_its_backpressure_can_be_looked_at() -> None:
    channel: Channel[str] = Channel(2)
    channel.offer("a")
    channel.offer("b")
    channel.take()
    assert channel.statistics() == ChannelStatistics(items=1, capacity=2, closed=False)
    assert repr(channel) == "<Channel 1/2>"
    channel.close(discard=True)
    assert channel.statistics() == ChannelStatistics(items=0, capacity=2, closed=True)


async def test_every_receiver_leaves_a_closed_channel_whatever_it_was_woken_for() -> None:
    """A wake-up that reached a receiver before its turn must not be the only one that it gets."""
    channel: Channel[str] = Channel(10)
    left: list[int] = []

    async def receiver(number: int) -> None:
        try:
            while True:
                channel.take() or await channel.receive()
        except ChannelClosed:
            left.append(number)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(receiver(number))
        await asyncio.sleep(0)
        channel.offer("one")
        channel.offer("two")
        asyncio.get_running_loop().call_soon(channel.close)
    assert sorted(left) == [0, 1, 2, 3]
