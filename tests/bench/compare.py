"""Old figures beside new ones, and whether asyncup got worse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.bench.figures import Load, Results

#: Peers with this prefix are ours; others may change as they like.
OURS = "asyncup"


@dataclass(frozen=True, slots=True)
class Change:
    """One figure, old and new. `lower_is_better` says which way is up; `ours` whether it is asyncup's."""

    section: str
    what: str
    unit: str
    old: float
    new: float
    lower_is_better: bool
    ours: bool

    @property
    def ratio(self) -> float:
        return self.new / self.old

    @property
    def regression(self) -> float:
        """By how much it got worse, as a share of what it was; negative when it got better."""
        return self.ratio - 1 if self.lower_is_better else 1 - self.ratio


def compare(old: Results, new: Results) -> tuple[Change, ...]:
    """Every figure that both have, in the order of the new ones."""
    return tuple(_changes(old, new))


def regressed(changes: tuple[Change, ...], most: float) -> tuple[Change, ...]:
    """Figures of asyncup that got worse by more than a share, such as 0.1."""
    return tuple(change for change in changes if change.ours and change.regression > most)


def describe(peer: str, load: Load) -> str:
    """A peer and its load, in words."""
    parts = [peer, size(load.size), f"{load.in_flight:,} in flight"]
    if load.latency:
        parts.append(f"{load.latency * 1e3:g} ms")
    if load.tls:
        parts.append("TLS")
    return ", ".join(parts)


def size(number: int) -> str:
    """Bytes as people write them: 200 B, 2 KB, 8 MB, with a K of 1,024."""
    for unit, name in ((1 << 20, "MB"), (1 << 10, "KB")):
        if number >= unit:
            return f"{number / unit:g} {name}"
    return f"{number} B"


def _changes(old: Results, new: Results) -> Iterator[Change]:
    before = {(one.section, one.peer, one.load): one for one in old.figures}
    for figure in new.figures:
        was = before.get((figure.section, figure.peer, figure.load))
        if was is None:
            continue
        place = (figure.section, describe(figure.peer, figure.load))
        ours = figure.peer.startswith(OURS)
        yield Change(*place, "µs CPU/object", was.cpu_us, figure.cpu_us, True, ours)
        yield Change(*place, "objects/s", was.objects_per_second, figure.objects_per_second, False, ours)
    if old.start_up and new.start_up:
        pairs = (
            ("asyncup --version", "s", old.start_up.version_seconds, new.start_up.version_seconds),
            ("sync of one row", "s CPU", old.start_up.one_row_cpu_seconds, new.start_up.one_row_cpu_seconds),
        )
        for what, unit, was_seconds, is_seconds in pairs:
            yield Change("start", what, unit, was_seconds, is_seconds, True, True)
