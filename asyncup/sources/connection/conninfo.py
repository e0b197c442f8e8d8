"""Connection strings, service files and PG* variables, read as libpq reads them.

What a user has for psql works here too: a URI, or `host=… dbname='a b'`, a service, the environment, in libpq's order:
what the string says comes before its service, that before the environment. A keyword that libpq does not know is
refused, with the nearest name; so is a known one that is not served here, where to ignore it would weaken the connection.
No message quotes a value that could be a password, or a part of one that was not encoded.

Sources: https://www.postgresql.org/docs/current/libpq-connect.html, `…/libpq-envars.html`, `…/libpq-pgservice.html`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from asyncup.errors import ConfigError
from asyncup.names import nearest

#: Every keyword of libpq 13 to 18 and its environment variable.
KEYWORDS: Mapping[str, str | None] = {
    "service": "PGSERVICE",
    "servicefile": "PGSERVICEFILE",
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "dbname": "PGDATABASE",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "passfile": "PGPASSFILE",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "client_encoding": "PGCLIENTENCODING",
    "options": "PGOPTIONS",
    "application_name": "PGAPPNAME",
    "fallback_application_name": None,
    "keepalives": None,
    "keepalives_idle": None,
    "keepalives_interval": None,
    "keepalives_count": None,
    "tcp_user_timeout": None,
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "load_balance_hosts": "PGLOADBALANCEHOSTS",
    "sslmode": "PGSSLMODE",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "sslcompression": "PGSSLCOMPRESSION",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcertmode": "PGSSLCERTMODE",
    "sslpassword": None,
    "sslrootcert": "PGSSLROOTCERT",
    "sslcrl": "PGSSLCRL",
    "sslcrldir": "PGSSLCRLDIR",
    "sslsni": "PGSSLSNI",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "min_protocol_version": "PGMINPROTOCOLVERSION",
    "max_protocol_version": "PGMAXPROTOCOLVERSION",
    "channel_binding": "PGCHANNELBINDING",
    "require_auth": "PGREQUIREAUTH",
    "requirepeer": "PGREQUIREPEER",
    "gssencmode": "PGGSSENCMODE",
    "gssdelegation": "PGGSSDELEGATION",
    "krbsrvname": "PGKRBSRVNAME",
    "gsslib": "PGGSSLIB",
    "replication": None,
    "scram_client_key": None,
    "scram_server_key": None,
    "oauth_issuer": None,
    "oauth_client_id": None,
    "oauth_client_secret": None,
    "oauth_scope": None,
    "sslkeylogfile": None,
}

#: What is not served here: the values that ask for nothing, and what to do instead of any other. Not in this table, and
#: ignored: `client_encoding`, since texts are always read as UTF-8, and `sslcompression`, which no server does any more.
_UNSERVED: Mapping[str, tuple[tuple[str, ...], str]] = {
    "channel_binding": (
        ("disable", "prefer", "require"),
        "leave it out and set sslmode=verify-full: the certificate proves who answers then",
    ),
    "require_auth": ((), "leave it out and set sslmode=verify-full: the certificate proves who answers then"),
    "requirepeer": ((), "leave it out: the folder of the socket says who may listen there"),
    "gssencmode": (("disable", "prefer"), "leave it out and encrypt with sslmode=verify-full"),
    "gssdelegation": (("0",), "leave it out"),
    "sslsni": (("1",), "leave it out: the host's name is sent when TLS begins"),
    "min_protocol_version": (("3.0",), "leave it out: version 3.0 of the protocol is spoken"),
    "replication": (("false", "off", "no", "0"), "leave it out: rows are read with SQL"),
    "scram_client_key": ((), "give a password"),
    "scram_server_key": ((), "give a password"),
    "oauth_issuer": ((), "give a password, or a command that prints one: --password-command"),
    "oauth_client_id": ((), "give a password, or a command that prints one: --password-command"),
    "oauth_client_secret": ((), "give a password, or a command that prints one: --password-command"),
    "oauth_scope": ((), "give a password, or a command that prints one: --password-command"),
    "sslkeylogfile": ((), "leave it out"),
}

_URI = ("postgresql://", "postgres://")
_FORMS = "write it as postgresql://user@host:5432/database or host=… dbname=…, or set PGHOST, PGUSER, PGPASSWORD and the like"
_ENCODE = "in a user's name or a password, / is %2F, @ is %40, : is %3A, # is %23, % is %25"
_HOST = re.compile(
    r"(?:\[(?P<address>[^\]]+)\](?=[:/?,]|\Z)|(?!\[)(?P<name>[^:/?,]*))(?::(?P<port>[^/?,]*))?", re.DOTALL
)
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SPACE = " \t\n\r\f\v"
_SERVICES = ".pg_service.conf"


@dataclass(frozen=True, slots=True)
class Setting:
    """A value, and where it was given: a flag, a variable, a line of a service file."""

    value: str
    origin: str


Settings = dict[str, Setting]


def gather(text: str | None, origin: str, environment: Mapping[str, str]) -> Settings:
    """All settings: those of the string, else of its service, else of the environment. Reads service files.

    Raises:
        ConfigError: what cannot be read, is not known, or is not served.
    """
    found = parse(text, origin) if text else {}
    service = found.get("service") or Setting(environment.get("PGSERVICE", ""), "PGSERVICE")
    if service.value:
        found = _service(service, value(found, "servicefile"), environment) | found
    for keyword, variable in KEYWORDS.items():
        if variable is not None and environment.get(variable):
            found.setdefault(keyword, Setting(environment[variable], variable))
    if environment.get("PGREQUIRESSL", "").startswith("1"):
        found.setdefault("sslmode", Setting("require", "PGREQUIRESSL"))
    for keyword, (harmless, instead) in _UNSERVED.items():
        if value(found, keyword) not in ("", *harmless):
            raise ConfigError("connect", found[keyword].origin, f"{keyword} is not served here as it is set", instead)
    return found


def parse(text: str, origin: str) -> Settings:
    """The settings in a connection string, a URI or keywords and values.

    Raises:
        ConfigError: it is neither, or has a keyword that nobody knows.
    """
    if "\0" in text:
        raise ConfigError("connect", origin, "it holds a zero byte", _FORMS)
    found: Settings = {}
    for keyword, value in _uri(text, origin) if text.startswith(_URI) else _pairs(text, origin):
        _store(found, keyword, value, origin)
    return found


def home(environment: Mapping[str, str]) -> Path | None:
    """The folder where libpq looks for its files; None where there is none."""
    if os.name == "nt":
        return Path(environment["APPDATA"]) / "postgresql" if "APPDATA" in environment else None
    try:
        return Path(environment["HOME"]) if environment.get("HOME") else Path.home()
    except RuntimeError:
        return None


def value(settings: Settings, keyword: str) -> str:
    """A setting's value; empty where it is not set, which is the same to libpq for nearly all."""
    setting = settings.get(keyword)
    return setting.value if setting is not None else ""


def choice(settings: Settings, keyword: str, allowed: tuple[str, ...]) -> str | None:
    """A setting that has one of a few values, or None where it is not set.

    Raises:
        ConfigError: it has another one.
    """
    chosen = value(settings, keyword)
    if chosen and chosen not in allowed:
        raise ConfigError(
            "connect", settings[keyword].origin, f"{keyword} is none of {', '.join(allowed)}", nearest(chosen, allowed)
        )
    return chosen or None


def _store(found: Settings, keyword: str, value: str, origin: str) -> None:
    if keyword == "requiressl":  # as libpq before 7.4 called it
        keyword, value = "sslmode", "require" if value.startswith("1") else "prefer"
    if keyword not in KEYWORDS:
        after_secret = next(reversed(found), "").endswith("password")  # it may be a piece of one that is not quoted
        known = not after_secret and re.fullmatch(r"[A-Za-z_.]{1,40}", keyword)
        hint = nearest(keyword, tuple(KEYWORDS)) if known else ""
        raise ConfigError(
            "connect",
            origin,
            f"there is no connection parameter {keyword}" if known else "a parameter has a name that nobody knows",
            hint if hint.startswith("did you mean") else "settings of the server are written as options=-c name=value",
        )
    found.pop(keyword, None)  # the last one counts, and is the last one
    found[keyword] = Setting(value, origin)


def _uri(text: str, origin: str) -> Iterator[tuple[str, str]]:
    """Keywords and values of `postgresql://[user[:password]@][host][:port][,…][/dbname][?keyword=value&…]`."""
    rest = text.partition("://")[2]
    before, at, behind = rest.partition("@")
    if at and "/" not in before:
        user, _, password = before.partition(":")
        yield from ((key, _decoded(value, origin)) for key, value in (("user", user), ("password", password)) if value)
        rest = behind
    hosts, ports, position = [], [], 0
    while True:
        one = _HOST.match(rest, position)
        if one is None:
            raise ConfigError("connect", origin, "an IPv6 address is not written as [address]:port", _FORMS)
        hosts.append(one["address"] or one["name"] or "")
        ports.append(one["port"] or "")
        position = one.end() + 1
        if rest[one.end() : position] != ",":
            break
    place, rest = rest[: position - 1], rest[position - 1 :]
    database, _, parameters = rest.removeprefix("/").partition("?")
    if "@" in place or "@" in database:
        raise ConfigError("connect", origin, "there is an @ where none can be", _ENCODE)
    for keyword, value in (("host", ",".join(hosts)), ("port", ",".join(ports)), ("dbname", database)):
        if value:
            yield keyword, _decoded(value, origin)
    for pair in parameters.removesuffix("&").split("&") if parameters else ():
        keyword, equals, value = pair.partition("=")
        if not equals or "=" in value:
            raise ConfigError("connect", origin, "a parameter behind ? is not written as name=value", _ENCODE)
        keyword, value = _decoded(keyword, origin), _decoded(value, origin)
        yield ("sslmode", "require") if (keyword, value) == ("ssl", "true") else (keyword, value)


def _decoded(text: str, origin: str) -> str:
    """Raises ConfigError."""
    text = text.strip(" ")
    if " " in text:
        raise ConfigError("connect", origin, "there is a blank within a part of the URI", "write it as %20")
    if _PERCENT.search(text) or "%00" in text:
        raise ConfigError("connect", origin, "a % is not followed by two hexadecimal digits of a character", _ENCODE)
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ConfigError("connect", origin, "what is written with % is not UTF-8", _ENCODE) from None


def _pairs(text: str, origin: str) -> Iterator[tuple[str, str]]:
    """Keywords and values of `host=… dbname='a b'`; a backslash makes the next character an ordinary one."""
    position, end = 0, len(text)

    def skip() -> None:
        nonlocal position
        while position < end and text[position] in _SPACE:
            position += 1

    skip()
    while position < end:
        start = position
        while position < end and text[position] not in "=" + _SPACE:
            position += 1
        keyword = text[start:position]
        skip()
        if position == end or text[position] != "=":
            scheme = re.match(r"[a-z][a-z0-9+.]*(?=://)", text)
            raise ConfigError(
                "connect",
                origin,
                f"the scheme {scheme[0]}:// is not postgresql://" if scheme else "a parameter has no = behind its name",
                _FORMS,
            )
        position += 1
        skip()
        quoted = position < end and text[position] == "'"
        position += quoted
        value = []
        while position < end and text[position] not in ("'" if quoted else _SPACE):
            position += text[position] == "\\"
            value.append(text[position : position + 1])
            position += 1
        if quoted and position >= end:
            raise ConfigError("connect", origin, "the quote of a value is never closed", _FORMS)
        position += 1
        yield keyword, "".join(value)
        skip()


def _service(service: Setting, file: str, environment: Mapping[str, str]) -> Settings:
    """What the service files say of a service: the user's own, else the system's.

    Raises:
        ConfigError: there is no such service, or its lines cannot be read.
    """
    own = file or environment.get("PGSERVICEFILE")
    folder = home(environment)
    files = [Path(own)] if own else [folder / _SERVICES] if folder else []
    if own is None and files and not files[0].exists():
        files = []
    system = Path(environment.get("PGSYSCONFDIR") or "/etc/postgresql-common") / "pg_service.conf"
    if system.exists():
        files.append(system)
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
            raise ConfigError(
                "connect", service.origin, f"the service file {path} cannot be read: {reason}", "check PGSERVICEFILE"
            ) from exc
        found = _section(text, service.value, str(path))
        if found is not None:
            return found
    raise ConfigError(
        "connect",
        service.origin,
        f"there is no service {service.value}",
        f"looked for in {', '.join(map(str, files))}" if files else "there is no ~/.pg_service.conf; see PGSERVICEFILE",
    )


def _section(text: str, service: str, path: str) -> Settings | None:
    """The settings under `[service]`, the first of that name; None when there is none."""
    found: Settings | None = None
    for number, written in enumerate(text.splitlines(), 1):
        line = written.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            if found is not None:
                return found
            if line.startswith(f"[{service}]"):
                found = {}
            continue
        if found is None:
            continue
        origin = f"{path}, line {number}"
        keyword, equals, value = line.partition("=")
        if not equals or keyword == "service":
            raise ConfigError(
                "connect", origin, "it is not written as name=value, or names a service itself", "mend that line"
            )
        one: Settings = {}
        _store(one, keyword.strip(), value.strip(), origin)
        found = one | found  # the first one counts
    return found
