"""The fixture `durable`: calls, what is stored, and the three stores."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from durable_engine import (
    DefinitionError,
    DurableObject,
    Engine,
    EngineClosed,
    HandlerFailed,
    UnknownClass,
    handler,
)
from durable_engine.testing import Durable
from tests.engine.tested_objects import Counter, Listener, TooMuch

NOW = datetime(2031, 5, 1, 9, tzinfo=UTC)


async def test_an_object_is_called_without_any_set_up(durable: Durable) -> None:
    """parity 101: by reference and by handler, as with every engine, and the engine itself is at hand."""
    assert await durable.at(Counter, "a").increment(5) == 5
    assert await durable.call(Counter.increment, "a", 2) == 7
    assert isinstance(durable.engine, Engine)
    assert await durable.engine.objects(Counter) == ["a"]


@pytest.mark.parametrize("time", ["first", "second"])
async def test_each_test_has_a_store_of_its_own(durable: Durable, time: str) -> None:
    """parity 101: what one test stores is not there in the next."""
    assert await durable.persisted(Counter, "the same") is None
    assert await durable.call(Counter.increment, "the same") == 1


async def test_classes_need_not_be_listed(durable: Durable) -> None:
    """Neither those that the test names nor those that handlers call, awaited or one way."""
    assert await durable.at(Listener, "x").pass_on(3) == 3
    await durable.at(Listener, "y").tell(4)
    await durable.settled()
    await durable.assert_persisted(Counter, "y", count=4)


async def test_a_class_known_by_name_only_has_to_be_listed(durable: Durable) -> None:
    """The error says where; and once anybody has used the class, its name will do."""
    with pytest.raises(UnknownClass, match=r"pytest.mark.durable\(objects="):
        await durable.at("Counter", "a").increment()
    await durable.at(Counter, "b").get()
    assert await durable.at("Counter", "a").increment() == 1


@pytest.mark.durable(objects=["tests.engine.tested_objects"])
async def test_modules_may_be_listed(durable: Durable) -> None:
    """Then classes can be called by name from the start, by handlers too."""
    assert await durable.at(Listener, "a").by_name() == 1


async def test_two_classes_of_one_stored_name_do_not_meet(durable: Durable) -> None:
    """The second one is refused, and says why."""

    class Other(DurableObject, name="Counter"):
        @handler
        def get(self) -> str:
            return "other"

    await durable.at(Counter, "a").get()
    with pytest.raises(DefinitionError, match="one stored name"):
        durable.at(Other, "a")


async def test_readonly_handlers_are_checked(durable: Durable) -> None:
    """fault D3: in tests a handler that promised to change nothing, and does, fails."""
    with pytest.raises(HandlerFailed, match="readonly"):
        await durable.at(Counter, "a").liar()


@pytest.mark.durable(strict_readonly=False)
async def test_the_check_of_readonly_handlers_can_be_left_out(durable: Durable) -> None:
    """fault D3: as in production, where a read writes nothing."""
    await durable.at(Counter, "a").liar()
    assert await durable.persisted(Counter, "a") is None


async def test_what_is_stored_is_read_from_the_store(durable: Durable) -> None:
    """parity 105: typed, detached, and without waking the object; None for what was never stored."""
    await durable.at(Listener, "a").pass_on(1)
    await durable.engine.evict(Listener, "a")

    stored = await durable.persisted(Listener, "a")

    assert isinstance(stored, Listener)
    assert stored.heard == ["asked for 1"]
    assert await durable.engine.where(Listener, "a") is None
    assert await durable.persisted("Listener", "a") == {"heard": ["asked for 1"]}
    assert await durable.persisted(Listener, "nobody") is None
    stored.heard.append("changed by the test")
    assert (await durable.persisted("Listener", "a")) == {"heard": ["asked for 1"]}


async def test_what_was_undone_is_not_stored(durable: Durable) -> None:
    """parity 105: a rejected turn leaves the state as it was."""
    await durable.at(Counter, "a").increment(60)
    with pytest.raises(TooMuch) as caught:
        await durable.at(Counter, "a").increment(60)
    assert caught.value.most == 100
    await durable.assert_persisted(Counter, "a", count=60)


async def test_stored_state_is_asserted_field_by_field(durable: Durable) -> None:
    """parity 104: by keywords, by a mapping, and that there is none; failures say what is there."""
    await durable.at(Counter, "a").increment(3)

    stored = await durable.assert_persisted(Counter, "a", count=3, heard=[])
    assert stored.count == 3
    await durable.assert_persisted(Counter, "a", {"count": 3})
    await durable.assert_persisted(Counter, "a")
    await durable.assert_persisted(Counter, "nobody", None)

    with pytest.raises(AssertionError, match=r"Counter/a is stored, but count is 3, not 4; heard is \[\], not \['x'\]"):
        await durable.assert_persisted(Counter, "a", count=4, heard=["x"])
    with pytest.raises(AssertionError, match="nothing is stored of Counter/nobody"):
        await durable.assert_persisted(Counter, "nobody", count=0)
    with pytest.raises(AssertionError, match=r"Counter/a is stored: Counter\(count=3"):
        await durable.assert_persisted(Counter, "a", None)
    with pytest.raises(AssertionError, match="no field 'cuont'; its fields are: count, fired_at, heard"):
        await durable.assert_persisted(Counter, "a", cuont=3)


@pytest.mark.durable(prefix="tenant-a")
async def test_a_tenant_may_be_chosen_for_all_calls(durable: Durable) -> None:
    """parity 101: by the marker; a call may name another one, and they never meet."""
    await durable.at(Counter, "a").increment(1)
    await durable.at(Counter, "a", prefix="tenant-b").increment(2)
    await durable.at(Counter, "a", prefix="tenant-b").plan("reset", 60)

    await durable.assert_persisted(Counter, "a", count=1)
    await durable.assert_persisted(Counter, "a", prefix="tenant-b", count=2)
    await durable.assert_persisted(Counter, "a", None, prefix="")
    assert await durable.pending(Counter, "a") == []
    assert [each.prefix for each in await durable.alarms()] == ["tenant-b"]


@pytest.mark.durable(now=NOW)
async def test_the_clock_begins_where_the_marker_says_and_stands_still(durable: Durable) -> None:
    """Handlers see it, too."""
    await durable.at(Counter, "a").plan("reset", 0)
    await durable.fire(Counter, "a", Counter.reset)
    assert durable.now() == durable.clock.now() == NOW
    await durable.assert_persisted(Counter, "a", fired_at=[NOW])


async def test_the_clock_begins_with_the_real_time(durable: Durable) -> None:
    """So that times which a test makes of the system's clock are near."""
    assert timedelta(0) <= datetime.now(UTC) - durable.now() < timedelta(minutes=5)


async def play_a_life(durable: Durable) -> None:
    """Calls, alarms, a refused save, a crash and the passing of time, whatever the store."""
    counter = durable.at(Counter, "a")
    assert await asyncio.gather(*(counter.increment() for _ in range(5))) == [1, 2, 3, 4, 5]
    await counter.plan("reset", 60)
    await durable.crash(Counter, "a")
    assert await counter.get() == 5
    await durable.at(Counter, "a", prefix="tenant").increment(7)
    await durable.at(Counter, "b").plan("reset", 30)
    assert [(each.object_id, each.name) for each in await durable.alarms(Counter)] == [("b", "reset"), ("a", "reset")]
    due = durable.now() + timedelta(seconds=60)
    await durable.advance(timedelta(hours=2))
    await durable.assert_persisted(Counter, "a", count=0, fired_at=[due])
    await durable.assert_persisted(Counter, "a", prefix="tenant", count=7)
    assert await durable.engine.where(Counter, "a") is None
    assert await durable.alarms() == []


async def test_memory_is_the_default(durable: Durable) -> None:
    """parity 101: a whole life without a disk."""
    await play_a_life(durable)


@pytest.mark.durable(store="sqlite")
async def test_sqlite_by_the_marker(durable: Durable) -> None:
    """parity 101: the same on SQLite, in a directory of the test's own."""
    await play_a_life(durable)


@pytest.mark.durable("postgresql")
async def test_postgresql_by_the_marker(durable: Durable) -> None:
    """parity 101: the same on PostgreSQL, in a database of the test's own, tenants set up when they are met."""
    await play_a_life(durable)


async def test_outside_of_pytest_it_is_a_context_manager(tmp_path: object) -> None:
    """On a store that is named, what is there stays for the next."""
    url = f"sqlite:///{tmp_path}/store"
    async with Durable(url, now=NOW) as durable:
        await durable.call(Counter.increment, "a")
    async with Durable(url, exactly_once=True) as durable:
        await durable.assert_persisted(Counter, "a", count=1)


async def test_outside_of_its_context_it_says_so() -> None:
    """Before and after."""
    durable = Durable()
    with pytest.raises(EngineClosed, match="not open"):
        await durable.persisted(Counter, "a")
    async with durable:
        await durable.call(Counter.increment, "a")
    with pytest.raises(EngineClosed, match="not open"):
        durable.advance(timedelta(1))


def test_a_clock_needs_a_time_zone() -> None:
    """A naive time is nobody's."""
    with pytest.raises(ValueError, match="aware"):
        Durable(now=datetime(2031, 5, 1))
