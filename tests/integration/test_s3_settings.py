"""Where credentials, region, endpoint and trust come from, and what a mistake in them is called.

What was sent is read from the wire; what a name resolves to is read from the requests to a proxy, so that no name has
to exist.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import traceback
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from asyncup.embedded.s3 import EmbeddedS3, embedded_s3
from asyncup.errors import AsyncupError, DestinationRefused, Unreachable
from asyncup.model import Upload
from asyncup.sinks.s3 import S3Settings, S3Sink
from tests.integration.scripted_s3 import Request, ScriptedS3, refuse, reply, scripted_s3

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
UPLOAD = Upload("folder/key", b"some bytes")


@pytest.fixture
async def server() -> AsyncIterator[ScriptedS3]:
    async with scripted_s3() as scripted:
        yield scripted


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@pytest.fixture
def profiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A configuration file with some profiles."""
    keys = {"Version": 1, "AccessKeyId": "AKIAFROMAPROGRAM0000", "SecretAccessKey": SECRET}
    printed = tmp_path / "keys.json"
    printed.write_text(json.dumps(keys))
    config = tmp_path / "config"
    config.write_text(
        f"""
        [profile plain]
        aws_access_key_id = AKIAFROMTHEPROFILE00
        aws_secret_access_key = {SECRET}
        region = eu-west-3
        [profile program]
        credential_process = cat {printed}
        [profile no-program]
        credential_process = {tmp_path}/no-such-program
        """.replace("        ", "")
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    return config


async def put(settings: S3Settings) -> None:
    """Open a sink, check it, put one object, close it."""
    sink = await S3Sink.open(settings)
    try:
        await sink.check()
        await sink.put(UPLOAD)
    finally:
        await sink.close()


async def refusal(settings: S3Settings, expected: type[AsyncupError] = DestinationRefused) -> AsyncupError:
    """The error of opening, checking or putting; it shows no secret."""
    with pytest.raises(expected) as caught:
        await put(settings)
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + str(caught.value.hint)
    return caught.value


def signed_by(request: Request) -> tuple[str, str]:
    """The access key and the region of a signature."""
    credential = request.headers["authorization"].partition("Credential=")[2].split("/")
    return credential[0], credential[2]


# --- credentials ----------------------------------------------------------------------------------------------


async def test_credentials_of_the_environment_sign(
    server: ScriptedS3, credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a session token")
    await put(S3Settings("bucket", endpoint_url=server.endpoint_url))
    assert [signed_by(request)[0] for request in server.requests] == [KEY, KEY]
    assert {request.headers["x-amz-security-token"] for request in server.requests} == {"a session token"}


@pytest.mark.parametrize("way", ["flag", "environment"])
async def test_a_profile_gives_credentials_and_region(
    server: ScriptedS3, profiles: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "environment":
        monkeypatch.setenv("AWS_PROFILE", "plain")
    await put(S3Settings("bucket", endpoint_url=server.endpoint_url, profile="plain" if way == "flag" else None))
    assert signed_by(server.requests[-1]) == ("AKIAFROMTHEPROFILE00", "eu-west-3")


async def test_a_profile_may_ask_a_program_for_credentials(server: ScriptedS3, profiles: Path) -> None:
    await put(S3Settings("bucket", endpoint_url=server.endpoint_url, profile="program"))
    assert signed_by(server.requests[-1])[0] == "AKIAFROMAPROGRAM0000"


async def test_a_profile_whose_program_is_missing_is_refused(server: ScriptedS3, profiles: Path) -> None:
    error = await refusal(S3Settings("bucket", endpoint_url=server.endpoint_url, profile="no-program"))
    assert (error.op, server.requests) == ("find credentials", [])
    assert "no-such-program" in error.message
    assert "--profile" in str(error.hint)


@pytest.mark.parametrize("way", ["flag", "environment"])
async def test_an_unknown_profile_is_refused_by_name(
    server: ScriptedS3, profiles: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "environment":
        monkeypatch.setenv("AWS_PROFILE", "unknown")
    error = await refusal(
        S3Settings("bucket", endpoint_url=server.endpoint_url, profile="unknown" if way == "flag" else None)
    )
    assert "unknown" in error.message
    assert "--profile" in str(error.hint)


async def test_a_configuration_that_cannot_be_parsed_is_refused_by_name(server: ScriptedS3, profiles: Path) -> None:
    profiles.write_text("[profile plain\n=")
    error = await refusal(S3Settings("bucket", endpoint_url=server.endpoint_url, profile="plain"))
    assert str(profiles) in error.message


async def test_missing_credentials_are_refused_with_the_ways_to_give_them(server: ScriptedS3) -> None:
    error = await refusal(S3Settings("bucket", endpoint_url=server.endpoint_url))
    assert (error.op, server.requests) == ("find credentials", [])
    for way in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "--profile", "--no-sign-request"):
        assert way in str(error.hint)


async def test_half_of_the_credentials_is_refused_with_the_name_of_the_other(
    server: ScriptedS3, credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    error = await refusal(S3Settings("bucket", endpoint_url=server.endpoint_url))
    assert "AWS_SECRET_ACCESS_KEY" in error.message


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"])
async def test_a_line_break_in_a_credential_is_refused_and_not_tried_again(
    server: ScriptedS3, credentials: None, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "with a line break\n")
    error = await refusal(S3Settings("bucket", endpoint_url=server.endpoint_url))
    assert variable in str(error.hint)
    assert server.requests == []


@pytest.mark.blocking  # aiobotocore reads the token's file on the loop, once an hour
async def test_a_role_that_is_not_granted_ends_the_run(
    server: ScriptedS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(SECRET)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/publisher")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.endpoint_url)
    server.answer(refuse(403, "AccessDenied"))
    sink = await S3Sink.open(S3Settings("bucket", endpoint_url=server.endpoint_url))
    sink._accepted = True  # as when the role is asked for again in the middle of a run
    with pytest.raises(DestinationRefused) as caught:
        await sink.put(UPLOAD)
    assert caught.value.op == "find credentials"
    assert "AssumeRoleWithWebIdentity" in caught.value.message
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert [(request.method, request.target) for request in server.requests] == [("POST", "/")]
    await sink.close()


async def test_without_signing_no_credentials_are_needed_and_none_are_sent(server: ScriptedS3) -> None:
    await put(S3Settings("bucket", endpoint_url=server.endpoint_url, no_sign_request=True))
    assert [request.method for request in server.requests] == ["HEAD", "PUT"]
    assert not any("authorization" in request.headers for request in server.requests)


# --- region ---------------------------------------------------------------------------------------------------


async def test_the_region_comes_from_the_nearest_place_that_names_one(
    server: ScriptedS3, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def region(given: str | None = None, profile: str | None = "plain") -> str:
        await put(S3Settings("bucket", endpoint_url=server.endpoint_url, region=given, profile=profile))
        return signed_by(server.requests[-1])[1]

    assert await region(profile="program") == "us-east-1"  # nobody names one, and a signature needs one
    assert await region() == "eu-west-3"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    assert await region() == "eu-west-2"
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert await region() == "eu-central-1"
    assert await region("ap-south-1") == "ap-south-1"


async def test_what_cannot_be_a_region_is_refused(server: ScriptedS3, credentials: None) -> None:
    error = await refusal(S3Settings("bucket", endpoint_url=server.endpoint_url, region="eu west/1"))
    assert "eu west/1" in error.message
    assert "--region" in str(error.hint)


# --- endpoint and addressing ----------------------------------------------------------------------------------


async def test_the_endpoint_comes_from_the_flag_before_the_environment(
    server: ScriptedS3, credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint_url)
    await put(S3Settings("bucket"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    await put(S3Settings("bucket", endpoint_url=server.endpoint_url + "/below"))
    puts = [request.target for request in server.requests if request.method == "PUT"]
    assert puts == ["/bucket/folder/key", "/below/bucket/folder/key"]


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:9000", "http://", "ftp://127.0.0.1", "http://127.0.0.1:99999", "http://[::1"]
)
async def test_what_cannot_be_an_endpoint_is_refused(credentials: None, endpoint: str) -> None:
    error = await refusal(S3Settings("bucket", endpoint_url=endpoint))
    assert "--endpoint-url" in str(error.hint)


@pytest.mark.parametrize(
    ("addressing", "url"),
    [
        ("auto", "http://s3.example.test/bucket/folder/key"),
        ("path", "http://s3.example.test/bucket/folder/key"),
        ("virtual", "http://bucket.s3.example.test/folder/key"),
    ],
)
async def test_the_bucket_is_addressed_as_asked_for(
    server: ScriptedS3, credentials: None, monkeypatch: pytest.MonkeyPatch, addressing: str, url: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.endpoint_url)
    await put(S3Settings("bucket", endpoint_url="http://s3.example.test", addressing=addressing))
    request = server.requests[-1]
    assert (request.target, request.headers["host"]) == (url, url.split("/")[2])


async def test_without_an_endpoint_objects_go_to_the_regions_own_over_tls(
    server: ScriptedS3, credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", server.endpoint_url)
    for bucket, addressing in (("bucket", "auto"), ("bucket", "path"), ("with.dots", "auto")):
        server.answer(reply(403))
        await refusal(S3Settings(bucket, region="eu-central-1", addressing=addressing), Unreachable)
    assert [(request.method, request.target) for request in server.requests] == [
        ("CONNECT", "bucket.s3.eu-central-1.amazonaws.com:443"),
        ("CONNECT", "s3.eu-central-1.amazonaws.com:443"),
        (
            "CONNECT",
            "s3.eu-central-1.amazonaws.com:443",
        ),  # no certificate holds for more than one name before the first dot
    ]


async def test_a_proxy_that_cannot_be_reached_is_named_without_its_password(
    credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://user:{SECRET.replace('/', '')}@127.0.0.1:1")
    error = await refusal(S3Settings("bucket", endpoint_url="http://s3.example.test"), Unreachable)
    assert "127.0.0.1:1" in error.message
    assert "HTTP_PROXY" in str(error.hint)
    assert SECRET.replace("/", "") not in "".join(traceback.format_exception(error))


# --- TLS ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that 127.0.0.1 signed for itself, with its key beside it."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "asyncup tests")])
    now = dt.datetime.now(dt.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem"


@pytest.fixture(scope="module")
def tls(servers_folder: Path, certificate: Path) -> Iterator[EmbeddedS3]:
    options = [f"--cert={certificate}", f"--key={certificate.with_name('key.pem')}"]
    with embedded_s3(servers_folder / "s3-tls", options=options) as server:
        server.make_bucket("bucket")
        yield server


@pytest.fixture
def tls_environment(tls: EmbeddedS3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in tls.environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("tls_environment")
async def test_a_server_that_nobody_vouches_for_is_refused_with_the_way_to_trust_it() -> None:
    error = await refusal(S3Settings("bucket"))
    assert "CERTIFICATE_VERIFY_FAILED" in error.message
    assert "--ca-bundle" in str(error.hint)


@pytest.mark.usefixtures("tls_environment")
@pytest.mark.parametrize("way", ["flag", "environment"])
async def test_a_server_is_trusted_whose_authority_is_given(
    tls: EmbeddedS3, certificate: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "environment":
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    await put(S3Settings("bucket", ca_bundle=str(certificate) if way == "flag" else None))
    stored = tls.folder / "bucket" / UPLOAD.key
    assert stored.read_bytes() == UPLOAD.body
    stored.unlink()


@pytest.mark.usefixtures("tls_environment")
@pytest.mark.parametrize("text", ["no certificate", None], ids=["garbage", "missing"])
async def test_authorities_that_cannot_be_read_are_refused(tmp_path: Path, text: str | None) -> None:
    bundle = tmp_path / "bundle.pem"
    if text is not None:
        bundle.write_text(text)
    error = await refusal(S3Settings("bucket", ca_bundle=str(bundle)))
    assert "--ca-bundle" in str(error.hint)


async def test_a_server_that_does_not_speak_tls_is_refused(s3: EmbeddedS3, credentials: None) -> None:
    error = await refusal(S3Settings("bucket", endpoint_url=s3.endpoint_url.replace("http:", "https:")))
    assert "--endpoint-url" in str(error.hint)
