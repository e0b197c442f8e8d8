"""Where connections go: spread over the addresses of a name, past those that are dead, and after a while elsewhere."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter

import pytest

from asyncup.errors import Throttled
from asyncup.sinks.s3.pool import LOOKUP_SECONDS
from tests.integration.doors import Names, deaf, door
from tests.integration.loops import on_both_loops
from tests.integration.pools import NAME, UPLOAD, call, lane_to, later, pool_to, port_of, refusal
from tests.integration.scripted_s3 import refuse, scripted_s3

# --- addresses ------------------------------------------------------------------------------------------------


@on_both_loops
async def test_connections_are_spread_over_all_addresses_of_a_name() -> None:
    hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    async with door(*hosts) as server, pool_to(server.port) as pool:
        names = Names(*hosts)
        await asyncio.gather(*(pool.connect() for _ in range(12)))
        await server.until(lambda: len(server.accepted) == 12)
        assert Counter(server.accepted) == dict.fromkeys(hosts, 4)
        assert names.asked == [NAME]


@on_both_loops
async def test_an_address_that_refuses_is_passed_over() -> None:
    async with door("127.0.0.2") as server, pool_to(server.port) as pool:
        Names("127.0.0.1", "127.0.0.2", "127.0.0.3")
        for _ in range(6):
            await call(pool)
        assert server.accepted == ["127.0.0.2"] * 6


@on_both_loops
async def test_an_address_that_says_nothing_is_passed_over() -> None:
    async with door("127.0.0.1") as server, deaf("127.0.0.2", server.port), pool_to(server.port) as pool:
        Names("127.0.0.1", "127.0.0.2")
        await asyncio.gather(*(call(pool) for _ in range(4)))
        assert server.accepted == ["127.0.0.1"] * 4


@pytest.mark.parametrize("hosts", [("127.0.0.1",), ("127.0.0.1", "127.0.0.2")])
@on_both_loops
async def test_nobody_listening_is_an_error_of_the_system(hosts: tuple[str, ...]) -> None:
    async with door(*hosts) as server:
        port = server.port
    Names(*hosts)
    async with pool_to(port) as pool:
        with pytest.raises(ConnectionError):
            await pool.connect()


@pytest.mark.parametrize("patience", [0.1, 10.0])
@pytest.mark.parametrize("hosts", [("127.0.0.1",), ("127.0.0.1", "127.0.0.1")])
@on_both_loops
async def test_a_server_that_never_answers_the_call_is_given_up(
    hosts: tuple[str, ...], patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if patience > 1:
        monkeypatch.setattr("asyncup.sinks.s3.pool.CONNECT_SECONDS", 0.1)
    async with deaf("127.0.0.1") as port, pool_to(port, patience=patience) as pool:
        Names(*hosts)
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            await pool.connect()
        assert time.monotonic() - begun < 5


# --- names ----------------------------------------------------------------------------------------------------


@on_both_loops
async def test_a_name_is_looked_up_once_in_a_while_for_all_that_connect() -> None:
    async with door("127.0.0.1", "127.0.0.2") as server, pool_to(server.port) as pool:
        names = Names("127.0.0.1")
        await names.while_asked(*(pool.connect() for _ in range(20)))
        later(pool, LOOKUP_SECONDS - 1)
        await pool.connect()
        assert len(names.asked) == 1
        names.hosts = ("127.0.0.2",)
        later(pool, 1)
        await names.while_asked(*(pool.connect() for _ in range(20)))
        assert len(names.asked) == 2
        await server.until(lambda: len(server.accepted) == 41)
        assert Counter(server.accepted) == {"127.0.0.1": 21, "127.0.0.2": 20}


@on_both_loops
async def test_when_s3_asks_for_less_the_name_is_looked_up_at_once_but_not_twice_in_a_second() -> None:
    async with door() as server, pool_to(server.port) as pool:
        names = Names("127.0.0.1")
        await pool.connect()
        for wait, asked in ((0.0, 1), (0.9, 1), (0.2, 2), (0.9, 2), (0.2, 3)):
            later(pool, wait)
            for _ in range(3):
                pool.look_elsewhere()
                await pool.connect()
            assert len(names.asked) == asked
        for _ in range(2):  # what was asked for within the second is done after it, once
            later(pool, 2)
            await pool.connect()
            assert len(names.asked) == 4


@on_both_loops
async def test_a_name_that_cannot_be_looked_up_any_more_stays_what_it_was() -> None:
    async with door() as server, pool_to(server.port) as pool:
        names = Names("127.0.0.1")
        await pool.connect()
        names.hosts = socket.gaierror(socket.EAI_AGAIN, "try again")
        later(pool, LOOKUP_SECONDS)
        await call(pool)
        await call(pool)
        assert len(names.asked) == 2


@on_both_loops
async def test_a_name_that_nobody_knows_is_an_error_and_asked_for_again() -> None:
    async with door() as server, pool_to(server.port) as pool:
        names = Names()
        names.hosts = socket.gaierror(socket.EAI_NONAME, "unknown")
        for _ in range(2):
            with pytest.raises(socket.gaierror):
                await pool.connect()
        names.hosts = ("127.0.0.1",)
        await call(pool)
        assert len(names.asked) == 3


# --- a server that asks for less ------------------------------------------------------------------------------


@on_both_loops
async def test_after_a_503_there_is_a_new_connection_and_after_a_second_a_new_look_at_the_name() -> None:
    names = Names("127.0.0.1")
    async with scripted_s3() as server, lane_to(port_of(server)) as lane:
        for _ in range(3):
            server.answer(refuse(503, "SlowDown"))
            assert type(await refusal(lane)) is Throttled
        await lane.put(UPLOAD)
        await lane.put(UPLOAD)
        assert [request.connection for request in server.requests] == [1, 2, 3, 4, 4]
        assert names.asked == [NAME]
        later(lane._pools[-1], 1.1)
        server.answer(refuse(503, "SlowDown"), refuse(503, "SlowDown"))
        for _ in range(2):
            assert type(await refusal(lane)) is Throttled
        await lane.put(UPLOAD)
        assert names.asked == [NAME, NAME]
