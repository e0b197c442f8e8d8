"""Connections for real, on asyncio's own loop and on uvloop: used again, spread, passed over, given up, and all closed."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asyncup.sinks.s3.exchange import Connection, ExchangeError
from asyncup.sinks.s3.pool import KEEP_SECONDS, LOOKUP_SECONDS, Origin, Pool
from tests.integration.doors import Names, deaf, door
from tests.integration.loops import on_both_loops

REQUEST = b"PUT / HTTP/1.1\r\n\r\n"
NAME = "s3.example.test"


@asynccontextmanager
async def pool_to(port: int, host: str = NAME, patience: float = 0.1) -> AsyncIterator[Pool]:
    pool = Pool(Origin(host, port), patience)
    try:
        yield pool
    finally:
        await pool.close()


def later(pool: Pool, seconds: float) -> None:
    """Put the pool's clock forward."""
    now = pool._clock
    pool._clock = lambda: now() + seconds


def begin(connection: Connection, patience: float = 60) -> asyncio.Future[Any]:
    connection.deadline = asyncio.get_running_loop().time() + patience
    return connection.request(REQUEST)


async def call(pool: Pool) -> Connection:
    """One exchange over a new connection of the pool, which has it back then."""
    connection = await pool.connect()
    answer = await begin(connection)
    assert (answer.status, answer.etag) == (200, '"a"')
    pool.give_back(connection)
    return connection


# --- used again -----------------------------------------------------------------------------------------------


@on_both_loops
async def test_the_connection_that_was_used_last_is_used_next() -> None:
    async with door() as server, pool_to(server.port, "127.0.0.1") as pool:
        first, second = await pool.connect(), await pool.connect()
        for connection in (first, second):
            await begin(connection)
        assert repr(pool) == f"<Pool 127.0.0.1:{server.port}, 2 open, 0 idle>"
        pool.give_back(second)
        pool.give_back(first)
        assert repr(pool) == f"<Pool 127.0.0.1:{server.port}, 2 open, 2 idle>"
        assert [pool.take(), pool.take(), pool.take()] == [first, second, None]
        assert len(server.accepted) == 2


@on_both_loops
async def test_an_idle_connection_is_not_used_after_it_was_kept_for_long() -> None:
    async with door() as server, pool_to(server.port, "127.0.0.1", patience=60) as pool:
        connection = await call(pool)
        later(pool, KEEP_SECONDS - 1)
        assert pool.take() is connection
        pool.give_back(connection)
        later(pool, KEEP_SECONDS)
        assert pool.take() is None
        await server.until(lambda: not server.open)


@on_both_loops
async def test_idle_connections_are_closed_after_a_while_and_busy_ones_are_not() -> None:
    async with door() as server, pool_to(server.port, "127.0.0.1") as pool:
        busy = await pool.connect()
        for connection in [await pool.connect() for _ in range(3)]:
            pool.give_back(connection)
        await server.until(lambda: len(server.open) == 4)
        later(pool, KEEP_SECONDS)
        await server.until(lambda: len(server.open) == 1)
        assert repr(pool).endswith("1 open, 0 idle>")
        assert (await begin(busy)).status == 200


@on_both_loops
async def test_a_connection_that_the_server_closes_while_it_is_idle_is_forgotten() -> None:
    async with door() as server, pool_to(server.port, "127.0.0.1") as pool:
        connection = await call(pool)
        server.hang_up()
        while connection.usable:
            await asyncio.sleep(0)
        assert repr(pool).endswith("0 open, 0 idle>")
        assert pool.take() is None


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


@pytest.mark.parametrize("hosts", [("127.0.0.1",), ("127.0.0.1", "127.0.0.1")])
@on_both_loops
async def test_a_server_that_never_answers_the_call_is_given_up(
    hosts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncup.sinks.s3.pool.CONNECT_SECONDS", 0.1)
    async with deaf("127.0.0.1") as port, pool_to(port) as pool:
        Names(*hosts)
        with pytest.raises(TimeoutError):
            await pool.connect()


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


# --- ends -----------------------------------------------------------------------------------------------------


@on_both_loops
async def test_an_exchange_that_takes_too_long_is_given_up_and_the_others_are_not() -> None:
    async with door(answers=False) as server, pool_to(server.port, "127.0.0.1") as pool:
        slow, patient = await pool.connect(), await pool.connect()
        await server.until(lambda: len(server.open) == 2)
        waiting = begin(patient)
        with pytest.raises(ExchangeError, match="no answer in time"):
            await begin(slow, patience=0.05)
        await server.until(lambda: len(server.open) == 1)
        assert not waiting.done()
        patient.abort("enough")
        with pytest.raises(ExchangeError, match="enough"):
            await waiting


@on_both_loops
async def test_closing_closes_what_is_idle_busy_and_still_connecting_and_waits_for_it() -> None:
    async with door(answers=False) as server, pool_to(server.port) as pool:
        names = Names("127.0.0.1")
        pool.give_back(await pool.connect())
        waiting = [begin(await pool.connect()) for _ in range(3)]
        names.gate.clear()
        later(pool, LOOKUP_SECONDS)
        late = asyncio.create_task(pool.connect())
        while len(names.asked) < 2:
            await asyncio.sleep(0)
        await pool.close()
        assert repr(pool).endswith("0 open, 0 idle>")
        for future in waiting:
            with pytest.raises(ExchangeError, match="the pool is closed"):
                await future
        names.gate.set()
        with pytest.raises(ExchangeError):
            await begin(await late)
        await server.until(lambda: len(server.accepted) == 5 and not server.open)


@on_both_loops
async def test_a_pool_that_retires_lets_exchanges_end_and_then_closes_their_connections() -> None:
    async with door() as server, pool_to(server.port, "127.0.0.1") as pool:
        idle, busy = await pool.connect(), await pool.connect()
        pool.give_back(idle)
        await server.until(lambda: len(server.open) == 2)
        waiting = begin(busy)
        pool.retire()
        await server.until(lambda: len(server.open) == 1)
        assert (await waiting).status == 200
        pool.give_back(busy)
        await server.until(lambda: not server.open)
        assert pool.take() is None
        await call(pool)
        await server.until(lambda: len(server.accepted) == 3 and not server.open)


@pytest.mark.parametrize("hosts", [("127.0.0.1",), ("127.0.0.1", "127.0.0.2")])
@on_both_loops
async def test_connecting_can_be_cancelled_at_every_turn_and_leaves_no_socket(hosts: tuple[str, ...]) -> None:
    async with door(*hosts) as server:
        Names(*hosts)
        for turns in range(1, 200):
            async with pool_to(server.port) as pool:
                task = asyncio.create_task(pool.connect())
                for _ in range(turns):
                    await asyncio.sleep(0)
                connected = task.done()
                task.cancel()
                await asyncio.wait({task})
                assert task.cancelled() is not connected
                assert repr(pool).endswith(f"{int(connected)} open, 0 idle>")
            if connected:
                break
        assert 3 < turns < 199


@on_both_loops
async def test_only_so_many_connect_at_a_time_and_those_that_give_up_make_room() -> None:
    async with door() as server, pool_to(server.port) as pool:
        names = Names("127.0.0.1", "127.0.0.1")
        names.gate.clear()
        connecting = [asyncio.create_task(pool.connect()) for _ in range(100)]
        while not names.asked:
            await asyncio.sleep(0)
        assert pool._connecting.locked()
        for task in connecting[:64]:
            task.cancel()
        names.gate.set()
        done = await asyncio.gather(*connecting, return_exceptions=True)
        assert sum(isinstance(one, Connection) for one in done) == 36
        assert not pool._connecting.locked()


@on_both_loops
async def test_thousands_of_connections_come_and_go_and_none_is_left() -> None:
    asyncio.get_running_loop().set_debug(False)  # it takes four times as long, and finds nothing more
    async with door() as server:
        for _ in range(10):
            async with pool_to(server.port, "127.0.0.1", patience=60) as pool:
                connections = await asyncio.gather(*(pool.connect() for _ in range(300)))
                for answer in await asyncio.gather(*(begin(connection) for connection in connections)):
                    assert answer.status == 200
                for number, connection in enumerate(connections):
                    if number % 3 == 0:
                        connection.abort()
                    elif number % 3 == 1:
                        pool.give_back(connection)
            assert repr(pool).endswith("0 open, 0 idle>")
        assert len(server.accepted) == 3000
        await server.until(lambda: not server.open)
