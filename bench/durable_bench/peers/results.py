"""What the turns of all peers gave: rates, their ratios turn by turn, and whether what was acknowledged was found."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from durable_bench.peers.workers.load import Load, Outcome


@dataclass(frozen=True, slots=True)
class Measured:
    """One load of one turn."""

    turn: int
    outcome: Outcome
    servers_cpu_seconds: float
    """Processor time that the peer's processes took meanwhile."""


@dataclass(frozen=True, slots=True)
class Key:
    """What is compared between peers."""

    scenario: str
    callers: int


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the turns."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    @property
    def half(self) -> float:
        """Half the distance from lowest to highest, as a part of the median."""
        return (self.highest - self.lowest) / 2 / self.median if self.median else 0.0


@dataclass(slots=True)
class Books:
    """What was acknowledged, by the prefix of the ids, and what was found when the peer was asked afterwards.

    The ids of `spread`, `hot` and `alone` keep counting from turn to turn, so that what is found in a turn also came
    through the restarts before it.
    """

    acknowledged: Counter[str] = field(default_factory=Counter)
    doubtful: Counter[str] = field(default_factory=Counter)
    """Adds that failed: they may have had an effect, or not."""
    ids: dict[str, int] = field(default_factory=dict)
    """How many ids of the prefix were used."""
    found: dict[str, int] = field(default_factory=dict)
    """At the last look."""

    def enter(self, load: Load, outcome: Outcome) -> None:
        """An `add` load is over."""
        self.acknowledged[load.prefix] += outcome.calls
        self.doubtful[load.prefix] += outcome.failed
        self.ids[load.prefix] = max(self.ids.get(load.prefix, 0), outcome.ids_used)
        self.found.pop(load.prefix, None)  # of before: a turn that breaks off before the next look accuses nobody

    @property
    def lost(self) -> int:
        """Acknowledged adds that were not found."""
        return sum(max(0, self.acknowledged[prefix] - found) for prefix, found in self.found.items())

    @property
    def surplus(self) -> int:
        """Adds that were found, but neither acknowledged nor in doubt: done twice."""
        return sum(
            max(0, found - self.acknowledged[prefix] - self.doubtful[prefix]) for prefix, found in self.found.items()
        )

    @property
    def verified(self) -> int:
        """Acknowledged adds of the prefixes that were looked at."""
        return sum(self.acknowledged[prefix] for prefix in self.found)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a peer; syncs for each acknowledged add."""

    alone: float = 0.0
    """With one caller."""
    together: float = 0.0
    """With many."""
    callers: int = 0
    """How many those are."""
    reason: str | None = None
    """Why it was not watched."""

    def __str__(self) -> str:
        if self.reason is not None:
            return f"not watched: {self.reason}"
        if self.alone >= 1:
            verdict = "synced before each reply"
        elif self.alone > 0:
            verdict = "NOT SYNCED BEFORE EACH REPLY"
        else:
            verdict = "NOT SYNCED"
        return f"seen: {verdict}: {self.alone:.2f} syncs an add, {self.together:.2f} with {self.callers} callers"


@dataclass(frozen=True, slots=True)
class Killed:
    """What was found after all processes of a peer were killed with -9 in the middle of adds."""

    acknowledged: int = 0
    doubtful: int = 0
    """Adds that failed: they may have had an effect, or not."""
    found: int = 0
    reason: str | None = None
    """Why there is no verdict."""

    @property
    def lost(self) -> int:
        """Acknowledged adds that were not found."""
        return max(0, self.acknowledged - self.found)

    @property
    def surplus(self) -> int:
        """Adds that were found, but neither acknowledged nor in doubt."""
        return max(0, self.found - self.acknowledged - self.doubtful)

    def __str__(self) -> str:
        if self.reason is not None:
            return f"kill -9: no verdict: {self.reason}"
        kept = f"LOST {self.lost:,}" if self.lost else "lost none"
        return f"kill -9: {kept} of {self.acknowledged:,} acknowledged adds, {self.surplus:,} done twice"


@dataclass(slots=True)
class PeerResult:
    """Everything about one peer."""

    name: str
    durability: str
    packages: Mapping[str, str]
    series: dict[Key, list[Measured]] = field(default_factory=dict)
    books: Books = field(default_factory=Books)
    unavailable: str | None = None
    """Why it could not be installed or started, or where it stopped."""
    seen: Seen | None = None
    killed: Killed | None = None

    def spread(self, key: Key, of: Callable[[Measured], float]) -> Spread | None:
        """Any figure over the turns; None when this was not measured."""
        values = [of(one) for one in self.series.get(key, ())]
        return Spread.of(values) if values else None


def per_second(one: Measured) -> float:
    """Acknowledged calls a second."""
    return one.outcome.per_second


def ratios(ours: PeerResult, peer: PeerResult, key: Key) -> Spread | None:
    """How many times as many calls a second `ours` answered, over the turns that both had; None when there was none."""
    of_peer = {one.turn: one.outcome.per_second for one in peer.series.get(key, ())}
    values = [
        one.outcome.per_second / of_peer[one.turn] for one in ours.series.get(key, ()) if of_peer.get(one.turn, 0) > 0
    ]
    return Spread.of(values) if values else None
