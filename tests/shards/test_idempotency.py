"""Calls with keys: the first result is stored with the state and returned to every retry."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from durable_engine import IdempotencyMismatch, TooLarge
from durable_shards.wire import FLAG_AUTO_KEY, FLAG_FRESH, Call
from tests.shards.harness import Harness, settle
from tests.shards.objects import Counter, Refused


async def test_a_retry_hears_the_first_result() -> None:
    """fault E8: in the same activation, after an eviction, and in another incarnation of the shard."""
    async with Harness([Counter]) as h:
        assert await h.call(Counter, "a", "increment", [5], key="k") == 5
        assert await h.call(Counter, "a", "increment", [1]) == 6
        assert await h.call(Counter, "a", "increment", [5], key="k") == 5
        assert await h.call(Counter, "a", "$evict") is True
        assert await h.call(Counter, "a", "increment", [5], key="k") == 5
    async with Harness([Counter], world=h.world) as again:
        assert await again.call(Counter, "a", "increment", [5], key="k") == 5
        assert await again.call(Counter, "a", "get") == 6


async def test_a_retry_during_the_commit_waits_for_it() -> None:
    """The retry neither runs again nor hears what is not durable yet."""
    async with Harness([Counter]) as h:
        await h.call(Counter, "a", "get")
        h.world.hold()
        first = h.call(Counter, "a", "increment", [5], key="k")
        await settle()
        retry = h.call(Counter, "a", "increment", [5], key="k")
        await settle()
        assert not first.done()
        assert not retry.done()
        h.world.release()
        assert (await first, await retry) == (5, 5)
        assert await h.call(Counter, "a", "get") == 5


async def test_the_same_key_for_another_call_is_refused() -> None:
    """Other arguments or another handler: IdempotencyMismatch, and nothing is run."""
    async with Harness([Counter]) as h:
        await h.call(Counter, "a", "increment", [5], key="k")
        with pytest.raises(IdempotencyMismatch):
            await h.call(Counter, "a", "increment", [6], key="k")
        with pytest.raises(IdempotencyMismatch):
            await h.call(Counter, "a", "note", ["k"], key="k")
        assert await h.call(Counter, "a", "get") == 5


async def test_a_key_belongs_to_its_object() -> None:
    """The same key on another object is another call."""
    async with Harness([Counter]) as h:
        assert await h.call(Counter, "a", "increment", [5], key="k") == 5
        assert await h.call(Counter, "b", "increment", [7], key="k") == 7


async def test_a_failed_turn_keeps_no_result() -> None:
    """A rejection had no effect, so a retry with the key runs again."""
    async with Harness([Counter]) as h:
        for _ in range(2):
            with pytest.raises(Refused):
                await h.call(Counter, "a", "reject", ["x"], key="k")
        assert h.world.results == {}


async def test_a_key_that_was_called_fresh_but_is_not_runs_once_all_the_same() -> None:
    """The store refuses the second insert, the turn is undone unseen, and the first result is found."""
    async with Harness([Counter]) as h:
        assert await h.call(Counter, "a", "increment", [5], key="k", flags=FLAG_FRESH) == 5
        await h.call(Counter, "a", "$evict")
        innocent = h.call(Counter, "a", "increment", [1])
        liar = h.call(Counter, "a", "increment", [5], key="k", flags=FLAG_FRESH)
        after = h.call(Counter, "a", "increment", [1])
        assert await asyncio.gather(innocent, liar, after) == [6, 5, 7]
        assert await h.call(Counter, "a", "get") == 7


async def test_automatic_keys_of_calls_that_changed_nothing_store_nothing() -> None:
    """Reads under exactly_once cost no row; a user's own key always keeps its result."""
    async with Harness([Counter]) as h:
        await h.call(Counter, "a", "peek", key="auto", flags=FLAG_AUTO_KEY | FLAG_FRESH)
        assert h.world.results == {}
        await h.call(Counter, "a", "peek", key="mine")
        assert len(h.world.results) == 1


async def test_keys_have_a_limit() -> None:
    """Too long a key is refused before anything is run."""
    async with Harness([Counter]) as h:
        with pytest.raises(TooLarge):
            await h.call(Counter, "a", "increment", key="k" * 257)
        assert await h.call(Counter, "a", "get") == 0


async def test_more_keys_than_memory_keeps_are_still_found() -> None:
    """Old results come from the store."""
    async with Harness([Counter]) as h:
        for number in range(600):
            await h.call(Counter, "a", "increment", key=f"k{number}")
        assert await h.call(Counter, "a", "increment", key="k0") == 1
        assert await h.call(Counter, "a", "get") == 600


@pytest.mark.parametrize(("flags", "timeout_hours", "kept_hours"), [(0, 0.1, 24), (FLAG_AUTO_KEY, 0.1, 1)])
async def test_a_key_that_is_older_than_its_result_is_a_new_one(
    flags: int, timeout_hours: float, kept_hours: float
) -> None:
    """fault E9: shortly before the end of its time the first result is heard, and after it the call runs again."""
    async with Harness([Counter]) as h:
        asked = {"key": "k", "flags": flags, "timeout": timeout_hours * 3600}
        assert await h.call(Counter, "a", "increment", [5], **asked) == 5
        for hours, heard in ((kept_hours - 0.01, 5), (0.02, 10)):
            await h.pass_time(hours * 3600)
            await h.call(Counter, "a", "$evict")
            assert await h.call(Counter, "a", "increment", [5], **asked) == heard
        assert await h.call(Counter, "a", "get") == 10


async def test_a_result_is_kept_for_as_long_as_its_caller_may_ask_again() -> None:
    """fault E9: a client repeats a call until its deadline, which may be later than keys of its kind are kept."""
    async with Harness([Counter]) as h:
        asked = {"key": "k", "flags": FLAG_AUTO_KEY, "timeout": 6 * 3600.0}
        assert await h.call(Counter, "a", "increment", [5], **asked) == 5
        await h.pass_time(5.9 * 3600)
        await h.call(Counter, "a", "$evict")
        assert await h.call(Counter, "a", "increment", [5], **asked) == 5
        assert await h.call(Counter, "a", "get") == 5


async def test_a_timeout_that_is_none_keeps_a_result_for_a_day() -> None:
    """fault E9: whatever number a stranger puts into a frame."""
    async with Harness([Counter]) as h:
        (call,) = h.together(Call(0, "Counter", "a", "increment", [5], 2**63, key="k"))
        assert await call == 5
        (row,) = h.world.results.values()
        assert row.expires_at == h.clock.now() + timedelta(days=1)


async def test_whoever_gave_up_during_the_commit_hears_the_truth_by_the_key() -> None:
    """fault E11: the turn has ended, so its commit goes on; asking again with the key tells that it ran, once."""
    async with Harness([Counter]) as h:
        await h.call(Counter, "a", "get")
        h.world.hold()
        late = h.call(Counter, "a", "increment", [5], key="k", timeout=1)
        await h.pass_time(2)
        assert not late.done(), "nobody may be told anything of an outcome that is not known"
        again = h.call(Counter, "a", "increment", [5], key="k", timeout=60)
        await settle()
        h.world.release()
        assert await again == 5
        assert await h.call(Counter, "a", "get") == 5
