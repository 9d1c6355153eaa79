"""Reads of an embedded engine that are run where they are asked for: what may be, and what has to go the usual way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, cast

import pytest
import pytest_asyncio

from durable_engine import (
    DurableObject,
    Engine,
    HandlerFailed,
    InvalidArguments,
    Unavailable,
    alarm,
    default_engine,
    field,
    handler,
)
from durable_engine.embedded import Embedded

somebody: ContextVar[str] = ContextVar("somebody", default="nobody")
asked: list[bool] = []


class Tally(DurableObject, name="reads.Tally"):
    count: int = 0
    parts: list[int] = field(default_factory=list)

    @handler
    def add(self, amount: int = 1) -> int:
        self.count += amount
        self.parts.append(amount)
        return self.count

    @handler(readonly=True)
    def get(self) -> int:
        return self.count

    @handler(readonly=True)
    def all_parts(self) -> list[int]:
        return self.parts

    @handler(readonly=True)
    def fail(self) -> int:
        self.count = 1_000
        raise ValueError("no")

    @handler(readonly=True)
    def arm(self) -> None:
        self.alarms.schedule(Tally.ring, after=timedelta(hours=1))

    @handler(readonly=True)
    def tell(self, other: str) -> None:
        self.engine.send(Tally.add, other, 5)

    @handler(readonly=True)
    def who(self) -> str:
        return somebody.get()

    @handler(readonly=True)
    def ask_about(self, other: str) -> None:
        asked.append(default_engine().at(Tally, other).get().done())  # type: ignore[attr-defined]

    @alarm
    def ring(self) -> None:
        pass


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine("memory://", objects=[Tally], shards=0) as opened:
        yield opened


def is_done(call: Any) -> bool:
    return cast("asyncio.Future[Any]", call).done()


async def test_a_read_of_an_object_in_memory_is_answered_where_it_is_asked(engine: Engine) -> None:
    """And one that is not loaded yet is not."""
    tally = engine.at(Tally, "a")
    first = tally.get()
    assert not is_done(first)
    await first
    await tally.add(3)
    again = tally.get()
    assert is_done(again)
    assert await again == 3


async def test_a_read_comes_after_the_calls_made_before_it(engine: Engine) -> None:
    """Those of the same turn of the loop, and those whose commit is under way."""
    tally = engine.at(Tally, "a")
    await tally.get()
    added, read = tally.add(2), tally.get()
    assert not is_done(read)
    assert await asyncio.gather(added, read) == [2, 2]


async def test_a_call_made_inside_a_turn_does_not_run_inside_it(engine: Engine) -> None:
    """Of the same object it would see what is not committed."""
    asked.clear()
    await engine.at(Tally, "b").get()
    await engine.at(Tally, "a").get()
    await engine.at(Tally, "a").ask_about("b")
    await engine.at(Tally, "a").add()
    await engine.at(Tally, "a").ask_about("b")
    assert asked == [False, False]


async def test_a_reader_that_never_waits_leaves_turns_to_others(engine: Engine) -> None:
    """The loop turns although each answer is there at once."""
    tally, over = engine.at(Tally, "a"), asyncio.Event()
    await tally.get()
    asyncio.get_running_loop().call_soon(over.set)
    async with asyncio.timeout(30):
        while not over.is_set():
            assert await tally.get() == 0


async def test_a_read_that_fails_is_undone_and_says_so(engine: Engine) -> None:
    """As any other turn."""
    tally = engine.at(Tally, "a")
    await tally.add(7)
    with pytest.raises(HandlerFailed, match="no"):
        await tally.fail()
    assert await tally.get() == 7
    with pytest.raises(InvalidArguments):
        await tally.get("surplus")  # type: ignore[call-arg]


async def test_a_read_that_does_more_ends_as_its_turn_would(engine: Engine) -> None:
    """An alarm is committed before the answer; a one-way call leaves."""
    tally = engine.at(Tally, "a")
    await tally.get()
    armed = tally.arm()
    assert not is_done(armed)
    assert await armed is None
    await tally.tell("other")  # its call is made before this one returns, so the next ones come after it
    assert await engine.at(Tally, "other").get() == 5


async def test_a_result_shares_nothing_with_the_object(engine: Engine) -> None:
    """What the caller does to a list is not done to the state."""
    tally = engine.at(Tally, "a")
    await tally.add(1)
    (await tally.all_parts()).append(99)
    assert await tally.all_parts() == [1]


async def test_a_read_sees_nothing_of_its_callers_context(engine: Engine) -> None:
    """Who may be the turn of another object."""
    await engine.at(Tally, "a").get()
    somebody.set("me")
    assert await engine.at(Tally, "a").who() == "nobody"


async def test_without_the_lease_a_read_waits_for_it(engine: Engine) -> None:
    """A process that slept through a takeover must ask the store first."""
    tally = engine.at(Tally, "a")
    await tally.get()
    shard = cast("Embedded", engine._backend)._shard
    shard.gate.lease.until = float("-inf")
    read = tally.get()
    assert not is_done(read)
    holds = shard.gate.lease.holds
    assert await read == 0
    assert shard.gate.lease.holds == holds + 1


async def test_an_engine_that_lost_its_store_answers_no_reads(engine: Engine) -> None:
    """What it has in memory may be somebody else's by now, and its writes are refused already."""
    tally = engine.at(Tally, "a")
    await tally.add()
    backend = cast("Embedded", engine._backend)
    backend._on_stop(Unavailable("another took over"))
    for call in (tally.get, tally.add):
        with pytest.raises(Unavailable, match="another took over"):
            await call()
