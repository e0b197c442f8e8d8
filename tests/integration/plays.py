"""Multipart uploads on a scripted server: as S3 does it, except where a test wants something else."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field

from asyncup.errors import AsyncupError
from asyncup.flow.retry import Retrier, RetryPolicy
from tests.integration.scripted_s3 import Answer, Request, ScriptedS3, answer_as_s3, step

#: How often a request is tried.
ATTEMPTS = 3


@dataclass
class Play:
    """A server, and the answers that are written down for some steps (see `step`); all others are the usual ones."""

    server: ScriptedS3
    instead: dict[str, deque[Answer]] = field(default_factory=lambda: defaultdict(deque))

    def answer(self, request: Request) -> Answer:
        written = self.instead[step(request)]
        return written.popleft() if written else answer_as_s3(request)

    def steps(self) -> list[str]:
        """What was asked for so far; parts, which come in any order, by their numbers."""
        order = ("create", "part", "complete", "abort")
        asked = [step(request) for request in self.server.requests]
        return sorted(asked, key=lambda one: (order.index(one.split(" ")[0]), one))

    async def reached(self, wanted: str) -> None:
        """Wait until a step is asked for."""
        while wanted not in self.steps():
            await self.server.wait_for_requests(len(self.server.requests) + 1)


@dataclass
class Told:
    """What a sink has told, and the errors that led to another attempt. While it is `draining`, none does."""

    notices: list[str] = field(default_factory=list)
    retried: list[AsyncupError] = field(default_factory=list)
    draining: bool = False

    def retrier(self) -> Retrier:
        """A retrier that does not wait."""

        async def sleep(_: float) -> bool:
            return not self.draining

        policy = RetryPolicy(max_attempts=ATTEMPTS)
        return Retrier(policy, sleep, lambda error, *_: self.retried.append(error), dice=lambda: 0.0)
