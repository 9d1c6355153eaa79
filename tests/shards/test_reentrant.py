"""Reentrant objects: turns of one chain nest, one at a time at each depth, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable_engine import DurableError, PersistenceFailed, ReentrantCall, Rejected
from tests.shards.hard_objects import Inward, Probe, gates
from tests.shards.harness import Harness, answered, settle


def inner(h: Harness, handler: str) -> asyncio.Future[Any]:
    """A call that comes back to the object "f" along its own chain."""
    return h.call(Inward, "f", handler, timeout=60, chain=["Inward/f"])


async def test_a_failing_inner_turn_leaves_the_outer_its_alarms_and_sends() -> None:
    """The outer turn caught the error and succeeds with everything it had asked for."""
    async with Harness([Inward, Probe]) as h:
        await h.call(Inward, "f", "outer", ["bad"])
        await settle()
        assert len(await h.call(Inward, "f", "$pending")) == 1
        assert await h.call(Probe, "victim", "get") == 1


async def test_an_outer_turn_that_fails_after_an_inner_commit_says_unknown() -> None:
    """The inner turn has committed what the outer had changed by then; its alarms and sends are dropped."""
    async with Harness([Inward, Probe]) as h:
        with pytest.raises(Rejected) as refused:
            await h.call(Inward, "f", "outer", ["ok", True])
        assert refused.value.outcome == "unknown"
        assert await h.call(Inward, "f", "read") == ["outer", "inner"]
        assert await h.call(Inward, "f", "$pending") == []
        assert await h.call(Probe, "victim", "get") == 0


async def test_an_outer_turn_that_fails_after_a_failing_inner_one_leaves_no_trace() -> None:
    """Nothing of either was committed, and the caller hears so."""
    async with Harness([Inward, Probe]) as h:
        with pytest.raises(Rejected) as refused:
            await h.call(Inward, "f", "outer", ["bad", True])
        assert refused.value.outcome == "not_applied"
        assert await h.call(Inward, "f", "read") == []
        assert await h.call(Inward, "f", "$pending") == []
        assert await h.call(Probe, "victim", "get") == 0


async def test_an_inner_call_on_a_state_that_cannot_be_stored_is_answered() -> None:
    """The outer turn hears at once, and is undone."""
    async with Harness([Inward]) as h:
        with pytest.raises(DurableError):
            await answered(h.call(Inward, "f", "unstorable", timeout=60))
        assert await h.call(Inward, "f", "read") == []


async def test_inner_calls_that_are_made_at_once_are_all_run() -> None:
    """The second waits for the first, not for the outer turn, which waits for both."""
    async with Harness([Inward]) as h:
        await answered(h.call(Inward, "f", "both", timeout=60, key="user-key"))
        assert await h.call(Inward, "f", "read") == ["inner", "inner"]


async def test_inner_turns_of_a_refused_commit_take_no_acknowledged_one_with_them() -> None:
    """A sibling waits for the inner turn before it and shares its fate; later ones begin on what is durable."""
    async with Harness([Inward]) as h:
        h.world.refuse(lambda change: change.state is not None and b"hold" in change.state)
        await h.call(Inward, "f", "ok")
        outer = h.call(Inward, "f", "stay", timeout=60)
        await settle()
        refused = inner(h, "hold")
        await settle()
        sibling = inner(h, "ok")
        await settle()
        assert not sibling.done(), "one inner turn at a time"
        gates["a"].set()
        for lost in (refused, sibling):
            with pytest.raises(PersistenceFailed):
                await answered(lost)
        await answered(inner(h, "ok"))
        gates["b"].set()
        with pytest.raises(PersistenceFailed):
            await answered(outer)
        assert await h.call(Inward, "f", "read") == ["inner"] * 2


async def test_a_failing_inner_turn_takes_no_sibling_with_it() -> None:
    """The sibling runs after it, on what the outer turn had."""
    async with Harness([Inward]) as h:
        await h.call(Inward, "f", "ok")
        outer = h.call(Inward, "f", "stay", timeout=60)
        await settle()
        failing = inner(h, "hold_and_reject")
        await settle()
        sibling = inner(h, "ok")
        await settle()
        assert not sibling.done(), "one inner turn at a time"
        gates["a"].set()
        with pytest.raises(Rejected):
            await answered(failing)
        await answered(sibling)
        gates["b"].set()
        await answered(outer)
        assert await h.call(Inward, "f", "read") == ["inner"] * 2


async def test_the_alarm_of_an_inner_turn_is_stored_with_it() -> None:
    """While a sibling waits for it and the outer turn goes on."""
    async with Harness([Inward]) as h:
        outer = h.call(Inward, "f", "stay", timeout=60)
        await settle()
        arming = inner(h, "arm")
        await settle()
        sibling = inner(h, "ok")
        gates["a"].set()
        await answered(arming)
        assert [set(alarms) for alarms in h.world.alarms.values()] == [{"ring"}]
        await answered(sibling)
        gates["b"].set()
        await answered(outer)
        assert len(await h.call(Inward, "f", "$pending")) == 1


async def test_an_object_is_not_deleted_under_a_turn_of_its_own() -> None:
    """A deletion along the chain of the turn that waits for it is refused, and the turn goes on."""
    async with Harness([Inward]) as h:
        holding = h.call(Inward, "f", "hold", timeout=60)
        await settle()
        with pytest.raises(ReentrantCall, match="waits for its own deletion"):
            await answered(inner(h, "$delete"))
        gates["a"].set()
        await answered(holding)
        assert await h.call(Inward, "f", "read") == ["hold"]
