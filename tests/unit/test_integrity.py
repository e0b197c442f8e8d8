"""What is sent along for a server to check, and what its answer has to agree with, for every provider and flag."""

from __future__ import annotations

import hashlib
import threading
from base64 import b64encode
from typing import Any

import pytest

from asyncup.errors import ConnectionLost, PayloadCorrupted
from asyncup.sinks.s3.integrity import Integrity, Seal
from asyncup.sinks.s3.providers import AWS, CLOUDFLARE, OTHER, Provider, provider_of

BODY = b"123456789"
#: The check value of CRC-32/ISO-HDLC, CBF43926, and digests of the same bytes, computed by others.
CRC32 = "y/Q5Jg=="
SHA256 = "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"
MD5 = "25f9e794323b453885f5181f1b624d0b"
WRONG = "d41d8cd98f00b204e9800998ecf8427e"
UNSIGNED = "UNSIGNED-PAYLOAD"


def integrity(
    provider: Provider,
    *,
    checksum: str | None = None,
    tls: bool = True,
    signed: bool = True,
    verify_etag: bool = True,
) -> Integrity:
    return Integrity(provider, checksum=checksum, tls=tls, signed=signed, verify_etag=verify_etag)


def answered(checks: Integrity, etag: str | None, encryption: str | None = None) -> None:
    """A put of BODY that is acknowledged with this ETag, as the wire lane looks at it."""
    seal = checks.seal(BODY)
    if not checks.agrees(seal, etag):
        checks.judge(seal, etag, encryption, "put", "key")


@pytest.mark.parametrize(
    ("provider", "tls", "checksum", "payload", "algorithm"),
    [
        # over TLS to AWS the checksum stands in for the payload's hash, and without one the payload is signed
        (AWS, True, None, UNSIGNED, "crc32"),
        (AWS, True, "crc32", UNSIGNED, "crc32"),
        (AWS, True, "sha256", UNSIGNED, "sha256"),
        (AWS, True, "none", SHA256, None),
        # over http nothing but the signature protects the payload
        (AWS, False, None, SHA256, "crc32"),
        (AWS, False, "crc32", SHA256, "crc32"),
        (AWS, False, "sha256", SHA256, "sha256"),
        (AWS, False, "none", SHA256, None),
        # everybody else gets what every server takes, and a checksum where it is asked for
        *((other, tls, None, SHA256, None) for other in (CLOUDFLARE, OTHER) for tls in (True, False)),
        *((other, tls, "none", SHA256, None) for other in (CLOUDFLARE, OTHER) for tls in (True, False)),
        *((other, tls, "crc32", SHA256, "crc32") for other in (CLOUDFLARE, OTHER) for tls in (True, False)),
        *((other, tls, "sha256", SHA256, "sha256") for other in (CLOUDFLARE, OTHER) for tls in (True, False)),
    ],
)
async def test_a_body_is_sealed_as_its_provider_and_flags_say(
    provider: Provider, tls: bool, checksum: str | None, payload: str, algorithm: str | None
) -> None:
    for signed in (True, False):
        checks = integrity(provider, checksum=checksum, tls=tls, signed=signed)
        value = {None: None, "crc32": CRC32, "sha256": b64encode(bytes.fromhex(SHA256)).decode()}[algorithm]
        expected = Seal(payload if signed else UNSIGNED, value, MD5)
        assert checks.seal(BODY) == checks.seal(memoryview(BODY)) == await checks.seal_apart(BODY) == expected
        assert (checks.algorithm, checks.header) == (algorithm, algorithm and f"x-amz-checksum-{algorithm}")


def test_the_checksum_of_nothing_has_its_leading_zeros() -> None:
    assert integrity(AWS).seal(b"") == Seal(UNSIGNED, "AAAAAA==", WRONG)


async def test_a_long_body_is_sealed_in_a_thread() -> None:
    checks: Any = integrity(AWS)
    checks.seal = lambda _: threading.get_ident()
    assert await checks.seal_apart(BODY) != threading.get_ident()


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("s3.eu-central-1.amazonaws.com", AWS),
        ("bucket.s3.amazonaws.com", AWS),
        ("s3.cn-north-1.amazonaws.com.cn", AWS),
        ("account.r2.cloudflarestorage.com", CLOUDFLARE),
        ("amazonaws.com.example.test", OTHER),
        ("notamazonaws.com", OTHER),
        ("127.0.0.1", OTHER),
        ("", OTHER),
    ],
)
def test_a_provider_is_known_by_its_domain_and_not_by_what_looks_like_it(host: str, provider: Provider) -> None:
    assert provider_of(host) is provider


# --- the ETag -------------------------------------------------------------------------------------------------

#: What is not the MD5 of anything: of parts, encrypted, weak, bare, and whatever else a server may think of.
ODD = ["", '""', '"', f'"{WRONG}-1"', f'W/"{WRONG}"', WRONG, '"x"', '"' + "0" * 64 + '"', "é"]


@pytest.mark.parametrize("provider", [AWS, CLOUDFLARE])
@pytest.mark.parametrize("encryption", [None, "AES256"])
def test_a_promised_etag_that_is_the_md5_of_other_bytes_is_corruption_every_time(
    provider: Provider, encryption: str | None
) -> None:
    checks = integrity(provider)
    for _ in range(2):
        answered(checks, f'"{MD5}"', encryption)
        with pytest.raises(PayloadCorrupted) as caught:
            answered(checks, f'"{WRONG}"', encryption)
        error = caught.value
        assert (error.op, error.subject) == ("put", "key")
        assert MD5 in error.message
        assert WRONG in error.message
        assert "--no-verify-etag" in str(error.hint)


@pytest.mark.parametrize("encryption", ["aws:kms", "aws:kms:dsse"])
@pytest.mark.parametrize("provider", [AWS, OTHER])
def test_with_a_kms_key_an_etag_says_nothing_and_no_md5_is_computed_any_more(
    provider: Provider, encryption: str
) -> None:
    checks = integrity(provider)
    answered(checks, f'"{WRONG}"', encryption)
    assert checks.seal(BODY).md5 is None
    answered(checks, f'"{WRONG}"')


@pytest.mark.parametrize("etag", ODD)
def test_an_etag_that_is_no_md5_is_no_corruption_and_no_reason_to_stop_looking(etag: str) -> None:
    checks = integrity(AWS)
    answered(checks, etag)
    with pytest.raises(PayloadCorrupted):
        answered(checks, f'"{WRONG}"')


def test_a_server_that_promises_nothing_is_held_to_it_once_an_etag_has_agreed() -> None:
    checks = integrity(OTHER)
    answered(checks, f'"{MD5}"')
    for etag in ODD:
        answered(checks, etag)
    with pytest.raises(PayloadCorrupted):
        answered(checks, f'"{WRONG}"')
    with pytest.raises(ConnectionLost):
        answered(checks, None)


@pytest.mark.parametrize("provider", [AWS, CLOUDFLARE])
def test_an_answer_without_an_etag_is_not_that_of_a_server_whose_answers_have_one(provider: Provider) -> None:
    checks = integrity(provider)
    with pytest.raises(ConnectionLost):
        answered(checks, None)
    answered(checks, None, "aws:kms")


@pytest.mark.parametrize("etag", [*ODD, None, f'"{WRONG}"'])
def test_a_server_whose_first_etag_does_not_agree_is_never_asked_again(etag: str | None) -> None:
    checks = integrity(OTHER)
    answered(checks, etag)
    assert checks.seal(BODY).md5 is None
    answered(checks, f'"{WRONG}"')


@pytest.mark.parametrize("provider", [AWS, CLOUDFLARE, OTHER])
def test_without_verification_no_md5_is_computed_and_no_etag_is_wrong(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_md5(*_: Any, **__: Any) -> Any:
        raise AssertionError("an MD5 was computed")

    monkeypatch.setattr("asyncup.sinks.s3.integrity.md5", no_md5)
    checks = integrity(provider, verify_etag=False)
    for etag in (f'"{WRONG}"', f'"{MD5}"', None):
        answered(checks, etag)
    monkeypatch.setattr("asyncup.sinks.s3.integrity.md5", hashlib.md5)
    assert checks.seal(BODY).md5 is None
