"""Looking for credentials: in a thread that nobody waits for at the end, for a limited time, once for all who ask.

Where they come from is anything: a program of `credential_process`, a login in a browser, a service that is down. None
of them may keep a run from going on, or from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from aiobotocore.session import AioSession
from botocore.credentials import ProcessProvider
from botocore.exceptions import UnknownCredentialError

from asyncup.errors import AsyncupError, Unreachable

R = TypeVar("R")


#: Seconds for a program that is given up, and for the loop of a thread, to end.
_END_SECONDS = 1.0


def open_session(profile: str | None) -> AioSession:
    """A session of aiobotocore that leaves no program running which it gave up. Reads files."""
    session = AioSession(profile=profile)
    resolver = session.get_component("credential_provider")
    with contextlib.suppress(UnknownCredentialError):  # a profile, or keys, may leave no place for it
        resolver.get_provider(ProcessProvider.METHOD)._popen = _start  # noqa: SLF001 - what runs the program
    return session


async def find_again(profile: str | None) -> Any:
    """The credentials that a new run would begin with, or None. Reads files and runs programs."""
    return await open_session(profile).get_credentials()


class _Program:
    """A running program, as much of it as aiobotocore looks at."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        """What it prints. It is killed if nobody waits for that any more."""
        process = self._process
        try:
            return await process.communicate()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END_SECONDS):
                    await process.wait()
            process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - its children may hold its pipes
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # until the pipes have heard of it
            raise


async def _start(*command: str, **pipes: Any) -> _Program:
    return _Program(await asyncio.create_subprocess_exec(*command, **pipes))


async def in_a_thread(looking: Coroutine[Any, Any, R], seconds: float) -> R:
    """What a coroutine comes to on a loop of its own, in a thread that ends with the program at the latest.

    Raises:
        TimeoutError: it did not end in so many seconds.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[R] = loop.create_future()
    given = (asyncio.wait_for(looking, seconds), loop, found)
    threading.Thread(target=_look, args=given, name="asyncup-finding", daemon=True).start()
    async with asyncio.timeout(seconds + _END_SECONDS):
        return await found


def _look(looking: Coroutine[Any, Any, R], loop: asyncio.AbstractEventLoop, found: asyncio.Future[R]) -> None:
    def tell(result: R | None, error: BaseException | None) -> None:
        if found.done():
            return  # nobody waits any more
        if error is not None:
            found.set_exception(error)
        else:
            found.set_result(result)  # type: ignore[arg-type]

    result, error = None, None
    try:
        result = asyncio.run(looking)
    except BaseException as exc:  # noqa: BLE001 - handed on
        error = exc
    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(tell, result, error)


class Turn:
    """One looks while the others wait; if nobody gave an answer, that is the others' failure too.

    Each would have to wait as long as the first one, one after the other.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._failures = 0
        self._why: tuple[str, str, str, str | None] = ("", "", "", None)

    @contextlib.asynccontextmanager
    async def taken(self) -> AsyncGenerator[None]:
        """Wait for one's turn.

        Raises:
            Unreachable: whoever had it meanwhile failed so.
        """
        failures = self._failures
        async with self._lock:
            if failures != self._failures:
                raise Unreachable(*self._why)
            try:
                yield
            except Unreachable as exc:
                self._failures += 1
                self._why = (exc.op, exc.subject, exc.message, exc.hint)
                raise


def not_in_time(subject: str, seconds: float) -> AsyncupError:
    """The error for credentials that nobody gave in time. It may mend by itself, and no row is to blame."""
    return Unreachable(
        "find credentials",
        subject,
        f"where they come from did not answer within {seconds:g} s",
        "check the program, login or service of the profile that they come from",
    )
