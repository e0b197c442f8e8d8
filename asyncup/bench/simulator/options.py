"""The options of the command, and what is made of them."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from asyncup.bench.simulator.answers import ETAGS, Words
from asyncup.bench.simulator.connection import Connection
from asyncup.bench.simulator.control import Control
from asyncup.bench.simulator.counters import Counters
from asyncup.bench.simulator.delay import Latency, make_delay, parse_latency
from asyncup.bench.simulator.faults import FAULTS, Faults, parse_fault
from asyncup.bench.simulator.judge import Judge
from asyncup.bench.simulator.limits import Limits
from asyncup.bench.simulator.null import Null
from asyncup.bench.simulator.store import KEEPS, Store
from asyncup.bench.simulator.verify import Verifier, parse_account
from asyncup.bench.simulator.world import Manners, World
from asyncup.values import parse_duration, parse_size


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """Options of the command line. Ends the process with 2 if they make no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m asyncup.bench.simulator",
        description="An S3 that answers at once and misbehaves on order. Prints its URL; ends when standard input does.",
        epilog="GET /-/counters shows what was asked; any other path below /-/ shows what else there is.",
        allow_abbrev=False,
    )
    _add_place(parser)
    _add_faults(parser)
    _add_limits(parser)
    _add_signatures(parser)
    options = parser.parse_args(arguments)
    if options.keep != "none" and options.etag != "md5":
        parser.error("what is kept is known by its MD5: --keep needs --etag md5")
    return options


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="serve https; PEM")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="default: in the file of the certificate")
    parser.add_argument(
        "--latency",
        type=_of(parse_latency),
        default=Latency(),
        metavar="DURATION",
        help="such as 58.8ms, or lognormal:MEDIAN,SIGMA, such as lognormal:20ms,0.5",
    )
    parser.add_argument("--etag", choices=ETAGS, default="md5", help="fixed spares the hashing. Default: md5")
    parser.add_argument(
        "--keep",
        choices=KEEPS,
        default="none",
        help="of objects: nothing, their sizes and MD5s, or their bodies too. With none, conditional writes always hold",
    )


def _add_faults(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("faults")
    group.add_argument(
        "--fault",
        action="append",
        default=[],
        type=_of(partial(parse_fault, now=time.monotonic())),
        metavar="NAME=SHARE[,times=N][,skip=N][,after=DURATION][,for=DURATION][,on=put+part][,key=TEXT]",
        help=f"what happens to 15%% or 0.15 of the requests; may be repeated. There are {', '.join(FAULTS)}",
    )
    group.add_argument("--seed", type=int, default=0, help="of everything that is drawn. Default: 0")
    group.add_argument("--retry-after", type=int, metavar="SECONDS", help="goes with every SlowDown")
    group.add_argument(
        "--slow-read", type=_of(parse_size), default=64 << 10, metavar="SIZE", help="a second; default: 64KiB"
    )
    group.add_argument(
        "--redirect-region",
        default="eu-central-1",
        metavar="REGION",
        help="where redirects lead; default: eu-central-1",
    )
    group.add_argument("--redirect-endpoint", metavar="HOST:PORT", help="default: the Host that was asked")


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits")
    group.add_argument(
        "--limit", type=float, default=0.0, metavar="RATE", help="requests a second for each prefix, 503 beyond it"
    )
    group.add_argument(
        "--limit-depth",
        type=int,
        default=1,
        metavar="N",
        help="path segments of a key that make its prefix; 0 for one limit for the bucket. Default: 1",
    )
    group.add_argument(
        "--burst",
        type=_of(parse_duration),
        default=0.1,
        metavar="DURATION",
        help="of the rate, at once; default: 100ms",
    )
    group.add_argument(
        "--split-after",
        type=_of(parse_duration),
        default=0.0,
        metavar="DURATION",
        help="of pressure, until a partition splits in two; default: never",
    )
    group.add_argument(
        "--split-by",
        choices=("range", "hash"),
        default="range",
        help="of the keys; by hash, keys that are written in order share both halves. Default: range, as S3 does",
    )
    group.add_argument(
        "--cold", type=float, default=0.0, metavar="RATE", help="what a partition takes until the pressure has lasted"
    )


def _add_signatures(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("signatures, clock and region")
    group.add_argument(
        "--verify",
        action="append",
        default=[],
        type=_of(parse_account),
        metavar="ACCESS,SECRET[,TOKEN]",
        help="take only what is signed with it (SigV4), and hold payloads against their hashes; may be repeated",
    )
    group.add_argument(
        "--clock-offset", type=float, default=0.0, metavar="SECONDS", help="its clock is so much ahead, or behind"
    )
    group.add_argument(
        "--check-clock", action="store_true", help="refuse an x-amz-date more than 15 minutes from its clock"
    )
    group.add_argument("--region", help="refuse what is signed for another one; default: take any")
    group.add_argument(
        "--wrong-region",
        choices=("400", "301", "307"),
        default="400",
        help="what it is refused with: AuthorizationHeaderMalformed, or a redirect. Default: 400",
    )


def make_connections(options: argparse.Namespace, loop: asyncio.AbstractEventLoop) -> Callable[[], Connection]:
    """What makes a connection of the S3 that was asked for."""
    counters = Counters()
    words = Words(counters, options.clock_offset)
    world = World(
        counters,
        words,
        make_delay(loop, options.latency, options.seed, counters),
        Faults(options.seed, options.fault),
        Limits(
            options.limit,
            options.split_after,
            options.cold,
            options.burst,
            options.limit_depth,
            options.split_by == "hash",
        ),
        Manners(
            options.retry_after,
            options.slow_read,
            options.check_clock,
            options.region,
            options.wrong_region,
            options.redirect_region,
            options.redirect_endpoint,
        ),
        None if options.keep == "none" else Store(options.keep == "all"),
        Verifier({account.access: account for account in options.verify}, words.now) if options.verify else None,
    )
    null = Null(options.etag, words, Control(world, loop).answer, world.region)
    return partial(Connection, world, null, Judge(world, null))


def _of(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """A type for argparse that says what was wrong."""

    def parse_or_say(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as exc:
            raise argparse.ArgumentTypeError(str(exc)) from exc

    return parse_or_say
