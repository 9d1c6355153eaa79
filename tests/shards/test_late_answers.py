"""Answers of the store that come long after it has committed: who may be told of such a commit, and who may not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from durable_shards.clock import ManualClock
from durable_storage.lease import LEASE_SECONDS
from durable_storage.memory import MemoryStore, MemoryWorld
from durable_storage.store import Change
from tests.shards.harness import Harness, settle
from tests.shards.objects import Counter

PAST_LEASE = timedelta(seconds=LEASE_SECONDS + 1)


class SlowToAnswer(MemoryStore):
    """Commits at once, and says so when the door is open."""

    def __init__(self, world: MemoryWorld) -> None:
        super().__init__(world)
        self.door = asyncio.Event()
        self.door.set()

    async def commit(self, changes: Sequence[Change]) -> dict[int, Exception]:
        """As it is told, later."""
        refused = await super().commit(changes)
        await self.door.wait()
        return refused


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> SlowToAnswer:
    return SlowToAnswer(MemoryWorld(now=clock.now))


async def test_a_read_does_not_leave_with_a_commit_of_before_the_takeover(
    clock: ManualClock, store: SlowToAnswer
) -> None:
    """fault A7: a zombie hears that its batch was taken; who called it since then hears nothing of what was true then.

    The owner was stopped between the commit and its answer, and replaced; the next one has counted on.
    """
    async with Harness([Counter], world=store.world, clock=clock, store=store) as old:
        assert await old.call(Counter, "a", "increment") == 1
        store.door.clear()
        written = old.call(Counter, "a", "increment", timeout=60)
        await settle()
        clock.advance(PAST_LEASE)
        async with Harness([Counter], world=store.world, clock=clock) as new:
            assert await new.call(Counter, "a", "increment") == 3

            read = old.call(Counter, "a", "get", timeout=60)
            await settle()
            store.door.set()
            await settle(60)

            assert await written == 2
            assert not read.done(), f"the zombie told {read.result()}"
            assert old.stops


async def test_a_read_that_joined_a_slow_commit_is_answered_by_the_owner(
    clock: ManualClock, store: SlowToAnswer
) -> None:
    """Once the store has said that the ownership is still the same."""
    async with Harness([Counter], world=store.world, clock=clock, store=store) as h:
        store.door.clear()
        written = h.call(Counter, "a", "increment", timeout=60)
        await settle()
        clock.advance(PAST_LEASE)
        read = h.call(Counter, "a", "get", timeout=60)
        await settle()
        assert not read.done()

        store.door.set()

        assert await written == 1
        assert await read == 1
        assert h.shard.gate.lease.holds == 1
        assert h.shard.gate.waiting == 0


async def test_reads_during_a_commit_of_the_usual_length_leave_with_it(clock: ManualClock, store: SlowToAnswer) -> None:
    """The commit itself has just confirmed the ownership: nobody is asked once more."""
    async with Harness([Counter], world=store.world, clock=clock, store=store) as h:
        store.door.clear()
        written = h.call(Counter, "a", "increment", timeout=60)
        await settle()
        read = h.call(Counter, "a", "get", timeout=60)
        await settle()

        store.door.set()

        assert (await written, await read) == (1, 1)
        assert h.shard.gate.lease.holds == 0
