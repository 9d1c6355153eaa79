"""The fixture `durable`: alarms are fired when a test says so, and time passes without waiting."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from durable_engine import CallTimeout, HandlerFailed, InvalidArguments
from durable_engine.testing import AlarmNotArmed, Durable, EndlessAlarms
from tests.engine.tested_objects import Counter, Listener

MINUTE = timedelta(minutes=1)


async def test_alarms_are_asserted(durable: Durable) -> None:
    """parity 106: armed, and within a time; or not armed; failures name what is."""
    await durable.at(Counter, "a").plan("reset", 90)

    found = await durable.assert_alarm_scheduled(Counter, "a", Counter.reset, within=timedelta(seconds=90))
    assert found.at == durable.now() + timedelta(seconds=90)
    assert await durable.pending(Counter, "a") == [found]
    await durable.assert_alarm_scheduled(Counter, "a", "reset")
    await durable.refute_alarm_scheduled(Counter, "a", Counter.tick)
    await durable.refute_alarm_scheduled(Counter, "b")

    with pytest.raises(AssertionError, match=r"reset.* is armed for 0:01:30 from now, not within 0:01:00"):
        await durable.assert_alarm_scheduled(Counter, "a", "reset", within=MINUTE)
    with pytest.raises(AssertionError, match=r"Counter/a has no alarm 'tick' armed; armed are: reset in 0:01:30"):
        await durable.assert_alarm_scheduled(Counter, "a", Counter.tick)
    with pytest.raises(AssertionError, match=r"Counter/a has armed: reset at"):
        await durable.refute_alarm_scheduled(Counter, "a")
    with pytest.raises(AssertionError, match=r"Counter/a has armed: reset at"):
        await durable.refute_alarm_scheduled(Counter, "a", Counter.reset)
    with pytest.raises(InvalidArguments, match="@alarm"):
        await durable.assert_alarm_scheduled(Counter, "a", Counter.get)  # type: ignore[arg-type]


async def test_all_alarms_are_listed(durable: Durable) -> None:
    """parity 107: of every object, or of one class, soonest first."""
    await durable.at(Counter, "b").plan("reset", 20, {"why": "late"})
    await durable.at(Counter, "a").plan("tick", 30)
    await durable.at(Listener, "c").plan("anything", 10)

    listed = [(each.object_type, each.object_id, each.name, each.payload) for each in await durable.alarms()]
    assert listed == [
        ("Listener", "c", "anything", None), ("Counter", "b", "reset", {"why": "late"}), ("Counter", "a", "tick", None),
    ]  # fmt: skip
    assert [each.object_id for each in await durable.alarms(Counter)] == ["b", "a"]
    assert [each.object_id for each in await durable.alarms("Listener")] == ["c"]


async def test_an_alarm_is_fired_before_its_time(durable: Durable) -> None:
    """parity 108: now, with its payload, and it is armed no more."""
    await durable.at(Counter, "a").increment(3)
    await durable.at(Counter, "a").plan("reset", 3600)

    await durable.fire(Counter, "a", Counter.reset)

    await durable.assert_persisted(Counter, "a", count=0, fired_at=[durable.now()])
    assert await durable.pending(Counter, "a") == []
    await durable.at(Listener, "a").plan("anything", 3600)
    await durable.fire(Listener, "a", "anything")
    await durable.assert_persisted(Listener, "a", heard=["anything 0 None"])


async def test_an_alarm_that_is_not_armed_cannot_be_fired(durable: Durable) -> None:
    """parity 108: the error names those that are."""
    await durable.at(Counter, "a").plan("reset", 60)
    with pytest.raises(AlarmNotArmed, match="Counter/a has no alarm 'tick' armed; armed are: reset"):
        await durable.fire(Counter, "a", Counter.tick)
    with pytest.raises(LookupError, match="armed are: none"):
        await durable.fire(Counter, "b", "reset")


async def test_a_firing_that_arms_its_alarm_again_keeps_it(durable: Durable) -> None:
    """parity 108: the new arming stays."""
    await durable.at(Counter, "a").plan("again", 60, 5)
    await durable.fire(Counter, "a", Counter.again)
    [armed] = await durable.pending(Counter, "a")
    assert (armed.name, armed.payload, armed.at) == ("again", 4, durable.now() + timedelta(seconds=1))


async def test_the_failure_of_a_fired_alarm_is_raised(durable: Durable) -> None:
    """parity 108: and the alarm is armed as before, with nothing of the turn kept."""
    await durable.at(Counter, "a").plan("stumble", 60)
    before = await durable.pending(Counter, "a")
    with pytest.raises(HandlerFailed, match="stumbled at attempt 0"):
        await durable.fire(Counter, "a", Counter.stumble)
    assert await durable.pending(Counter, "a") == before
    await durable.assert_persisted(Counter, "a", None)


async def test_all_alarms_are_drained(durable: Durable) -> None:
    """parity 109: those that are armed meanwhile too, due or not, and the time stays what it was."""
    await durable.at(Counter, "a").plan("again", 60, 3)
    await durable.at(Counter, "b").plan("reset", 3600)
    before = durable.now()

    assert await durable.drain() == 5
    assert await durable.drain() == 0
    assert durable.now() == before
    await durable.assert_persisted(Counter, "a", count=4)


async def test_draining_ends_with_a_handler_that_always_arms_again(durable: Durable) -> None:
    """parity 109: after `max` firings it fails, with the names."""
    await durable.at(Counter, "a").plan("forever", 0)
    await durable.at(Counter, "b").plan("reset", 3600)
    with pytest.raises(EndlessAlarms, match=r"10 alarms were fired and there is no end: Counter/a 'forever' \(10\)"):
        await durable.drain(max=10)
    await durable.at(Counter, "c").plan("again", 0, 2)
    await durable.engine.alarms(Counter, "a").cancel_all()
    assert await durable.drain(max=4) == 4


async def test_the_failure_of_a_drained_alarm_is_raised(durable: Durable) -> None:
    """parity 109: a test shall not take it for fired."""
    await durable.at(Counter, "a").plan("stumble", 60)
    with pytest.raises(HandlerFailed, match="stumbled"):
        await durable.drain()


async def test_time_passes_from_event_to_event(durable: Durable) -> None:
    """parity 110: each alarm fires at its own time, in their order, and none that lies behind the time advanced."""
    start = durable.now()
    for object_id, seconds in (("late", 40), ("first", 10), ("second", 20)):
        await durable.at(Counter, object_id).plan("reset", seconds)
    await durable.at(Counter, "chain").plan("again", 9, 100)

    await durable.advance(timedelta(seconds=30))

    assert durable.now() == start + timedelta(seconds=30)
    await durable.assert_persisted(Counter, "first", fired_at=[start + timedelta(seconds=10)])
    await durable.assert_persisted(Counter, "second", fired_at=[start + timedelta(seconds=20)])
    await durable.assert_persisted(Counter, "chain", count=22)
    await durable.assert_persisted(Counter, "late", None)
    await durable.advance(timedelta(seconds=10))
    await durable.assert_persisted(Counter, "late", fired_at=[start + timedelta(seconds=40)])


async def test_nothing_fires_while_time_stands_still(durable: Durable) -> None:
    """Not even what is due at once, until time is advanced, be it by nothing."""
    await durable.at(Counter, "a").plan("reset", 0)
    await durable.settled()
    await durable.assert_alarm_scheduled(Counter, "a", Counter.reset, within=timedelta(0))
    await durable.advance(timedelta(0))
    await durable.assert_persisted(Counter, "a", fired_at=[durable.now()])


async def test_a_recurring_alarm_fires_at_each_of_its_ticks(durable: Durable) -> None:
    """A day of them, in no time."""
    start = durable.now()
    await durable.at(Counter, "a").every(3600)
    await durable.advance(timedelta(days=1))
    stored = await durable.assert_persisted(Counter, "a", count=24)
    assert stored.fired_at == [start + timedelta(hours=hour) for hour in range(1, 25)]
    await durable.assert_alarm_scheduled(Counter, "a", Counter.tick, within=timedelta(hours=1))


async def test_years_pass_quickly(durable: Durable) -> None:
    """What takes time is what happens, not how long it takes."""
    await durable.at(Counter, "a").plan("reset", 50 * 365 * 86_400)
    await durable.advance(timedelta(days=100 * 365))
    await durable.assert_persisted(Counter, "a", count=0)


async def test_a_failing_alarm_is_tried_again_as_time_passes(durable: Durable) -> None:
    """With its attempts counted, as in production."""
    await durable.at(Counter, "a").plan("stumble", 60)
    await durable.advance(MINUTE)
    [armed] = await durable.pending(Counter, "a")
    assert armed.attempt == 1
    await durable.advance(MINUTE)
    await durable.assert_persisted(Counter, "a", count=1, heard=["2"])


@pytest.mark.durable(alarm_attempts=2)
async def test_options_of_the_engine_may_be_given(durable: Durable) -> None:
    """Such as the number of attempts; a parked alarm is not armed any more."""
    await durable.at(Counter, "a").plan("stumble", 60)
    await durable.advance(2 * MINUTE)
    assert await durable.pending(Counter, "a") == []
    assert await durable.alarms() == []
    [parked] = await durable.engine.all_alarms(orphaned=True)
    assert (parked.name, parked.attempt) == ("stumble", 2)


async def test_alarms_without_end_stop_the_time(durable: Durable) -> None:
    """One that always arms itself again for the same moment is named."""
    await durable.at(Counter, "a").plan("forever", 10)
    with pytest.raises(EndlessAlarms, match="Counter/a 'forever'"):
        await durable.advance(MINUTE)


async def test_calls_time_out_by_the_clock(durable: Durable) -> None:
    """The turn that hangs is cancelled and undone, and those that wait for it go on or end as well."""
    waiting = asyncio.ensure_future(durable.at(Listener, "a").wait())
    behind = asyncio.ensure_future(durable.at(Listener, "a", timeout=1).pass_on(1))
    await durable.advance(timedelta(seconds=2))
    with pytest.raises(CallTimeout):
        await behind
    assert not waiting.done()
    await durable.advance(timedelta(seconds=3))
    with pytest.raises(CallTimeout):
        await waiting
    assert await durable.at(Listener, "a").pass_on(2) == 2
    await durable.assert_persisted(Listener, "a", heard=["asked for 2"])


async def test_time_goes_on_over_an_alarm_that_hangs(durable: Durable) -> None:
    """Its deadline comes, and it is tried again."""
    await durable.at(Listener, "a").plan("hang", 10)
    await durable.advance(timedelta(seconds=15))
    [armed] = await durable.pending(Listener, "a")
    assert (armed.name, armed.attempt) == ("hang", 1)


async def test_idle_objects_leave_memory_as_time_passes(durable: Durable) -> None:
    """Hibernation first, then shutdown; an alarm in between wakes the object and counts as use."""
    await durable.at(Counter, "a").increment()
    await durable.advance(timedelta(minutes=6))
    assert await in_memory(durable) == (0, 1)
    await durable.at(Counter, "a").plan("reset", 3000)
    await durable.advance(timedelta(minutes=50))
    assert await in_memory(durable) == (1, 0)
    await durable.advance(timedelta(hours=1, minutes=1))
    assert await in_memory(durable) == (0, 0)
    assert await durable.at(Counter, "a").get() == 0


async def in_memory(durable: Durable) -> tuple[int, int]:
    """Live objects, and hibernated ones."""
    [shard] = (await durable.engine.statistics()).shards
    assert shard.statistics is not None
    return shard.statistics.live, shard.statistics.hibernated


async def test_time_that_nobody_awaits_passes_all_the_same(durable: Durable) -> None:
    """And before whatever the test does next."""
    start = durable.now()
    await durable.at(Counter, "a").increment(5)
    durable.advance(MINUTE)
    assert durable.now() == start + MINUTE
    await durable.at(Counter, "a").plan("reset", 60)
    durable.advance(MINUTE)
    durable.advance(MINUTE)
    assert durable.now() == start + 3 * MINUTE
    assert await durable.at(Counter, "a").increment(1) == 1
    assert durable.now() == durable.clock.now() == start + 3 * MINUTE
    await durable.at(Counter, "a").plan("reset", 60)
    durable.advance(MINUTE)
    assert len((await durable.assert_persisted(Counter, "a", count=0)).fired_at) == 2


async def test_the_failure_of_time_that_nobody_awaited_is_not_lost(durable: Durable) -> None:
    """The next step of the test meets it."""
    await durable.at(Counter, "a").plan("forever", 10)
    durable.advance(MINUTE)
    with pytest.raises(EndlessAlarms):
        await durable.pending(Counter, "a")


async def test_time_goes_forward_only(durable: Durable) -> None:
    """Wrong amounts are refused at once."""
    with pytest.raises(ValueError, match="beyond the year 9999: advance by less"):
        await durable.advance(timedelta.max)
    with pytest.raises(ValueError, match="forward"):
        durable.advance(timedelta(seconds=-1))
    with pytest.raises(TypeError, match="timedelta"):
        durable.advance(60)  # type: ignore[arg-type]


async def test_alarms_of_an_earlier_run_fire_once_their_class_is_used(tmp_path: object) -> None:
    """What was armed before is known from the store."""
    async with Durable(f"sqlite:///{tmp_path}/store") as before:
        await before.at(Counter, "a").plan("reset", 60)
        later = before.now() + timedelta(hours=1)
    async with Durable(f"sqlite:///{tmp_path}/store", now=later) as durable:
        assert await durable.drain() == 0
        await durable.at(Counter, "b").get()
        await durable.advance(timedelta(0))
        await durable.assert_persisted(Counter, "a", fired_at=[later])
