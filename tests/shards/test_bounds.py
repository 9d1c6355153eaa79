"""Bounds: what waits and what is remembered has a limit, and past it callers hear Overloaded."""

from __future__ import annotations

import asyncio

import pytest

from durable_engine import DurableError, Overloaded
from tests.shards.hard_objects import Probe, gates
from tests.shards.harness import Harness, answered, settle


def overloaded(calls: list[asyncio.Future[object]]) -> int:
    """How many of these calls were turned away."""
    return sum(1 for call in calls if call.done() and isinstance(call.exception(), Overloaded))


async def test_an_object_at_rest_keeps_no_mailbox() -> None:
    """A queue in which nobody waits weighs as much as a small object; it is made anew when somebody has to."""
    async with Harness([Probe]) as h:
        await asyncio.gather(*(h.call(Probe, "a", "increment") for _ in range(3)))
        assert [act.queue for act in h.shard.directory.live()] == [None]


async def test_answers_that_wait_for_the_lease_are_bounded() -> None:
    """fault B2: while the store is away reads are run up to the bound, and no further."""
    async with Harness([Probe], gated_max=100) as h:
        await h.call(Probe, "a", "increment")
        h.world.go_away()
        await h.pass_time(10)
        reads = [h.call(Probe, "a", "get", timeout=60) for _ in range(1000)]
        await settle()
        assert overloaded(reads) >= 800


async def test_objects_that_wait_to_be_loaded_are_bounded() -> None:
    """fault B2: while the store is away new ids are taken up to the bound, and no further."""
    async with Harness([Probe], gated_max=100) as h:
        h.world.go_away()
        calls = [h.call(Probe, f"o{n}", "get", timeout=60) for n in range(1000)]
        await settle()
        assert overloaded(calls) >= 800


async def test_one_hot_object_does_not_fill_the_gate_for_all() -> None:
    """fault B6, D16: what waits for one object's commits is bounded by itself, so that its neighbours are served."""
    async with Harness([Probe], gated_max=2000) as h:
        await asyncio.gather(h.call(Probe, "hot", "get"), h.call(Probe, "cool", "get"))
        h.world.hold()
        hot = [h.call(Probe, "hot", "increment") for _ in range(3000)]
        await settle()
        cool = h.call(Probe, "cool", "increment")
        await settle()
        h.world.release()
        assert await answered(cool) == 1
        assert overloaded(hot) >= 1000


async def test_mistyped_prefixes_leave_nothing() -> None:
    """The tables of a tenant of whom nothing is in memory go with the next sweep."""
    async with Harness([Probe]) as h:
        before = len(h.shard.directory.tables())
        for n in range(200):
            with pytest.raises(DurableError):
                await h.call(Probe, "a", "no_such_handler", prefix=f"typo-{n}")
        h.shard.idle.sweep()
        assert len(h.shard.directory.tables()) == before


async def test_looking_at_objects_that_never_were_leaves_nothing() -> None:
    """Neither in memory nor among the objects whose idleness is watched."""
    async with Harness([Probe]) as h:
        for n in range(500):
            await h.call(Probe, f"never-{n}", "$state")
        assert h.shard.directory.counts() == (0, 0)
        assert sum(map(len, h.shard.idle._wheel.values())) == 0


async def test_ended_turns_leave_the_heap_of_deadlines() -> None:
    """A caller may allow a day: the deadline of a turn that ended long before is not kept for as long."""
    async with Harness([Probe]) as h:
        for _ in range(300):
            gates["a"].clear()
            call = h.call(Probe, "a", "wait", ["a"], timeout=86_400)
            await settle(3)
            gates["a"].set()
            await answered(call)
        assert len(h.shard.turns.deadlines) <= 200


async def test_large_results_under_keys_are_not_kept_in_memory() -> None:
    """Once committed they are looked up in the store, so they weigh nothing and are heard all the same."""
    async with Harness([Probe]) as h:
        await h.call(Probe, "a", "note", ["x" * 100_000])
        for n in range(20):
            await h.call(Probe, "a", "peek_log", key=f"k{n}")
        [live] = h.shard.directory.live()
        assert not live.keys
        assert await h.call(Probe, "a", "peek_log", key="k0") == ["x" * 100_000]
        assert h.shard.idle.estimate() < 300_000
