"""What a person reads at the end of `verify`: how many differences there are, and the first of them."""

from __future__ import annotations

from asyncup.console.advice import next_of_verdict
from asyncup.console.text import count, duration, plural, shown
from asyncup.model import Key
from asyncup.report import NO_OBJECT, Difference, Verdict

#: Differences that are shown; `--output json` has more of them.
SHOWN = 12
_OPENINGS = {"same": "Same", "different": "Different", "aborted": "Not compared to the end"}


def verdict_lines(verdict: Verdict, most: int = SHOWN) -> list[str]:
    """The closing words, with so many differences at most. Empty when nothing was read: the error says it all."""
    if verdict.status == "aborted" and not verdict.rows:
        opening = [] if verdict.error is not None else ["Interrupted before anything was compared."]
        return [*opening, *next_of_verdict(verdict)]
    counts = (
        f"{count(verdict.missing)} missing, {count(verdict.different)} different, "
        f"{'extra ones not looked for' if verdict.limited else f'{count(verdict.extra)} extra'}"
    )
    sizes = f"{plural(verdict.rows, 'row')} and {plural(verdict.objects, 'object')} in {duration(verdict.seconds)}"
    lines = [f"{_OPENINGS[verdict.status]}: {sizes}: {counts}"]
    if verdict.skipped:
        why = f" ({' or '.join(verdict.skips)})" if verdict.skips else ""
        lines.append(f"  {plural(verdict.skipped, 'row')} skipped{why}, of which no object is expected")
    if verdict.by_size:
        lines.append(
            f"  {plural(verdict.by_size, 'object')} compared by size alone, since nothing else could be; --deep "
            "compares bytes"
        )
    lines += [f"  {_line(difference)}" for difference in verdict.differences[:most]]
    left = verdict.missing + verdict.different + verdict.extra - sum(one.rows for one in verdict.differences[:most])
    if left > 0:
        lines.append(f"  and {count(left)} more; --output json has the first 1,000")
    return [*lines, *next_of_verdict(verdict)]


def key_text(key: Key) -> str:
    """A row's key as people write it."""
    return ", ".join("NULL" if part is None else part for part in key)


def place(difference: Difference) -> str:
    """Which object a difference is of, and which row: `d/14.txt (row 14)`."""
    where = [] if difference.object_key is None else [difference.object_key]
    if difference.key is not None:
        last = (
            f" to {key_text(difference.last)}: {plural(difference.rows, 'row')}" if difference.last is not None else ""
        )
        where.append(f"(row{'s' * bool(last)} {key_text(difference.key)}{last})")
    return " ".join(where)


def _line(difference: Difference) -> str:
    line = f"{difference.kind:9} {place(difference)}"
    is_plain = difference.kind == "extra" or difference.reason in ("", NO_OBJECT)
    return shown(line if is_plain else f"{line}: {difference.reason}")
