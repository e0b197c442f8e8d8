"""`--to`, taken apart: what kind of place it is, where objects lie in it, and how much it is asked at a time."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from asyncup.config import Config
from asyncup.errors import DestinationRefused, UsageError
from asyncup.flow.gate import Limits
from asyncup.flow.search import START
from asyncup.render.template import Template, parse_template
from asyncup.sinks.targets import parse_target

#: ARNs that stand for a bucket: access points, those of several regions, of Outposts and of Object Lambda; slash or end.
#: Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-points-naming.html
_ACCESS_POINT = re.compile(
    r"(arn:aws[a-z-]*:(?:"
    r"s3:[a-z0-9-]*:[0-9]{12}:accesspoint[:/][A-Za-z0-9.-]+"
    r"|s3-object-lambda:[a-z0-9-]+:[0-9]{12}:accesspoint[:/][A-Za-z0-9-]+"
    r"|s3-outposts:[a-z0-9-]+:[0-9]{12}:outpost[:/][A-Za-z0-9-]+[:/]accesspoint[:/][A-Za-z0-9-]+"
    r"))(/|\Z)"
)


#: The most in flight when nobody says otherwise, and how many open files are left for everything else.
MOST, OTHER_FILES = 1000, 100
#: Files that are written at a time: more only wait for the disk.
FILES = 64
#: Threads in which a user's own sink is called: Python runs one at a time, and more mostly wait for each other.
TARGETS = 32


@dataclass(frozen=True, slots=True)
class Destination:
    """`--to`, taken apart. `place` is the bucket, the directory or the factory's name, empty for null."""

    kind: str
    place: str
    template: Template


def parse_destination(to: str) -> Destination:
    """Take `s3://bucket/{template}`, `file:///dir/{template}`, `python:module:factory/{template}` or `null:` apart.

    A bucket may be an access point's ARN.

    Raises:
        UsageError, TemplateRefused: it is none of them.
    """
    if to.startswith("null:"):
        return Destination("null", "", parse_template(to.removeprefix("null:") or "row"))
    if to.startswith("s3://"):
        bucket, slash, rest = _bucket(to)
        if not bucket or "{" in bucket:
            raise UsageError(
                "read flags",
                "--to",
                f"{to!r} names no bucket",
                "write it as s3://bucket/{id}.json; one bucket for all rows",
            )
        if not slash or not rest:
            raise UsageError(
                "read flags",
                "--to",
                f"{to!r} has no template for the object keys",
                f"such as s3://{bucket}/{{id}}.json",
            )
        return Destination("s3", bucket, parse_template(rest))
    if to.startswith("file:///"):
        whole = parse_template(to.removeprefix("file://"))
        folder, _, first = whole.literals[0].rpartition("/")
        if {".", ".."} & set(folder.split("/")):
            raise UsageError(
                "read flags", "--to", f"the folder {folder} has a '.' or '..' segment", "write its path in full"
            )
        return Destination("file", folder or "/", dataclasses.replace(whole, literals=(first, *whole.literals[1:])))
    if to.startswith("python:"):
        factory, template = parse_target(to)
        return Destination("python", factory, parse_template("row" if template is None else template))
    raise UsageError(
        "read flags",
        "--to",
        f"{to!r} is no destination",
        "write s3://bucket/{id}.json, file:///folder/{id}.json, python:module:factory/{id}.json, or null: to send nothing",
    )


def _bucket(to: str) -> tuple[str, str, str]:
    """The bucket, the slash and the template of an `s3://` destination.

    Raises:
        UsageError: it begins as an ARN, and is none of an access point.
    """
    rest = to.removeprefix("s3://")
    if not rest.startswith("arn:"):
        return rest.partition("/")
    arn = _ACCESS_POINT.match(rest)
    if arn is None:
        raise UsageError(
            "read flags",
            "--to",
            f"{to!r} names no access point",
            "write it as s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/{id}.json",
        )
    return arn[1], arn[2], rest[arn.end() :]


def limits_of(config: Config, destination: Destination) -> Limits:
    """How much may be sent. Files are written by a fixed number of threads: a disk says nothing about its level."""
    concurrency, most, why = config.concurrency, config.max_concurrency or most_connections(), None
    if config.only_signs:
        return Limits(min(concurrency or FILES, most), most, why="fixed: nothing is sent")
    if concurrency is None and destination.kind != "s3":
        threads = TARGETS if destination.kind == "python" else FILES
        concurrency, why = min(threads, most), f"fixed for {destination.kind}:"
    return Limits(
        concurrency=concurrency,
        most=most,
        rate=config.max_rate,
        bandwidth=config.max_bandwidth,
        why=why,
        leading=len(destination.template.literals[0]),
    )


async def check_folder(folder: Path) -> None:
    """See that files could be written below a folder; it is not made.

    Raises:
        DestinationRefused: they could not.
    """
    from asyncup.checkpoints.files import unwritable  # noqa: PLC0415 - most runs have no folder to look at

    fault = await asyncio.to_thread(unwritable, folder)
    if fault is not None:
        raise DestinationRefused("open directory", str(folder), fault, "give a folder that can be written to")


def most_connections() -> int:
    """How many connections this process may have open, as far as we want so many."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:  # Windows
        return MOST // 2
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if files == resource.RLIM_INFINITY else max(START, min(MOST, files - OTHER_FILES))
