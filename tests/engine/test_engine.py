"""`Engine`: one interface, the same in this process, in processes of its own, and on a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from durable_engine import (
    CallTimeout,
    Engine,
    HandlerFailed,
    IdempotencyMismatch,
    InvalidArguments,
    ReentrantCall,
    Rejected,
    TooLarge,
    UnknownClass,
    UnknownHandler,
)
from durable_storage.limits import RESULT_BYTES_MAX
from tests.engine.shop import Cart, Counter, Line, OutOfStock, Twice

KINDS = [
    "embedded",
    pytest.param("processes", marks=pytest.mark.processes),
    pytest.param("connected", marks=pytest.mark.processes),
]


@asynccontextmanager
async def opened(kind: str, **options: Any) -> AsyncIterator[Engine]:
    """An engine on a store in memory."""
    shards = 0 if kind == "embedded" else 2
    own = options if kind != "connected" else {}
    async with Engine("memory://", objects=[Cart, Counter, Twice], shards=shards, **own) as engine:
        if kind != "connected":
            yield engine
            return
        assert engine.url is not None
        async with Engine.connect(engine.url, **options) as connected:
            yield connected


@pytest.mark.parametrize("kind", KINDS)
async def test_objects_are_called_by_reference_by_handler_and_by_name(kind: str) -> None:
    """parity 1, 19, 26, 93: three ways to the same object, with results of the declared types."""
    async with opened(kind) as engine:
        cart = engine.at(Cart, "anna")
        now = datetime.now(UTC)
        line = await cart.add("tea", Decimal("2.50"), at=now)
        assert line == Line("tea", Decimal("2.50"), now)
        assert Line("bun", Decimal(1)) == await engine.call(Cart.add, "anna", "bun", Decimal(1))
        assert await engine.call_by_name("Cart", "anna", "add", ["jam", "3"], {"at": None}) == {
            "sku": "jam",
            "price": "3",
            "since": None,
        }
        assert await cart.sum() == Decimal("6.50")
        assert await engine.at("Cart", "anna").sum() == "6.50"


@pytest.mark.parametrize("kind", KINDS)
async def test_errors_come_out_as_themselves(kind: str) -> None:
    """parity 40, 47, fault D1: rejections with their fields, bugs with their story; the state is as before."""
    async with opened(kind) as engine:
        cart, counter = engine.at(Cart, "a"), engine.at(Counter, "a")
        await cart.add("tea", Decimal(1))
        with pytest.raises(OutOfStock) as rejected:
            await cart.take("tea")
        assert (rejected.value.sku, rejected.value.left, rejected.value.outcome) == ("tea", 0, "not_applied")
        with pytest.raises(HandlerFailed) as failed:
            await counter.bug()
        assert failed.value.remote_type == "ZeroDivisionError"
        assert "a bug" in failed.value.traceback
        with pytest.raises(HandlerFailed):
            await counter.unsendable()
        assert await counter.get() == 0
        assert await cart.sum() == Decimal(1)
        assert issubclass(OutOfStock, Rejected)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_does_not_exist_is_refused_and_creates_nothing(kind: str) -> None:
    """parity 11, 42, fault E2: unknown classes, handlers and arguments that do not fit."""
    async with opened(kind) as engine:
        with pytest.raises(UnknownClass, match="Nothing"):
            await engine.call_by_name("Nothing", "a", "get")
        with pytest.raises(UnknownHandler, match="_private"):
            await engine.call_by_name("shop.Counter", "a", "_private")
        with pytest.raises(InvalidArguments, match="amount"):
            await engine.call_by_name("shop.Counter", "a", "increment", ["x"])
        with pytest.raises(InvalidArguments):
            await engine.call_by_name("shop.Counter", "a", "increment", [1, 2])
        with pytest.raises(InvalidArguments):
            await engine.call_by_name("shop.Counter", "a", "increment", [], {"nonsense": 1})
        with pytest.raises(AttributeError, match=r"its handlers are: .*increment"):
            engine.at(Counter, "a").incremen()  # type: ignore[attr-defined]
        assert await engine.objects(Counter) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_objects_are_seen_from_outside(kind: str) -> None:
    """parity 29, 31, 32, 61: state, whereabouts, eviction, waking, deletion."""
    async with opened(kind) as engine:
        assert await engine.state(Counter, "a") is None
        assert await engine.where(Counter, "a") is None
        await engine.at(Counter, "a").increment(3)
        assert await engine.where(Counter, "a") in ((0,) if kind == "embedded" else (0, 1))
        state = await engine.state(Counter, "a")
        assert state is not None
        assert state.count == 3
        assert await state.increment(1) == 4, "a detached copy works like an object in a unit test"
        assert await engine.state("shop.Counter", "a") == {"count": 3}
        assert await engine.evict(Counter, "a") is True
        assert await engine.evict(Counter, "a") is False
        assert await engine.where(Counter, "a") is None
        await engine.wake(Counter, "a")
        assert await engine.where(Counter, "a") is not None
        assert await engine.delete(Counter, "a") is True
        assert await engine.delete(Counter, "a") is False
        assert await engine.state(Counter, "a") is None
        assert await engine.at(Counter, "a").get() == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_alarms_are_set_and_seen_from_outside(kind: str) -> None:
    """parity 20: by method or by name, after a time or at one."""
    async with opened(kind) as engine:
        await engine.at(Cart, "a").add("tea", Decimal(1))
        alarms = engine.alarms(Cart, "a")
        at = datetime(2100, 1, 1, tzinfo=UTC)
        await alarms.schedule(Cart.expire, at=at)
        assert [(pending.name, pending.at, pending.attempt) for pending in await alarms.pending()] == [
            ("expire", at, 0)
        ]
        await alarms.schedule("expire", after=timedelta(hours=1))
        (pending,) = await alarms.pending()
        assert pending.at < at
        assert await alarms.cancel(Cart.expire) is True
        assert await alarms.cancel("expire") is False
        await alarms.schedule("expire", after=timedelta(hours=1))
        assert await alarms.cancel_all() == 1
        assert await alarms.pending() == []
        for wrong in ({}, {"after": timedelta(1), "at": at}, {"at": datetime(2100, 1, 1)}):
            with pytest.raises(InvalidArguments):
                await alarms.schedule("expire", **wrong)
        with pytest.raises(InvalidArguments):
            await alarms.schedule("no such alarm", at=at)


@pytest.mark.parametrize("kind", KINDS)
async def test_ids_are_listed_in_pages(kind: str) -> None:
    """fault F4: sorted over all shards, after a given one, at most so many."""
    async with opened(kind) as engine:
        ids = [f"{n:03}" for n in range(50)] + ["é", "\U0001f600", "Z"]
        await asyncio.gather(*(engine.at(Counter, name).increment() for name in ids))
        assert await engine.objects(Counter) == sorted(ids)
        page = await engine.objects(Counter, limit=20)
        assert page == sorted(ids)[:20]
        assert await engine.objects("shop.Counter", after=page[-1], limit=20) == sorted(ids)[20:40]
        for limit in (0, 10**6):
            with pytest.raises(InvalidArguments, match="limit"):
                await engine.objects(Counter, limit=limit)


@pytest.mark.parametrize("kind", KINDS)
async def test_tenants_never_meet(kind: str) -> None:
    """parity 28, 63: the prefix is part of the address, whether it is the engine's or the call's."""
    async with opened(kind, prefix="red") as engine:
        assert await engine.at(Counter, "a").increment(1) == 1
        assert await engine.at(Counter, "a", prefix="blue").increment(10) == 10
        assert await engine.call(Counter.increment, "a", 100, prefix="") == 100
        assert await engine.at(Counter, "a").get() == 1
        assert await engine.objects(Counter, prefix="blue") == ["a"]
        assert await engine.objects(Counter, prefix="green") == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_makes_a_call_happen_once(kind: str) -> None:
    """The first result is returned again, and the key is refused to another call."""
    async with opened(kind) as engine:
        for _ in range(3):
            assert await engine.call(Counter.increment, "a", 5, idempotency_key="k") == 5
        with pytest.raises(IdempotencyMismatch):
            await engine.call(Counter.increment, "a", 6, idempotency_key="k")
        assert await engine.at(Counter, "a").get() == 5


@pytest.mark.parametrize("kind", KINDS)
async def test_exactly_once_changes_nothing_on_a_calm_day(kind: str) -> None:
    """Every call carries a key of its own."""
    async with opened(kind, exactly_once=True) as engine:
        counter = engine.at(Counter, "a")
        assert await asyncio.gather(*(counter.increment() for _ in range(3))) == [1, 2, 3]
        assert await counter.get() == 3


@pytest.mark.parametrize("kind", KINDS)
async def test_a_one_way_call_is_carried_out(kind: str) -> None:
    """It returns nothing, and later calls find it done."""
    async with opened(kind) as engine:
        await engine.send(Counter.increment, "a", 5)
        assert await engine.at(Counter, "a").get() == 5


@pytest.mark.parametrize("kind", KINDS)
async def test_timeouts_of_calls_engines_and_classes(kind: str) -> None:
    """parity 27, 70: the call's own goes before the engine's, that before the class's."""
    async with opened(kind, call_timeout=timedelta(seconds=0.1)) as engine:
        with pytest.raises(TimeoutError) as caught:
            await engine.at(Counter, "a").slow(60)
        assert isinstance(caught.value, CallTimeout)
        with pytest.raises(CallTimeout):
            await engine.call(Counter.slow, "b", 60, timeout=0.05)
        assert await engine.at(Counter, "c", timeout=20).slow(0.2) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_objects_call_objects(kind: str) -> None:
    """Through the engine, wherever the other one lives; a cycle is told at once."""
    async with opened(kind) as engine:
        for n in range(8):
            assert await engine.at(Counter, "a").through(f"b{n}", 7) == 7
        with pytest.raises(ReentrantCall):
            await engine.at(Counter, "a").cycle("b0")
        with pytest.raises(ReentrantCall):
            await engine.at(Counter, "a").through("a", 1)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_inherited_handler_addresses_the_class_it_was_taken_from(kind: str) -> None:
    """`Twice.increment` is not `Counter.increment`."""
    async with opened(kind) as engine:
        assert await engine.call(Twice.increment, "a", 3) == 3
        assert await engine.call(Twice.double, "a") == 6
        assert await engine.at(Twice, "a").get() == 6
        assert await engine.call(Counter.get, "a") == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_arguments_are_copied(kind: str) -> None:
    """fault D2: what the caller changes later does not reach the object."""
    async with opened(kind) as engine:
        words = ["a"]
        waiting = engine.call_by_name("Cart", "a", "add", [words, "1"])
        words.append("b")
        with pytest.raises(InvalidArguments):
            await waiting
        line = Line("tea", Decimal(1))
        with pytest.raises(InvalidArguments):
            await engine.call_by_name("Cart", "a", "add", [line, line])


@pytest.mark.parametrize("kind", KINDS)
async def test_statistics_are_one_tree(kind: str) -> None:
    """Client, server and every shard with its counts."""
    async with opened(kind) as engine:
        await asyncio.gather(*(engine.at(Counter, str(n)).increment() for n in range(20)))
        statistics = await engine.statistics()
        assert [shard.shard for shard in statistics.shards] == ([0] if kind == "embedded" else [0, 1])
        assert sum(shard.statistics.turns for shard in statistics.shards if shard.statistics) == 20
        assert [shard.state for shard in await engine.shards()] == ["up"] * len(statistics.shards)
        if kind != "embedded":
            assert statistics.client.calls >= 20
            assert statistics.client.in_flight == 0


async def test_a_result_over_the_limit_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    """fault D12: the turn is undone, since its caller could never be told."""
    async with opened("embedded") as engine:
        with pytest.raises((TooLarge, InvalidArguments)):
            await engine.call_by_name("Cart", "a", "add", ["x" * RESULT_BYTES_MAX, "1"])
        assert await engine.objects(Cart) == []
