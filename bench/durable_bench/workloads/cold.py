"""Objects that are stored and not in memory: what the first call of each costs."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sequence
from typing import Any

from durable_bench.errors import LostUpdate
from durable_bench.load import Exhausted
from durable_bench.objects import Counter
from durable_bench.workloads.base import BaseWorkload, in_portions
from durable_engine import Engine


class Cold(BaseWorkload):
    """Each object is read once in a repetition. The store's own caches are warm: it is no measurement of the disk."""

    name = "cold"
    title = "first reads of stored objects that are not in memory"
    objects = 20_000

    _own: Sequence[str]
    _next: Iterator[str] = iter(())

    async def prepare(self, engine: Engine) -> None:
        """Store them all, each with another change than none."""
        await self.attach(engine)
        await in_portions(engine.at(Counter, object_id).increment() for object_id in self.ids())

    async def attach(self, engine: Engine) -> None:
        """This client's part."""
        self.engine = engine
        self._own = self.own(self.ids())

    async def again(self) -> None:
        """Drop them all from memory."""
        await in_portions(self.engine.evict(Counter, object_id) for object_id in self._own)
        self._next = iter(self._own)

    def operation(self) -> Awaitable[Any]:
        """The next object's first call."""
        object_id = next(self._next, None)
        if object_id is None:
            raise Exhausted
        return self.engine.at(Counter, object_id).get()

    async def verify(self) -> int:
        """All are as they were stored."""
        counts = await in_portions(self.engine.at(Counter, object_id).get() for object_id in self.ids())
        if set(counts) != {1}:
            raise LostUpdate(f"{self.name}: each object was incremented once, but some show {sorted({*counts} - {1})}")
        return 0


class ColdStorm(Cold):
    """What a shard meets after its start, when everybody comes back."""

    name = "cold-storm"
    title = "first reads of stored objects that are not in memory, all at once"
    fixed = True

    @property
    def in_flight(self) -> int:  # type: ignore[override] # a property of those that are there
        """A caller for each object."""
        return self.objects
