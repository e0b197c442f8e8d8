"""How many requests at a time, and how many a second, are right at this moment, and why.

Two questions with an answer each. How many in flight bring the most: `Search`. What rate a server takes that answers
SlowDown: `Pace`, one for everything until it shows that leading prefixes are throttled differently, since S3 limits
each for itself (https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html); from then on one
for each that is throttled, and the others have all the room. A throttled prefix waits for its own rate only.

Pure: whoever uses it looks at a clock, hands in what there is to see, some tens of times a second, and does what
comes out. While nothing is throttled nothing is counted for each prefix.
"""

from __future__ import annotations

from asyncup.flow.pace import Count, Pace
from asyncup.flow.search import Phase, Sample, Search

FIXED = "fixed by --concurrency"
FINDING = "finding the level"
FLAT = "more brings nothing"
THROTTLED = "throttled by S3"
MACHINE = "limited by this machine's CPU"
MOST = "limited by --max-concurrency"
MAX_RATE = "limited by --max-rate"
MAX_BANDWIDTH = "limited by --max-bandwidth"
MEMORY = "limited by --memory"
ROWS = "waiting for rows"

#: Prefixes that are told apart; all others are one.
PREFIXES = 64
#: Seconds between two comparisons of the prefixes.
COMPARE_SECONDS = 0.5
#: Throttled answers that a prefix would have, if it were as the others, before having next to none says that it is not.
TELLING = 8


class Account:
    """The attempts of one leading prefix. `waiting` is how many wait for its pace, as its user counts them."""

    def __init__(self) -> None:
        self.acknowledged = self.throttled = self.answered = 0
        self.waiting = 0
        self.pace = Pace()
        #: Whether it has a pace of its own.
        self.is_apart = False

    @property
    def count(self) -> Count:
        return Count(self.acknowledged, self.throttled, self.answered)


class Level:
    """`limit` requests in flight, `reason` why it is so. `fixed` is a limit that stays, for the reason `why`; `most` bounds any other."""

    def __init__(self, most: int, fixed: int | None = None, why: str | None = None) -> None:
        self.search = Search(most)
        self._fixed, self._why = fixed, why or FIXED
        self.limit = fixed if fixed is not None else self.search.limit
        self.reason = self._why if fixed is not None else FINDING
        #: Everything that has no pace of its own.
        self.rest = Account()
        self.accounts: dict[str, Account] = {}
        self._gone = Count(0, 0, 0)
        self._opened = 0.0
        self._compare_at = 0.0

    def allow(self, most: int, fixed: int | None) -> None:
        """More may be in flight than before."""
        self.search.allow(most)
        if fixed is not None:
            self._fixed = self.limit = fixed

    @property
    def is_counting(self) -> bool:
        """Whether something is capped: then each attempt belongs to an account."""
        return self.rest.pace.cap is not None or bool(self.accounts)

    def account_of(self, prefix: str) -> Account:
        """Where the attempts of a leading prefix belong."""
        account = self.accounts.get(prefix)
        if account is None:
            if len(self.accounts) >= PREFIXES:
                return self.rest
            account = self.accounts[prefix] = Account()
        return account

    def paced(self, account: Account) -> Account:
        """The account whose pace an account keeps: its own, or that of the rest."""
        return account if account.is_apart else self.rest

    def look(self, now: Sample, throttled: int, *, held_by: str | None = None, otherwise: str = ROWS) -> None:
        """Take one more look.

        `throttled` is a sum too; `held_by` is why requests wait, if it is not for the limit or a pace; `otherwise` is why
        there are not more of them when none wait.
        """
        self._look_at_rates(now, Count(now.acknowledged, throttled, now.answered))
        search = self.search
        if self._fixed is None:
            search.look(now)
            self.limit = search.limit
        self.reason = self._reason(held_by, otherwise)

    def _look_at_rates(self, now: Sample, total: Count) -> None:
        rest = self.rest
        latency = self.search.latency or now.took / max(1, now.acknowledged)
        apart = [account for account in self.accounts.values() if account.is_apart]
        for account in apart:
            account.pace.look(now.at, account.count, latency, waiting=account.waiting > 0)
            if account.pace.cap is None:
                self._join(account)
        counts = [account.count for account in apart]
        others = Count(*(all_ - sum(parts) for all_, *parts in zip(total, *counts, self._gone, strict=True)))
        was_capped = rest.pace.cap is not None
        rest.pace.look(now.at, others, latency, waiting=rest.waiting > 0)
        if rest.pace.cap is None:
            if not apart:
                self.accounts.clear()
        elif not was_capped:
            self._count_from(now.at)
        elif now.at >= self._compare_at:
            self._compare(now.at)

    def _join(self, account: Account) -> None:
        """A prefix that was not throttled for long is as all others again."""
        self._gone = Count(*map(sum, zip(self._gone, account.count, strict=True)))
        self.accounts = {prefix: other for prefix, other in self.accounts.items() if other is not account}

    def _count_from(self, at: float) -> None:
        """Begin to count for each prefix."""
        self.accounts = {prefix: account for prefix, account in self.accounts.items() if account.is_apart}
        self._opened, self._compare_at = at, at + COMPARE_SECONDS

    def _compare(self, at: float) -> None:
        """Give prefixes that are throttled a pace of their own, if there are others that are not."""
        self._compare_at = at + COMPARE_SECONDS
        together = [account for account in self.accounts.values() if not account.is_apart]
        answered = sum(account.answered for account in together)
        share = sum(account.throttled for account in together) / max(1, answered)
        expected = {account: share * account.answered for account in together}
        if not any(number >= TELLING and account.throttled < 0.1 * number for account, number in expected.items()):
            return
        for account, number in expected.items():
            if account.throttled > max(number, 1):
                goodput = account.acknowledged / (at - self._opened)
                account.acknowledged = account.throttled = account.answered = 0
                account.is_apart = True
                account.pace.start_at(goodput)
        self.rest.pace = Pace()
        self._count_from(at)

    def _reason(self, held_by: str | None, otherwise: str) -> str:
        search = self.search
        if any(account.pace.is_used for account in (self.rest, *self.accounts.values())):
            return THROTTLED
        if held_by is not None:
            return held_by
        if self._fixed is not None:
            return self._why
        if not search.latency:
            return FINDING
        if search.is_busy:
            return MACHINE
        if not search.is_full:
            return otherwise
        if search.limit >= search.most:
            return MOST
        return FINDING if search.phase in (Phase.DOUBLING, Phase.STEPPING) else FLAT
