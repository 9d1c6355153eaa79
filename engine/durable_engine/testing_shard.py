"""The shard of a test: it can die at once, tells whether anything in it moves, and learns of classes by their use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from durable_shards.activation import Activation
from durable_shards.errors import EngineClosed
from durable_shards.handler import Handler
from durable_shards.outbound import Caller, ObjectEngine
from durable_shards.shard import Shard
from durable_shards.spec import ClassSpec, spec_of

Learn = Callable[[ClassSpec], None]


class MortalShard(Shard):
    """A `Shard` as far as its objects can tell."""

    def __init__(self, *args: Any, learn: Learn, **options: Any) -> None:
        super().__init__(*args, **options)
        self._learn = learn

    def _engine_for(self, act: Activation) -> Any:
        assert self._caller is not None, "the shards of tests are given one"
        return _LearningEngine(self._learn, act, self._caller, self.gate, self.clock)

    @property
    def moves(self) -> bool:
        """Whether anything is under way that ends by itself: a load, a commit, an answer that waits for them."""
        if self.stopped is not None:
            return False
        return bool(self.gate.waiting) or any(act.newest or act.paused for act in self.directory.live())

    async def movement(self) -> None:
        """Wait until some of it has ended."""
        self.gate.moved.clear()
        await self.gate.moved.wait()

    def die(self) -> None:
        """Nothing is run, written or answered any more, as if this had been a process. `close` then frees the rest.

        Turns that wait are cancelled: what their handlers do about it happens, but reaches nobody.
        """
        self.draining = self.closed = True
        self.stopped = EngineClosed("this shard was made to crash")
        if isinstance(self._caller, Outlet):
            self._caller.is_cut = True
        self.writer.abandon()
        self.loader.close()
        self.gate.lease.close()
        self.turns.deadlines.close()
        for act in self.directory.live():
            for turn in act.suspended:
                if turn.work is not None:
                    turn.work.cancel()
        self.gate.moved.set()


class Outlet:
    """The way from the objects of one shard to others, until that shard dies."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.is_cut = False

    def call(self, *args: Any, **options: Any) -> asyncio.Future[Any]:
        """See `Caller`."""
        if self.is_cut:
            raise EngineClosed("the shard that this call comes from is dead")
        return self._caller.call(*args, **options)


class _LearningEngine(ObjectEngine):
    """`self.engine` in the handlers: classes that are called need not have been listed."""

    def __init__(self, learn: Learn, *args: Any) -> None:
        super().__init__(*args)
        self._learn = learn

    async def call(self, handler: Handler[Any, Any], object_id: str, *args: Any, **options: Any) -> Any:
        """See `ObjectEngine`."""
        self._learn(spec_of(handler.owner))
        return await super().call(handler, object_id, *args, **options)

    def send(self, handler: Handler[Any, Any], object_id: str, *args: Any, **options: Any) -> None:
        """See `ObjectEngine`."""
        self._learn(spec_of(handler.owner))
        super().send(handler, object_id, *args, **options)
