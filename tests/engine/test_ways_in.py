"""What a program finds out of an engine and of its classes, and how it asks for more than the defaults."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from durable_engine import (
    Client,
    DefinitionError,
    DurableObject,
    Engine,
    EngineClosed,
    InvalidArguments,
    default_engine,
    describe,
)
from tests.engine.shop import Cart, Counter
from tests.engine.test_engine import KINDS, opened
from tests.support.watching import watch_for


async def test_the_engine_that_was_opened_last_is_the_default() -> None:
    """parity 33: for code that was handed none; when it closes it is the one around it again."""
    with pytest.raises(EngineClosed, match=r"no engine is open in this event loop; open one .*async with Engine"):
        default_engine()
    async with Engine("memory://", objects=[Counter]) as outer:
        assert default_engine() is outer
        async with Engine("memory://", objects=[Counter]) as inner:
            assert default_engine() is inner
            assert await default_engine().at(Counter, "a").increment() == 1
        assert default_engine() is outer
        with pytest.raises(EngineClosed):
            await asyncio.to_thread(default_engine)
    with pytest.raises(EngineClosed):
        default_engine()


def test_outside_of_any_event_loop_there_is_no_default_engine() -> None:
    """It says so, rather than that there is no loop."""
    with pytest.raises(EngineClosed, match="no engine is open"):
        default_engine()


@pytest.mark.processes
async def test_a_client_is_nobodys_default_engine() -> None:
    """It lives in a loop and a thread of its own, where its calls have to be made."""
    async with Engine("memory://", objects=[Counter], shards=1) as engine:
        assert engine.url is not None
        client = await asyncio.to_thread(Client, engine.url)
        try:
            assert default_engine() is engine
        finally:
            await asyncio.to_thread(client.close)


def test_a_class_tells_what_an_engine_knows_of_it() -> None:
    """parity 21: stored name, fields, handlers, alarms, options and what a new object holds."""
    told = describe(Cart)

    assert (told["name"], told["class"]) == ("Cart", "tests.engine.shop:Cart")
    assert told["handlers"]["add"] == {
        "signature": "add(sku: str, price: Decimal, *, at: datetime | None = None) -> Line",
        "readonly": False,
        "doc": "Put one in; the reply is its line.",
    }
    assert told["alarms"] == ["expire"]
    assert told["options"]["call_timeout"] == 20
    assert told["default_state"] == {"lines": [], "total": "0"}
    with pytest.raises(DefinitionError, match="derived from DurableObject"):
        describe(DurableObject)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_caller_says_for_how_long_an_object_shall_stay(kind: str) -> None:
    """parity 28, 30, 70: waking starts it, once, with options that go before those of its class."""
    async with opened(kind) as engine:
        woken = [engine.wake(Counter, "a", shutdown_after=timedelta(0)) for _ in range(5)]
        await asyncio.gather(*woken, engine.wake(Counter, "b"))
        await watch_for(lambda: _is_away(engine, "a"))
        assert await engine.where(Counter, "b") is not None


async def _is_away(engine: Engine, object_id: str) -> bool:
    return await engine.where(Counter, object_id) is None


@pytest.mark.parametrize("wrong", [{"hibernate_after": 5}, {"shutdown_after": timedelta(seconds=-1)}])
async def test_options_of_waking_are_durations(wrong: dict[str, Any]) -> None:
    """A number could be anything, and a time cannot be negative."""
    async with opened("embedded") as engine:
        with pytest.raises(InvalidArguments, match=f"{next(iter(wrong))} is a timedelta of zero or more, or None"):
            await engine.wake(Counter, "a", **wrong)


@pytest.mark.parametrize("kind", KINDS)
async def test_objects_in_memory_are_counted(kind: str) -> None:
    """parity 34: live and hibernated ones, on every shard."""
    async with opened(kind) as engine:
        await asyncio.gather(*(engine.at(Counter, str(n)).increment() for n in range(20)))
        await engine.evict(Counter, "7")
        shards = [shard.statistics for shard in (await engine.statistics()).shards if shard.statistics]
        assert (sum(each.live for each in shards), sum(each.hibernated for each in shards)) == (19, 0)
