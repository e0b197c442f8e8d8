"""PgBouncer in front of the test's server, where it is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from asyncup.embedded.postgres import PASSWORD, USER, EmbeddedPostgres
from asyncup.embedded.server import Server, answers, free_port
from tests.conftest import Database


@dataclass(frozen=True)
class Pooler:
    """A running PgBouncer. Each database has one connection to the server, so that two clients share it for sure."""

    postgres: EmbeddedPostgres
    port: int

    def dsn(self, database: Database) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database.name}"

    def sql(self, database: Database, text: str) -> str:
        """Run SQL through psql and the pooler; columns separated by |, rows by newlines."""
        return self.postgres.psql(text, "-p", str(self.port), "-d", database.name)

    def admin(self, text: str) -> str:
        """A command for the pooler itself."""
        return self.postgres.psql(text, "-p", str(self.port), "-d", "pgbouncer")


@contextlib.contextmanager
def pgbouncer(postgres: EmbeddedPostgres, folder: Path, mode: str, *settings: str) -> Iterator[Pooler]:
    """Run PgBouncer in a pool mode; the test is skipped where it is not installed."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    folder.mkdir()
    port, ini, users = free_port(), folder / "pgbouncer.ini", folder / "users.txt"
    users.write_text(f'"{USER}" "{PASSWORD}"\n')
    lines = (
        "[databases]",
        f"* = host=127.0.0.1 port={postgres.port}",
        "[pgbouncer]",
        "listen_addr = 127.0.0.1",
        f"listen_port = {port}",
        "unix_socket_dir =",
        "auth_type = scram-sha-256",
        f"auth_file = {users}",
        f"admin_users = {USER}",
        f"pool_mode = {mode}",
        "default_pool_size = 1",
        "server_login_retry = 0",
        *settings,
    )
    ini.write_text("\n".join(lines) + "\n")
    for path in (folder, ini, users):
        if postgres.owner is not None:
            os.chown(path, *postgres.owner)
    server = Server([program, str(ini)], log=folder / "log", stop_signal=signal.SIGINT, owner=postgres.owner)
    try:
        server.wait_ready(lambda: answers(port), "PgBouncer")
        yield Pooler(postgres, port)
    finally:
        with contextlib.suppress(Exception):  # else it waits for its clients
            postgres.psql("SHUTDOWN", "-p", str(port), "-d", "pgbouncer")
        server.stop()
