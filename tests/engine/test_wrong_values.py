"""Values of the wrong kind: refused before anything is sent, by an error that names what was expected."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from durable_engine import DurableError, Engine, InvalidArguments
from tests.engine.shop import Cart, Counter


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine("memory://", objects=[Counter, Cart]) as engine:
        yield engine


@pytest.mark.parametrize("wrong", [0, 5, b"", b"x", False, ["x"], "a\0b", "\ud800"])
async def test_a_prefix_is_text(engine: Engine, wrong: Any) -> None:
    """A tenant called 0 or b"" is a mistake, and not the default tenant."""
    with pytest.raises(InvalidArguments):
        await engine.at(Counter, "a", prefix=wrong).get()
    with pytest.raises(InvalidArguments):
        await engine.objects(Counter, prefix=wrong)
    with pytest.raises(InvalidArguments):
        Engine("memory://", objects=[Counter], prefix=wrong)


@pytest.mark.parametrize("wrong", [0, -1, 0.0, float("nan"), timedelta(0), timedelta(days=-1)])
async def test_a_timeout_is_longer_than_nothing(engine: Engine, wrong: Any) -> None:
    """Wherever one can be given; 0 does not mean the default."""
    with pytest.raises(ValueError, match="above 0"):
        engine.at(Counter, "a", timeout=wrong)
    with pytest.raises(ValueError, match="above 0"):
        engine.call(Counter.increment, "a", timeout=wrong)
    with pytest.raises(ValueError, match="above 0"):
        engine.call_by_name("shop.Counter", "a", "increment", timeout=wrong)
    with pytest.raises(ValueError, match="above 0"):
        await engine.request("ping", timeout=wrong)
    with pytest.raises(ValueError, match="above 0"):
        Engine("memory://", objects=[Counter], call_timeout=wrong)
    with pytest.raises(ValueError, match="above 0"):
        Engine.connect("ipc:///nowhere", timeout=wrong)
    assert await engine.at(Counter, "a").get() == 0


@pytest.mark.parametrize("long", [10**400, float("inf"), timedelta.max])
async def test_a_timeout_may_be_as_long_as_one_likes(engine: Engine, long: Any) -> None:
    """More than a day is a day."""
    assert await engine.at(Counter, "a", timeout=long).increment() == 1
    assert await engine.request("ping", timeout=long) == "pong"


async def test_calls_by_name_take_lists_and_maps(engine: Engine) -> None:
    """The same error embedded as on a server, and no text taken for a list of letters."""
    wrong: Any
    for wrong in (None, 5, ["increment"]):
        with pytest.raises(InvalidArguments, match="handler"):
            await engine.call_by_name("shop.Counter", "a", wrong)
    for wrong in (None, 5, "12", b"12", {"amount": 1}):
        with pytest.raises(InvalidArguments, match="args"):
            await engine.call_by_name("shop.Counter", "a", "increment", wrong)
    for wrong in (5, "x", ["amount"], {1: 2}):
        with pytest.raises(InvalidArguments, match="kwargs"):
            await engine.call_by_name("shop.Counter", "a", "increment", [], wrong)
    assert await engine.call_by_name("shop.Counter", "a", "increment", (2,), None) == 2


async def test_alarms_and_pages_take_what_they_say(engine: Engine) -> None:
    """A number is no duration, and None no limit."""
    wrong: Any
    for wrong in (5, "1m", None):
        with pytest.raises(InvalidArguments, match="timedelta"):
            await engine.alarms(Cart, "a").schedule(Cart.expire, after=wrong)
        with pytest.raises(InvalidArguments, match="datetime"):
            await engine.alarms(Cart, "a").schedule(Cart.expire, at=wrong)
        with pytest.raises(InvalidArguments, match="limit"):
            await engine.objects(Cart, limit=str(wrong))  # type: ignore[arg-type]
    with pytest.raises(InvalidArguments, match="limit"):
        await engine.objects(Cart, limit=True)


@pytest.mark.parametrize("wrong", [None, 5, [], {}])
async def test_classes_are_classes(engine: Engine, wrong: Any) -> None:
    """Also what cannot be looked up anywhere."""
    with pytest.raises(DurableError, match="DurableObject"):
        engine.at(wrong, "a")
    with pytest.raises(DurableError, match="DurableObject"):
        await Engine("memory://", objects=[wrong], shards=1).start()


def test_addresses_of_stores_and_servers_are_text() -> None:
    """Said when the engine is made."""
    with pytest.raises(TypeError, match="sqlite:///"):
        Engine(None, objects=[Counter])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="tcp://"):
        Engine.connect(None)  # type: ignore[arg-type]


def test_options_are_those_that_there_are() -> None:
    """A misspelt one is told with what was meant, one of shard processes where there are none as such."""
    with pytest.raises(TypeError, match=r"unknown option alarm_atempts; did you mean alarm_attempts\?"):
        Engine("memory://", objects=[Counter], alarm_atempts=3)
    with pytest.raises(TypeError, match=r"unknown option qqq; there are .*memory_bytes.*strict_readonly"):
        Engine("memory://", objects=["tests.engine.shop"], shards=2, qqq=3)
    with pytest.raises(TypeError, match="memory_bytes is one of shard processes, and with shards=0 there are none"):
        Engine("memory://", objects=[Counter], memory_bytes=1 << 20)
