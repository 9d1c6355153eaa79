"""Hibernation, shutdown, the memory budget, and the administrative calls."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tests.shards.alarm_objects import Bell
from tests.shards.harness import Harness, settle
from tests.shards.objects import Counter


def pass_time(h: Harness, seconds: float) -> None:
    """Let idle objects grow idler."""
    h.clock.advance(timedelta(seconds=seconds))  # type: ignore[union-attr]
    h.shard.idle.sweep()


async def test_an_idle_object_hibernates_and_wakes_without_the_store() -> None:
    """parity 15, 68: after hibernate_after only its bytes are kept, and waking needs no load."""
    async with Harness([Counter]) as h:
        await h.call(Counter, "a", "increment", [3])
        pass_time(h, 12)
        assert h.shard.directory.counts() == (0, 1)
        loads = h.shard.loader.loads
        assert await h.call(Counter, "a", "increment", timeout=60) == 4
        assert h.shard.loader.loads == loads
        assert h.shard.directory.counts() == (1, 0)


async def test_many_objects_that_are_idle_at_once_leave_room_for_calls() -> None:
    """The sweep goes on in portions, between which the loop turns."""
    async with Harness([Counter]) as h:
        await asyncio.gather(*(h.call(Counter, f"{n}", "increment") for n in range(2500)))
        h.clock.advance(timedelta(seconds=12))  # type: ignore[union-attr]
        loop = asyncio.get_running_loop()
        seen = []
        for _ in range(3):
            h.shard.idle.close()  # its timer: the test ticks
            h.shard.idle._tick(loop)
            seen.append(h.shard.directory.counts()[1])
        assert seen == [1000, 2000, 2500]


async def test_each_call_puts_hibernation_off() -> None:
    """parity 69: an object that is used stays."""
    async with Harness([Counter]) as h:
        for _ in range(5):
            await h.call(Counter, "a", "increment", timeout=60)
            pass_time(h, 6)
            assert h.shard.directory.counts() == (1, 0)


@pytest.mark.parametrize("look", ["$state", "$where", "$pending", "$alarms"])
async def test_looking_at_an_object_does_not_keep_it_in_memory(look: str) -> None:
    """parity 69: live or hibernated, it leaves when nobody has called it for long, however often it is looked at."""
    async with Harness([Counter]) as h:
        await h.call(Counter, "a", "increment", [3])
        for _ in range(12):
            assert h.shard.idle.evicted == 0
            await h.call(Counter, "a", look, timeout=60)
            pass_time(h, 5)
        assert h.shard.idle.evicted == 1


async def test_an_object_idle_for_long_is_forgotten_and_loaded_again() -> None:
    """parity 16, 69: after shutdown_after nothing is left in memory, and nothing is lost."""
    async with Harness([Counter]) as h:
        await h.call(Counter, "a", "increment", [3])
        pass_time(h, 12)
        pass_time(h, 61)
        assert h.shard.directory.counts() == (0, 0)
        assert await h.call(Counter, "a", "get", timeout=60) == 3


async def test_an_object_with_an_uncommitted_turn_does_not_sleep() -> None:
    """Only clean objects leave memory."""
    async with Harness([Counter]) as h:
        await h.call(Counter, "a", "increment")
        h.world.hold()
        late = h.call(Counter, "a", "increment", timeout=600)
        await settle()
        pass_time(h, 100)
        assert h.shard.directory.counts() == (1, 0)
        h.world.release()
        assert await late == 2


async def test_above_the_budget_the_longest_idle_go_first() -> None:
    """fault F4: the rest stays in memory."""
    async with Harness([Counter], memory_bytes_max=100_000) as h:
        for number in range(50):
            await asyncio.gather(*(h.call(Counter, f"{number}-{n}", "increment", timeout=600) for n in range(4)))
            h.clock.advance(timedelta(milliseconds=10))  # type: ignore[union-attr]
        h.shard.idle.sweep()
        live, asleep = h.shard.directory.counts()
        assert live + asleep < 200
        assert h.shard.idle.estimate() <= 100_000
        table = h.shard.directory.default["Counter"]
        assert "49-0" in table.live
        assert "0-0" not in table.live
        assert await h.call(Counter, "0-0", "get", timeout=600) == 1


async def test_alarms_count_as_memory() -> None:
    """Those of an object are held with it, with their payloads."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["ring", 60])
        before = h.shard.idle.estimate()
        await h.call(Bell, "a", "arm", ["tell", 60, "x" * 10_000])
        assert h.shard.idle.estimate() - before > 10_000


async def test_evict_wake_where_and_delete() -> None:
    """parity 31, 32, 61: administration by calls: they tell what is in memory, and delete removes state for good."""
    async with Harness([Counter]) as h:
        assert await h.call(Counter, "a", "$where") is False
        assert await h.call(Counter, "a", "$evict") is False
        await h.call(Counter, "a", "increment")
        assert await h.call(Counter, "a", "$where") is True
        assert await h.call(Counter, "a", "$evict") is True
        assert await h.call(Counter, "a", "$where") is False
        await h.call(Counter, "a", "$wake")
        assert await h.call(Counter, "a", "$state") == {
            "state": {"count": 1, "log": []}, "version": 1, "live": True
        }  # fmt: skip
        assert await h.call(Counter, "a", "$delete") is True
        assert await h.call(Counter, "a", "$state") is None
        assert await h.call(Counter, "a", "$delete") is False
        assert h.world.objects == {}
        assert await h.call(Counter, "a", "increment") == 1


async def test_an_eviction_waits_for_the_commit() -> None:
    """Its answer comes when the state is durable, and then the object is gone from memory."""
    async with Harness([Counter]) as h:
        await h.call(Counter, "a", "get")
        h.world.hold()
        counted = h.call(Counter, "a", "increment")
        evicted = h.call(Counter, "a", "$evict")
        await settle()
        assert not evicted.done()
        h.world.release()
        assert (await counted, await evicted) == (1, True)
        assert h.shard.directory.counts() == (0, 0)


async def test_a_thousand_cold_objects_are_few_queries() -> None:
    """Activation is batched."""
    async with Harness([Counter]) as h:
        await asyncio.gather(*(h.call(Counter, f"{n}", "increment") for n in range(1000)))
    async with Harness([Counter], world=h.world) as again:
        queries = 0
        load = again.store.load

        async def counting(addresses):  # type: ignore[no-untyped-def]
            nonlocal queries
            queries += 1
            return await load(addresses)

        again.store.load = counting  # type: ignore[method-assign]
        assert set(await asyncio.gather(*(again.call(Counter, f"{n}", "get") for n in range(1000)))) == {1}
        assert queries <= 3
