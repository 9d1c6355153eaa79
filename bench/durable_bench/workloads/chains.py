"""Objects that call objects: wide and deep."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from itertools import cycle
from typing import Any, ClassVar, Final

from durable_bench.load import Sample
from durable_bench.objects import Counter, Hub, Link
from durable_bench.workloads.base import BaseWorkload, in_portions
from durable_engine import Engine

WIDTH: Final = 8
DEPTH: Final = 4
ROUNDS: Final = "rounds"
PARTS: Final = "calls between objects"


class FanOut(BaseWorkload):
    """A hub increments eight counters at once, waits for all of them, and changes itself."""

    name = "fan-out"
    title = f"calls of objects that call {WIDTH} others at once"
    group = "chains"
    objects = 250
    in_flight = 64
    parts: ClassVar[int] = WIDTH

    _calls: Iterator[tuple[Any, list[str]]]

    async def prepare(self, engine: Engine) -> None:
        """None has to be loaded later."""
        await self.attach(engine)
        await self.totals()

    async def attach(self, engine: Engine) -> None:
        """References, in this client's order."""
        self.engine = engine
        calls = [(self.first(object_id), self.others(object_id)) for object_id in self.ids()]
        start = self.share.client * len(calls) // self.share.clients
        self._calls = cycle(calls[start:] + calls[:start])

    def first(self, object_id: str) -> Any:
        """What is called from outside."""
        return self.engine.at(Hub, object_id)

    def others(self, object_id: str) -> list[str]:
        """What it calls."""
        return [f"{object_id}-{number}" for number in range(self.parts)]

    def operation(self) -> Awaitable[Any]:
        """One call from outside, and as many between objects as there are parts."""
        hub, counters = next(self._calls)
        answer: Awaitable[Any] = hub.fan_out(counters)
        return answer

    def settle(self, sample: Sample) -> None:
        """What an object called before it failed may have happened."""
        self.ledger.sure[ROUNDS] += sample.calls
        self.ledger.booked(ROUNDS, sample.outcomes)
        self.ledger.sure[PARTS] += sample.calls * self.parts
        self.ledger.maybe[PARTS] += sum(sample.errors.values()) * self.parts

    async def totals(self) -> tuple[int, int]:
        """Rounds of the first ones, and changes of the others."""
        ids = self.ids()
        rounds = await in_portions(self.engine.at(Hub, object_id).get() for object_id in ids)
        others = [other for object_id in ids for other in self.others(object_id)]
        return sum(rounds), sum(await in_portions(self.engine.at(Counter, other).get() for other in others))

    async def verify(self) -> int:
        """Both kinds of objects show what was acknowledged."""
        rounds, parts = await self.totals()
        return self.ledger.check(self.name, ROUNDS, rounds) + self.ledger.check(self.name, PARTS, parts)


class Chain(FanOut):
    """Each of four objects waits for the one behind it: four commits, one after the other."""

    name = "chain"
    title = f"calls of objects that call each other in a row of {DEPTH}"
    parts = DEPTH - 1

    def first(self, object_id: str) -> Any:
        """The head of a row."""
        return self.engine.at(Link, object_id)

    def operation(self) -> Awaitable[Any]:
        """One call from outside, which the row passes on."""
        head, behind = next(self._calls)
        answer: Awaitable[Any] = head.pass_on(behind)
        return answer

    async def totals(self) -> tuple[int, int]:
        """Of the heads, and of those behind them."""
        ids = self.ids()
        behind = [other for object_id in ids for other in self.others(object_id)]
        heads, others = ([self.engine.at(Link, one).get for one in each] for each in (ids, behind))
        return sum(await in_portions(get() for get in heads)), sum(await in_portions(get() for get in others))
