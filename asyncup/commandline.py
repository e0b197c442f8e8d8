"""Command lines to type, as a shell takes them. They hold no secret: connections come as they came before."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from asyncup.config import flag
from asyncup.names import written


def command_line(command: str, options: Mapping[str, Any]) -> str:
    """A command with options as checkpoints keep them (`Config.kept`)."""
    words = ["asyncup", command]
    for option, given in options.items():
        if given is True:
            words.append(flag(option))
            continue
        value = ",".join(written(name) for name in given) if option == "key" else given
        for text in value if isinstance(value, list) else [value]:
            words += [f"{flag(option)}={text}"] if str(text).startswith("-") else [flag(option), str(text)]
    return shlex.join(words)
