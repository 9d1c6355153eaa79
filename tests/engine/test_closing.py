"""Closing an engine: what is under way ends well, and nothing stays behind, however it is interrupted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from durable_engine import Engine, EngineClosed
from durable_engine.embedded import Embedded
from tests.engine.shop import Counter

SHARDS = pytest.mark.parametrize("shards", [0, pytest.param(2, marks=pytest.mark.processes)])


@SHARDS
async def test_calls_made_before_closing_are_answered(shards: int) -> None:
    """Also those of the same tick, which nobody has seen yet, and one that calls another object on its way."""
    engine = await Engine("memory://", objects=["tests.engine.shop"], shards=shards).start()
    await engine.at(Counter, "warm").through("b", 0)
    calls = [engine.at(Counter, "a").increment(), engine.at(Counter, "a").slow(0.05)]
    through = engine.at(Counter, "c").through("b", 7)

    await engine.close()

    assert await asyncio.gather(*calls, through) == [1, 2, 7]


async def test_a_turn_under_way_may_still_call_others_while_the_engine_closes() -> None:
    """A chain of calls ends as a whole; only calls from outside are refused."""
    engine = await Engine("memory://", objects=[Counter]).start()
    reference = engine.at(Counter, "b")
    slow = asyncio.ensure_future(engine.at(Counter, "b").slow(0.05))
    waiting = asyncio.ensure_future(engine.at(Counter, "a").through("b", 1))
    await engine.at(Counter, "c").increment()
    closing = asyncio.ensure_future(engine.close())
    await asyncio.sleep(0)

    with pytest.raises(EngineClosed):
        await reference.increment()
    assert await asyncio.gather(slow, waiting) == [1, 2]
    await closing


async def test_a_close_that_is_cancelled_still_lets_go_of_the_store(tmp_path: Path) -> None:
    """The turn that it waited for is undone; the store can be opened again at once."""
    store = f"sqlite:///{tmp_path}/store"
    engine = await Engine(store, objects=[Counter]).start()
    running = asyncio.ensure_future(engine.at(Counter, "a").slow(60))
    await engine.at(Counter, "b").increment()
    backend = engine._backend
    assert isinstance(backend, Embedded)
    closing = asyncio.ensure_future(engine.close())
    while not backend._shard.draining:  # noqa: ASYNC110 - it has no event for the beginning
        await asyncio.sleep(0)
    closing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await closing
    with pytest.raises(EngineClosed):
        await running
    async with Engine(store, objects=[Counter]) as again:
        assert await again.at(Counter, "a").get() == 0


async def test_a_start_that_is_cancelled_leaves_the_store_free(tmp_path: Path) -> None:
    """At whichever of its steps: the next engine can be opened."""
    store = f"sqlite:///{tmp_path}/store"
    for steps in range(12):
        starting = asyncio.ensure_future(Engine(store, objects=[Counter]).start())
        for _ in range(steps):
            await asyncio.sleep(0.001)
        starting.cancel()
        try:
            await (await starting).close()
        except asyncio.CancelledError:
            pass
    async with Engine(store, objects=[Counter]) as engine:
        assert await engine.at(Counter, "a").increment() == 1
