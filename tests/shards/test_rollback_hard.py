"""Rollback where it is hard: scratch, stray handlers, and an `after_load` that ends when nobody waits for it."""

from __future__ import annotations

import pytest

from durable_engine import CallTimeout, Rejected
from tests.shards.hard_objects import Probe, Sleepy, gates
from tests.shards.harness import Harness, answered, settle


async def test_an_abandoned_turn_arms_no_alarm_and_sends_nothing() -> None:
    """fault D6: what a handler does after the object went on without it does not even go along with the next turn."""
    async with Harness([Probe]) as h:
        stubborn = h.call(Probe, "a", "stubborn", timeout=1)
        await settle()
        for _ in range(2):
            await h.pass_time(1.5)
        with pytest.raises(CallTimeout):
            await answered(stubborn)
        gates["a"].set()
        await settle()
        await h.call(Probe, "a", "increment")
        await settle()
        assert await h.call(Probe, "a", "$pending") == []
        assert await h.call(Probe, "victim", "get") == 0


async def test_an_abandoned_after_load_that_ends_at_last_does_no_harm() -> None:
    """By then another after_load serves the object, and its calls are run in their order."""
    async with Harness([Sleepy]) as h:
        first = h.call(Sleepy, "a", "get", timeout=30)
        await settle()
        for _ in range(2):
            await h.pass_time(6)
        others = [h.call(Sleepy, "a", "bump", timeout=300) for _ in range(3)]
        await settle()
        gates["load"].set()
        assert [await answered(other) for other in others] == [1, 2, 3]
        with pytest.raises(CallTimeout):
            await answered(first)


async def test_a_rollback_takes_scratch_back_as_well() -> None:
    """fault D2: a failed turn that left the state alone may still have spoilt what is not stored."""
    async with Harness([Probe]) as h:
        await h.call(Probe, "a", "increment")
        with pytest.raises(Rejected):
            await h.call(Probe, "a", "spoil_scratch")
        assert await h.call(Probe, "a", "scratch") == 0
