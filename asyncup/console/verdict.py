"""What a person reads at the end of `verify`: how many differences there are, and the first of them."""

from __future__ import annotations

from asyncup.console.text import count, duration, plural, shown
from asyncup.model import Key
from asyncup.report import NO_OBJECT, Difference, Verdict

#: Differences that are shown; `--output json` has more of them.
SHOWN = 20
_OPENINGS = {"same": "Same", "different": "Different", "aborted": "Not compared to the end"}


def verdict_lines(verdict: Verdict) -> list[str]:
    """The closing words. Empty when nothing was read: the error says it all."""
    if verdict.status == "aborted" and not verdict.rows:
        return [] if verdict.error is not None else ["Interrupted before anything was compared."]
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
    lines += [f"  {_line(difference)}" for difference in verdict.differences[:SHOWN]]
    left = verdict.missing + verdict.different + verdict.extra - sum(one.rows for one in verdict.differences[:SHOWN])
    if left > 0:
        lines.append(f"  and {count(left)} more; --output json has the first 1,000")
    return lines


def _key(key: Key) -> str:
    return ", ".join("NULL" if part is None else part for part in key)


def _line(difference: Difference) -> str:
    line = f"{difference.kind:9}"
    if difference.object_key is not None:
        line += f" {difference.object_key}"
    if difference.key is not None:
        last = f" to {_key(difference.last)}: {plural(difference.rows, 'row')}" if difference.last is not None else ""
        line += f" (row{'s' * bool(last)} {_key(difference.key)}{last})"
    is_plain = difference.kind == "extra" or difference.reason in ("", NO_OBJECT)
    return shown(line if is_plain else f"{line}: {difference.reason}")
