"""Counters called in different ways: the smallest object that changes, so that what is measured is the engine."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from itertools import cycle
from typing import Any, ClassVar

from durable_bench.load import Sample
from durable_bench.objects import Counter
from durable_bench.workloads.base import CALLS, BaseWorkload, in_portions, stored_ids
from durable_bench.workloads.choices import coin, zipfian
from durable_engine import Engine

_WRITES = {"sqlite": 50_000, "postgres": 40_000}
_READS = {"sqlite": 120_000, "postgres": 120_000}


class Spread(BaseWorkload):
    """Increments over all objects, one after the other."""

    name = "spread"
    title = "increments over 1,000 objects"
    floors: ClassVar = _WRITES

    counters: list[Counter]
    _next: Iterator[Counter]

    async def prepare(self, engine: Engine) -> None:
        """Each object is read once, so that none has to be loaded later."""
        await self.attach(engine)
        await self.total()

    async def attach(self, engine: Engine) -> None:
        """References, in this client's order."""
        self.engine = engine
        self.counters = [engine.at(Counter, object_id) for object_id in self.ids()]
        self._next = self.order()

    def order(self) -> Iterator[Counter]:
        """Which object is called next."""
        start = self.share.client * len(self.counters) // self.share.clients
        return cycle(self.counters[start:] + self.counters[:start])

    def operation(self) -> Awaitable[Any]:
        """A write: the reply comes after the commit is on disk."""
        return next(self._next).increment()

    def settle(self, sample: Sample) -> None:
        """Each call is an increment."""
        self.ledger.sure[CALLS] += sample.calls
        self.ledger.booked(CALLS, sample.outcomes)

    async def total(self) -> int:
        """What all objects have counted."""
        return sum(await in_portions(counter.get() for counter in self.counters))

    async def verify(self) -> int:
        """The counts add up to the acknowledged increments."""
        return self.ledger.check(self.name, CALLS, await self.total())


class Hot(Spread):
    """All callers want the same object."""

    name = "hot"
    title = "increments of one hot object"
    objects = 1


class Alone(Spread):
    """Nobody else calls: the latency of a call and its commit."""

    name = "alone"
    title = "increments, one at a time"
    objects = 1
    in_flight = 1
    fixed = True
    # 1 ms a call, median.
    floors: ClassVar = {"sqlite": 1_000, "postgres": 1_000}


class Zipf(Spread):
    """Some objects are wanted much more often than others, as in most services."""

    name = "zipf"
    title = "increments over 1,000 objects, Zipf 0.99"
    floors: ClassVar = {}

    def order(self) -> Iterator[Counter]:
        """By the seed."""
        counters = self.counters
        return (counters[rank] for rank in zipfian(len(counters), self.share.own_seed))


class Keys(Spread):
    """The client makes a key for each call, and the first result is stored under it."""

    name = "keys"
    title = "increments over 1,000 objects, exactly once"
    exactly_once = True
    floors: ClassVar = {}


class EmbeddedSpread(Spread):
    """No process and no socket between caller and object."""

    name = "embedded"
    title = "increments over 1,000 objects in this process"
    embedded = True
    floors: ClassVar = {}


class Reads(Spread):
    """Nothing is written."""

    name = "reads"
    title = "reads over 1,000 objects"
    floors: ClassVar = _READS

    def operation(self) -> Awaitable[Any]:
        """A read of an object that has no commit under way waits for nothing."""
        return next(self._next).get()

    def settle(self, sample: Sample) -> None:
        """There is nothing to book."""


class EmbeddedReads(Reads):
    """No process and no socket between caller and object."""

    name = "embedded-reads"
    title = "reads over 1,000 objects in this process"
    embedded = True
    floors: ClassVar = {}


class Mixed(Spread):
    """Every other call, by the toss of a coin, is a read; it waits for the writes to its object before it."""

    name = "mixed"
    title = "reads and increments 50/50 over 1,000 objects"
    floors: ClassVar = {}

    async def attach(self, engine: Engine) -> None:
        """The coin is seeded."""
        await super().attach(engine)
        self._writes = coin(0.5, self.share.own_seed)

    def operation(self) -> Awaitable[Any]:
        """A read or an increment."""
        counter = next(self._next)
        return self.counted(CALLS, counter.increment()) if next(self._writes) else counter.get()

    def settle(self, sample: Sample) -> None:
        """`counted` has done it."""


class New(Spread):
    """Each call makes an object."""

    name = "new"
    title = "increments of ids that were never called"
    floors: ClassVar = {}
    _calls = 0

    async def prepare(self, engine: Engine) -> None:
        """Nothing is there yet."""
        await self.attach(engine)

    async def attach(self, engine: Engine) -> None:
        """Nothing to refer to either."""
        self.engine = engine

    @property
    def _beginning(self) -> str:
        return f"new-{self.share.run}-"

    def operation(self) -> Awaitable[Any]:
        """The first call of an object looks into the store whether there is one."""
        self._calls += 1
        return self.engine.at(Counter, f"{self._beginning}{self.share.client}-{self._calls}").increment()

    async def total(self) -> int:
        """What the objects that are stored now have counted."""
        ids = await stored_ids(self.engine, Counter, self._beginning)
        return sum(await in_portions(self.engine.at(Counter, object_id).get() for object_id in ids))
