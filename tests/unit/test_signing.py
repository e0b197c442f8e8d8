"""Signatures are what AWS says they are: its published examples, and botocore's opinion on thousands of requests."""

from __future__ import annotations

import string
from hashlib import sha256
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncup.errors import RowRefused
from asyncup.sinks.s3.signing import (
    Credentials,
    Signer,
    canonical_headers,
    canonical_request,
    encode_path,
    encode_query,
)
from tests.unit.oracles import signed_by_botocore

EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
#: 2013-05-24 00:00:00 UTC, the moment of the examples.
MOMENT = 1369353600
EMPTY = sha256(b"").hexdigest()
WELCOME = sha256(b"Welcome to Amazon S3.").hexdigest()

#: Keys, and names and values of queries: mostly of what is written in more than one way.
TEXT = st.text(
    st.sampled_from(" +%~?#&=*'()!\"<>\\@:;,$[]^`{|}..//25Fé日🙂\u0301\u2028") | st.characters(codec="utf-8")
)
TOKEN = st.text(string.ascii_lowercase + string.digits + "!#$%&'*+-.^_`|~", min_size=1, max_size=12)
NAMES = TOKEN.map("x-amz-meta-{}".format) | st.sampled_from(
    [
        *(
            "cache-control",
            "content-disposition",
            "content-encoding",
            "content-language",
            "content-md5",
            "content-type",
        ),
        *("if-none-match", "x-amz-acl", "x-amz-expected-bucket-owner", "x-amz-storage-class", "x-amz-tagging"),
    ]
)
VALUES = st.text(string.digits + string.ascii_letters + string.punctuation + "  \t", max_size=40)
CREDENTIALS = st.sampled_from(
    [
        EXAMPLE,
        Credentials("AKIAIOSFODNN7EXAMPLE", string.printable.strip()),
        Credentials("ASIAIOSFODNN7EXAMPLE", "sécret", "a token/" + "of+many=" * 100),
        Credentials("k", "s" * 100, "t"),
    ]
)
#: Some of the same second, of neighbouring seconds and of neighbouring days; the clock goes back between them, too.
MOMENTS = st.sampled_from([MOMENT + away for away in (0, 0.5, 0.999, 1, -0.25, -1, 86399, 86399.9, 86400, -86400)])
MOMENTS |= st.integers(0, 4_000_000_000)


@pytest.mark.parametrize(
    ("method", "key", "query", "headers", "payload", "signature"),
    [
        pytest.param(
            "GET",
            "test.txt",
            [],
            {"range": "bytes=0-9"},
            EMPTY,
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            id="get object",
        ),
        pytest.param(
            "PUT",
            "test$file.text",
            [],
            {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            WELCOME,
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            id="put object",
        ),
        pytest.param(
            "GET",
            "",
            [("lifecycle", "")],
            {},
            EMPTY,
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            id="get bucket lifecycle",
        ),
        pytest.param(
            "GET",
            "",
            [("prefix", "J"), ("max-keys", "2")],
            {},
            EMPTY,
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            id="list objects",
        ),
    ],
)
def test_the_examples_of_aws_have_the_signatures_of_aws(
    method: str, key: str, query: list[tuple[str, str]], headers: dict[str, str], payload: str, signature: str
) -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html"""
    signer = Signer(EXAMPLE, "us-east-1")
    signer.set_clock(MOMENT)
    assert signer.date == "20130524T000000Z"
    sent = headers | {
        "host": "examplebucket.s3.amazonaws.com",
        "x-amz-content-sha256": payload,
        "x-amz-date": signer.date,
    }
    canonical = canonical_request(method, "/" + encode_path(key), encode_query(query), sent, payload)
    names = ";".join(sorted(sent))
    assert signer.authorization(canonical, names) == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )


@settings(max_examples=300, deadline=None)
@given(
    key=TEXT,
    query=st.lists(st.tuples(TEXT, TEXT), max_size=4),
    headers=st.dictionaries(NAMES, VALUES, max_size=12),
    body=st.binary(max_size=20),
    credentials=CREDENTIALS,
    region=st.sampled_from(["us-east-1", "eu-central-1", "auto", "garage"]),
    moments=st.lists(MOMENTS, min_size=1, max_size=5),
)
def test_botocore_gives_every_request_the_same_signature_whatever_the_clock_does(
    key: str,
    query: list[tuple[str, str]],
    headers: dict[str, str],
    body: bytes,
    credentials: Credentials,
    region: str,
    moments: list[float],
) -> None:
    signer = Signer(credentials, region)
    path, asked, payload = "/bucket/" + encode_path(key), encode_query(query), sha256(body).hexdigest()
    token = {} if credentials.token is None else {"x-amz-security-token": credentials.token}
    for moment in moments:
        signer.set_clock(moment)
        sent = headers | token
        sent |= {"host": "s3.example.test:9000", "x-amz-content-sha256": payload, "x-amz-date": signer.date}
        canonical = canonical_request("PUT", path, asked, sent, payload)
        theirs = signed_by_botocore(
            "PUT",
            f"http://s3.example.test:9000{path}?{asked}",
            headers | {"host": "s3.example.test:9000"},
            body,
            credentials,
            region,
            moment,
        )
        assert signer.date == theirs["x-amz-date"]
        assert signer.authorization(canonical, canonical_headers(sent)[1]) == theirs["authorization"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_path_is_the_key_with_every_byte_but_the_unreserved_and_slashes_encoded_once(key: str) -> None:
    plain = (string.ascii_letters + string.digits + "-._~/").encode()
    path = encode_path(key)
    assert path == "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in key.encode())
    assert unquote_to_bytes(path) == key.encode()


@given(st.lists(st.tuples(TEXT, TEXT)))
def test_a_query_is_sorted_by_what_it_looks_like_encoded(parameters: list[tuple[str, str]]) -> None:
    pairs = [tuple(pair.split("=")) for pair in encode_query(parameters).split("&") if pair]
    assert pairs == sorted(pairs)
    read = [(unquote_to_bytes(name).decode(), unquote_to_bytes(value).decode()) for name, value in pairs]
    assert sorted(read) == sorted(parameters)


def test_a_key_that_utf_8_cannot_hold_is_the_rows_fault() -> None:
    with pytest.raises(RowRefused):
        encode_path("half \ud83d of a pair")


def test_a_secret_that_utf_8_cannot_hold_is_for_the_server_to_refuse() -> None:
    signer = Signer(Credentials("AKIAIOSFODNN7EXAMPLE", "from an environment in Latin-1: \udce9"), "us-east-1")
    signer.set_clock(MOMENT)
    assert "Signature=" in signer.authorization("", "")


def test_secrets_are_not_shown() -> None:
    shown = repr(Credentials("AKIAIOSFODNN7EXAMPLE", "the secret", "the token"))
    assert "the secret" not in shown
    assert "the token" not in shown
