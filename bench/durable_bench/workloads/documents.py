"""Objects with a large state, all of which is written with each change."""

from __future__ import annotations

import base64
import random
from collections.abc import Awaitable, Iterator
from itertools import cycle
from typing import Any, ClassVar

from durable_bench.load import Sample
from durable_bench.objects import Document
from durable_bench.workloads.base import CALLS, BaseWorkload, in_portions
from durable_engine import Engine


class LargeState(BaseWorkload):
    """A small change to a large object."""

    group = "state"
    kilobytes: ClassVar[int]

    documents: list[Document]
    _next: Iterator[Document]

    async def prepare(self, engine: Engine) -> None:
        """Fill them with text that no store can compress."""
        await self.attach(engine)
        chance = random.Random(self.share.seed)

        def text() -> str:
            return base64.b64encode(chance.randbytes(self.kilobytes * 768)).decode()

        await in_portions((document.write(text()) for document in self.documents), at_once=16)

    async def attach(self, engine: Engine) -> None:
        """References, in this client's order."""
        self.engine = engine
        self.documents = [engine.at(Document, object_id) for object_id in self.ids()]
        start = self.share.client * len(self.documents) // self.share.clients
        self._next = cycle(self.documents[start:] + self.documents[:start])

    def operation(self) -> Awaitable[Any]:
        """The text stays as it is, and is written with the number beside it."""
        return next(self._next).touch()

    def settle(self, sample: Sample) -> None:
        """Each call is an edit."""
        self.ledger.sure[CALLS] += sample.calls
        self.ledger.booked(CALLS, sample.outcomes)

    async def verify(self) -> int:
        """The edits add up."""
        return self.ledger.check(self.name, CALLS, sum(await in_portions(one.get() for one in self.documents)))


class State1K(LargeState):
    """A page of text."""

    name = "state-1k"
    title = "changes to objects of 1 KB"
    kilobytes = 1


class State10K(LargeState):
    """A long letter."""

    name = "state-10k"
    title = "changes to objects of 10 KB"
    kilobytes = 10


class State100K(LargeState):
    """A book chapter; there are fewer of them, so that they fit into memory beside each other."""

    name = "state-100k"
    title = "changes to objects of 100 KB"
    kilobytes = 100
    objects = 100
    in_flight = 64
