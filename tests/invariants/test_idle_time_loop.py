"""Time in the loop of the machines passes only while nothing else can happen."""

from __future__ import annotations

import asyncio

import pytest

from tests.invariants.idle_time_loop import IdleTimeLoop
from tests.shards.harness import settle


def test_timers_come_in_their_order_when_nothing_else_is_to_be_done() -> None:
    """However much there is to do before, no timer comes in between; then they come one by one, at their times."""
    loop = IdleTimeLoop()
    told: list[tuple[str, float]] = []

    async def history() -> None:
        for name, seconds in (("late", 3600.0), ("soon", 0.001)):
            loop.call_later(seconds, lambda name=name: told.append((name, loop.time())))
        await settle(10_000)
        told.append(("settled", loop.time()))
        await asyncio.sleep(3601)

    loop.run_until_complete(history())
    loop.close()
    assert told == [("settled", 0.0), ("soon", 0.001), ("late", 3600.0)]


def test_a_history_that_would_hang_is_an_error() -> None:
    """Waiting for what can never happen ends at once."""
    loop = IdleTimeLoop()
    never = loop.create_future()
    with pytest.raises(RuntimeError, match="can never happen"):
        loop.run_until_complete(never)
    loop.close()
