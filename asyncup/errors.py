"""Every error that asyncup raises, and the whole policy for each: its disposition.

An error says what was being done (`op`), to what (`subject`), what went wrong (`message`) and what to do about it
(`hint`). Exceptions of libraries are mapped to these once, at the seam, with `raise … from exc`.
`asyncio.CancelledError` is never wrapped.
"""

from __future__ import annotations

from enum import Enum

#: How a hint begins where the server has refused a password; where it came from, only the caller knows.
CHECK_PASSWORD = "check the password in"  # noqa: S105 - a hint


class Disposition(Enum):
    """What a run does when an error of this kind reaches it."""

    RETRY = "retry"  #: the same request may succeed later; `exhausted` says what follows when it never does
    DEAD_LETTER = "dead-letter"  #: this row cannot be published; the run goes on
    SKIP = "skip"  #: nothing is to be done for this row; it is counted as skipped
    ABORT = "abort"  #: the run cannot go on


class AsyncupError(Exception):
    """The root of all errors of asyncup.

    Attributes:
        op: what was being done, one or two words: `connect`, `read page`, `put`.
        subject: what it was done to: a table, an object key, a file; never a secret.
        message: what went wrong, one sentence.
        hint: what to do about it, or None.
        attempts: how often it was tried before this error was final.
        request_id, host_id: what S3 calls the request that it refused, `x-amz-request-id` and `x-amz-id-2`, which AWS support
            asks for; None where there is none.
    """

    disposition: Disposition = Disposition.ABORT
    #: what becomes of a RETRY error once the attempts are spent
    exhausted: Disposition = Disposition.DEAD_LETTER
    #: fewer attempts than the policy allows, where the error is known not to mend by itself
    max_attempts: int | None = None
    #: True when only another configuration mends it: exit code 2 if nothing was sent
    needs_configuration: bool = False
    #: False where the attempt ended before anything was sent: what was to be sent could not be read
    was_sent: bool = True
    request_id: str | None = None
    host_id: str | None = None

    def __init__(self, op: str, subject: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.op = op
        self.subject = subject
        self.message = message
        self.hint = hint
        self.attempts = 1

    @property
    def type(self) -> str:
        """The name under which this error appears in summaries and dead letters."""
        return self.__class__.__name__

    def __str__(self) -> str:
        return f"{self.op} {self.subject}: {self.message}" if self.subject else f"{self.op}: {self.message}"


# --- what only another configuration mends: exit code 2 ---------------------------------------------------------


class ConfigError(AsyncupError):
    """A flag, a template, a name or a permission is wrong; nothing but a change of configuration mends it."""

    needs_configuration = True


class UsageError(ConfigError):
    """The command line itself is wrong."""


class SourceRefused(ConfigError):
    """The database refuses, or what is asked of it cannot be read completely."""


class DestinationRefused(ConfigError):
    """The destination refuses this run: no such bucket, a wrong signature, a missing permission."""


class TemplateRefused(ConfigError):
    """A template cannot be rendered, or could give two rows one object key."""


class TransformBroken(ConfigError):
    """A user's function can be called for no row: it is not there, a process cannot have it, or its `setup()` fails."""


class StateRefused(ConfigError):
    """The state cannot be used: locked by another run, or written by a different configuration."""


# --- what may mend by itself --------------------------------------------------------------------------------


class Unreachable(AsyncupError):
    """Nobody answers: refused, unroutable, unknown host. Bounded by time, not by attempts; then the run ends."""

    disposition = Disposition.RETRY
    exhausted = Disposition.ABORT


class ConnectionLost(AsyncupError):
    """The exchange broke in the middle: reset, timed out, unreadable answer."""

    disposition = Disposition.RETRY


class ServerFault(AsyncupError):
    """The server answered that it could not do it now. `retry_after` is its own wish in seconds, or None."""

    disposition = Disposition.RETRY

    def __init__(
        self, op: str, subject: str, message: str, hint: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(op, subject, message, hint)
        self.retry_after = retry_after


class StatementTimedOut(ServerFault):
    """The server ended a statement that took too long; one that asks for less may do. Tried once more as it is."""

    exhausted = Disposition.ABORT
    max_attempts = 2
    needs_configuration = True


class Throttled(ServerFault):
    """The server asks for fewer requests."""


class PayloadCorrupted(AsyncupError):
    """The server received other bytes than were sent; a second try tells a bad wire from a bad client."""

    disposition = Disposition.RETRY
    max_attempts = 2


class StaleRequest(AsyncupError):
    """The request was refused for what it was signed with; one more try, signed anew, then the run ends.

    Each kind has a try of its own: a row that met one, which was mended, may still meet another.
    """

    disposition = Disposition.RETRY
    exhausted = Disposition.ABORT
    max_attempts = 2
    needs_configuration = True


class ClockSkewed(StaleRequest):
    """Its time is not the server's."""


class CredentialsExpired(StaleRequest):
    """Its session token is too old."""


class BucketElsewhere(StaleRequest):
    """It went to another region or place than the bucket's."""


# --- the row --------------------------------------------------------------------------------------------------


class RowRefused(AsyncupError):
    """One row cannot become an object; others can."""

    disposition = Disposition.DEAD_LETTER


class BodyRefused(RowRefused):
    """The database cannot give the body of one row; that of others it can."""


class TransformFailed(RowRefused):
    """A user's function could not make an object of one row. `traceback` is the text of its own, where there is one."""

    def __init__(
        self, op: str, subject: str, message: str, hint: str | None = None, traceback: str | None = None
    ) -> None:
        super().__init__(op, subject, message, hint)
        self.traceback = traceback


class ObjectExists(AsyncupError):
    """An object of this key is there already, and the upload was to create one."""

    disposition = Disposition.DEAD_LETTER


class RowGone(AsyncupError):
    """A row, or its body, is no longer there when the body is to be read."""

    disposition = Disposition.SKIP

    def __init__(self, op: str, subject: str, message: str, hint: str | None = None) -> None:
        super().__init__(op, subject, message, hint)
        self.attempts = 0  # nothing was sent


class ObjectMissing(AsyncupError):
    """`verify`: a row has no object."""

    disposition = Disposition.DEAD_LETTER


class ObjectDiffers(AsyncupError):
    """`verify`: a row's object is not what the row comes to."""

    disposition = Disposition.DEAD_LETTER


# --- the run --------------------------------------------------------------------------------------------------


class ReadingBroken(AsyncupError):
    """Reading cannot go on without losing or repeating rows, so it stops."""


class PackBroken(AsyncupError):
    """The upload of a pack broke off, and its rows have to be read again: the run ends, and the next one begins with them."""


class StateLost(AsyncupError):
    """The checkpoint or the dead-letter file cannot be written, so nothing more may be settled."""


class TooManyFailures(AsyncupError):
    """More rows failed than `--max-failures` allows."""


class GateMissed(AsyncupError):
    """Every row is settled, but not as many, or not as fast, as the run was to."""


class OutOfTime(AsyncupError):
    """The run took longer than `--timeout` allows; what is settled is saved."""


class InternalError(AsyncupError):
    """A defect in asyncup: an exception that nobody expected."""
