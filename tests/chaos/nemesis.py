"""Whoever does the harm, and remembers when."""

from __future__ import annotations

import inspect
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tests.chaos import faults, faults_database, faults_planned
from tests.chaos.rig import Rig, now

SOON_SECONDS = 1.0
"""A shard that dies so soon again is restarted with a delay that grows: that is reported by itself."""

Fault = Callable[["Nemesis", random.Random], None]


class Work(Protocol):
    """What the nemesis wants of the clients at work."""

    def advance(self, by: int) -> None:
        """Until so many more operations were acknowledged."""

    def visit(self) -> None:
        """Have somebody write who meets the server that serves now."""

    def until_heard(self) -> None:
        """Until each shard has answered somebody anew."""


@dataclass(frozen=True)
class Strike:
    """One fault that struck."""

    kind: str
    counts_for: str
    shards: tuple[int, ...]
    """Whose clients had to wait."""
    at: float
    """On the clock of histories."""
    replaces: bool = False
    """Only another incarnation of the shard is its recovery."""


class Nemesis:
    """Does the faults of a plan to a rig."""

    def __init__(self, rig: Rig, work: Work) -> None:
        self.rig = rig
        self.work = work
        self.strikes: list[Strike] = []
        self.dealt: dict[str, int] = {}
        """Every fault that was to be done, by its name: how often it struck."""
        self.counts: Counter[str] = Counter()
        """Kills, stops, restarts and cuts."""
        self._number = 0
        self._killed: dict[int, float] = {}
        """Shard: when it was last killed."""

    def do(self, name: str, chance: random.Random) -> None:
        """One fault, from the harm to the recovery, and a moment of calm. AssertionError when it did not strike."""
        self.dealt.setdefault(name, 0)
        self.rig.until_settled()
        before = len(self.strikes)
        FAULTS[name](self, chance)
        assert len(self.strikes) > before, f"{name} did not strike"
        self.dealt[name] += len(self.strikes) - before
        self.work.until_heard()
        self.work.advance(chance.randint(10, 200))

    def number(self) -> int:
        """Another one each time."""
        self._number += 1
        return self._number

    def note(
        self, kind: str, counts_for: str = "", *shards: int, at: float | None = None, replaces: bool = False
    ) -> None:
        """A fault struck, just now. The times of recovery of these `shards` are reported."""
        self.strikes.append(Strike(kind, counts_for, shards, now() if at is None else at, replaces))
        if counts_for:
            self.counts[counts_for] += 1

    def strike(self, kind: str, pid: int, number: int, counts_for: str = "", *shards: int, replaces: bool) -> None:
        """Send a signal."""
        assert pid > 0
        at = now()
        os.kill(pid, number)
        self.note(kind, counts_for, *shards, at=at, replaces=replaces)

    def kill(self, shard: int, pid: int = 0, *, kind: str = "kill") -> int:
        """Kill -9 of a shard; its process id."""
        last, self._killed[shard] = self._killed.get(shard, 0.0), now()
        if kind == "kill" and now() - last < SOON_SECONDS:
            kind = "kill soon after another"
        return self._signal(shard, pid, signal.SIGKILL, kind, "kills", replaces=True)

    def stop(self, shard: int, *, kind: str, replaces: bool = False) -> int:
        """SIGSTOP of a shard; its process id."""
        return self._signal(shard, 0, signal.SIGSTOP, kind, "stops", replaces=replaces)

    def go_on(self, pid: int) -> None:
        """SIGCONT, if it is still there."""
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass

    def _signal(self, shard: int, pid: int, number: int, kind: str, counts_for: str, *, replaces: bool) -> int:
        while True:
            pid = pid or self.rig.process(shard)
            try:
                self.strike(kind, pid, number, counts_for, shard, replaces=replaces)
            except ProcessLookupError:  # of its own accord, since it was looked up
                pid = 0
            else:
                return pid


def _faults_of(module: object) -> dict[str, Fault]:
    found = inspect.getmembers(module, inspect.isfunction)
    return {name: function for name, function in found if _is_fault(function)}


def _is_fault(function: Callable[..., object]) -> bool:
    return list(inspect.signature(function).parameters) == ["nemesis", "chance"]


FAULTS: dict[str, Fault] = _faults_of(faults) | _faults_of(faults_database) | _faults_of(faults_planned)
