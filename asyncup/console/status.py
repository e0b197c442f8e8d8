"""`asyncup status` for people: each job in a few lines, or in two where there are many."""

from __future__ import annotations

from asyncup.console.text import count, plural, shown
from asyncup.overview import Overview, Standing

#: More jobs than these have two lines each: how far they are, and the command.
IN_FULL = 3


def overview_lines(overview: Overview) -> list[str]:
    """What is said on stdout. Nothing when the state could not be read at all: the error says it."""
    if not overview.standings:
        if overview.signal is not None:
            return ["Interrupted before anything was read."]
        if overview.error is not None:
            return []
        missing = "" if overview.is_there else ", which does not exist"
        return [f"There is no checkpoint in {shown(overview.folder or overview.state)}{missing}."]
    if len(overview.standings) > IN_FULL:
        return [line for standing in overview.standings for line in _lines(standing, brief=True)]
    lines: list[str] = []
    for standing in overview.standings:
        lines += ["", *_lines(standing)] if lines else _lines(standing)
    return lines


def _lines(standing: Standing, *, brief: bool = False) -> list[str]:
    entry, checkpoint = standing.entry, standing.entry.checkpoint
    name = shown(entry.name)
    if entry.error is not None:
        return [f"{name}: cannot be read: {shown(entry.error.message)}", f"  {shown(entry.location)}"]
    running = [] if entry.holder is None else [f"  running now: {shown(str(entry.holder))}"]
    if checkpoint is None:
        return [f"{name}: nothing saved yet", *running]
    counts = checkpoint.counts
    destination = shown(str(checkpoint.fingerprint.get("to")))
    opening = (
        f"{name}: {'finished' if checkpoint.finished else 'unfinished'}, {plural(counts.rows, 'row')} so far: "
        f"{count(counts.put)} put, {count(counts.skipped)} skipped, {count(counts.failed)} failed"
    )
    if brief:
        return [opening, *running, f"  {standing.command}"]
    lines = [
        opening,
        f"  {shown(' '.join((standing.source or '').split()))} → {destination}",
        f"  saved {checkpoint.saved} in {shown(entry.location)}",
    ]
    if not checkpoint.finished:
        left = "an unknown number of rows" if standing.left is None else f"about {plural(standing.left, 'row')}"
        watermark = checkpoint.watermark
        behind = f" behind the key ({shown(', '.join(map(str, watermark)))})" if watermark is not None else ""
        if checkpoint.ranges:
            behind = f" in {count(len(checkpoint.ranges) - checkpoint.finished_ranges)} of {plural(len(checkpoint.ranges), 'range')}"
        lines.append(f"  left: {left}{behind}{'' if standing.left is None else ', as the planner estimates'}")
    mark = checkpoint.mark
    if "rule" in mark:
        since = f"from {mark['column']} = {mark['lo']}" if mark.get("lo") is not None else f"by {mark['column']}"
        lines.append(f"  read {shown(since)} up to {shown(str(mark.get('hi')))}")
    if standing.dead_letters is not None:
        lines.append(f"  the failed rows are in {shown(standing.dead_letters)}")
    what = "goes on" if not checkpoint.finished else "copies every row anew" if not mark else "copies what is new"
    if checkpoint.finished and standing.dead_letters is not None:
        what = "sends the failed rows again"
    return [*lines, *running, f"  this {what}, with connections as before:", f"    {standing.command}"]
