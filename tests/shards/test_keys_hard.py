"""Idempotency keys where it is hard: retries during a commit, keys of inner calls, calls that run again."""

from __future__ import annotations

from typing import Any

import pytest

from durable_engine import DurableError, PersistenceFailed
from durable_shards.wire import FLAG_AUTO_KEY, FLAG_FRESH, Call
from tests.shards.hard_objects import Probe, Sleepy, gates
from tests.shards.harness import Harness, answered, settle


async def test_a_key_that_is_retried_while_300_others_wait_runs_once() -> None:
    """Results that are not committed yet are remembered, however many they are."""
    async with Harness([Probe]) as h:
        await h.call(Probe, "a", "get")
        h.world.hold()
        h.call(Probe, "a", "increment")  # the commit in flight: all that follows gathers for the next
        await settle()
        calls = [h.call(Probe, "a", "increment", key=f"k{n}", flags=FLAG_FRESH) for n in range(300)]
        await settle()
        retry = h.call(Probe, "a", "increment", key="k0")
        await settle()
        h.world.release()
        first = await answered(calls[0])
        assert await answered(retry) == first
        assert await h.call(Probe, "a", "get") == 301


async def test_two_objects_under_one_key_both_reach_a_third() -> None:
    """The key of an inner call names the object that makes it."""
    async with Harness([Probe]) as h:
        await h.call(Probe, "a", "ask", ["c"], key="request-7")
        await h.call(Probe, "b", "ask", ["c"], key="request-7")
        assert await h.call(Probe, "c", "get") == 2


async def test_long_keys_stay_different_in_the_keys_of_inner_calls() -> None:
    """The whole key counts, not its beginning."""
    async with Harness([Probe]) as h:
        await h.call(Probe, "a", "ask", ["c"], key="x" * 200 + "1")
        await h.call(Probe, "a", "ask", ["c"], key="x" * 200 + "2")
        assert await h.call(Probe, "c", "get") == 2


async def test_a_key_of_wide_characters_serves_inner_calls() -> None:
    """A key at the limit of bytes leads to keys within the limit."""
    async with Harness([Probe]) as h:
        assert await h.call(Probe, "a", "ask", ["c"], key="\U0001f600" * 64) == 1


async def test_a_handler_that_changes_its_argument_can_be_retried() -> None:
    """A retry is compared with what was sent, not with what the handler made of it."""
    async with Harness([Probe]) as h:
        assert await h.call(Probe, "a", "absorb", [["x"]], key="k") == 2
        assert await h.call(Probe, "a", "absorb", [["x"]], key="k") == 2


@pytest.mark.parametrize("options", [{"args": [["x"]]}, {"kwargs": {"items": ["x"]}}])
async def test_a_call_whose_arguments_may_have_changed_is_not_run_again(options: dict[str, Any]) -> None:
    """Undone with a neighbour's key, a call without a key that got a list hears that it may simply call again."""
    async with Harness([Probe]) as h:
        await h.call(Probe, "a", "increment", key="k")
        await h.call(Probe, "a", "$evict")
        await h.call(Probe, "a", "get")
        liar, innocent = h.together(
            Call(0, "Probe", "a", "increment", key="k", flags=FLAG_FRESH), Call(0, "Probe", "a", "absorb", **options)
        )
        assert await answered(liar) == 1
        with pytest.raises(PersistenceFailed) as failed:
            await answered(innocent)
        assert (failed.value.retryable, failed.value.outcome) == (True, "not_applied")
        assert await h.call(Probe, "a", "read_log") == []


async def test_a_call_that_has_called_another_object_is_not_run_again() -> None:
    """fault D10: undone with a neighbour's key, it hears so: unasked, it would call the other twice."""
    async with Harness([Probe]) as h:
        await h.call(Probe, "a", "increment", key="k")
        await h.call(Probe, "a", "$evict")
        await h.call(Probe, "a", "get")
        innocent = h.call(Probe, "a", "count_and_ask", ["c"])
        liar = h.call(Probe, "a", "increment", key="k", flags=FLAG_FRESH)  # behind it, and in its commit
        assert await answered(liar) == 1
        with pytest.raises(PersistenceFailed) as failed:
            await answered(innocent)
        assert failed.value.retryable
        assert await h.call(Probe, "c", "get") == 1


async def test_an_automatic_key_keeps_sends_from_being_doubled() -> None:
    """A turn that changed nothing but sent something keeps its result, so that a retry sends nothing."""
    async with Harness([Probe]) as h:
        for _ in range(2):
            await h.call(Probe, "a", "tell", ["b"], key="auto", flags=FLAG_AUTO_KEY)
            await settle()
        assert await h.call(Probe, "b", "get") == 1


async def test_keys_hold_for_system_handlers() -> None:
    """A retried $delete hears the first answer and removes nothing that came after it."""
    async with Harness([Probe]) as h:
        await h.call(Probe, "a", "increment")
        assert await h.call(Probe, "a", "$delete", key="auto", flags=FLAG_AUTO_KEY) is True
        await h.call(Probe, "a", "increment")
        assert await h.call(Probe, "a", "$delete", key="auto", flags=FLAG_AUTO_KEY) is True
        assert await h.call(Probe, "a", "get") == 1


async def test_a_look_up_under_way_does_not_overtake_calls_that_run_again() -> None:
    """Calls put back after an undone commit go before the one whose key is being looked up: it was sent later."""
    async with Harness([Probe]) as h:
        await h.call(Probe, "a", "note", ["zero"], key="k")
        await h.call(Probe, "a", "$evict")
        await h.call(Probe, "a", "read_log")
        looking = gates["a"]
        load_results = h.store.load_results

        async def slowly(keys: Any) -> Any:
            if any(key == "other" for _, key in keys):
                await looking.wait()
            return await load_results(keys)

        h.store.load_results = slowly  # type: ignore[method-assign]
        h.world.hold()
        futures = h.together(
            Call(0, "Probe", "a", "note", ["zero"], key="k", flags=FLAG_FRESH),
            Call(0, "Probe", "a", "note", ["one"]),
            Call(0, "Probe", "a", "note", ["two"], key="other"),
        )
        await settle()
        h.world.release()
        await settle()
        looking.set()
        await answered(futures[2])
        assert await h.call(Probe, "a", "read_log") == ["zero", "one", "two"]


async def test_an_undone_commit_does_not_hang_the_turn_that_waited_for_it() -> None:
    """A turn that wanted to call out as soon as earlier turns are durable is told that they never will be."""
    async with Harness([Probe]) as h:
        await h.call(Probe, "a", "increment", key="k")
        await h.call(Probe, "a", "$evict")
        await h.call(Probe, "a", "get")
        h.world.hold()
        liar, asking = h.together(
            Call(0, "Probe", "a", "increment", key="k", flags=FLAG_FRESH), Call(0, "Probe", "a", "ask", ["b"])
        )
        await settle()
        h.world.release()
        assert await answered(liar) == 1
        with pytest.raises(DurableError) as failed:
            await answered(asking)
        assert failed.value.retryable
        assert await h.call(Probe, "b", "get") == 0


async def test_a_commit_undone_during_after_load_leaves_the_object_alive() -> None:
    """Calls that run again and the call that waits for after_load are all answered, in their order."""
    async with Harness([Sleepy]) as h:
        gates["load"].set()
        await h.call(Sleepy, "a", "bump", key="k")
        await h.call(Sleepy, "a", "$evict")
        await h.call(Sleepy, "a", "get")
        gates["load"].clear()
        h.world.hold()
        liar, crash, last = h.together(
            Call(0, "Sleepy", "a", "bump", key="k", flags=FLAG_FRESH),
            Call(0, "Sleepy", "a", "crash"),
            Call(0, "Sleepy", "a", "get"),
        )
        await settle()
        h.world.release()
        await settle()
        gates["load"].set()
        assert await answered(liar) == 1
        with pytest.raises(DurableError):
            await answered(crash)
        assert await answered(last) == 1
        assert await answered(h.call(Sleepy, "a", "get")) == 1
