"""`asyncup plan` for people: what a sync would do, on one screen where it can be, and the command that does it."""

from __future__ import annotations

import textwrap

from asyncup.console.text import count, duration, plural, shown, size
from asyncup.names import written
from asyncup.preflight import READY, REFUSED, RELTUPLES, Preflight, SampledRow
from asyncup.pricing import NETWORK, PREFIX_RATE
from asyncup.report import ABORTED, INTERRUPTED

#: Lines are no longer than this, however wide the terminal is; and no shorter than they can be read.
WIDEST, NARROWEST = 110, 40
_INDENT = 13
_OPENINGS = {READY: "Ready", REFUSED: "Refused", ABORTED: "Not looked at to the end", INTERRUPTED: "Interrupted"}


def preflight_lines(found: Preflight, width: int = 80) -> list[str]:
    """What is said on stdout; `width` is that of the terminal. Why a sync would not run is said on stderr."""
    width = max(NARROWEST, min(width, WIDEST))
    lines = [_opening(found)]
    for label, text in _parts(found):
        lines += _wrapped(label, shown(text), width)
        if label == "objects":
            lines += _objects(found.sample, width)
    for notice in found.notices:
        lines += _wrapped("note", shown(notice), width)
    if found.status == READY and found.command is not None:
        lines += ["Next:", f"  {found.command}"]  # as it was given: it is to be given again
    elif found.status == REFUSED:
        lines.append("Next: mend that, then run the same plan again.")
    elif found.status == ABORTED and found.reasons:
        lines.append("Next: once that can be reached, run the same plan again.")
    return lines


def _opening(found: Preflight) -> str:
    why = f", for {plural(len(found.reasons), 'reason')}" if found.status == REFUSED else ""
    return f"{_OPENINGS[found.status]}{why}; nothing was sent or written."


def _wrapped(label: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=f"{label:{_INDENT}}",
        subsequent_indent=" " * _INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _parts(found: Preflight) -> list[tuple[str, str]]:
    parts = [
        ("source", _source(found)),
        ("rows", _rows(found)),
        ("bytes", _bytes(found)),
        ("key", _key(found)),
        ("page", _page(found)),
        ("destination", _destination(found)),
        ("permissions", _permissions(found)),
        ("state", _state(found)),
        ("objects", _tried(found)),
        ("requests", _requests(found)),
        ("time", _times(found)),
        ("prefixes", _prefixes(found)),
    ]
    return [(label, text) for label, text in parts if text]


def _source(found: Preflight) -> str:
    source = found.source
    if source.label is None or source.server is None:
        return ""
    port = f":{source.port}" if source.port != 5432 else ""
    where = f" on {source.host}{port}" if source.host else ""
    kind = f"{source.kind} " if source.kind not in ("table", "query") else ""
    standby = ", a standby" if source.standby else ""
    return f"{kind}{source.label}, PostgreSQL {source.server.split()[0]}{standby}, database {source.database}{where}"


def _rows(found: Preflight) -> str:
    rows = found.rows
    if rows.estimate is None:
        return "unknown: the planner has no estimate" if rows.basis is not None else ""
    text = f"{count(rows.estimate)}, {rows.basis}"
    if not rows.exact:
        basis = "statistics" if rows.basis == RELTUPLES else rows.basis
        text = f"about {count(rows.estimate)} ({basis}"
        if found.source.kind not in ("query", "view", "foreign table"):
            when = (rows.analyzed or "")[:16].replace("T", " ")
            text += f", analysed {when} UTC" if when else ", never analysed"
        text += ")"
    if found.state.resumes and rows.left is not None:
        text += f"; about {count(rows.left)} are left"
    return text


def _bytes(found: Preflight) -> str:
    bodies = found.bytes
    if bodies.estimate is None or bodies.mean is None:
        return ""
    return f"about {size(bodies.estimate)}: {size(bodies.mean)} each in {bodies.basis}"


def _key(found: Preflight) -> str:
    key = found.key
    if not key.columns:
        return ""
    columns = ", ".join(
        f"{written(one.name)} {one.type}{' (may be NULL)' if one.nullable else ''}" for one in key.columns
    )
    return f"{columns}; {key.origin}{'' if key.proven else ', which no index proves to be unique'}"


def _page(found: Preflight) -> str:
    access = found.access
    if access.page_rows is None:
        return ""
    if access.at_once:
        text = f"none: all rows come through one cursor, so it is not resumable{_because(access.reason)}"
        text += f"; {access.mend.rstrip(';')} would give pages" if access.mend else ""
    elif access.sorts or access.scans:
        cost = " and ".join(["sorts"] * bool(access.sorts) + ["reads from the beginning"] * bool(access.scans))
        text = f"each {cost}{_because(access.reason)}" + (f"; {access.mend.rstrip(';')}" if access.mend else "")
    elif access.indexes:
        more = len(access.indexes) - 1
        text = f"by index {access.index}{f' and {count(more)} more' if more else ''}, no sort"
    else:
        text = access.reason or "no index is known to give it"
    if access.page_milliseconds is not None and access.page_rows:
        text += f"; the first {plural(access.page_rows, 'row')} took {access.page_milliseconds:.0f} ms"
    if (access.readers or 1) > 1:
        text += f"; {access.readers} readers, {plural(access.ranges or 1, 'range')}"
    return text if access.shard is None else f"{text}; shard {access.shard}"


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""


def _destination(found: Preflight) -> str:
    to = found.destination
    if to.kind == "null":
        return "null: nothing is sent"
    if to.kind == "file":
        return f"folder {to.place}"
    if to.kind == "python":
        return f"{to.place}, in threads of its own"
    if to.url is None:
        return f"bucket {to.place}" if to.place else ""
    text = f"{to.url}, {to.region or 'unsigned'}, {to.lane} lane"
    return text if to.if_exists == "overwrite" else f"{text}; --if-exists {to.if_exists}: {to.needs}"


def _permissions(found: Preflight) -> str:
    allowed, to = found.permissions, found.destination
    parts = []
    if allowed.select is not None:
        parts.append(f"SELECT {'yes' if allowed.select else 'no'}")
    if allowed.list is not None:
        listed = f" ({count(to.listed)}{' and more' if to.more else ''} there)" if to.listed else ""
        parts.append(f"listing {'yes' if allowed.list else 'no'}{listed}")
    if to.kind == "s3" and to.url is not None:
        parts.append("writing: only a PUT can tell")
    elif allowed.put is not None:
        parts.append(f"writing {'yes' if allowed.put else 'no'}")
    text = ", ".join(parts)
    return f"{text}: {allowed.grant}" if allowed.grant else text


def _state(found: Preflight) -> str:
    state = found.state
    if state.name is None or state.found is None:
        return ""
    if state.checkpoint is None:
        return f"{state.place}: none is kept with --limit"
    its = f"checkpoint of {state.name} in {state.place}"
    if not state.found:
        text = f"new: no {its}"
    elif state.fits is False:
        text = f"the {'finished' if state.finished else 'unfinished'} {its} does not fit this configuration"
    elif state.resumes:
        text = f"goes on behind {plural(state.rows or 0, 'row')}: the {its}, saved {state.saved}"
    elif state.incremental is not None:
        text = f"goes on behind the {its}"
    else:
        text = f"starts from the beginning: the {its} {'is finished' if state.finished else 'is left aside'}"
    if state.incremental is not None:
        since = "the beginning" if state.lo is None else state.lo
        text += f"; reads {written(state.incremental)} from {since} to {state.hi or 'the end'}"
    return f"{text}; held by {state.lock}" if state.lock else text


def _tried(found: Preflight) -> str:
    trial, template = found.trial, found.template
    if template.text is None:
        return ""
    text = ""
    if template.unique is not None:
        by = ", ".join(written(name) for name in template.by)
        text = f"unique by {by}" if by else "not unique" if not template.unique else "any key will do"
    if not trial.rows:
        return f"{text}; there are no rows" if found.rows.exact and text else text
    ends, given = [f"{count(trial.put)} put"], list(trial.reasons)
    if trial.skipped:
        why = [(reason, rows) for reason, rows in given if rows == trial.skipped and reason == "the body is NULL"]
        ends.append(f"{count(trial.skipped)} skipped{_reasons(why)}")
        given = [reason for reason in given if reason not in why]
    if trial.failed:
        ends.append(f"{count(trial.failed)} fail{_reasons(given)}")
    return f"{text}{'; ' if text else ''}of {plural(trial.rows, 'row')} {', '.join(ends)}"


def _reasons(reasons: list[tuple[str, int]]) -> str:
    if len(reasons) < 2:
        return "".join(f" ({reason})" for reason, _ in reasons)
    return f" ({'; '.join(f'{reason}: {count(rows)}' for reason, rows in reasons)})"


def _objects(sample: tuple[SampledRow, ...], width: int) -> list[str]:
    """The sample's object keys with their sizes, and headers: once for all where they are the same."""
    lines: list[str] = []
    headers = [_headers(row) for row in sample if row.outcome == "put"]
    same = len(set(headers)) == 1
    for row in sample:
        what = row.outcome if row.outcome != "put" else "the first pack" if row.size is None else size(row.size)
        key = shown(row.object_key or "no object key")
        room = width - len(what) - 4
        lines.append(f"  {key if len(key) <= room else f'{key[: room - 1]}…'}  {what}")
        if row.outcome == "put" and not same:
            lines += textwrap.wrap(_headers(row), width, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return lines if not same else [*lines, *_wrapped("headers", headers[0], width)]


def _headers(row: SampledRow) -> str:
    return shown("; ".join(f"{name}: {value}" for name, value in row.headers.items()))


def _requests(found: Preflight) -> str:
    requests, price = found.requests, found.price
    if requests.total is None:
        return ""
    parts = [plural(requests.put or 0, "PUT")] if requests.put or not requests.multipart else []
    if requests.multipart:
        parts.append(f"{plural(requests.multipart, 'object')} in {plural(requests.parts or 0, 'part')}")
    if requests.list:
        parts.append(plural(requests.list, "listing page"))
    text = f"about {', '.join(parts)}"
    if price.dollars is None:
        return f"{text}; {price.basis}" if price.basis else text
    text += f": ${price.dollars:,.2f}"
    if price.storage_month is not None:
        text += f", and ${price.storage_month:,.2f} a month to keep them"
    return f"{text} (list prices of {price.date}, {price.basis})"


def _times(found: Preflight) -> str:
    if found.times and found.times[0].seconds < 1:
        return "less than a second"
    return ", ".join(
        f"{time.rate:{',.0f' if time.rate >= 10 else '.2g'}}/s{f' ({time.basis})' if time.basis.startswith(('--', NETWORK)) else ''}: {duration(time.seconds)}"
        for time in found.times
    )


def _prefixes(found: Preflight) -> str:
    template = found.template
    if not template.prefix_rate or not template.leading_prefixes:
        return ""
    first = ", ".join(template.prefixes[:3])
    if template.leading_prefixes == 1:
        return f"1 in the sample ({first or 'none'}): {PREFIX_RATE:,} PUT/s, until S3 splits it under load"
    more = ", …" if template.leading_prefixes > 3 else ""
    return f"{count(template.leading_prefixes)} in the sample ({first}{more}): {PREFIX_RATE:,} PUT/s each once S3 has split them"
