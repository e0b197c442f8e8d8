"""A checkpoint as JSON, wherever it is kept."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from asyncup.errors import StateRefused
from asyncup.model import Checkpoint, Counts, DeadLetter, Key, Range, Reach

VERSION = 1


def to_json(checkpoint: Checkpoint) -> dict[str, Any]:
    """A checkpoint as a JSON object."""
    ranges = [
        {"part": asdict(reach.part), "watermark": reach.watermark, "finished": reach.finished}
        for reach in checkpoint.ranges
    ]
    return {"version": VERSION, **asdict(replace(checkpoint, ranges=())), "ranges": ranges}


def from_json(value: Any, location: str) -> Checkpoint:
    """The checkpoint in a JSON object.

    Raises:
        StateRefused: it is none that this version can read.
    """
    try:
        fields = dict(value)
        known = fields.pop("version") == VERSION
        fields["counts"] = Counts(**fields["counts"])
        fields["watermark"] = _key(fields["watermark"])
        fields["ranges"] = tuple(map(_reach, fields.get("ranges", ())))
        checkpoint = Checkpoint(**fields)
    except (ValueError, KeyError, TypeError) as exc:
        raise unreadable(location) from exc
    if not known:
        raise unreadable(location)
    return checkpoint


def _reach(value: dict[str, Any]) -> Reach:
    part = value["part"]
    return Reach(
        Range(**{**part, "lower": _key(part["lower"]), "upper": _key(part["upper"])}),
        _key(value["watermark"]),
        value["finished"],
    )


def _key(value: list[str | None] | None) -> Key | None:
    return None if value is None else tuple(value)


def unreadable(location: str) -> StateRefused:
    """The error for what is no checkpoint."""
    return StateRefused(
        "load checkpoint",
        location,
        "it is not a checkpoint of this version of asyncup",
        "start over with --restart, or keep other state with --state or --name",
    )


def letter_line(letter: DeadLetter, *, ascii_only: bool = False) -> bytes:
    """A dead letter as a line of JSON, its end included."""
    value = {
        "key": list(letter.key),
        "object_key": letter.object_key,
        "error": letter.error,
        "op": letter.op,
        "message": letter.message,
        "attempts": letter.attempts,
        "time": letter.at,
    }
    if letter.traceback is not None:
        value["traceback"] = letter.traceback
    if letter.request_id is not None:
        value |= {"request_id": letter.request_id, "host_id": letter.host_id}
    return json.dumps(value, ensure_ascii=ascii_only).encode() + b"\n"


def letter_header(kind: str, version: int, job: dict[str, Any], *, ascii_only: bool = False) -> bytes:
    """The line that dead letters begin with, its end included."""
    return json.dumps({"kind": kind, "version": version, "job": job}, ensure_ascii=ascii_only).encode() + b"\n"
