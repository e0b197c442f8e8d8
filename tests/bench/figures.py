"""What a benchmark finds, as values, and the arithmetic behind them: slopes, so that start-up does not count.

A client is run with few objects and with many; what the further objects cost, divided by their number, is the figure.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

#: The version of the JSON file.
VERSION = 1


@dataclass(frozen=True, slots=True)
class Spent:
    """What one run of a client took: objects it put, its CPU seconds (user and system), wall seconds, and the CPU seconds
    of the simulator meanwhile.
    """

    objects: int
    cpu: float
    wall: float
    server_cpu: float = 0.0


@dataclass(frozen=True, slots=True)
class Slope:
    """What one more object costs, in seconds: CPU and wall time of the client, CPU of the simulator."""

    cpu: float
    wall: float
    server_cpu: float = 0.0


@dataclass(frozen=True, slots=True)
class Load:
    """What is put: objects of `size` bytes, `in_flight` at a time, behind a `latency` in seconds, over TLS or not."""

    size: int
    in_flight: int = 64
    latency: float = 0.0
    tls: bool = False

    @property
    def limit(self) -> float | None:
        """Objects per second that the latency allows."""
        return self.in_flight / self.latency if self.latency else None


@dataclass(frozen=True, slots=True)
class Figure:
    """What a peer reached under a load: the median of its runs, each of which has its slope.

    `cpu_us` is CPU microseconds per object of the client process, `objects` how many the shorter and the longer run put,
    `server_busy` the share of a core that the simulator used: near 1 it is what was measured.
    """

    section: str
    peer: str
    load: Load
    cpu_us: float
    objects_per_second: float
    cpu_us_runs: tuple[float, ...]
    wall_us_runs: tuple[float, ...]
    objects: tuple[int, int]
    server_busy: float

    @property
    def share(self) -> float | None:
        """How much of what the latency allows was reached, 0 to 1."""
        return self.objects_per_second / self.load.limit if self.load.limit else None


@dataclass(frozen=True, slots=True)
class StartUp:
    """What asyncup needs before the first object: `--version` in wall seconds, a sync of one row in CPU seconds."""

    version_seconds: float
    one_row_cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that one benchmark found, where, when and how."""

    date: str
    method: str
    machine: dict[str, Any]
    versions: dict[str, str]
    figures: tuple[Figure, ...]
    start_up: StartUp | None = None
    skipped: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Results:
        """The results in a file.

        Raises:
            ValueError: it is not such a file, or of another version.
        """
        try:
            if value["version"] != VERSION:
                raise ValueError(f"its version is {value['version']}, not {VERSION}")
            figures = tuple(
                Figure(
                    **{
                        **figure,
                        "load": Load(**figure["load"]),
                        **{name: tuple(figure[name]) for name in ("cpu_us_runs", "wall_us_runs", "objects")},
                    }
                )
                for figure in value["figures"]
            )
            start_up = value["start_up"] and StartUp(**value["start_up"])
            rest = {name: value[name] for name in ("date", "method", "machine", "versions", "skipped")}
            return cls(figures=figures, start_up=start_up, **rest)
        except (KeyError, TypeError) as exc:
            raise ValueError(f"these are not results of the benchmark: {exc!r}") from exc


def slope(few: Spent, many: Spent) -> Slope:
    """What the further objects of the longer run cost each.

    Raises:
        ValueError: there are none.
    """
    objects = many.objects - few.objects
    if objects <= 0:
        raise ValueError(f"{many.objects} objects are not more than {few.objects}")
    return Slope(
        (many.cpu - few.cpu) / objects,
        (many.wall - few.wall) / objects,
        (many.server_cpu - few.server_cpu) / objects,
    )


def objects_for(cost: Slope, *, cpu: float, wall: float, at_most: int) -> int:
    """How many objects it takes to use `cpu` seconds, but not more than `wall` seconds or `at_most` objects."""
    by_cpu = cpu / cost.cpu if cost.cpu > 0 else at_most
    by_wall = wall / cost.wall if cost.wall > 0 else at_most
    return max(1, int(min(by_cpu, by_wall, at_most)))


def figure(section: str, peer: str, load: Load, runs: Sequence[tuple[Spent, Spent]]) -> Figure:
    """The figure of some runs, each of them with few and with many objects.

    Raises:
        ValueError: more objects took no more time, so that nothing was measured.
    """
    slopes = [slope(few, many) for few, many in runs]
    cpu, wall = (statistics.median(values) for values in ([one.cpu for one in slopes], [one.wall for one in slopes]))
    if cpu <= 0 or wall <= 0:
        raise ValueError(f"{peer}: more objects took no more time; there is nothing to measure in {slopes}")
    few, many = runs[-1]
    return Figure(
        section=section,
        peer=peer,
        load=load,
        cpu_us=cpu * 1e6,
        objects_per_second=1 / wall,
        cpu_us_runs=tuple(one.cpu * 1e6 for one in slopes),
        wall_us_runs=tuple(one.wall * 1e6 for one in slopes),
        objects=(few.objects, many.objects),
        server_busy=statistics.median(one.server_cpu for one in slopes) / wall,
    )
