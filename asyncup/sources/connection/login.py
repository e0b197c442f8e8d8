"""What a user says of the connection, and what it comes to each time that one is made."""

from __future__ import annotations

import os
from dataclasses import dataclass

from asyncup.config import Password
from asyncup.sources.connection.conninfo import gather
from asyncup.sources.connection.passwords import made, printed
from asyncup.sources.connection.servers import Target


@dataclass(frozen=True, slots=True)
class Login:
    """A connection string, or None for the environment alone; and what gives the password, where it is not in there.

    It is resolved for each connection anew, so that files may change while a run goes on. Never shown: it holds secrets.
    """

    dsn: str | None = None
    origin: str = "--dsn"
    password: Password | None = None
    command: str | None = None

    @classmethod
    def of(cls, dsn: str | None, password: Password | None = None, command: str | None = None) -> Login:
        """The flag's connection string, else DATABASE_URL's, else the PG* variables alone."""
        if dsn:
            return cls(dsn, "--dsn", password, command)
        return cls(os.environ.get("DATABASE_URL") or None, "DATABASE_URL", password, command)

    def __repr__(self) -> str:
        return "Login()"

    def target(self) -> Target:
        """Where the connection goes. Reads service files.

        Raises:
            ConfigError: what was said makes no connection.
        """
        environment = dict(os.environ)
        return Target.of(gather(self.dsn, self.origin, environment), environment)

    async def made_password(self) -> str | None:
        """A password that is made for this connection alone, or None where the settings are to have it.

        Raises:
            ConfigError, Unreachable: the command gives none.
            Exception: whatever the callable raises.
        """
        if self.password is not None:
            return await made(self.password)
        return await printed(self.command) if self.command is not None else None
