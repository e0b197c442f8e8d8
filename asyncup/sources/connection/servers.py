"""Which servers a connection may go to, and with what: libpq's parameters, checked and made into values.

Hosts are tried in their order, each with a port and a password of its own.
Source: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-MULTIPLE-HOSTS.
"""

from __future__ import annotations

import getpass
import ipaddress
import itertools
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from asyncup.errors import ConfigError
from asyncup.sources.connection.conninfo import Setting, Settings, choice, home, value
from asyncup.sources.connection.tls import Tls

#: Seconds to reach one server, where nothing is said.
CONNECT_TIMEOUT = 10.0
PORT = 5432
#: Where sockets usually are; after them the same machine's TCP.
SOCKETS = ("/run/postgresql", "/var/run/postgresql", "/tmp", "/private/tmp")  # noqa: S108 - the server's choice
#: Seconds, but for the last one, which is in milliseconds: a vanished server is noticed within two minutes.
KEEPALIVES = {
    "keepalives_idle": ("TCP_KEEPIDLE", 60),
    "keepalives_interval": ("TCP_KEEPINTVL", 15),
    "keepalives_count": ("TCP_KEEPCNT", 4),
    "tcp_user_timeout": ("TCP_USER_TIMEOUT", 120_000),
}
ATTRIBUTES = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
_NUMBER = re.compile(r"\s*([+-]?\d{1,9})\s*")


@dataclass(frozen=True, slots=True)
class Server:
    """One server: `host` is its name, its address or the folder of its socket; `address` is where it is, where given."""

    host: str
    address: str
    port: int

    @property
    def is_socket(self) -> bool:
        return not self.address and self.host.startswith("/")

    @property
    def is_local(self) -> bool:
        """Whether it is this machine, so that nobody can stand in between."""
        place = self.address or self.host
        if self.is_socket or place.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(place).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"{self.host or self.address}, port {self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """Everything that a connection needs. `password` is None where a file may have it; `timeout` in seconds, or None.

    `place` says where the servers are, for messages.
    """

    servers: tuple[Server, ...]
    place: str
    user: str
    database: str
    password: str | None
    passfile: Path | None
    tls: Tls
    timeout: float | None
    attributes: str
    is_shuffled: bool
    keepalives: Mapping[str, int]
    parameters: Mapping[str, str]
    kerberos: Mapping[str, str]

    @classmethod
    def of(cls, settings: Settings, environment: Mapping[str, str]) -> Target:
        """Raises ConfigError."""
        user = value(settings, "user") or _system_user()
        attributes = choice(settings, "target_session_attrs", ATTRIBUTES) or "any"
        balance = choice(settings, "load_balance_hosts", ("disable", "random"))
        passfile, folder = value(settings, "passfile"), home(environment)
        own = None if folder is None else folder / ("pgpass.conf" if os.name == "nt" else ".pgpass")
        name = value(settings, "application_name") or value(settings, "fallback_application_name") or "asyncup"
        options = value(settings, "options")
        servers = _servers(settings)
        is_named = bool(value(settings, "host") or value(settings, "hostaddr"))
        return cls(
            servers=servers,
            place="; ".join(map(str, servers)) if is_named else _usual_places(servers[0].port),
            user=user,
            database=value(settings, "dbname") or user,
            password=value(settings, "password") or None,
            passfile=Path(passfile) if passfile else own,
            tls=Tls.of(settings, environment),
            timeout=_timeout(settings),
            attributes=attributes,
            is_shuffled=balance == "random",
            keepalives=_keepalives(settings),
            parameters={"application_name": name} | ({"options": options} if options else {}),
            kerberos={key: settings[key].value for key in ("krbsrvname", "gsslib") if value(settings, key)},
        )

    def password_for(self, server: Server) -> tuple[str | None, str | None]:
        """The password for a server, from its file where none was given, and a warning about that file.

        Reads it. Source: https://www.postgresql.org/docs/current/libpq-pgpass.html.
        """
        if self.password is not None or self.passfile is None:
            return self.password, None
        try:
            mode = self.passfile.stat().st_mode
            if not stat.S_ISREG(mode):
                return None, f"the password file {self.passfile} is left out: it is no plain file"
            if os.name != "nt" and mode & (stat.S_IRWXG | stat.S_IRWXO):
                return None, f"the password file {self.passfile} is left out: others may read it (chmod 600 mends that)"
            lines = self.passfile.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except OSError:
            return None, None
        host = server.host or server.address
        wanted = ("localhost" if host in SOCKETS else host, str(server.port), self.database, self.user)
        for line in lines:
            fields = [] if line.startswith("#") else _fields(line)
            if len(fields) >= 5 and all(field in ("*", one) for field, one in zip(fields, wanted, strict=False)):
                return _unescaped(fields[4]), None
        return None, None


def _fields(line: str) -> list[str]:
    """The fields of a line of a password file; the first four without their backslashes."""
    fields = re.findall(r"(?:^|:)((?:\\.|[^:\\])*\\?)", line)
    return [_unescaped(field) for field in fields[:4]] + fields[4:]


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _usual_places(port: int) -> str:
    """Where a server is looked for that nobody has named."""
    sockets = ", ".join(f"{folder}/.s.PGSQL.{port}" for folder in SOCKETS[:3])
    return (
        f"localhost, port {port}, or its usual sockets ({sockets}), since --dsn, DATABASE_URL and PGHOST name no host"
    )


def _servers(settings: Settings) -> tuple[Server, ...]:
    hosts, addresses = _list(settings, "host"), _list(settings, "hostaddr")
    if hosts and addresses and len(hosts) != len(addresses):
        origin = settings["hostaddr"].origin
        raise ConfigError("connect", origin, f"{len(hosts)} hosts have {len(addresses)} addresses", "give one for each")
    given = bool(hosts or addresses)
    if not given:
        hosts = ["localhost"] if os.name == "nt" else [*SOCKETS, "localhost"]
    count = max(len(hosts), len(addresses))
    ports = [_port(text, settings["port"]) for text in _list(settings, "port")] or [PORT]
    if len(ports) not in (1, count) and given:
        origin = settings["port"].origin
        raise ConfigError(
            "connect", origin, f"{count} hosts have {len(ports)} ports", "give one for all, or one for each"
        )
    if len(ports) == 1 or not given:
        ports = ports[:1] * count
    servers = []
    for host, address, port in itertools.zip_longest(hosts, addresses, ports, fillvalue=""):
        if address:
            _check_address(address, settings["hostaddr"])
        elif host.startswith("@"):
            raise ConfigError(
                "connect", settings["host"].origin, "sockets without a file are not served", "name a folder or a host"
            )
        elif not host:
            servers += [Server(usual, "", int(port)) for usual in SOCKETS]
            continue
        servers.append(Server(host, address, int(port)))
    return tuple(servers)


def _check_address(text: str, setting: Setting) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ConfigError(
            "connect", setting.origin, "hostaddr is not an IP address", "write names as host=…, addresses as hostaddr=…"
        ) from None


def _list(settings: Settings, keyword: str) -> list[str]:
    written = value(settings, keyword)
    return [part.strip() for part in written.split(",")] if written else []


def _port(text: str, setting: Setting) -> int:
    if not text:
        return PORT
    port = _integer(text)
    if port is None or not 1 <= port <= 65535:
        raise ConfigError(
            "connect",
            setting.origin,
            "the port is no number from 1 to 65535",
            "such as PGPORT=5432"
            if setting.origin == "PGPORT"
            else "write host:5432; in a user's name or a password, / is %2F, @ is %40, : is %3A, # is %23",
        )
    return port


def _timeout(settings: Settings) -> float | None:
    """Seconds; None is for ever, as libpq has it for 0 and less."""
    setting = settings.get("connect_timeout")
    if setting is None or not setting.value:
        return CONNECT_TIMEOUT
    return _whole(setting, "connect_timeout") if _whole(setting, "connect_timeout") > 0 else None


def _keepalives(settings: Settings) -> dict[str, int]:
    """Options of the socket by their names in C; none where keepalives are off. 0 is the system's own."""
    on = settings.get("keepalives")
    is_on = on is None or not on.value or _whole(on, "keepalives") != 0
    found = {}
    for keyword, (option, usual) in KEEPALIVES.items():
        setting = settings.get(keyword)
        number = usual if setting is None or not setting.value else _whole(setting, keyword)
        if number > 0 and (is_on or keyword == "tcp_user_timeout"):
            found[option] = number
    return ({"SO_KEEPALIVE": 1} if is_on else {}) | found


def _whole(setting: Setting, keyword: str) -> int:
    number = _integer(setting.value)
    if number is None:
        raise ConfigError("connect", setting.origin, f"{keyword} is not a whole number", f"such as {keyword}=10")
    return number


def _integer(text: str) -> int | None:
    match = _NUMBER.fullmatch(text)
    return int(match[1]) if match is not None else None


def _system_user() -> str:
    """Who runs this, as the system knows them."""
    if os.name == "nt":
        return getpass.getuser()
    import pwd  # noqa: PLC0415 - not on Windows

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise ConfigError("connect", "database", "nobody knows who you are", "name the role: user=…, PGUSER") from None
