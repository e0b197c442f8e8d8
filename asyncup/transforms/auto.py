"""Where a plain function runs, when that is ours to choose: its first calls are timed, and it is watched from then on.

It is never called on the event loop, which a call that hangs would hold for ever: the first calls go through one thread, and
what they say decides between more threads, for what waits or is over at once, and processes, for what keeps a core busy.
From threads it may still move to processes, and never back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from asyncup.errors import RowRefused, TransformBroken
from asyncup.model import Products, Row
from asyncup.protocols import Transform
from asyncup.transforms.finding import Found
from asyncup.transforms.pace import Spent, spelled
from asyncup.transforms.processes import InProcesses
from asyncup.transforms.record import Layout
from asyncup.transforms.threads import InThreads

#: So much of a core for each call, in seconds, and another process is worth the way there.
BURNS = 0.0002
#: The first calls are judged after so many, or after so many seconds of them.
_CALLS = 20
_SECONDS = 0.05
#: One call of this length is enough to judge by.
_LONG = 1.0


class Auto:
    """A plain function, first in one thread, then where it belongs.

    Attributes:
        why: what was chosen and why, as it was said.
    """

    def __init__(
        self,
        found: Found,
        layout: Layout,
        *,
        cores: int,
        threads: int,
        timeout: float | None,
        say: Callable[[str], None],
    ) -> None:
        self._found = found
        self._layout = layout
        self._cores = cores
        self._most_threads = threads
        self._timeout = timeout
        self._say = say
        self._turn = asyncio.Lock()
        self._first = Spent()  # the very first call: it imports and fills caches, so it tells little of the others
        self._spent = Spent()
        self._past: list[Transform] = []
        self._can_be_sent = cores > 1
        self.why = ""
        self._stage: Transform = InThreads(found, layout.view(), places=1, timeout=timeout, say=say, spent=self._add)
        self._judged = False

    @property
    def places(self) -> int:
        """How many portions may be in work at a time."""
        return self._stage.places if self._judged else 1

    @property
    def portion(self) -> tuple[int, int]:
        """Rows and bytes of one call of `apply`."""
        return self._stage.portion

    async def apply(self, rows: Sequence[Row]) -> Sequence[Products | RowRefused]:
        """What becomes of each row.

        Raises:
            TransformBroken: the function can be called for no row.
        """
        made = await self._stage.apply(rows)
        if self._is_to_be_judged():
            async with self._turn:
                if self._is_to_be_judged():  # nobody has done it meanwhile
                    await self._judge()
        return made

    def _add(self, spent: Spent) -> None:
        if not self._first.calls:
            self._first = spent
        else:
            self._spent.add(spent)

    def _is_to_be_judged(self) -> bool:
        if isinstance(self._stage, InProcesses):
            return False
        spent = self._spent
        if not self._judged:
            return spent.calls >= _CALLS or spent.wall >= _SECONDS or self._first.wall >= _LONG
        return self._can_be_sent and spent.calls >= _CALLS and spent.wall >= _SECONDS

    async def _judge(self) -> None:
        """Choose, or choose anew; `_spent` tells by what."""
        spent = self._spent if self._spent.calls else self._first
        # Threads share one core for Python, processes have a core each, but as many as there are cores wait at a time. Where
        # other programs keep the cores busy, a call seems to wait too: hence a quarter, where there are few cores.
        burns = spent.cpu / max(1, spent.calls) > BURNS and spent.cpu * max(4, self._cores) > spent.wall
        self._spent = Spent()
        if (burns and self._can_be_sent and await self._send(spent)) or self._judged:
            return
        stage = InThreads(
            self._found,
            self._layout.view(),
            places=self._most_threads,
            timeout=self._timeout,
            say=self._say,
            spent=self._add,
        )
        self._move(stage, f"in up to {self._most_threads} threads: {spent}")

    async def _send(self, spent: Spent) -> bool:
        """Move to processes, if they can have the function; why not is said once."""
        stage = InProcesses(self._found, self._layout, places=self._cores, timeout=self._timeout)
        try:
            await stage.open()
        except TransformBroken as exc:
            self._can_be_sent = False
            hint = f" ({exc.hint})" if exc.hint and "\n" not in exc.hint else ""
            self._say(f"transform {self._found.name} would do better in processes, but {exc.message}{hint}")
            await stage.close()
            return False
        except BaseException:
            await stage.close()
            raise
        self._move(stage, f"in {processes(self._cores)}: {spent}; {started(stage)}")
        return True

    def _move(self, stage: Transform, why: str) -> None:
        self._past.append(self._stage)
        self._stage = stage
        self._judged = True
        self.why = f"transform {self._found.name} runs {why}"
        self._say(self.why)

    async def close(self) -> None:
        """End what runs."""
        for stage in (*self._past, self._stage):
            await stage.close()


def processes(count: int) -> str:
    """So many processes, for a sentence."""
    return f"{count} process{'es' if count > 1 else ''}"


def started(stage: InProcesses) -> str:
    """What the start of processes took, for a sentence: it is no part of what a row costs."""
    setup = "" if stage.setup is None else f", setup() {spelled(stage.setup)} in each"
    return f"its imports took {spelled(stage.imports)} once{setup}"
