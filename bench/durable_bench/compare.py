"""Two runs side by side: what has changed, and whether it is more than noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from durable_bench.results import Figure, Results


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of this run beside that of another."""

    what: str
    figure: str
    before: Figure
    after: Figure
    more_is_better: bool

    @property
    def ratio(self) -> float:
        """Of the medians, after / before."""
        return self.after.median / self.before.median if self.before.median else float("nan")

    @property
    def verdict(self) -> str:
        """`within the spread` when a repetition of the one run lies between those of the other."""
        if self.before.overlaps(self.after):
            return "within the spread"
        return "better" if (self.ratio > 1) == self.more_is_better else "worse"


def compare(after: Results, before: Results) -> list[Change]:
    """Every figure that both runs have, measured in the same way."""
    changes: list[Change] = []
    for new, old in _pairs(after.measurements, before.measurements):
        shards = "" if new.shards == 1 else f", shards: {new.shards}"
        what = f"{new.scenario}, {new.store}{shards}, {new.load}"
        changes.append(Change(what, "calls/s", old.rates, new.rates, more_is_better=True))
        for title, name in (("p50 ms", "p50_ms"), ("p99 ms", "p99_ms")):
            changes.append(Change(what, title, old.latency(name), new.latency(name), more_is_better=False))
    for later, earlier in _pairs(after.alarms, before.alarms):
        what = f"{later.scenario}, {later.store}, {later.alarms:,} alarms"
        changes.append(Change(what, "fired/s", earlier.rates, later.rates, more_is_better=True))
        late = (earlier.lateness("p99_ms"), later.lateness("p99_ms"))
        changes.append(Change(what, "late p99 ms", *late, more_is_better=False))
    for heavy, light in _pairs(after.memory, before.memory):
        what = f"{heavy.scenario}, {heavy.objects:,} objects"
        changes.append(Change(what, "bytes each", light.bytes_each, heavy.bytes_each, more_is_better=False))
    return changes


def _pairs(ours: Iterable[Any], theirs: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    known = {one.key: one for one in theirs}
    return ((one, known[one.key]) for one in ours if one.key in known)
