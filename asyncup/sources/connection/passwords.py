"""Passwords that are made when they are needed: by a callable, or by a command that prints one.

Each new connection asks again: a token for RDS is good for fifteen minutes
(https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html), a run may take days.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import signal

from asyncup.config import Password
from asyncup.errors import ConfigError, Unreachable

#: Seconds for a command to print a password.
COMMAND_SECONDS = 30.0
_FLAG = "--password-command"
#: What a shell gives for a command that is not there, or may not be run.
_NO_COMMAND = (126, 127)


async def made(password: Password) -> str:
    """The password; a callable may be async, and one that is not runs in a thread.

    Raises:
        ConfigError: what it gives is no text.
        Exception: whatever it raises.
    """
    if isinstance(password, str):
        return password
    found = password() if inspect.iscoroutinefunction(password) else await asyncio.to_thread(password)
    if inspect.isawaitable(found):
        found = await found
    if not isinstance(found, str):
        raise ConfigError("connect", "password", f"the callable gave {type(found).__name__}, not text", "return a str")
    return found


async def printed(command: str) -> str:
    """The first line that a shell command prints. It gets no input, and is ended where it takes too long.

    Raises:
        ConfigError: there is no such command, or it prints nothing.
        Unreachable: it failed; it may work later.
    """
    process = await asyncio.create_subprocess_shell(
        command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # so that all that it starts can be ended with it
    )
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            out, told = await process.communicate()
    except TimeoutError:
        raise Unreachable("connect", _FLAG, f"it printed no password in {COMMAND_SECONDS:g} seconds") from None
    finally:
        if process.returncode is None:
            _end(process)
            await process.wait()
    reason = _last_words(told)
    if process.returncode in _NO_COMMAND:
        raise ConfigError("connect", _FLAG, f"it cannot be run{reason}", "it is a command for the shell")
    if process.returncode:
        raise Unreachable("connect", _FLAG, f"it ended with exit code {process.returncode}{reason}")
    lines = out.decode(errors="replace").splitlines()
    if not lines or not lines[0]:
        raise ConfigError(
            "connect", _FLAG, f"it printed no password{reason}", "its first line of output is the password"
        )
    return lines[0]


def _last_words(told: bytes) -> str:
    """The end of what it wrote to stderr, on one line."""
    text = " ".join(told.decode(errors="replace").split())
    return f": {text[-500:]}" if text else ""


def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:  # Windows
            process.kill()
