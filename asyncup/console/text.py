"""Numbers, durations and errors as people read them; and secrets as nobody does."""

from __future__ import annotations

import re

from asyncup.errors import AsyncupError

_URI_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^@\s/]*@")
_PARAMETER = re.compile(r"(?i)\b(password|secret_access_key|session_token)=[^&\s'\"]+")


def count(number: int) -> str:
    return f"{number:,}"


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size(bytes_: float) -> str:
    """Bytes in decimal units: `3.4 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if bytes_ < 1000:
            return f"{bytes_:.0f} B" if unit == "B" else f"{bytes_:.1f} {unit}"
        bytes_ /= 1000
    return f"{bytes_:.1f} TB"


def duration(seconds: float) -> str:
    """`0.4s`, `12s`, `3m05s`, `2h07m`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


class Redactor:
    """Takes secrets out of texts: passwords in URIs by their place, known secrets wherever they are."""

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        # a short secret could be part of any word; in its place in a URI it is found all the same
        self._secrets = sorted((secret for secret in secrets if len(secret) >= 6), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return _PARAMETER.sub(r"\1=***", _URI_PASSWORD.sub(r"\1***@", text))


def error_lines(error: AsyncupError) -> list[str]:
    """An error in one to three lines: what was wrong, where, and what to do."""
    where = f"{error.op} {error.subject}".strip()
    lines = [f"error: {error.message}", f"  where: {where}"]
    if error.hint:
        lines.append(f"  hint:  {error.hint}")
    return lines
