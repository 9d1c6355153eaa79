"""One shard over a memory world, with nothing between a test and the core: no socket, no process, no wall clock."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from durable_shards.clock import Clock, ManualClock
from durable_shards.deadline_scheduler import DeadlineScheduler
from durable_shards.peers import FuturePeer, detached
from durable_shards.registry import Registry
from durable_shards.schedulers import Scheduler
from durable_shards.shard import Shard
from durable_shards.shard_settings import ShardSettings
from durable_shards.wire import Call, Peer
from durable_storage.errors import DurableError
from durable_storage.memory import MemoryStore, MemoryWorld
from durable_storage.store import Claim


def claim(**changes: Any) -> Claim:
    """The claim of the only shard there is."""
    options: dict[str, Any] = {
        "host": "shard-0", "node": "test", "pid": 1, "address": "here", "shard": 0, "shards": 1, **changes,
    }  # fmt: skip
    return Claim(**options)


class ManyPeer(Peer):
    """One caller with many calls under way, as a socket client is; `Call.id` is the place of its future."""

    def __init__(self, futures: list[asyncio.Future[Any]]) -> None:
        self._futures = futures

    def encode(self, call: Call, version: int, result: Any) -> Any:
        return detached(result)

    def put(self, call: Call, encoded: Any) -> None:
        self._futures[call.id].set_result(encoded)

    def fail(self, call: Call, error: DurableError) -> None:
        self._futures[call.id].set_exception(error)


class Harness:
    """A shard, its world, and calls that resolve to futures. Calls travel as the wire would carry them."""

    def __init__(
        self,
        classes: Iterable[type],
        *,
        world: MemoryWorld | None = None,
        clock: Clock | None = None,
        store: MemoryStore | None = None,
        make_scheduler: Callable[[Shard], Scheduler] | None = None,
        **settings: Any,
    ) -> None:
        self.clock = clock or ManualClock()
        self.world = world or MemoryWorld(now=self.clock.now)
        self.stops: list[Exception] = []
        self.store = store or MemoryStore(self.world)
        self.shard = Shard(
            Registry.load(list(classes)),
            self.store,
            ShardSettings(**settings),
            clock=self.clock,
            caller=self,
            on_stop=self.stops.append,
            make_scheduler=make_scheduler,
        )
        self._ids = itertools.count(1)

    async def __aenter__(self) -> Harness:
        await self.shard.start(claim())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shard.close()

    def call(
        self,
        object_type: Any,
        object_id: str,
        handler: str,
        args: Iterable[Any] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        prefix: str = "",
        timeout: float = 5.0,
        key: str | None = None,
        flags: int = 0,
        chain: list[str] | None = None,
        trace: dict[str, str] | None = None,
    ) -> asyncio.Future[Any]:
        """Hand one call to the shard in the loop's next step, as a socket would."""
        name = object_type if isinstance(object_type, str) else object_type.__name__
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        call = Call(
            next(self._ids),
            name,
            object_id,
            handler,
            list(args),
            int(timeout * 1000),
            kwargs,
            prefix,
            key,
            flags,
            chain,
            trace,
        )
        asyncio.get_running_loop().call_soon(self.shard.receive, FuturePeer(future), [call])
        return future

    def together(self, *calls: Call) -> list[asyncio.Future[Any]]:
        """Hand several calls to the shard in one message; their ids are given here."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Any]] = [loop.create_future() for _ in calls]
        for number, call in enumerate(calls):
            call.id = number
        loop.call_soon(self.shard.receive, ManyPeer(futures), calls)
        return futures

    async def pass_time(self, seconds: float) -> None:
        """Move the manual clock and let what is due expire, outside of any task as the loop's timer would."""
        self.clock.advance(timedelta(seconds=seconds))  # type: ignore[union-attr]
        asyncio.get_running_loop().call_soon(self.shard.turns.deadlines.run_due)
        asyncio.get_running_loop().call_soon(self.scheduler.run_due)
        await settle()

    @property
    def scheduler(self) -> DeadlineScheduler:
        """What makes alarms fire."""
        assert self.shard.alarms is not None
        assert isinstance(self.shard.alarms.scheduler, DeadlineScheduler)
        return self.shard.alarms.scheduler


async def answered(future: asyncio.Future[Any]) -> Any:
    """The outcome of a call that needs no outside event any more: it hears at once, or it never will."""
    await settle(60)
    assert future.done(), "the call was never answered"
    return future.result()


async def settle(steps: int = 20) -> None:
    """Let everything happen that needs no outside event."""
    for _ in range(steps):
        await asyncio.sleep(0)
