"""What a look at a job comes to, as it grows: facts, notices, and the reasons why a run would be refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from asyncup.errors import AsyncupError
from asyncup.preflight import Permissions, Preflight


class Findings:
    """A preflight in the making."""

    def __init__(self) -> None:
        self.so_far = Preflight()
        self.notices: list[str] = []
        self._reasons: list[AsyncupError] = []

    @property
    def reasons(self) -> tuple[AsyncupError, ...]:
        """Those that only another configuration mends come first: they stand, whatever servers come back."""
        return tuple(sorted(self._reasons, key=lambda reason: not reason.needs_configuration))

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note what a step is refused for, and go on behind it."""
        try:
            yield
        except AsyncupError as reason:
            self.note(reason)

    def note(self, reason: AsyncupError) -> None:
        """Note a reason, once."""
        if all((reason.subject, reason.message) != (known.subject, known.message) for known in self._reasons):
            self._reasons.append(reason)

    def tell(self, **parts: Any) -> None:
        """Put parts of the preflight in place of those so far."""
        self.so_far = replace(self.so_far, **parts)

    def permit(self, **permissions: Any) -> None:
        """Say what is allowed, and what is not."""
        permitted: Permissions = self.so_far.permissions
        self.tell(permissions=replace(permitted, **permissions))
