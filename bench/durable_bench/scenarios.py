"""What is measured. A scenario says which objects are called, how, and by how many callers at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from durable_bench.objects import Counter

Operation = Callable[[Counter], Awaitable[int]]


def increment(counter: Counter) -> Awaitable[int]:
    """A write: the reply comes after the commit is on disk."""
    return counter.increment()


def get(counter: Counter) -> Awaitable[int]:
    """A read: nothing is written."""
    return counter.get()


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    title: str
    operation: Operation
    objects: int
    in_flight: int
    """Callers, each waiting for its reply before it calls again."""
    floors: Mapping[str, int] = field(default_factory=dict)
    """Calls per second that the project holds itself to on two cores, by store."""

    @property
    def writes(self) -> bool:
        return self.operation is increment

    def ids(self) -> list[str]:
        """The objects, which belong to this scenario alone."""
        return [f"{self.name}-{number}" for number in range(self.objects)]


_WRITES = {"sqlite": 50_000, "postgres": 40_000}
_READS = {"sqlite": 120_000, "postgres": 120_000}
# 1 ms a call, median.
_ALONE = {"sqlite": 1_000, "postgres": 1_000}

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("spread", "increments over 1,000 objects", increment, 1_000, 256, _WRITES),
        Scenario("hot", "increments of one hot object", increment, 1, 256, _WRITES),
        Scenario("reads", "reads over 1,000 objects", get, 1_000, 256, _READS),
        Scenario("alone", "increments, one at a time", increment, 1, 1, _ALONE),
    )
}
