"""A load, and what came of it: the words of the pipe between the harness and a worker. Standard library alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any


@dataclass(frozen=True, slots=True)
class Load:
    """So many callers, each waiting for its reply before it calls again, for so many seconds."""

    operation: str
    """`add`: count up by one, acknowledged when it is durable. `read`: ask for the count."""
    prefix: str
    """Ids are the prefix with a number behind it."""
    count: int
    """How many ids there are, called in turn."""
    callers: int
    seconds: float
    once: bool = False
    """Whether each id is called once: the load ends early when none is left."""

    def id(self, number: int) -> str:
        """The id of a number from 0 to `count` - 1."""
        return f"{self.prefix}{number}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a load."""

    calls: int
    """Answered, and for `add` so acknowledged."""
    seconds: float
    """Until the last call was answered."""
    latency_us: Mapping[int, int]
    """From send to reply, in microseconds with three significant digits, to how many calls."""
    driver_cpu_seconds: float
    """Processor time of the worker itself. Near `seconds` (one core) it is the worker that was measured."""
    errors: Mapping[str, int] = field(default_factory=dict)
    """What calls failed with, to how many: whether those had an effect is not known."""
    ids_used: int = 0
    """The ids from 0 to here were called at least once."""

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Outcome:
        """From a worker's line. Raises KeyError or ValueError when it is none."""
        return cls(
            calls=int(read["calls"]),
            seconds=float(read["seconds"]),
            latency_us={int(us): int(calls) for us, calls in read["latency_us"].items()},
            driver_cpu_seconds=float(read["driver_cpu_seconds"]),
            errors={str(error): int(calls) for error, calls in read["errors"].items()},
            ids_used=int(read["ids_used"]),
        )

    @property
    def per_second(self) -> float:
        return self.calls / self.seconds

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    def percentile_ms(self, rank: float) -> float:
        """The latency that `rank` (0 to 1) of the calls did not exceed, in milliseconds; 0 when there were none."""
        left = max(1, ceil(rank * sum(self.latency_us.values())))
        for us, calls in sorted(self.latency_us.items()):
            left -= calls
            if left <= 0:
                return us / 1e3
        return 0.0


def histogram_us(seconds: Iterable[float]) -> dict[int, int]:
    """Latencies in seconds as `Outcome.latency_us`: exact to half a percent, and small on the pipe."""
    counts: dict[int, int] = {}
    for one in seconds:
        us = max(1, round(one * 1e6))
        step = 10 ** max(0, len(str(us)) - 3)
        rounded = round(us / step) * step
        counts[rounded] = counts.get(rounded, 0) + 1
    return counts
