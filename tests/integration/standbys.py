"""A standby that follows the test's server by streaming replication."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from asyncup.embedded.postgres import EmbeddedPostgres, start_command
from asyncup.embedded.server import Server, free_port, own_environment


@contextlib.contextmanager
def standby_of(primary: EmbeddedPostgres, folder: Path, *settings: str) -> Iterator[EmbeddedPostgres]:
    """Copy a running server and run the copy as its standby; `settings` as `name=value`."""
    folder.mkdir()
    identity = {}
    if primary.owner is not None:
        os.chown(folder, *primary.owner)
        identity = {"user": primary.owner[0], "group": primary.owner[1], "extra_groups": []}
    data, port = folder / "data", free_port()
    subprocess.run(
        [primary.binaries / "pg_basebackup", "-D", data, "-R", "-X", "stream", "-c", "fast", "--no-sync"],
        env={**own_environment(), **primary.environment},
        cwd=folder,
        check=True,
        capture_output=True,
        **identity,
    )
    command = start_command(primary.binaries, data, port)
    for setting in settings:
        command += ["-c", setting]
    log = folder / "log"
    server = Server(command, log=log, stop_signal=signal.SIGINT, owner=primary.owner)
    try:
        server.wait_ready(lambda: b"ready to accept read-only connections" in log.read_bytes(), "the standby")
        yield replace(primary, data=data, port=port, server=server)
    finally:
        server.stop()


def catch_up(standby: EmbeddedPostgres, primary: EmbeddedPostgres) -> None:
    """Wait until the standby has all that the primary has now."""
    position, deadline = primary.psql("SELECT pg_current_wal_flush_lsn()"), time.monotonic() + 20
    while standby.psql(f"SELECT pg_last_wal_replay_lsn() >= '{position}'") != "t":
        assert time.monotonic() < deadline, "the standby does not follow"
