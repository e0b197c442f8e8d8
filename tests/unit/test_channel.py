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
        st.tuples(st.sampled_from(["send", "send", "offer"]), st.integers(0, 12)),
        st.tuples(st.sampled_from(["receive", "take", "turn", "settle"]), st.just(0)),
        st.tuples(st.sampled_from(["cancel sender", "cancel receiver"]), st.integers(0, 9)),
    ),
    min_size=8,
    max_size=24,
)


class Play:
    """Senders and receivers at one channel; what is sent is numbered in the order in which it came."""

    def __init__(self, max_items: int, max_weight: int) -> None:
        self.max_items, self.max_weight = max_items, max_weight
        self.channel: Channel[int] = Channel(max_items, max_weight)
        self.weights: dict[int, int] = {}
        self.senders: dict[int, asyncio.Task[None]] = {}
        self.receivers: list[asyncio.Task[None]] = []
        self.offered: set[int] = set()
        self.sent: set[int] = set()
        self.received: list[int] = []

    def step(self, step: str, value: int) -> None:
        number = len(self.weights) + 1
        if step == "send":
            self.weights[number] = value
            self.senders[number] = asyncio.create_task(self._send(number))
        elif step == "offer":
            self.weights[number] = value
            if self.channel.offer(number, value):
                self.offered.add(number)
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
        await self.channel.send(number, self.weights[number])
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
        now = self.channel.statistics()
        assert now.items <= self.max_items
        assert now.weight <= self.max_weight or now.items == 1, "only one that is too heavy alone may pass the bound"

    def check_nobody_is_forgotten(self) -> None:
        now = self.channel.statistics()
        assert not self.hungry or not now.items
        if self.waiting:
            assert now.items == self.max_items or now.weight + self.weights[min(self.waiting)] > self.max_weight

    def check_order(self) -> None:
        for kind in (self.offered, self.sent):
            numbers = [number for number in self.received if number in kind]
            assert numbers == sorted(numbers)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 4), st.integers(1, 10), STEPS)
async def test_under_any_schedule_bounds_hold_order_is_kept_and_nobody_is_forgotten(
    max_items: int, max_weight: int, steps: list[tuple[str, int]]
) -> None:
    play = Play(max_items, max_weight)
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
        channel: Channel[int] = Channel(1, 1)
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
    channel: Channel[str] = Channel(3, 100)
    assert channel.offer("a", 1)
    assert channel.offer("b", 2)
    await channel.send("c", 3)
    assert [channel.take(), await channel.receive(), channel.take(), channel.take()] == ["a", "b", "c", None]


async def test_one_that_is_heavier_than_the_whole_bound_passes_alone() -> None:
    channel: Channel[str] = Channel(3, 10)
    channel.offer("light", 1)
    assert not channel.offer("heavy", 1000)
    heavy = asyncio.create_task(channel.send("heavy", 1000))
    await settle()
    assert not heavy.done()
    assert channel.take() == "light"
    await heavy
    assert not channel.offer("light", 0)
    assert channel.take() == "heavy"
    assert channel.offer("light", 0)


async def test_nobody_overtakes_a_sender_that_waits_for_more_room() -> None:
    channel: Channel[str] = Channel(10, 10)
    channel.offer("first", 6)
    heavy = asyncio.create_task(channel.send("heavy", 8))
    await settle()
    light = asyncio.create_task(channel.send("light", 1))
    await settle()
    assert not channel.offer("lighter", 1)
    assert not light.done()
    channel.take()
    await settle()
    assert heavy.done()
    assert light.done()
    assert [channel.take(), channel.take()] == ["heavy", "light"]


async def test_a_cancelled_sender_sends_nothing_and_lets_the_next_one_through() -> None:
    channel: Channel[str] = Channel(1, 10)
    channel.offer("first", 1)
    gone = asyncio.create_task(channel.send("gone", 1))
    next_ = asyncio.create_task(channel.send("next", 1))
    await settle()
    channel.take()  # this wakes the one that is cancelled in the same turn
    gone.cancel()
    await settle()
    assert gone.cancelled()
    assert next_.done()
    assert [channel.take(), channel.take()] == ["next", None]


async def test_many_receivers_each_get_one_of_what_comes_at_once() -> None:
    channel: Channel[int] = Channel(10, 10)
    receivers = [asyncio.create_task(channel.receive()) for _ in range(5)]
    await settle()
    for number in range(5):
        channel.offer(number)
    await asyncio.sleep(0)  # in one turn of the loop, not one after another
    assert [receiver.result() for receiver in receivers] == [0, 1, 2, 3, 4]


async def test_receivers_that_were_woken_in_vain_miss_nothing_that_comes_in_the_meantime() -> None:
    channel: Channel[str] = Channel(10, 10)
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
    channel: Channel[str] = Channel(10, 10)
    channel.offer("left", 1)
    channel.close()
    channel.close()
    assert await channel.receive() == "left"
    with pytest.raises(ChannelClosed):
        await channel.receive()


async def test_its_backpressure_can_be_looked_at() -> None:
    channel: Channel[str] = Channel(2, 10)
    channel.offer("a", 3)
    channel.offer("b", 4)
    channel.take()
    assert channel.statistics() == ChannelStatistics(
        items=1, weight=4, peak_items=2, peak_weight=7, max_items=2, max_weight=10, closed=False
    )
    assert repr(channel) == "<Channel 1/2 items, 4/10>"
    channel.close(discard=True)
    assert channel.statistics().closed
    assert (channel.statistics().items, channel.statistics().weight) == (0, 0)


async def test_every_receiver_leaves_a_closed_channel_whatever_it_was_woken_for() -> None:
    """A wake-up that reached a receiver before its turn must not be the only one that it gets."""
    channel: Channel[str] = Channel(10, 10)
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
