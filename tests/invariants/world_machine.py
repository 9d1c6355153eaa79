"""What every machine over one shard and a memory world may do: break, hold and release commits, crash, take over."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from durable_shards.clock import ManualClock
from durable_storage.lease import LEASE_SECONDS
from durable_storage.memory import MemoryWorld
from durable_storage.store import Change
from tests.invariants.idle_time_loop import IdleTimeLoop
from tests.shards.harness import Harness, claim, settle

EXAMPLES_FACTOR = float(os.environ.get("DURABLE_EXAMPLES", "1"))
"""How many times the usual number of examples the machines are to run: for a night."""


def is_poison(change: Change) -> bool:
    """Whether the world refuses this change: its state says that it is poisoned."""
    return change.state is not None and bool(json.loads(change.state)["poisoned"])


class WorldMachine(RuleBasedStateMachine):
    """The rules that are the world's. A subclass calls `open_world` first, and adds clients and promises."""

    classes: Sequence[type]

    def open_world(self, world: type[MemoryWorld] = MemoryWorld) -> None:
        self.loop = IdleTimeLoop()
        self.clock = ManualClock()
        self.world = world(now=self.clock.now)
        self.world.refuse(is_poison)
        self.zombies: list[Harness] = []
        self.run(self.start_shard())

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    async def start_shard(self) -> None:
        self.harness = Harness(self.classes, world=self.world, clock=self.clock)
        await self.harness.shard.start(claim())

    async def close_shard(self, harness: Harness) -> None:
        await harness.shard.close()

    def shard_is_gone(self, crashed: Harness | None) -> None:
        """Called when the shard goes; `crashed` will never answer, a zombie may."""

    @rule(fault=st.sampled_from(["before", "after", "late"]))
    def break_a_commit(self, fault: Any) -> None:
        self.world.fail_next(fault)

    @rule()
    def hold_commits(self) -> None:
        self.world.hold()

    @rule()
    def release_commits(self) -> None:
        self.world.release()
        self.run(settle(30))

    @rule()
    def work(self) -> None:
        self.run(settle(30))

    @rule(seconds=st.sampled_from([0.02, 0.05, 0.5]))
    def idle(self, seconds: float) -> None:
        """Nothing happens but the loop's own timers: what has failed is tried again."""
        self.run(asyncio.sleep(seconds))

    @rule()
    def crash(self) -> None:
        """The process dies: nothing in flight of it reaches the store later, callers hear nothing."""
        self.run(self._crash())

    async def _crash(self) -> None:
        self.shard_is_gone(self.harness)
        self.world.release()
        await self.close_shard(self.harness)
        await self.start_shard()

    @rule()
    def freeze_and_thaw(self) -> None:
        """The process is stopped for less than anybody notices, and its lease runs out meanwhile."""
        self.clock.advance(timedelta(seconds=LEASE_SECONDS + 0.5))
        self.run(settle(30))

    @rule()
    def take_over(self) -> None:
        """The process is stopped, another takes over, and the first wakes up later: it may do no harm."""
        self.zombies.append(self.harness)
        self.shard_is_gone(None)
        # Whoever takes over a process that may be alive waits out its lease for reads.
        self.clock.advance(timedelta(seconds=LEASE_SECONDS))
        self.run(self.start_shard())

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.run(self._end())
            self.loop.close()

    async def _end(self) -> None:
        self.world.release()
        await settle(30)
        await self.finish()
        for harness in (*self.zombies, self.harness):
            await harness.shard.close()

    async def finish(self) -> None:
        """After the last fault: what must hold when everything works again."""
