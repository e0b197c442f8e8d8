"""A head says what it was meant to say, signed as botocore signs it, and nothing that anybody puts into it says more."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asyncup.errors import AsyncupError, DestinationRefused, RowRefused
from asyncup.model import Headers
from asyncup.sinks.s3.framing import Framer, Place
from asyncup.sinks.s3.integrity import Integrity, Seal
from asyncup.sinks.s3.providers import AWS, CLOUDFLARE, OTHER, Provider
from asyncup.sinks.s3.signing import Credentials, Signer, encode_path, encode_query
from asyncup.version import __version__
from tests.unit.oracles import read_request, signed_by_botocore

MOMENT = 1369353600
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
CREDENTIALS = Credentials("AKIAIOSFODNN7EXAMPLE", SECRET)
PLACE = Place("s3.example.test:9000", "/bucket/")
SEAL = Seal("0" * 64, "y/Q5Jg==", None)

VISIBLE = string.ascii_letters + string.digits + string.punctuation
TOKEN = st.text(string.ascii_lowercase + string.digits + "!#$%&'*+-.^_`|~", min_size=1, max_size=10)
NAMES = TOKEN.map("x-amz-meta-{}".format) | st.sampled_from(
    ["content-type", "content-disposition", "if-none-match", "x-amz-acl", "x-amz-tagging", "x-amz-z"]
)
HEADERS = st.dictionaries(NAMES, st.text(VISIBLE + "%%  \t", max_size=20), max_size=5).map(lambda h: tuple(h.items()))
KEYS = st.text(st.sampled_from("a/ +%~?#é日🙂") | st.characters(codec="utf-8"), min_size=1)
HOSTILE = st.text(st.sampled_from("\r\n\t\0 :%%s\x7f\x85\xa0é\u2028\ud83d\udce9abc") | st.characters(codec=None))


def framer(
    credentials: Credentials | None = CREDENTIALS,
    checksum: str | None = None,
    always: Headers = (),
    objects: Headers = (),
    place: Place = PLACE,
) -> Framer:
    signer = None
    if credentials is not None:
        signer = Signer(credentials, "us-east-1")
        signer.set_clock(MOMENT)
    return Framer(place, signer, checksum, always, objects)


def sent(head: bytes) -> dict[str, str]:
    """The headers of a head, each of which it has once."""
    headers = read_request(head).headers
    assert len(dict(headers)) == len(headers)
    return dict(headers)


@settings(max_examples=600, deadline=None)
@given(
    key=KEYS,
    query=st.just([]) | st.lists(st.tuples(KEYS, KEYS), max_size=2),
    headers=st.none() | HEADERS,
    always=HEADERS,
    objects=HEADERS,
    token=st.none() | st.text(VISIBLE, min_size=1),
    host=st.sampled_from(["bucket.s3.eu-central-1.amazonaws.com", "127.0.0.1:9000", "[::1]:9000", "[fe80::1%25eth0]"]),
    provider=st.sampled_from([AWS, CLOUDFLARE, OTHER]),
    checksum=st.sampled_from([None, "none", "crc32", "sha256"]),
    tls=st.booleans(),
    body=st.binary(max_size=20),
)
def test_a_head_has_the_headers_that_were_asked_for_and_the_signature_that_botocore_gives_them(
    key: str,
    query: list[tuple[str, str]],
    headers: Headers | None,
    always: Headers,
    objects: Headers,
    token: str | None,
    host: str,
    provider: Provider,
    checksum: str | None,
    tls: bool,
    body: bytes,
) -> None:
    integrity = Integrity(provider, checksum=checksum, tls=tls, signed=True, verify_etag=False)
    credentials = Credentials("AKIAIOSFODNN7EXAMPLE", SECRET, token)
    frames = framer(credentials, integrity.header, always, objects, Place(host, "/"))
    seal, path, asked = integrity.seal(body), "/" + encode_path(key), encode_query(query)
    head = frames.head(path, asked, headers, len(body), seal)
    assert frames.head(path, asked, headers, len(body), seal) == head

    request = read_request(head)
    target = f"{path}?{asked}" if asked else path
    assert (request.method, request.target) == ("PUT", target)
    expected = dict(always) | (dict(objects) | dict(headers) if headers is not None else {})
    expected = {name: value.strip() for name, value in expected.items()} | {"host": host}
    if integrity.header:
        expected[integrity.header] = seal.checksum or ""
    url = f"{'https' if tls else 'http'}://{host}{target}"
    signed = signed_by_botocore(
        "PUT", url, expected, body, credentials, "us-east-1", MOMENT, trusts_tls=not provider.signs_tls_payloads
    )
    rest = {"user-agent": f"asyncup/{__version__}", "content-length": str(len(body))}
    assert sorted(request.headers) == sorted((signed | rest).items())


@pytest.mark.parametrize("checksum", [None, "x-amz-checksum-crc32"])
def test_an_anonymous_request_is_not_signed_and_not_dated(checksum: str | None) -> None:
    head = framer(None, checksum).head("/bucket/a%20key", "", (("content-type", "text/plain"),), 7, SEAL)
    expected = {"host": PLACE.host, "user-agent": f"asyncup/{__version__}", "content-type": "text/plain"}
    expected |= {"content-length": "7"} | ({checksum: "y/Q5Jg=="} if checksum else {})
    assert sent(head) == expected
    assert read_request(head).target == "/bucket/a%20key"


def test_a_part_has_nothing_of_what_an_object_is_given() -> None:
    frames = framer(always=(("x-amz-request-payer", "requester"),), objects=(("x-amz-acl", "private"),))
    part, plain = (frames.head("/bucket/key", "", headers, 7, SEAL) for headers in (None, ()))
    assert sent(part)["x-amz-request-payer"] == sent(plain)["x-amz-request-payer"] == "requester"
    assert "x-amz-acl" not in sent(part)
    assert sent(plain)["x-amz-acl"] == "private"


def test_a_header_of_the_object_goes_before_that_of_the_run() -> None:
    frames = framer(objects=(("x-amz-acl", "private"), ("x-amz-storage-class", "STANDARD_IA")))
    headers = sent(frames.head("/bucket/key", "", (("x-amz-acl", "public-read"),), 7, SEAL))
    assert (headers["x-amz-acl"], headers["x-amz-storage-class"]) == ("public-read", "STANDARD_IA")


def test_what_is_kept_of_heads_is_bounded_and_comes_back_right() -> None:
    frames = framer()
    for number in range(5000):
        for one in (number, number // 2):
            head = frames.head("/bucket/key", "", (("x-amz-meta-n", str(one)),), 7, SEAL)
            assert f"\r\nx-amz-meta-n: {one}\r\n".encode() in head
    assert len(frames._compiled) <= 1024


@settings(max_examples=1000, deadline=None)
@example(slot="name", text="x-amz-meta-100%s")
@example(slot="name", text="x-amz-meta-%")
@example(slot="value", text="100 %s of 50%")
@example(slot="token", text="%d%%")
@example(slot="access key", text="%(x)s%")
@given(slot=st.sampled_from(["key", "name", "value", "run's value", "token", "access key", "secret"]), text=HOSTILE)
def test_any_text_anywhere_is_refused_or_makes_one_request_that_says_what_it_says_without_it(
    slot: str, text: str
) -> None:
    credentials = Credentials(
        text if slot == "access key" else "AKIAIOSFODNN7EXAMPLE",
        text if slot == "secret" else SECRET,
        text if slot == "token" else None,
    )
    name, value = text if slot == "name" else "x-amz-meta-a", text if slot == "value" else "a"
    run = text if slot == "run's value" else "b"
    frames = framer(credentials, "x-amz-checksum-crc32", (("x-amz-acl", run),))
    try:
        path = "/bucket/" + encode_path(text if slot == "key" else "key")
        head = frames.head(path, "", ((name, value),), 7, SEAL)
    except AsyncupError:
        return
    assert read_request(head).target == path
    headers = sent(head)
    authorization = headers.pop("authorization")
    assert authorization.startswith(f"AWS4-HMAC-SHA256 Credential={credentials.access_key}")
    token = {"x-amz-security-token": text.strip(" \t")} if slot == "token" else {}
    assert headers == token | {
        "host": PLACE.host,
        "user-agent": f"asyncup/{__version__}",
        "x-amz-acl": run.strip(" \t"),
        name: value.strip(" \t"),
        "x-amz-checksum-crc32": "y/Q5Jg==",
        "x-amz-content-sha256": "0" * 64,
        "x-amz-date": "20130524T000000Z",
        "content-length": "7",
    }


@pytest.mark.parametrize("value", ["a\r\nx-amz-acl: public-read", "\n", "a\rb", "\0", "\x7f", "é", "\u2028", "\ud83d"])
def test_a_value_that_no_header_can_carry_is_the_rows_fault(value: str) -> None:
    with pytest.raises(RowRefused) as caught:
        framer().head("/bucket/key", "", (("x-amz-meta-a", value),), 7, SEAL)
    assert caught.value.subject == "x-amz-meta-a"


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "A", "é", "a(b)", "\0", " a", "a\t"])
def test_a_name_that_no_header_can_have_is_refused(name: str) -> None:
    with pytest.raises(RowRefused):
        framer().head("/bucket/key", "", ((name, "value"),), 7, SEAL)


@pytest.mark.parametrize(
    "name",
    [
        *("host", "user-agent", "authorization", "content-length"),  # which the head has already
        *("x-amz-date", "x-amz-content-sha256", "x-amz-security-token", "x-amz-checksum-crc32"),
        *("transfer-encoding", "connection", "te", "trailer", "upgrade", "expect"),  # which say where a request ends
    ],
)
def test_a_header_that_is_the_requests_own_is_refused(name: str) -> None:
    frames = framer(checksum="x-amz-checksum-crc32")
    for _ in range(2):
        with pytest.raises(RowRefused) as caught:
            frames.head("/bucket/key", "", ((name, "0"),), 7, SEAL)
        assert caught.value.subject == name


@pytest.mark.parametrize(("access_key", "token"), [("AK\r\nIA", None), ("AKIA", "to\nken"), ("AKIA", "é"), ("\0", "")])
def test_credentials_that_no_header_can_carry_refuse_the_run_without_being_shown(
    access_key: str, token: str | None
) -> None:
    with pytest.raises(DestinationRefused) as caught:
        framer(Credentials(access_key, SECRET, token)).head("/bucket/key", "", (), 7, SEAL)
    shown = f"{caught.value} {caught.value.hint}"
    assert "AWS_SESSION_TOKEN" in shown
    assert SECRET not in shown
    assert "ken" not in shown.replace("TOKEN", "").replace("token", "")
