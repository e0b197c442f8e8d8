"""Where credentials come from, that they are renewed while a run goes on, and what is said when there are none."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from asyncup.errors import AsyncupError, CredentialsExpired, DestinationRefused, Disposition, Unreachable
from asyncup.model import Receipt, Upload
from asyncup.sinks.s3 import S3Settings, S3Sink
from tests.integration.plays import Told
from tests.integration.scripted_s3 import Answer, Request, ScriptedS3, answer_as_s3, refuse, scripted_s3, step

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
UPLOAD = Upload("folder/key", b"some bytes")
LARGE = Upload("folder/large", bytes(3 << 20))


@pytest.fixture
async def server() -> AsyncIterator[ScriptedS3]:
    async with scripted_s3() as scripted:
        scripted.usual = answer_as_s3
        yield scripted


@dataclass(frozen=True)
class Program:
    """A program of the profile `program`, which prints the key AKIANUMBER1, then AKIANUMBER2, and so on."""

    folder: Path

    @property
    def runs(self) -> int:
        return len((self.folder / "runs").read_text())

    def write(self, *, minutes: float | None = None, then: str = "pass") -> None:
        """Keys are good for so many minutes, or for good; `then` is what it does instead from the second run on."""
        (self.folder / "program.py").write_text(
            f"""
import datetime as dt, json, pathlib
with open({str(self.folder / "runs")!r}, "a+") as runs:
    runs.write("x")
    runs.seek(0)
    number = len(runs.read())
keys = {{"Version": 1, "AccessKeyId": f"AKIANUMBER{{number}}", "SecretAccessKey": {SECRET!r}, "SessionToken": f"t{{number}}"}}
if {minutes!r} is not None:
    end = dt.datetime.now(dt.timezone.utc) + dt.timedelta(minutes={minutes!r} or 0)
    keys["Expiration"] = end.isoformat()
if number > 1:
    {then}
print(json.dumps(keys))
"""
        )


@pytest.fixture
def program(tmp_path: Path, profiles: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture
def profiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A configuration file with some profiles."""
    config = tmp_path / "config"
    config.write_text(
        f"""
        [profile plain]
        aws_access_key_id = AKIAFROMTHEPROFILE00
        aws_secret_access_key = {SECRET}
        region = eu-west-3
        [profile program]
        credential_process = {sys.executable} -IS {tmp_path}/program.py
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


async def refusal(settings: S3Settings) -> AsyncupError:
    """The error of opening, checking or putting; it shows no secret."""
    with pytest.raises(DestinationRefused) as caught:
        await put(settings)
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + str(caught.value.hint)
    return caught.value


def signer(request: Request) -> str:
    """The access key of a signature."""
    return request.headers["authorization"].partition("Credential=")[2].split("/")[0]


# --- where they come from -------------------------------------------------------------------------------------


async def test_credentials_of_the_environment_sign(
    server: ScriptedS3, credentials: None, monkeypatch: pytest.MonkeyPatch, lane: str
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a session token")
    await put(S3Settings("bucket", endpoint_url=server.endpoint_url, s3_client=lane))
    assert [signer(request) for request in server.requests] == [KEY, KEY]
    assert {request.headers["x-amz-security-token"] for request in server.requests} == {"a session token"}


@pytest.mark.parametrize("way", ["flag", "environment"])
async def test_a_profile_gives_credentials_and_region(
    server: ScriptedS3, profiles: Path, monkeypatch: pytest.MonkeyPatch, lane: str, way: str
) -> None:
    if way == "environment":
        monkeypatch.setenv("AWS_PROFILE", "plain")
    profile = "plain" if way == "flag" else None
    await put(S3Settings("bucket", endpoint_url=server.endpoint_url, profile=profile, s3_client=lane))
    assert signer(server.requests[-1]) == "AKIAFROMTHEPROFILE00"
    assert "/eu-west-3/s3/" in server.requests[-1].headers["authorization"]


async def test_a_profile_may_ask_a_program_for_credentials(server: ScriptedS3, program: Program, lane: str) -> None:
    program.write()
    await put(S3Settings("bucket", endpoint_url=server.endpoint_url, profile="program", s3_client=lane))
    assert signer(server.requests[-1]) == "AKIANUMBER1"
    assert server.requests[-1].headers["x-amz-security-token"] == "t1"
    assert program.runs == 1


async def test_without_signing_no_credentials_are_needed_and_none_are_sent(server: ScriptedS3, lane: str) -> None:
    await put(S3Settings("bucket", endpoint_url=server.endpoint_url, no_sign_request=True, s3_client=lane))
    assert [request.method for request in server.requests] == ["HEAD", "PUT"]
    assert not any("authorization" in request.headers for request in server.requests)


# --- what is wrong with them ----------------------------------------------------------------------------------


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


async def test_missing_credentials_are_refused_with_the_ways_to_give_them(server: ScriptedS3, lane: str) -> None:
    error = await refusal(S3Settings("bucket", endpoint_url=server.endpoint_url, s3_client=lane))
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
    server: ScriptedS3, credentials: None, monkeypatch: pytest.MonkeyPatch, lane: str, variable: str
) -> None:
    monkeypatch.setenv(variable, "with a line break\n")
    sink = await S3Sink.open(S3Settings("bucket", endpoint_url=server.endpoint_url, s3_client=lane))
    for call in (sink.check, lambda: sink.put(UPLOAD)):
        with pytest.raises(DestinationRefused) as caught:
            await call()
        assert variable in str(caught.value.hint)
    await sink.close()
    assert server.requests == []


@pytest.mark.blocking  # aiobotocore reads the token's file on the loop, once an hour
async def test_a_role_that_is_not_granted_ends_the_run(
    server: ScriptedS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lane: str
) -> None:
    (tmp_path / "token").write_text(SECRET)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/publisher")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.endpoint_url)
    server.answer(refuse(403, "AccessDenied"))
    sink = await S3Sink.open(S3Settings("bucket", endpoint_url=server.endpoint_url, s3_client=lane))
    with pytest.raises(DestinationRefused) as caught:
        await sink.put(UPLOAD)
    assert caught.value.op == "find credentials"
    assert "AssumeRoleWithWebIdentity" in caught.value.message
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert [(request.method, request.target) for request in server.requests] == [("POST", "/")]
    await sink.close()


# --- that they are renewed ------------------------------------------------------------------------------------


def only(*keys: str) -> Callable[[Request], Answer]:
    """A server for which every other key has expired."""

    def answer(request: Request) -> Answer:
        return answer_as_s3(request) if signer(request) in keys else refuse(400, "ExpiredToken")

    return answer


async def test_credentials_that_expired_early_are_asked_for_again_once_and_no_row_fails(
    server: ScriptedS3, program: Program, lane: str
) -> None:
    program.write()
    told = Told()
    settings = S3Settings(
        "bucket", endpoint_url=server.endpoint_url, profile="program", s3_client=lane, part_bytes=1 << 20
    )
    sink = await S3Sink.open(settings, told.retrier())
    await sink.put(UPLOAD)
    assert signer(server.requests[-1]) == "AKIANUMBER1"
    server.usual = only("AKIANUMBER2")
    uploads = [Upload(f"key {number}", bytes(number)) for number in range(20)] + [LARGE]
    receipts = await asyncio.gather(*[told.retrier().run(sink.put, upload) for upload in uploads])
    assert [receipt.key for receipt in receipts] == [upload.key for upload in uploads]
    assert {type(error) for error in told.retried} == {CredentialsExpired}
    assert program.runs == 2
    await sink.close()


async def test_credentials_that_expire_between_two_parts_do_not_send_the_first_again(
    server: ScriptedS3, program: Program, lane: str
) -> None:
    program.write()
    told = Told()
    settings = S3Settings(
        "bucket", endpoint_url=server.endpoint_url, profile="program", s3_client=lane, part_bytes=1 << 20
    )
    sink = await S3Sink.open(settings, told.retrier())

    def answer(request: Request) -> Answer:
        was_good = signer(request) == "AKIANUMBER2" or step(request) in ("create", "part 1")
        return answer_as_s3(request) if was_good else refuse(400, "ExpiredToken")

    server.usual = answer
    assert isinstance(await sink.put(LARGE), Receipt)
    steps = [step(request) for request in server.requests]
    assert (steps.count("create"), steps.count("part 1"), steps.count("part 3")) == (1, 1, 2)
    await sink.close()


async def test_credentials_that_expired_are_found_out_by_a_look_at_an_object_too(
    server: ScriptedS3, program: Program
) -> None:
    """HEAD is refused without a word."""
    program.write()
    told = Told()
    sink = await S3Sink.open(S3Settings("bucket", endpoint_url=server.endpoint_url, profile="program"))
    server.usual = only("AKIANUMBER2")
    objects = sink.objects(told.retrier())
    found = await asyncio.gather(*[told.retrier().run(objects.look, f"key {number}") for number in range(10)])
    assert None not in found
    assert {type(error) for error in told.retried} == {CredentialsExpired}
    assert program.runs == 2
    await sink.close()


@pytest.mark.parametrize("minutes", [5, None], ids=["soon", "expired early"])
async def test_a_program_that_hangs_is_given_up_and_what_is_there_is_used_as_long_as_it_is_good(
    server: ScriptedS3, program: Program, monkeypatch: pytest.MonkeyPatch, lane: str, minutes: float | None
) -> None:
    program.write(minutes=minutes)
    monkeypatch.setattr("asyncup.sinks.s3.wire._CREDENTIALS_SECONDS", 0.0)
    settings = S3Settings(
        "bucket", endpoint_url=server.endpoint_url, profile="program", s3_client=lane, attempt_timeout=2.0
    )
    sink = await S3Sink.open(settings)
    await sink.put(UPLOAD)
    program.write(minutes=minutes, then="import time; time.sleep(20)")
    if minutes is None:
        server.usual = only()
        with pytest.raises(CredentialsExpired):
            await sink.put(UPLOAD)
    calls = [sink.put(Upload(f"key {number}", b"x")) for number in range(5)]
    async with asyncio.timeout(4):  # all of them wait for the same answer, not one after the other
        found = await asyncio.gather(*calls, return_exceptions=True)
    if minutes is not None and lane == "wire":
        assert all(isinstance(one, Receipt) for one in found)
    else:
        assert {type(one) for one in found} == {Unreachable}
        (why,) = {one.message for one in found if isinstance(one, Unreachable)}
        assert why == "where they come from did not answer within 2 s"
    await sink.close()


async def test_a_program_that_hangs_from_the_start_is_given_up(server: ScriptedS3, program: Program) -> None:
    program.write(then="import time; time.sleep(20)")
    (program.folder / "runs").write_text("x")
    with pytest.raises(Unreachable, match="did not answer within") as caught:
        await S3Sink.open(
            S3Settings("bucket", endpoint_url=server.endpoint_url, profile="program", attempt_timeout=0.5)
        )
    assert (caught.value.op, caught.value.disposition) == ("find credentials", Disposition.RETRY)


async def test_credentials_that_were_written_anew_are_read_again(
    server: ScriptedS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lane: str
) -> None:
    """As when somebody logs in again in another terminal."""
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    file.write_text(f"[default]\naws_access_key_id = AKIAOLD\naws_secret_access_key = {SECRET}\n")
    sink = await S3Sink.open(S3Settings("bucket", endpoint_url=server.endpoint_url, s3_client=lane))
    await sink.put(UPLOAD)
    server.usual = only("AKIANEW")
    file.write_text(file.read_text().replace("AKIAOLD", "AKIANEW"))
    assert isinstance(await Told().retrier().run(sink.put, UPLOAD), Receipt)
    assert [signer(request) for request in server.requests] == ["AKIAOLD", "AKIAOLD", "AKIANEW"]
    await sink.close()


async def test_credentials_that_stay_expired_end_the_run_after_a_second_try(
    server: ScriptedS3, credentials: None, lane: str
) -> None:
    sink = await S3Sink.open(S3Settings("bucket", endpoint_url=server.endpoint_url, s3_client=lane))
    await sink.put(UPLOAD)
    server.usual = only()
    with pytest.raises(CredentialsExpired, match="ExpiredToken") as caught:
        await Told().retrier().run(sink.put, UPLOAD)
    assert (caught.value.disposition, caught.value.attempts) == (Disposition.ABORT, 2)
    assert "renew the credentials" in str(caught.value.hint)
    await sink.close()


async def test_credentials_that_expire_soon_are_renewed_before_they_do(
    server: ScriptedS3, program: Program, monkeypatch: pytest.MonkeyPatch, lane: str
) -> None:
    program.write(minutes=5)  # botocore wants ten
    monkeypatch.setattr("asyncup.sinks.s3.wire._CREDENTIALS_SECONDS", 0.0)
    sink = await S3Sink.open(S3Settings("bucket", endpoint_url=server.endpoint_url, profile="program", s3_client=lane))
    for _ in range(3):
        await sink.put(UPLOAD)
    keys = [signer(request) for request in server.requests]
    assert len(set(keys)) == 3
    assert [request.headers["x-amz-security-token"] for request in server.requests] == [f"t{key[10:]}" for key in keys]
    await sink.close()


async def test_credentials_that_are_good_for_long_are_asked_for_once(
    server: ScriptedS3, program: Program, monkeypatch: pytest.MonkeyPatch, lane: str
) -> None:
    program.write(minutes=60)
    monkeypatch.setattr("asyncup.sinks.s3.wire._CREDENTIALS_SECONDS", 0.0)
    sink = await S3Sink.open(S3Settings("bucket", endpoint_url=server.endpoint_url, profile="program", s3_client=lane))
    for _ in range(3):
        await sink.put(UPLOAD)
    assert program.runs == 1
    await sink.close()


@pytest.mark.parametrize("minutes", [5, None], ids=["soon", "expired early"])
@pytest.mark.parametrize("then", ["keys = 'garbage'", "raise SystemExit('no such user')", "del keys['Version']"])
async def test_credentials_that_cannot_be_renewed_end_the_run(
    server: ScriptedS3, program: Program, monkeypatch: pytest.MonkeyPatch, lane: str, minutes: float | None, then: str
) -> None:
    program.write(minutes=minutes)
    monkeypatch.setattr("asyncup.sinks.s3.wire._CREDENTIALS_SECONDS", 0.0)
    sink = await S3Sink.open(S3Settings("bucket", endpoint_url=server.endpoint_url, profile="program", s3_client=lane))
    await sink.put(UPLOAD)
    program.write(minutes=minutes, then=then)
    server.usual = only()
    with pytest.raises(DestinationRefused) as caught:
        await Told().retrier().run(sink.put, UPLOAD)
    assert caught.value.op == "find credentials"
    assert caught.value.disposition is Disposition.ABORT
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    await sink.close()
