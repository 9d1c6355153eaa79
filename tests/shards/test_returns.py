"""What a handler may return or raise, and what its caller hears: the seed's tuples in the form of Python."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from durable_engine import DurableObject, HandlerFailed, Rejected, alarm, handler
from tests.shards.harness import Harness, settle


class Broke(Rejected):
    """There is not enough money."""

    missing: int


class Purse(DurableObject):
    coins: int = 0

    @handler
    def put(self, amount: int) -> int:
        self.coins += amount
        return self.coins

    @handler
    def put_and_remind(self, amount: int) -> int:
        self.coins += amount
        self.alarms.schedule(Purse.count, after=timedelta(minutes=1))
        self.alarms.schedule(Purse.spend, after=timedelta(minutes=2))
        return self.coins

    @handler(readonly=True)
    def look(self) -> int:
        return self.coins

    @handler
    def shake(self) -> int:
        self.coins = int(self.coins)
        return self.coins

    @handler
    def empty(self) -> None:
        self.coins = 0

    @handler
    def empty_and_remind(self) -> None:
        self.coins = 0
        self.alarms.schedule(Purse.count, after=timedelta(minutes=1))

    @handler
    def take(self, amount: int) -> int:
        self.coins -= amount
        self.alarms.schedule(Purse.count, after=timedelta(minutes=1))
        if self.coins < 0:
            raise Broke(missing=-self.coins)
        return self.coins

    @handler
    def nonsense(self, kind: str) -> object:
        self.coins += 1000
        return {"object": object(), "iterator": self._each(), "nan": float("nan"), "huge": 1 << 70}[kind]

    def _each(self) -> Iterator[int]:
        yield self.coins

    @alarm
    def count(self) -> None: ...

    @alarm
    def spend(self) -> None: ...


async def names_of_alarms(h: Harness) -> list[str]:
    return [name for name, *_ in await h.call(Purse, "p", "$pending")]


async def test_a_result_is_the_reply_and_what_was_assigned_is_the_state() -> None:
    """parity 35: the seed's {:reply, result, state}."""
    async with Harness([Purse]) as h:
        assert await h.call(Purse, "p", "put", [3]) == 3
        assert (await h.call(Purse, "p", "$state"))["state"] == {"coins": 3}


async def test_a_turn_may_reply_change_the_state_and_schedule_several_alarms() -> None:
    """parity 36: the seed's {:reply, result, state, {:schedule_alarm, ...}}, with any number, in one commit."""
    async with Harness([Purse]) as h:
        assert await h.call(Purse, "p", "put_and_remind", [3]) == 3
        assert await names_of_alarms(h) == ["count", "spend"]
        assert h.world.statements == 1


async def test_a_result_without_a_change_writes_nothing() -> None:
    """parity 37, 51: the seed's {:reply, result}; nor does a handler write that assigns what was there already."""
    async with Harness([Purse]) as h:
        await h.call(Purse, "p", "put", [3])
        written = h.world.statements
        assert await h.call(Purse, "p", "look") == 3
        assert await h.call(Purse, "p", "shake") == 3
        assert h.world.statements == written


async def test_returning_nothing_is_an_answer_that_comes_after_the_commit() -> None:
    """parity 38: the seed's {:noreply, state}; the caller waits for it all the same, and then it is stored."""
    async with Harness([Purse]) as h:
        await h.call(Purse, "p", "put", [3])
        h.world.hold()
        emptied = h.call(Purse, "p", "empty")
        looked = h.call(Purse, "p", "look")
        await settle()
        assert not emptied.done()
        h.world.release()
        assert await emptied is None
        assert await looked == 0
        assert (await h.call(Purse, "p", "$state"))["state"] == {"coins": 0}


async def test_a_turn_without_a_result_may_schedule_an_alarm() -> None:
    """parity 39: the seed's {:noreply, state, {:schedule_alarm, ...}}."""
    async with Harness([Purse]) as h:
        assert await h.call(Purse, "p", "empty_and_remind") is None
        assert await names_of_alarms(h) == ["count"]


async def test_a_rejection_undoes_state_and_alarms_of_its_turn() -> None:
    """parity 40: the seed's {:error, reason}, as an exception with fields."""
    async with Harness([Purse]) as h:
        await h.call(Purse, "p", "put", [3])
        with pytest.raises(Broke) as broke:
            await h.call(Purse, "p", "take", [5])
        assert (broke.value.missing, broke.value.outcome) == (2, "not_applied")
        assert await h.call(Purse, "p", "look") == 3
        assert await names_of_alarms(h) == []


@pytest.mark.parametrize("kind", ["object", "iterator", "huge"])
async def test_a_result_that_cannot_be_sent_is_an_error_of_its_own(kind: str) -> None:
    """parity 41, fault D12: the seed crashes on other return values; here the turn is undone and its caller told."""
    async with Harness([Purse]) as h:
        await h.call(Purse, "p", "put", [3])
        with pytest.raises(HandlerFailed):
            await h.call(Purse, "p", "nonsense", [kind])
        assert await h.call(Purse, "p", "look") == 3
