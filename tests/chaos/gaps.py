"""How long service was away, as clients saw it."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate, pairwise
from typing import NamedTuple

from durable_storage.address import partition_of, partitions_of_shard
from durable_storage.limits import PARTITIONS
from tests.chaos.records import History

NEVER = float("inf")


class Strike(NamedTuple):
    """A fault that hit a shard."""

    at: float
    """CLOCK_MONOTONIC."""
    shard: int
    kind: str
    is_restart: bool
    """The shard was replaced: only its successor counts as service."""


class Service:
    """When one shard was heard."""

    def __init__(self) -> None:
        self._invoked = array("d")
        self._answered = array("d")
        self._first_of: dict[int, float] = {}
        """Incarnation: its first answer."""

    def add(self, invoked: float, answered: float, epoch: int) -> None:
        """A success."""
        self._invoked.append(invoked)
        self._answered.append(answered)
        self._first_of[epoch] = min(self._first_of.get(epoch, NEVER), answered)

    def seal(self) -> None:
        """All were added: from here on, `_answered[n]` is the first answer to what began at `_invoked[n]` or later."""
        order = sorted(range(len(self._invoked)), key=self._invoked.__getitem__)
        self._invoked = array("d", (self._invoked[each] for each in order))
        answers = (self._answered[each] for each in reversed(order))
        self._answered = array("d", accumulate(answers, min))
        self._answered.reverse()

    def after(self, strike: Strike) -> float:
        """Seconds to the next success; NEVER if there was none."""
        if strike.is_restart:
            begun = int(strike.at * 1e9)
            return min((first for epoch, first in self._first_of.items() if epoch > begun), default=NEVER) - strike.at
        place = bisect_left(self._invoked, strike.at)
        return (self._answered[place] if place < len(self._answered) else NEVER) - strike.at


def recoveries(history: History, strikes: Iterable[Strike], shards: int) -> dict[str, list[float]]:
    """Kind of fault: seconds from each strike to the next success on its shard, sorted; NEVER where there was none."""
    services = services_of(history, shards)
    found: dict[str, list[float]] = {}
    for strike in strikes:
        found.setdefault(strike.kind, []).append(services[strike.shard].after(strike))
    return {kind: sorted(seconds) for kind, seconds in found.items()}


def services_of(history: History, shards: int) -> list[Service]:
    """By shard; every success counts."""
    services = [Service() for _ in range(shards)]
    owners = [shard for shard in range(shards) for _ in partitions_of_shard(shard, shards)]
    assert len(owners) == PARTITIONS
    for name, ops in history:
        cls, _, object_id = name.partition("/")
        service = services[owners[partition_of("", cls, object_id)]]
        for op in ops:
            if op.outcome == "ok" and op.answered is not None:
                service.add(op.invoked, op.answered, op.epoch)
    for service in services:
        service.seal()
    return services


def longest_gaps(history: History) -> dict[str, float]:
    """Kind of operation: the longest time in which none of them was answered with success, in seconds."""
    answered: dict[str, array[float]] = {}
    for _, ops in history:
        for op in ops:
            if op.outcome == "ok" and op.answered is not None:
                answered.setdefault(op.kind, array("d")).append(op.answered)
    return {
        kind: max((later - earlier for earlier, later in pairwise(sorted(times))), default=0.0)
        for kind, times in answered.items()
    }
