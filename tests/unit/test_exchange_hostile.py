"""A hostile or broken server costs an exchange: never an exception in the loop, a hang, or a success it did not say.

What counts as said is for a reader of HTTP to judge that shares nothing with the exchange.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain, pairwise, repeat

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asyncup.sinks.s3.exchange import MAX_ANSWER, Answer, ExchangeError
from tests.unit.oracles import read_response
from tests.unit.wires import Wire, exchange, outcome

OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = OK + b'ETag: "a"\r\nContent-Length: 0\r\n\r\n'
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
REFUSAL = b"HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\n<Err>"
CLEAN = b"HTTP/1.1 299 Clean\r\nX-Clean: 1\r\nContent-Length: 5\r\n\r\nclean"

VALID = [
    EMPTY,
    REFUSAL,
    OK + b"Content-Length: 12\r\n\r\nhello world!",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7;a=b\r\n world!\r\n0\r\nX-Trailer: 1\r\n\r\n",
    OK + b'ETag: "a"\r\n\r\nuntil the end',
    b"HTTP/1.1 100 Continue\r\n\r\n" + EMPTY,
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
    b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
    OK + b"Content-Length: 0\r\nConnection: close\r\n\r\n",
]
#: What answers are made of, and what is put where it does not belong.
PARTS = [
    *(
        b"HTTP/1.1 ",
        b"HTTP/1.0 ",
        b"HTTP/2.0 ",
        b"200",
        b"100",
        b"101",
        b"204",
        b"304",
        b"403",
        b" OK",
        b"\r\n",
        b"\r\n\r\n",
    ),
    *(
        b"\r",
        b"\n",
        b"\n\n",
        b" ",
        b"\t",
        b":",
        b": ",
        b",",
        b";",
        b"\0",
        b"0",
        b"1",
        b"5",
        b"-1",
        b"+5",
        b"0x5",
        b"5, 5",
    ),
    *(
        b"Content-Length: 0\r\n",
        b"Content-Length: 5\r\n",
        b"content-length:5\r\n",
        b"Content-Length: 99999999999999999999\r\n",
    ),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding: identity\r\n"),
    *(
        b'ETag: "a"\r\n',
        b"Connection: close\r\n",
        b"Connection: keep-alive\r\n",
        b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    ),
    *(
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"0\r\nX: y\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"hello",
        b"X: a\r\n b\r\n",
        b"X",
        b"\xff",
    ),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """One or two valid answers after a few accidents."""
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(VALID), min_size=1, max_size=2))))
    for accident in draw(st.lists(st.sampled_from(["flip", "cut", "insert", "drop", "double"]), max_size=4)):
        start, size = draw(st.integers(0, len(data))), draw(st.integers(1, 12))
        if accident == "flip" and start < len(data):
            data[start] ^= 1 << draw(st.integers(0, 7))
        elif accident == "cut":
            del data[start:]
        elif accident == "insert":
            data[start:start] = draw(st.sampled_from(PARTS))
        elif accident == "drop":
            del data[start : start + size]
        else:
            data[start:start] = data[start : start + size]
    return bytes(data)


NOISE = mutated() | st.lists(st.sampled_from([*PARTS, OK]), max_size=14).map(b"".join) | st.binary(max_size=60)


async def judge(data: bytes, cuts: list[int], ends: bool) -> None:
    """Receive this in pieces, and hold what is made of it against the other reader."""
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    wire = Wire()
    waiter = wire.connection.request(b"request")
    wire.receive(*(data[start:end] for start, end in pairwise(edges)))
    ended = ends and not wire.aborted
    if not waiter.done():
        wire.end(None if ends else ConnectionResetError("reset"))
    got = outcome(waiter)
    if isinstance(got, ExchangeError):
        assert not wire.connection.usable
        assert got.silent is (not data)
        return
    expected = read_response(wire.received, ended)
    assert expected is not None
    stripped = {name: value.strip(b" \t") for name, value in got.headers.items()}
    assert (got.status, stripped, got.body, got.whole) == (expected.status, expected.headers, expected.body, True)
    if wire.connection.usable:
        # an empty line between two answers is none (RFC 9112, section 2.2); nothing else may be left
        assert not expected.rest.strip(b"\r\n")
        waiter = wire.connection.request(b"request")
        wire.receive(CLEAN)
        assert outcome(waiter) == Answer(299, {b"X-Clean": b"1", b"Content-Length": b"5"}, b"clean")
    if not wire.lost:
        wire.end()


def test_whatever_comes_is_no_answer_that_another_reader_does_not_find_in_it() -> None:
    with asyncio.Runner(debug=False) as runner:  # debugging takes ten times as long, and looks at nothing here

        @settings(max_examples=2000, deadline=None)
        @given(NOISE, st.lists(st.integers(0, 200), max_size=4), st.booleans())
        @example(
            b"HTTP/1.1 100 No\r\nContent-Length: 34\r\n\r\nHTTP/1.1 403 No\r\nX: the body of\r\n\r\n" + EMPTY, [], True
        )
        @example(b"HTTP/1.1 003 No\r\nContent-Length: 5\r\n\r\n<Err>" + EMPTY, [], True)
        @example(OK + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [], True)
        @example(OK + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello", [], True)
        def holds(data: bytes, cuts: list[int], ends: bool) -> None:
            runner.run(judge(data, cuts, ends))

        holds()


#: Answers that never end: how each begins, and what goes on for ever.
ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "status line": (b"HTTP/1.1 200 ", b"OK "),
    "headers": (OK, b"X-Header: value\r\n"),
    "headers of their own": (OK, b""),
    "header name": (OK, b"X-"),
    "header value": (OK + b"X: ", b"value "),
    "refused headers": (b"HTTP/1.1 403 No\r\n", b"X-Header: value\r\n"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "empty lines": (b"", b"\r\n"),
}


def endless(kind: str) -> Iterator[bytes]:
    begin, more = ENDLESS[kind]
    yield begin or more
    if more:
        yield from repeat(more * (1 + 4000 // len(more)))
    for number in range(10_000_000):
        yield b"".join(b"X-%d: %d\r\n" % (each, number) for each in range(number * 100, number * 100 + 100))


@pytest.mark.parametrize("kind", ENDLESS)
async def test_a_head_without_an_end_is_given_up_at_the_limit(kind: str) -> None:
    wire = Wire()
    waiter = wire.connection.request(b"request")
    for piece in endless(kind):
        wire.receive(piece)
        if wire.aborted:
            break
    assert isinstance(outcome(waiter), ExchangeError)
    assert MAX_ANSWER < len(wire.received) < MAX_ANSWER + 5000
    wire.end()


@pytest.mark.parametrize("status", [200, 403, 503])
@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"Content-Length: 10000000\r\n\r\n", b"body" * 1000),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n" * 400),
        (b"Transfer-Encoding: chunked\r\n\r\n1;", b"a=b;" * 1000),
        (b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"X: y\r\n" * 700),
        (b"\r\n", b"body" * 1000),
    ],
    ids=["length", "chunks", "an extension", "trailers", "until the end"],
)
async def test_a_body_without_an_end_is_cut_off_and_no_success(status: int, begin: bytes, more: bytes) -> None:
    head = b"HTTP/1.1 %d Status\r\nX-Amz-Id: 7\r\n%b" % (status, begin)
    results = []
    for pieces in ([head, *repeat(more, 60)], [head + more * 60], [head, more * 60]):
        got, wire = await exchange(*pieces)
        assert isinstance(got, Answer)
        assert (got.status, got.header(b"x-amz-id"), got.whole) == (status, "7", False)
        assert wire.aborted
        assert len(got.body) <= MAX_ANSWER
        results.append(got)
    assert results == [results[0]] * 3


async def test_bytes_after_an_answer_that_is_as_long_as_it_may_be_cost_the_connection() -> None:
    head = OK + b"Content-Length: %d\r\n\r\n"
    size = MAX_ANSWER - len(head % MAX_ANSWER)
    longest = head % size + bytes(size)
    assert len(longest) == MAX_ANSWER
    for more in (b"", b"x", EMPTY, bytes(MAX_ANSWER)):
        for pieces in ((longest + more,), (longest[:7], longest[7:] + more)):
            got, wire = await exchange(*pieces)
            assert isinstance(got, Answer)
            assert (got.status, got.whole, len(got.body)) == (200, True, size)
            assert wire.connection.usable is (not more)


@pytest.mark.parametrize(
    "length", [b"10000000", b"99999999999999999999", b"-1", b"+0", b"0, 0", b"0x0", b"", b" ", b"1e1"]
)
async def test_a_length_that_is_wrong_is_never_a_success(length: bytes) -> None:
    for ended in (None, ConnectionResetError()):
        wire = Wire()
        waiter = wire.connection.request(b"request")
        wire.receive(OK + b'ETag: "a"\r\nContent-Length:' + length + b"\r\n\r\nhello")
        wire.end(ended)
        assert isinstance(outcome(waiter), ExchangeError)


async def test_what_is_no_http_says_what_it_is_and_closes_the_connection() -> None:
    for data in chain(([byte] * 20 for byte in b"\0 <S\x15\x16"), [list(b"SSH-2.0-OpenSSH"), list(b"<html></html>")]):
        got, wire = await exchange(bytes(data))
        assert isinstance(got, ExchangeError)
        assert str(got).startswith("the answer is not HTTP: ")
        assert not got.silent
        assert wire.aborted
    got, _ = await exchange(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
    assert str(got) == "the answer is not HTTP: it switches to another protocol"
