"""Connections for real, on asyncio's own loop and on uvloop: used again, given up, cancelled, and all closed."""

from __future__ import annotations

import asyncio

import pytest

from asyncup.sinks.s3.exchange import Connection, ExchangeError
from asyncup.sinks.s3.pool import KEEP_SECONDS, LOOKUP_SECONDS
from tests.integration.doors import Names, door
from tests.integration.loops import on_both_loops
from tests.integration.pools import begin, call, later, pool_to, timer_of

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
    async with door() as server, pool_to(server.port, "127.0.0.1") as pool:
        connection = await call(pool)
        later(pool, KEEP_SECONDS - 1)
        assert pool.take() is connection
        pool.give_back(connection)
        later(pool, KEEP_SECONDS)
        assert pool.take() is None
        await server.until(lambda: not server.open)


@on_both_loops
async def test_idle_connections_are_closed_after_a_while_and_busy_ones_are_not() -> None:
    async with door() as server, pool_to(server.port, "127.0.0.1", patience=1) as pool:
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


@on_both_loops
async def test_an_idle_connection_that_says_something_is_not_used_again() -> None:
    async with door() as server, pool_to(server.port, "127.0.0.1") as pool:
        connection = await call(pool)
        connection.data_received(b"HTTP/1.1 408 Request Timeout\r\n")
        assert pool.take() is None
        await server.until(lambda: not server.open)


@on_both_loops
async def test_a_pool_without_connections_has_no_timer() -> None:
    async with door() as server, pool_to(server.port, "127.0.0.1", patience=1) as pool:
        connection = await pool.connect()
        assert timer_of(pool) is not None
        connection.abort()
        while timer_of(pool) is not None:
            await asyncio.sleep(0.01)
        await pool.connect()
        timer = timer_of(pool)
        await pool.close()
        assert timer is not None
        assert timer.cancelled()


# --- ends -----------------------------------------------------------------------------------------------------


@on_both_loops
async def test_an_exchange_that_takes_too_long_is_given_up_and_the_others_are_not() -> None:
    async with door(answers=False) as server, pool_to(server.port, "127.0.0.1", patience=1) as pool:
        slow, patient, idle = [await pool.connect() for _ in range(3)]
        pool.give_back(idle)
        await server.until(lambda: len(server.open) == 3)
        waiting = begin(patient)
        with pytest.raises(ExchangeError, match="no answer in time"):
            await begin(slow, patience=0.05)
        await server.until(lambda: len(server.open) == 2)
        assert repr(pool).endswith("2 open, 1 idle>")
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
            async with pool_to(server.port, "127.0.0.1") as pool:
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
