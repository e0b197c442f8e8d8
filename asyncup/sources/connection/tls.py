"""TLS as libpq's parameters ask for it: whom to trust, and what to show.

Where nothing is said, a server that is not on this machine has to prove by its certificate that it is the one that was
asked for (`verify-full`). Its authority is looked for in `sslrootcert`, else in ~/.postgresql/root.crt, else among the
system's. Source: https://www.postgresql.org/docs/current/libpq-ssl.html.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from asyncup.errors import ConfigError
from asyncup.sources.connection.conninfo import Setting, Settings, choice, home

MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_VERSIONS = {
    "tlsv1": ssl.TLSVersion.TLSv1,
    "tlsv1.1": ssl.TLSVersion.TLSv1_1,
    "tlsv1.2": ssl.TLSVersion.TLSv1_2,
    "tlsv1.3": ssl.TLSVersion.TLSv1_3,
}
#: What the driver reads itself where TLS is only preferred.
_DRIVERS = ("sslcert", "sslkey", "sslpassword", "ssl_min_protocol_version", "ssl_max_protocol_version")
#: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
_ALPN = "postgresql"


class NamedContext(ssl.SSLContext):
    """A context that knows the server's name, for where the connection goes to an address (`hostaddr`)."""

    server_name: str | None = None

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return super().wrap_bio(incoming, outgoing, server_side, self.server_name or server_hostname, session)


@dataclass(frozen=True, slots=True)
class Tls:
    """What was asked for; `mode` is None where nothing was. `folder` is the user's ~/.postgresql."""

    mode: str | None
    is_direct: bool
    values: Mapping[str, Setting]
    folder: Path | None

    @classmethod
    def of(cls, settings: Settings, environment: Mapping[str, str]) -> Tls:
        """Raises ConfigError."""
        mode = choice(settings, "sslmode", MODES)
        root = settings.get("sslrootcert")
        if root is not None and root.value == "system":
            mode = mode or "verify-full"
            if mode != "verify-full":
                raise ConfigError(
                    "connect",
                    settings["sslmode"].origin,
                    f"sslrootcert=system is not for sslmode={mode}",
                    "verify-full",
                )
        if choice(settings, "channel_binding", ("disable", "prefer", "require")) == "require":
            if mode == "disable":
                raise ConfigError(
                    "connect", settings["channel_binding"].origin, "it needs TLS", "leave sslmode=disable out"
                )
            mode = "verify-full"  # what it is for, that nobody stands in between, the certificate proves as well
        direct = choice(settings, "sslnegotiation", ("postgres", "direct")) == "direct"
        if direct and mode in MODES[:3]:
            raise ConfigError(
                "connect",
                settings["sslnegotiation"].origin,
                f"TLS is not negotiated with sslmode={mode}",
                "use require",
            )
        choice(settings, "sslcertmode", ("disable", "allow"))
        for keyword in ("ssl_min_protocol_version", "ssl_max_protocol_version"):
            setting = settings.get(keyword)
            if setting is not None and setting.value and setting.value.lower() not in _VERSIONS:
                raise ConfigError("connect", setting.origin, f"{keyword} is no version", "such as TLSv1.2 or TLSv1.3")
        directory = home(environment)
        return cls(mode, direct, settings, directory / ".postgresql" if directory else None)

    def mode_for(self, *, is_local: bool) -> str:
        """How TLS is used towards a server."""
        return self.mode or ("require" if self.is_direct and is_local else "prefer" if is_local else "verify-full")

    def preferred(self, mode: str) -> str:
        """A connection string for the driver, which knows itself how to fall back (`allow`, `prefer`)."""
        values = {keyword: self._value(keyword) for keyword in _DRIVERS}
        for keyword in _DRIVERS[3:]:  # the driver knows one way to write them
            values[keyword] = values[keyword].replace("tls", "TLS").replace("TLSV", "TLSv")
        if self._value("sslcertmode") == "disable":
            values["sslcert"] = values["sslkey"] = ""
        return "postgresql://?" + urlencode({"sslmode": mode} | {key: text for key, text in values.items() if text})

    def context(self, mode: str, server_name: str | None) -> ssl.SSLContext:
        """A context for `require` and stricter ones. Reads files.

        Raises:
            ConfigError: a file cannot be read.
        """
        context = NamedContext(ssl.PROTOCOL_TLS_CLIENT)
        context.server_name = server_name
        context.check_hostname = mode == "verify-full"
        context.minimum_version = _VERSIONS[(self._value("ssl_min_protocol_version") or "tlsv1.2").lower()]
        if highest := self._value("ssl_max_protocol_version"):
            context.maximum_version = _VERSIONS[highest.lower()]
        context.set_alpn_protocols([_ALPN])
        self._trust(context, mode)
        self._revoke(context)
        self._show(context)
        return context

    def _trust(self, context: ssl.SSLContext, mode: str) -> None:
        root = self._file("sslrootcert", "root.crt")
        if root is not None and root.value != "system":
            _load(root, lambda: context.load_verify_locations(cafile=root.value))
        elif mode == "require":  # nobody to ask: encrypted, towards whoever answers
            context.verify_mode = ssl.CERT_NONE
        else:
            context.load_default_certs()

    def _revoke(self, context: ssl.SSLContext) -> None:
        if context.verify_mode == ssl.CERT_NONE:
            return
        lists = self._file("sslcrl", "root.crl")
        folder = self.values.get("sslcrldir")
        if lists is not None:
            _load(lists, lambda: context.load_verify_locations(cafile=lists.value))
        if folder is not None and folder.value:
            _load(folder, lambda: context.load_verify_locations(capath=folder.value))
        if lists is not None or (folder is not None and folder.value):
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN

    def _show(self, context: ssl.SSLContext) -> None:
        certificate = self._file("sslcert", "postgresql.crt")
        if certificate is None or self._value("sslcertmode") == "disable":
            return
        key = self._file("sslkey", "postgresql.key")
        # an empty password: OpenSSL must not ask for it on the terminal
        _load(
            certificate,
            lambda: context.load_cert_chain(
                certificate.value, None if key is None else key.value, lambda: self._value("sslpassword")
            ),
        )

    def _value(self, keyword: str) -> str:
        setting = self.values.get(keyword)
        return setting.value if setting is not None else ""

    def _file(self, keyword: str, usual: str) -> Setting | None:
        """The file that was named, else the usual one where it is."""
        setting = self.values.get(keyword)
        if setting is not None and setting.value:
            return setting
        path = self.folder / usual if self.folder is not None else None
        return Setting(str(path), str(path)) if path is not None and path.exists() else None


def _load(file: Setting, load: Any) -> None:
    try:
        load()
    except OSError as exc:  # an SSLError is one
        reason = (exc.reason if isinstance(exc, ssl.SSLError) else exc.strerror) or str(exc)
        raise ConfigError(
            "connect",
            file.origin,
            f"the file {file.value} cannot be used for TLS: {reason}",
            "check that it is there, may be read, and holds PEM; sslkey and sslpassword belong to sslcert",
        ) from exc


def refusal(exc: ssl.SSLError, place: str) -> ConfigError:
    """The error for a TLS connection that did not come about."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return ConfigError(
            "connect",
            "database",
            f"the certificate of {place} is not to be trusted: {exc.verify_message}",
            "name the file of its authority, which your provider has, as sslrootcert=FILE in --dsn or PGSSLROOTCERT, and "
            "the host as its certificate does; sslmode=require (PGSSLMODE) encrypts without knowing who answers",
        )
    return ConfigError(
        "connect", "database", f"TLS with {place} failed: {exc.reason or exc}", "see sslmode, sslcert and sslrootcert"
    )


def unencrypted(place: str, mode: str, *, is_asked_for: bool) -> ConfigError:
    """The error for a server that does not speak TLS, where it has to; `is_asked_for`: because somebody said so."""
    why = "" if is_asked_for else "a host that is not this machine has to prove who it is unless told otherwise: "
    return ConfigError(
        "connect",
        "database",
        f"the server at {place} does not speak TLS, and sslmode={mode} wants it",
        f"{why}where the network is trusted, set sslmode=prefer in --dsn, or PGSSLMODE",
    )
