"""Deadlines: a call whose time is up is not run, and a turn whose time is up waits for nobody."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable_engine import CallTimeout
from durable_shards.wire import Call
from tests.shards.hard_objects import Probe, gates
from tests.shards.harness import Harness, answered, settle


async def test_a_call_whose_time_is_up_when_its_object_is_loaded_is_not_run() -> None:
    """fault E10: the time that the load took counts."""
    async with Harness([Probe]) as h:
        load = h.store.load

        async def slowly(addresses: Any) -> Any:
            await gates["load"].wait()
            return await load(addresses)

        h.store.load = slowly  # type: ignore[method-assign]
        late = h.call(Probe, "a", "increment", timeout=1)
        await settle()
        await h.pass_time(1.5)
        gates["load"].set()
        with pytest.raises(CallTimeout) as timeout:
            await answered(late)
        assert timeout.value.outcome == "not_applied"
        assert await h.call(Probe, "a", "get") == 0


@pytest.mark.parametrize("timeout_ms", [0, -7])
async def test_a_call_without_any_time_left_is_not_run(timeout_ms: int) -> None:
    """fault E10: not even on an object that is in memory and idle."""
    async with Harness([Probe]) as h:
        await h.call(Probe, "a", "get")
        [late] = h.together(Call(0, "Probe", "a", "increment", [], timeout_ms))
        with pytest.raises(CallTimeout):
            await answered(late)
        assert await h.call(Probe, "a", "get") == 0


async def test_three_objects_in_a_ring_end_with_their_deadlines() -> None:
    """a asks b, b asks c, c asks a, all begun together: nobody sees the ring, the deadlines open it."""
    async with Harness([Probe]) as h:
        await asyncio.gather(*(h.call(Probe, name, "get") for name in "abc"))
        calls = [h.call(Probe, one, "ask", [other], timeout=60) for one, other in ("ab", "bc", "ca")]
        await settle(60)
        assert not any(call.done() for call in calls)
        await h.pass_time(61)
        for call in calls:
            with pytest.raises(CallTimeout):
                await answered(call)
        assert [await h.call(Probe, name, "increment") for name in "abc"] == [1, 1, 1]
