"""What a connection makes of an answer: the same however it is cut into pieces, and nothing that it does not say."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncup.sinks.s3.exchange import MAX_ANSWER, Answer, ExchangeError
from tests.unit.wires import Wire, exchange, outcome

OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = OK + b'ETag: "a"\r\nContent-Length: 0\r\n\r\n'
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\n<Err>"
STORED = Answer(200, {b"ETag": b'"a"', b"Content-Length": b"0"}, b"", whole=True)


def answer(status: int = 200, body: bytes = b"", **headers: str) -> Answer:
    named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return Answer(status, named, body, whole=True)


#: What is received, whether the server ends the connection then, what it means, and whether the connection goes on.
SHAPES: dict[str, tuple[bytes, bool, Answer, bool]] = {
    "without a body": (EMPTY, False, STORED, True),
    "with a length": (REFUSAL, False, answer(403, b"<Err>", Content_Length="5"), True),
    "in chunks": (
        CHUNKED + b"5;ext=1\r\nhello\r\n06\r\n world\r\n0\r\n\r\n",
        False,
        answer(body=b"hello world", Transfer_Encoding="chunked"),
        True,
    ),
    "in no chunk": (CHUNKED + b"000\r\n\r\n", False, answer(Transfer_Encoding="chunked"), True),
    "with trailers": (
        OK + b'ETag: "a"\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nETag: "b"\r\nX-More: c\r\n\r\n',
        False,
        answer(body=b"x", ETag='"a"', Transfer_Encoding="chunked"),  # RFC 9110, section 6.5.1
        True,
    ),
    "after interim answers": (
        b"HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + EMPTY,
        False,
        STORED,
        True,
    ),
    "until the end": (
        b"HTTP/1.1 500 Oh\r\nServer: x\r\n\r\nwords",
        True,
        answer(500, b"words", Server="x"),
        False,
    ),
    "of nothing until the end": (OK + b'ETag: "a"\r\n\r\n', True, answer(ETag='"a"'), False),
    "and goodbye": (
        OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n",
        False,
        answer(Connection="close", Content_Length="0"),
        False,
    ),
    "of HTTP/1.0": (
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
        False,
        answer(body=b"x", Content_Length="1"),
        False,
    ),
    "of HTTP/1.0 that goes on": (
        b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\nx",
        False,
        answer(body=b"x", Connection="Keep-Alive", Content_Length="1"),
        True,
    ),
    "in lower case": (
        b'HTTP/1.1 200 ok\r\netag:"a"\r\ncontent-length:0\r\n\r\n',
        False,
        answer(etag='"a"', content_length="0"),
        True,
    ),
    "with empty headers": (
        OK + b'X-None:\r\nETag:\t "a"\r\nX-Blank:   \r\nContent-Length: 0\r\n\r\n',
        False,
        Answer(200, {b"X-None": b"", b"ETag": b'"a"', b"X-Blank": b"", b"Content-Length": b"0"}, b"", whole=True),
        True,
    ),
    "that says nothing more": (b"HTTP/1.1 204 \r\n\r\n", False, answer(204), True),
    "after an empty line": (b"\r\n" + EMPTY, False, STORED, True),  # which a server may leave behind
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_an_answer_is_the_same_wherever_it_is_cut(shape: str) -> None:
    data, ended, expected, goes_on = SHAPES[shape]
    cuts = [(data,), tuple(data[at : at + 1] for at in range(len(data)))]
    cuts += [(data[:at], data[at:]) for at in range(1, len(data))]
    for pieces in cuts:
        got, wire = await exchange(*pieces, ended=ended)
        assert got == expected
        assert wire.connection.usable is goes_on
        assert wire.aborted is not goes_on


@pytest.mark.parametrize("shape", SHAPES)
async def test_an_answer_that_breaks_off_anywhere_is_none(shape: str) -> None:
    data, ended, _, _ = SHAPES[shape]
    head = data.index(b"\r\n\r\n", data.rindex(b"HTTP/")) + 4
    for at in range(len(data)):
        for exc in (None, ConnectionResetError()):
            if ended and at >= head and exc is None:
                continue  # the one thing that ends an answer without a length
            wire = Wire()
            waiter = wire.connection.request(b"request")
            wire.receive(data[:at])
            wire.end(exc)
            error = outcome(waiter)
            assert isinstance(error, ExchangeError)
            assert error.silent is (at == 0)
            assert not wire.connection.usable


TOKENS = st.text("abcXYZ019-_~!", min_size=1, max_size=8).map(lambda name: f"X-{name}".encode())
VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=8)


@st.composite
def responses(draw: st.DrawFn) -> tuple[bytes, bool, Answer]:
    """A valid response, whether its end is the connection's, and what it means."""
    interim = draw(st.lists(st.sampled_from([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 \r\nX-A: b\r\n\r\n"])))
    status = draw(st.sampled_from([200, 201, 301, 400, 403, 404, 412, 500, 503]))
    values = draw(st.dictionaries(TOKENS, VALUES.map(lambda value: value.encode("latin-1")), max_size=5))
    body = draw(st.binary(max_size=40))
    framing = draw(st.sampled_from(["length", "chunked", "ended"]))
    headers = {name: value.strip(b"\x85\xa0") for name, value in values.items()}
    sent = body
    if framing == "length":
        headers[b"Content-Length"] = str(len(body)).encode()
    elif framing == "chunked":
        headers[b"Transfer-Encoding"] = b"chunked"
        sizes = draw(st.lists(st.integers(1, 20), max_size=3))
        sent = b""
        rest = body
        for size in sizes:
            chunk, rest = rest[:size], rest[size:]
            sent += b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunk else b""
        sent += (b"%X\r\n%b\r\n" % (len(rest), rest) if rest else b"") + b"0\r\n\r\n"
    lines = b"".join(b"%b: %b\r\n" % header for header in headers.items())
    data = b"".join(interim) + b"HTTP/1.1 %d Reason\r\n%b\r\n%b" % (status, lines, sent)
    return data, framing == "ended", Answer(status, headers, body, whole=True)


@settings(max_examples=400, deadline=None)
@given(responses(), st.lists(st.integers(0, 400), max_size=6))
async def test_every_answer_is_read_as_it_was_meant_in_whatever_pieces(
    response: tuple[bytes, bool, Answer], cuts: list[int]
) -> None:
    data, ended, expected = response
    edges = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    pieces = [data[start:end] for start, end in pairwise(edges)]
    got, wire = await exchange(*pieces, ended=ended)
    assert got == expected
    assert wire.connection.usable is not ended


async def test_the_etag_and_headers_are_found_in_any_case_and_without_blanks_around_them() -> None:
    for name in (b"ETag", b"etag", b"ETAG", b"Etag"):
        got, _ = await exchange(OK + name + b':\t "\xe9" \t\r\nContent-Length: 0\r\n\r\n')
        assert isinstance(got, Answer)
        assert got.etag == got.header(b"etag") == '"é"'
        assert got.header(b"x-none") is None


async def test_a_connection_carries_one_exchange_after_the_other() -> None:
    wire = Wire()
    for number in range(4):
        body = b"x" * (number * MAX_ANSWER // 4)  # no more than an answer may have, but more in all
        waiter = wire.connection.request(b"request %d" % number)
        assert repr(wire.connection) == "<Connection busy>"
        head = b"HTTP/1.1 40%d No\r\nX-%d: \r\n" % (number, number)
        wire.receive(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        names = {b"X-%d" % number: b"", b"Content-Length": b"%d" % len(body)}
        assert outcome(waiter) == Answer(400 + number, names, body, whole=True)
    assert wire.written == b"request 0request 1request 2request 3"
    assert repr(wire.connection) == "<Connection idle>"
    waiter = wire.connection.request(b"request")
    wire.end()
    error = outcome(waiter)
    assert isinstance(error, ExchangeError)
    assert error.silent  # whatever came before
    assert repr(wire.connection) == "<Connection closed>"


async def test_a_request_over_a_closed_connection_breaks_at_once_and_silently() -> None:
    wire = Wire()
    wire.end()
    error = outcome(wire.connection.request(b"request"))
    assert isinstance(error, ExchangeError)
    assert error.silent
    assert wire.written == b""


#: Bytes that are no part of the answer before them.
SURPLUS: dict[str, bytes] = {
    "an answer": EMPTY,
    "a refusal": REFUSAL,
    "half an answer": EMPTY[:20],
    "an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Bye\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "a blank": b" ",
    "a byte": b"H",
    "a NUL": b"\0",
    "a request": b"GET / HTTP/1.1\r\n\r\n",
    "garbage": bytes(range(256)),
    "a lot of it": bytes(MAX_ANSWER),
}


@pytest.mark.parametrize("surplus", SURPLUS)
async def test_bytes_that_nobody_asked_for_cost_the_connection_and_not_the_answer(surplus: str) -> None:
    more = SURPLUS[surplus]
    for data, ended, expected, _ in SHAPES.values():
        if ended:
            continue  # whatever follows is its body
        for pieces in ((data + more,), (data, more), (data[:-1], data[-1:] + more), (data + more[:1], more[1:])):
            got, wire = await exchange(*filter(None, pieces))
            assert got == expected
            assert wire.aborted
            error = outcome(wire.connection.request(b"request"))
            assert isinstance(error, ExchangeError)


@pytest.mark.parametrize("data", [EMPTY, b"\r\n", b"x"])
async def test_an_answer_to_nobody_closes_the_connection(data: bytes) -> None:
    wire = Wire()
    wire.receive(data)
    assert wire.aborted
    assert isinstance(outcome(wire.connection.request(b"request")), ExchangeError)


async def test_an_exchange_is_given_up_after_its_deadline_and_not_before() -> None:
    wire = Wire()
    wire.connection.give_up(now=1e9)  # of nobody
    assert wire.connection.usable
    waiter = wire.connection.request(b"request")
    wire.connection.deadline = 100.0
    wire.connection.give_up(now=100.0)
    assert not waiter.done()
    wire.receive(EMPTY[:30])
    wire.connection.give_up(now=100.1)
    error: Any = outcome(waiter)
    assert (str(error), error.silent) == ("no answer in time", False)
    assert wire.aborted
    wire.end()
