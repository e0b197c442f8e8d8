"""TLS on the wire: bodies of every size, and servers that must not be trusted. On asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from asyncup.errors import AsyncupError, ConnectionLost, DestinationRefused, Unreachable
from asyncup.model import Receipt, Upload
from asyncup.sinks.s3.pool import Origin, Pool
from asyncup.sinks.s3.resolve import _trust
from tests.integration.certificates import Certificate, make_certificate
from tests.integration.doors import Names, door
from tests.integration.loops import on_both_loops
from tests.integration.pools import NAME, UPLOAD, lane_to, port_of, refusal
from tests.integration.scripted_s3 import ETAG, Answer, Then, refuse, scripted_s3

LARGE = Upload("large", bytes(range(256)) * 12_000)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"), NAME)


@pytest.fixture(scope="module")
def trusted(certificate: Certificate) -> ssl.SSLContext:
    """The context of asyncup's own that trusts the certificate."""
    return _trust(str(certificate.certificate))


@on_both_loops
async def test_over_tls_bodies_of_every_size_arrive(certificate: Certificate, trusted: ssl.SSLContext) -> None:
    Names("127.0.0.1")
    async with scripted_s3(certificate.context()) as server, lane_to(port_of(server), trusted) as lane:
        for upload in (UPLOAD, LARGE, Upload("empty", b""), LARGE):
            assert await lane.put(upload) == Receipt(upload.key, len(upload.body), ETAG)
        assert [request.body for request in server.requests] == [UPLOAD.body, LARGE.body, b"", LARGE.body]
        assert {request.connection for request in server.requests} == {1}


@on_both_loops
async def test_over_tls_a_refusal_that_comes_before_the_body_counts(
    certificate: Certificate, trusted: ssl.SSLContext
) -> None:
    Names("127.0.0.1")
    async with scripted_s3(certificate.context()) as server, lane_to(port_of(server), trusted) as lane:
        server.answer(Answer(refuse(403, "AccessDenied").text, Then.HANG, early=True))
        with pytest.raises(DestinationRefused, match="AccessDenied"):
            await lane.put(LARGE)
        await server.wait_until_idle()
        await lane.put(UPLOAD)


@on_both_loops
async def test_over_tls_an_answer_that_breaks_off_is_none(certificate: Certificate, trusted: ssl.SSLContext) -> None:
    Names("127.0.0.1")
    whole = b'HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Length: 3\r\n\r\nabc'
    async with scripted_s3(certificate.context()) as server, lane_to(port_of(server), trusted) as lane:
        for cut in (0, 1, 20, 40, len(whole) - 1):
            for then in (Then.CLOSE, Then.RESET):
                server.answer(Answer(whole[:cut], then))
                assert type(await refusal(lane)) is ConnectionLost


def expired(certificate: Certificate, folder: Path) -> Certificate:
    """The same certificate, as of a year ago."""
    made = x509.load_pem_x509_certificate(certificate.certificate.read_bytes())
    key = serialization.load_pem_private_key(certificate.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    year = dt.timedelta(days=365)
    builder = x509.CertificateBuilder(made.issuer, made.subject, made.public_key(), made.serial_number)
    builder = builder.not_valid_before(made.not_valid_before_utc - year).not_valid_after(
        made.not_valid_after_utc - year
    )
    for extension in made.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    file = folder / "expired.pem"
    file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return Certificate(file, certificate.key)


@pytest.fixture(scope="module")
def impostors(certificate: Certificate, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Certificate]:
    folders = [tmp_path_factory.mktemp("impostor") for _ in range(3)]
    return {
        "another name": make_certificate(folders[0], "s3.example.com"),
        "another authority": make_certificate(folders[1], NAME),
        "another time": expired(certificate, folders[2]),
    }


@pytest.mark.parametrize(
    ("impostor", "trusts", "reason"),
    [
        ("another name", "another name", "Hostname mismatch"),
        ("another authority", "", "CERTIFICATE_VERIFY_FAILED"),
        ("another time", "another time", "certificate has expired"),
    ],
)
@on_both_loops
async def test_a_certificate_that_does_not_hold_for_the_server_refuses_the_run_and_nothing_is_sent(
    certificate: Certificate, impostors: dict[str, Certificate], impostor: str, trusts: str, reason: str
) -> None:
    Names("127.0.0.1")
    authority = impostors[trusts] if trusts else certificate
    context = await asyncio.to_thread(_trust, str(authority.certificate))
    async with door(tls=impostors[impostor].context()) as server, lane_to(server.port, context) as lane:
        error = await refusal(lane)
        assert type(error) is DestinationRefused
        assert reason in error.message
        assert "--ca-bundle" in str(error.hint)
        assert server.accepted == []


def obsolete(certificate: Certificate) -> ssl.SSLContext:
    """A server's context that knows nothing newer than TLS 1.1."""
    context = certificate.context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


@on_both_loops
async def test_tls_before_1_2_is_refused(certificate: Certificate, trusted: ssl.SSLContext) -> None:
    Names("127.0.0.1")
    async with door(tls=obsolete(certificate)) as server, lane_to(server.port, trusted) as lane:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            lenient = ssl.create_default_context(cafile=str(certificate.certificate))
            lenient.minimum_version = ssl.TLSVersion.TLSv1
        lenient.set_ciphers("ALL:@SECLEVEL=0")
        pool = Pool(Origin(NAME, server.port, lenient), 10)
        try:
            await pool.connect()
        except ssl.SSLError:
            pytest.skip("this OpenSSL does not speak TLS 1.1 at all")
        finally:
            await pool.close()
        assert type(await refusal(lane)) is DestinationRefused
        assert len(server.accepted) == 1


@pytest.mark.parametrize("answers", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"220 mail ready\r\n"])
@on_both_loops
async def test_a_server_that_does_not_speak_tls_is_refused(trusted: ssl.SSLContext, answers: bytes) -> None:
    await against(trusted, lambda writer: writer.write(answers), DestinationRefused, "TLS failed")


@on_both_loops
async def test_a_handshake_that_fails_where_others_have_not_is_tried_again(trusted: ssl.SSLContext) -> None:
    await against(trusted, lambda writer: writer.write(b"garbage\r\n"), Unreachable, "TLS failed", accepted=True)


@pytest.mark.parametrize("end", ["close", "abort"])
@on_both_loops
async def test_a_server_that_goes_away_in_the_middle_of_the_handshake_is_unreachable(
    trusted: ssl.SSLContext, end: str
) -> None:
    await against(trusted, lambda writer: getattr(writer.transport, end)(), Unreachable, "cannot be reached")


@on_both_loops
async def test_a_server_that_never_ends_the_handshake_is_given_up(
    trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncup.sinks.s3.pool.CONNECT_SECONDS", 0.1)
    await against(trusted, lambda _: None, Unreachable, "does not answer in time")


async def against(
    trusted: ssl.SSLContext,
    act: Callable[[asyncio.StreamWriter], None],
    expected: type[AsyncupError],
    said: str,
    *,
    accepted: bool = False,
) -> None:
    """Put to a server that answers the first bytes of a handshake like this, and has `accepted` an object before."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(1)
            act(writer)
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()

    Names("127.0.0.1")
    server = await asyncio.start_server(serve, "127.0.0.1")
    try:
        async with lane_to(server.sockets[0].getsockname()[1], trusted) as lane:
            lane.accepted = accepted
            error = await refusal(lane)
            assert type(error) is expected
            assert said in error.message
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("hosts", [("127.0.0.1",), ("127.0.0.1", "127.0.0.1")])
@on_both_loops
async def test_a_handshake_can_be_cancelled_at_every_turn_and_leaves_no_socket(
    certificate: Certificate, trusted: ssl.SSLContext, hosts: tuple[str, ...]
) -> None:
    Names(*hosts)
    async with door(tls=certificate.context()) as server:
        turns, connected = 0, False
        while not connected:
            turns += 1
            pool = Pool(Origin(NAME, server.port, trusted), 10)
            task = asyncio.create_task(pool.connect())
            for _ in range(turns):
                await asyncio.sleep(0)
            connected = task.done()
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled() is not connected
            assert repr(pool).endswith(f", {int(connected)} open, 0 idle>")
            await pool.close()
        assert turns > 3
        await server.until(lambda: not server.open)


@on_both_loops
async def test_connections_over_tls_come_and_go_and_none_is_left(
    certificate: Certificate, trusted: ssl.SSLContext
) -> None:
    Names("127.0.0.1")
    async with door(tls=certificate.context()) as server:
        for _ in range(4):
            pool = Pool(Origin(NAME, server.port, trusted), 60)
            for connection in await asyncio.gather(*(pool.connect() for _ in range(50))):
                pool.give_back(connection)
            await pool.close()
            assert repr(pool).endswith("0 open, 0 idle>")
        await server.until(lambda: not server.open)
