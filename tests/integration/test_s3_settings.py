"""Which region, endpoint, address and authorities a run takes, and what a mistake in them is called."""

from __future__ import annotations

import ssl
import traceback
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from asyncup.embedded.s3 import EmbeddedS3, embedded_s3
from asyncup.errors import AsyncupError, DestinationRefused, Unreachable
from asyncup.model import Upload
from asyncup.sinks.s3 import S3Settings, S3Sink
from tests.integration.certificates import Certificate, make_certificate
from tests.integration.scripted_s3 import ScriptedS3, answer_as_s3, lead_names_to, scripted_s3

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
UPLOAD = Upload("folder/key", b"some bytes")


@pytest.fixture
async def server() -> AsyncIterator[ScriptedS3]:
    async with scripted_s3() as scripted:
        yield scripted


@pytest.fixture
def profiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A configuration file with a region and without one."""
    config = tmp_path / "config"
    keys = f"aws_access_key_id = AKIAFROMTHEPROFILE00\naws_secret_access_key = {SECRET}\n"
    config.write_text(f"[profile with-region]\n{keys}region = eu-west-3\n[profile without]\n{keys}")
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


# --- region ---------------------------------------------------------------------------------------------------


async def test_the_region_comes_from_the_nearest_place_that_names_one(
    server: ScriptedS3, profiles: Path, monkeypatch: pytest.MonkeyPatch, lane: str
) -> None:
    async def region(given: str | None = None, profile: str | None = "with-region") -> str:
        settings = S3Settings("bucket", endpoint_url=server.endpoint_url, region=given, profile=profile, s3_client=lane)
        await put(settings)
        return server.requests[-1].headers["authorization"].split("/")[2]

    assert await region(profile="without") == "us-east-1"  # nobody names one, and a signature needs one
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
    server: ScriptedS3, credentials: None, monkeypatch: pytest.MonkeyPatch, lane: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint_url)
    await put(S3Settings("bucket", s3_client=lane))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    await put(S3Settings("bucket", endpoint_url=server.endpoint_url + "/below", s3_client=lane))
    puts = [request.target for request in server.requests if request.method == "PUT"]
    assert puts == ["/bucket/folder/key", "/below/bucket/folder/key"]


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:9000", "http://", "ftp://127.0.0.1", "http://127.0.0.1:99999", "http://[::1"]
)
async def test_what_cannot_be_an_endpoint_is_refused(credentials: None, endpoint: str) -> None:
    error = await refusal(S3Settings("bucket", endpoint_url=endpoint))
    assert "--endpoint-url" in str(error.hint)


async def test_an_endpoint_with_a_password_is_refused_without_showing_it(credentials: None) -> None:
    """It would be kept in the checkpoint."""
    password = SECRET.replace("/", "")
    with pytest.raises(DestinationRefused) as caught:
        await S3Sink.open(S3Settings("bucket", endpoint_url=f"http://user:{password}@127.0.0.1:9"))
    assert "--endpoint-url" in str(caught.value.hint)
    assert password not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("addressing", "host", "target"),
    [
        ("auto", "s3.example.test", "/bucket/folder/key"),
        ("path", "s3.example.test", "/bucket/folder/key"),
        ("virtual", "bucket.s3.example.test", "/folder/key"),
    ],
)
async def test_the_bucket_is_addressed_as_asked_for(
    server: ScriptedS3,
    credentials: None,
    monkeypatch: pytest.MonkeyPatch,
    lane: str,
    addressing: str,
    host: str,
    target: str,
) -> None:
    lead_names_to(server, monkeypatch, ".example.test")
    endpoint = f"http://s3.example.test:{server.port}"
    await put(S3Settings("bucket", endpoint_url=endpoint, addressing=addressing, s3_client=lane))
    request = server.requests[-1]
    assert (request.headers["host"], request.target) == (f"{host}:{server.port}", target)


async def test_without_an_endpoint_objects_go_to_the_regions_own_over_tls(
    tmp_path: Path, credentials: None, monkeypatch: pytest.MonkeyPatch, lane: str
) -> None:
    domain = "s3.eu-central-1.amazonaws.com"
    certificate = make_certificate(tmp_path, f"bucket.{domain}", domain)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate.certificate))
    async with scripted_s3(certificate.context()) as server:
        server.usual = answer_as_s3
        lead_names_to(server, monkeypatch)
        for bucket, addressing in (("bucket", "auto"), ("bucket", "path"), ("with.dots", "auto")):
            await put(S3Settings(bucket, region="eu-central-1", addressing=addressing, s3_client=lane))
        assert [(one.headers["host"], one.target) for one in server.requests if one.method == "PUT"] == [
            (f"bucket.{domain}", "/folder/key"),
            (domain, "/bucket/folder/key"),
            (domain, "/with.dots/folder/key"),  # no certificate holds for more than one name before the first dot
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
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"), "127.0.0.1")


@pytest.fixture(scope="module")
def tls(servers_folder: Path, certificate: Certificate) -> Iterator[EmbeddedS3]:
    options = [f"--cert={certificate.certificate}", f"--key={certificate.key}"]
    with embedded_s3(servers_folder / "s3-tls", options=options) as server:
        server.make_bucket("bucket")
        yield server


@pytest.fixture
def tls_environment(tls: EmbeddedS3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in tls.environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("tls_environment")
async def test_a_server_that_nobody_vouches_for_is_refused_with_the_way_to_trust_it(lane: str) -> None:
    sink = await S3Sink.open(S3Settings("bucket", s3_client=lane))
    for call in (sink.check, lambda: sink.put(UPLOAD)):
        with pytest.raises(DestinationRefused, match="CERTIFICATE_VERIFY_FAILED") as caught:
            await call()
        assert "--ca-bundle" in str(caught.value.hint)
    await sink.close()


@pytest.mark.usefixtures("tls_environment")
@pytest.mark.parametrize("way", ["flag", "environment", "profile", "system"])
async def test_a_server_is_trusted_whose_authority_is_given(
    tls: EmbeddedS3, certificate: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lane: str, way: str
) -> None:
    authority = str(certificate.certificate)
    if way == "environment":
        monkeypatch.setenv("AWS_CA_BUNDLE", authority)
    elif way == "profile":
        (tmp_path / "config").write_text(f"[default]\nca_bundle = {authority}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    elif way == "system":
        monkeypatch.setenv("SSL_CERT_FILE", authority)
    await put(S3Settings("bucket", ca_bundle=authority if way == "flag" else None, s3_client=lane))
    stored = tls.folder / "bucket" / UPLOAD.key
    assert stored.read_bytes() == UPLOAD.body
    stored.unlink()


@pytest.mark.usefixtures("tls_environment")
@pytest.mark.parametrize("text", ["no certificate", None], ids=["garbage", "missing"])
async def test_authorities_that_cannot_be_read_are_refused(tmp_path: Path, lane: str, text: str | None) -> None:
    bundle = tmp_path / "bundle.pem"
    if text is not None:
        bundle.write_text(text)
    with pytest.raises(DestinationRefused, match=r"bundle\.pem holds no certificates") as caught:
        await S3Sink.open(S3Settings("bucket", ca_bundle=str(bundle), s3_client=lane))
    assert caught.value.subject == "--ca-bundle"


async def test_an_access_point_on_another_server_is_refused(s3: EmbeddedS3, credentials: None, lane: str) -> None:
    arn = "arn:aws:s3:us-east-1:123456789012:accesspoint/point"
    with pytest.raises(DestinationRefused, match="an access point is AWS's"):
        await S3Sink.open(S3Settings(arn, endpoint_url=s3.endpoint_url, s3_client=lane))


async def test_a_server_that_does_not_speak_tls_is_refused(s3: EmbeddedS3, credentials: None, lane: str) -> None:
    endpoint = s3.endpoint_url.replace("http:", "https:")
    sink = await S3Sink.open(S3Settings("bucket", endpoint_url=endpoint, s3_client=lane))
    for call in (sink.check, lambda: sink.put(UPLOAD)):
        with pytest.raises(DestinationRefused) as caught:
            await call()
        assert "--endpoint-url" in str(caught.value.hint)
    await sink.close()


async def test_tls_before_1_2_is_not_spoken(certificate: Certificate, credentials: None, lane: str) -> None:
    old = certificate.context()
    with warnings.catch_warnings(action="ignore"):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    async with scripted_s3(old) as server:
        authority = str(certificate.certificate)
        settings = S3Settings("bucket", endpoint_url=server.endpoint_url, ca_bundle=authority, s3_client=lane)
        sink = await S3Sink.open(settings)
        with pytest.raises(AsyncupError):
            await sink.put(UPLOAD)
        await sink.close()
        assert server.requests == []


@pytest.mark.parametrize(
    ("bucket", "priced"),
    [
        ("general", True),
        ("arn:aws:s3:eu-west-1:123456789012:accesspoint/one", True),
        ("express--use1-az4--x-s3", False),
        ("arn:aws:s3-outposts:eu-west-1:123456789012:outpost/op-01/accesspoint/one", False),
    ],
)
async def test_prices_hold_for_buckets_for_general_use(bucket: str, priced: bool) -> None:
    sink = await S3Sink.open(S3Settings(bucket, region="eu-west-1", no_sign_request=True))
    await sink.close()
    assert sink.is_aws is priced
