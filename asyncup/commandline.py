"""Command lines to type, as a shell takes them. They hold no secret: connections come as they came before."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from asyncup.names import written
from asyncup.values import as_typed, flag


def command_line(command: str, options: Mapping[str, Any], jobs: Sequence[str] = ()) -> str:
    """A command with options as checkpoints keep them (`Config.kept`), for jobs of a configuration file."""
    looks_like_flags = any(job.startswith("-") for job in jobs)
    words = ["asyncup", command, *([] if looks_like_flags else jobs)]
    for option, given in options.items():
        if given is False:
            continue
        if given is True:
            words.append(flag(option))
            continue
        value = ",".join(map(written, given)) if option == "key" and not isinstance(given, str) else given
        for text in value if isinstance(value, list) else [value]:
            typed = as_typed(option, text)
            words += [f"{flag(option)}={typed}"] if typed.startswith("-") else [flag(option), typed]
    return shlex.join([*words, "--", *jobs] if looks_like_flags else words)
