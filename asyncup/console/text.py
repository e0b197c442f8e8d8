"""Numbers, durations and errors as people read them; and secrets as nobody does."""

from __future__ import annotations

import re
import textwrap

from asyncup.errors import AsyncupError

#: An event loop that is later than this is worth a word: what is in flight waits for it.
LATE_SECONDS = 0.02

#: How the lines of an error begin; all that follows stands as deep.
_OF_ERRORS = ("error: ", "  where: ", "  hint:  ", "  asked: ", "         ")
# In a DSN up to the last @ of the word, in other URIs up to the last before the path: people forget to encode a @, /
# or : in a password, and rather too much is taken out than a part left in.
_URI_PASSWORD = re.compile(r"(?i)(postgres(?:ql)?://[^\s/:\[]*:)\S*@|(://[^\s/:\[]*:)[^\s/]*@")
_PARAMETER = re.compile(
    r"""(?ix) ((?:password|secret_access_key|session_token) \s*=\s*)
    (?: '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" | [^&\s'"]+ )"""
)


def count(number: int) -> str:
    return f"{number:,}"


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size(bytes_: float) -> str:
    """Bytes in decimal units: `3.4 MB`."""
    for unit, digits in (("B", 0), ("kB", 1), ("MB", 1), ("GB", 1)):
        if round(bytes_, digits) < 1000:
            return f"{bytes_:.{digits}f} {unit}"
        bytes_ /= 1000
    return f"{bytes_:.1f} TB"


def duration(seconds: float) -> str:
    """`0.4s`, `12s`, `3m05s`, `2h07m`."""
    if round(seconds, 1) < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def calm(seconds: float) -> str:
    """A time that is guessed or watched, no finer than that can be: `12s`, `3m05s`, `48m`, `2h07m`."""
    if round(seconds) < 60:
        return f"{max(1, round(seconds))}s"
    if seconds < 600:
        fives = round(seconds / 5) * 5
        return f"{fives // 60}m{fives % 60:02d}s"
    minutes = round(seconds / 60)
    return f"{minutes}m" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def shown(text: str) -> str:
    """A text on one line: what rows and servers say must not steer a terminal, or look like a line of ours."""
    return text if text.isprintable() else "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def wrapped(line: str, width: int | None) -> list[str]:
    """A line as lines of at most `width` columns, if there is such a limit; those that follow stand deeper than the first.

    A command is left whole, so that it can be copied; so is a word that is too long.
    """
    if "\n" in line:
        return [part for one in line.split("\n") for part in wrapped(one, width)]
    if width is None or len(line) <= width or "asyncup " in line:
        return [line]
    is_error = line.startswith(_OF_ERRORS)
    depth = len(_OF_ERRORS[1]) if is_error else len(line) - len(line.lstrip()) + 4
    return textwrap.wrap(
        line, width, subsequent_indent=" " * depth, break_long_words=False, break_on_hyphens=False
    ) or [line]


class Redactor:
    """Takes secrets out of texts: passwords in URIs by their place, known secrets wherever they are."""

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        # a short secret could be part of any word; in its place in a URI it is found all the same
        self._secrets = sorted((secret for secret in secrets if len(secret) >= 6), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return _URI_PASSWORD.sub(r"\1\2***@", _PARAMETER.sub(r"\1***", text))


def error_lines(error: AsyncupError) -> list[str]:
    """An error in one to four lines: what was wrong, where, what to do, and what S3 calls the request that it refused."""
    where = f"{error.op} {error.subject}".strip()
    lines = [f"error: {_lines(error.message)}", f"  where: {_lines(where)}"]
    if error.hint:
        lines.append(f"  hint:  {_lines(error.hint)}")
    if error.request_id:
        host = f", host id {shown(error.host_id)}" if error.host_id else ""
        lines.append(f"  asked: request id {shown(error.request_id)}{host}")
    return lines


def _lines(text: str) -> str:
    """A text with its own line ends, such as those of an SQL statement, and no other control characters."""
    return "\n         ".join(shown(line) for line in text.splitlines())
