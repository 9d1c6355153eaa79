"""Objects come into memory when they are called, and whatever goes wrong on the way is told by its name."""

from __future__ import annotations

import asyncio

import pytest

from durable_engine import PersistenceFailed, StateUnreadable, StoreUnavailable
from tests.shards.harness import Harness, answered, settle
from tests.shards.objects import GATES, Counter, LoadedLater


async def test_objects_start_when_they_are_called_and_not_before() -> None:
    """parity 71: after a restart nothing is in memory until somebody asks for it."""
    async with Harness([Counter]) as h:
        await asyncio.gather(*(h.call(Counter, name, "increment", [5]) for name in "abc"))
    async with Harness([Counter], world=h.world) as again:
        assert again.shard.directory.counts() == (0, 0)
        assert await again.call(Counter, "b", "get") == 5
        assert again.shard.directory.counts() == (1, 0)


async def test_a_slow_start_holds_up_nobody_but_its_own_callers() -> None:
    """parity 48: while one object is being loaded, and then runs its after_load, others are served."""
    GATES["load"] = asyncio.Event()
    async with Harness([Counter, LoadedLater]) as h:
        await h.call(Counter, "ready", "increment")
        loading, load = asyncio.Event(), h.store.load

        async def slowly(addresses):  # type: ignore[no-untyped-def]
            await loading.wait()
            return await load(addresses)

        h.store.load = slowly  # type: ignore[method-assign]
        slow = h.call(LoadedLater, "slow", "get")
        await settle()
        assert await answered(h.call(Counter, "ready", "increment")) == 2
        loading.set()
        await settle()
        assert not slow.done()
        assert await answered(h.call(Counter, "ready", "increment")) == 3
        GATES["load"].set()
        assert await slow == 1


async def test_an_object_that_cannot_be_loaded_is_an_error_and_stays_out_of_memory() -> None:
    """parity 44, 45: its callers hear why, all of them, and the next call tries again."""
    async with Harness([Counter]) as h:
        h.world.fail_next_load(PersistenceFailed("the page is damaged"))
        calls = [h.call(Counter, "a", "increment") for _ in range(3)]
        for call in calls:
            with pytest.raises(PersistenceFailed, match="the page is damaged"):
                await call
        assert h.shard.directory.counts() == (0, 0)
        assert await h.call(Counter, "a", "increment") == 1


async def test_each_step_of_storage_has_an_error_of_its_own() -> None:
    """parity 44: what could not be saved, deleted, read, or reached."""
    async with Harness([Counter]) as h:
        await h.call(Counter, "a", "increment")
        h.world.refuse(lambda change: True)
        with pytest.raises(PersistenceFailed) as saved:
            await h.call(Counter, "a", "increment")
        assert saved.value.outcome == "not_applied"
        with pytest.raises(PersistenceFailed):
            await h.call(Counter, "a", "$delete")
        h.world.refuse(None)
        assert await h.call(Counter, "a", "get") == 1
        await h.call(Counter, "a", "$evict")
        h.world.fail_next_load(StoreUnavailable("no database answers", retryable=True))
        assert await h.call(Counter, "a", "get") == 1, "a store that is merely away is waited for"
        h.world.objects[next(iter(h.world.objects))].state = b'{"count":"many"}'  # type: ignore[misc]
        await h.call(Counter, "a", "$evict")
        with pytest.raises(StateUnreadable, match="count"):
            await h.call(Counter, "a", "get")
