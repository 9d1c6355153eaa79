"""What a program finds out of an engine and of its classes, and how it asks for more than the defaults."""

from __future__ import annotations

import asyncio
import inspect
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
from durable_engine.backend import Backend
from durable_engine.embedded import Embedded
from durable_engine.frontend import Frontend
from durable_engine.placement import LocalPlacement, Placement
from durable_storage.limits import PARTITIONS
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
        assert await _counts(engine) == (19, 0)
        await engine.wake(Counter, "3", hibernate_after=timedelta(0))
        await watch_for(lambda: _has_counts(engine, (18, 1)))


async def _counts(engine: Engine) -> tuple[int, int]:
    shards = [shard.statistics for shard in (await engine.statistics()).shards if shard.statistics]
    return sum(each.live for each in shards), sum(each.hibernated for each in shards)


async def _has_counts(engine: Engine, counts: tuple[int, int]) -> bool:
    return await _counts(engine) == counts


@pytest.mark.parametrize("kind", KINDS)
async def test_a_state_is_read_without_waking_its_object(kind: str) -> None:
    """parity 29: live or stored, as a copy; None for an object that never was, which stays so."""
    async with opened(kind) as engine:
        await engine.at(Counter, "a").increment(3)
        await engine.evict(Counter, "a")
        state = await engine.state(Counter, "a")
        assert state is not None
        assert state.count == 3
        assert await engine.state(Counter, "mistyped") is None
        assert await engine.objects(Counter) == ["a"]


async def test_in_memory_nothing_outlives_the_engine() -> None:
    """parity 25: all of the engine without a database, for tests and for what may be lost."""
    for _ in range(2):
        async with Engine("memory://", objects=[Counter]) as engine:
            assert await engine.at(Counter, "a").increment(3) == 3
            assert await engine.evict(Counter, "a")
            assert await engine.at(Counter, "a").get() == 3


@pytest.mark.parametrize("implementation", [Frontend, Embedded])
def test_an_engine_knows_its_shards_by_one_interface(implementation: type) -> None:
    """parity 95: whether they are in this process or elsewhere; each implements all that is promised."""
    promised = {name: value for name, value in vars(Backend).items() if not name.startswith("_")}

    assert promised
    for name, value in promised.items():
        found = inspect.getattr_static(implementation, name)
        assert type(found) is type(value), name
        if inspect.isfunction(value):
            parameters = inspect.signature(found).parameters
            assert [*inspect.signature(value).parameters] == [*parameters][: len(inspect.signature(value).parameters)]
            assert inspect.iscoroutinefunction(found) == inspect.iscoroutinefunction(value)


def test_a_supervisor_asks_whoever_places_shards_by_one_interface() -> None:
    """parity 95: which nodes there are, and which partitions a shard has; on one machine the answer is a division."""
    placement: Placement = LocalPlacement(4)

    assert list(placement.members().values()) == ["up"]
    assert [index for shard in range(4) for index in placement.partitions(shard)] == list(range(PARTITIONS))
