"""The heap of deadlines: bounded, fair, and never the truth."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from durable_shards import deadline_scheduler as schedulers
from durable_shards.clock import ManualClock
from durable_shards.firing import Firing
from durable_shards.wire import Call
from durable_storage.address import Address
from durable_storage.errors import StoreUnavailable
from durable_storage.memory import MemoryWorld
from durable_storage.store import AlarmRow, DueAlarm, Served
from tests.shards.alarm_objects import GATES, Bell, Slowcoach
from tests.shards.harness import Harness, settle
from tests.shards.test_firing import BELL, NOW, rows, rung

SLOWCOACH = Address("", "Slowcoach", "a")


def world_with(count: int, clock: ManualClock, at_seconds: float = 0) -> MemoryWorld:
    """A store with an alarm in each of `count` objects."""
    world = MemoryWorld(now=clock.now)
    for number in range(count):
        address = BELL._replace(object_id=f"{number:06}")
        world.alarms[address] = {"ring": AlarmRow("ring", clock.now() + timedelta(seconds=at_seconds))}
    return world


async def test_only_the_next_window_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """fault C3: parity 86: of a storm a bounded part is in memory, and all of it fires."""
    monkeypatch.setattr(schedulers, "WINDOW_MAX", 50)
    clock = ManualClock()
    async with Harness([Bell], world=world_with(700, clock), clock=clock) as h:
        most = 0
        for _ in range(4000):
            await asyncio.sleep(0)
            now = h.scheduler.statistics()
            most = max(most, now.armed)
            if not h.world.alarms and not now.in_flight:
                break
        assert h.world.alarms == {}
        assert h.scheduler.statistics().fired == 700
        assert 0 < most <= 100 + 1


async def test_sweeps_bring_no_more_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """parity 86: however often the time for a sweep comes while a storm lasts, memory stays bounded."""
    monkeypatch.setattr(schedulers, "WINDOW_MAX", 50)
    monkeypatch.setattr(schedulers, "IN_FLIGHT_MAX", 1)
    clock = ManualClock()
    async with Harness([Bell], world=world_with(700, clock), clock=clock) as h:
        h.world.hold()
        for _ in range(10):
            await h.pass_time(31)
        assert h.scheduler.statistics().armed <= 100
        h.world.release()


async def test_a_sweep_that_takes_long_keeps_nobody_busy() -> None:
    """parity 86: while the store is being asked there is nothing to do, even when the next sweep's time has come."""
    clock = ManualClock()
    answer = asyncio.Event()
    looks = 0

    class Slow:
        """A store that takes its time."""

        async def due_alarms(self, *_: Any) -> list[DueAlarm]:
            await answer.wait()
            return []

    class Counted(schedulers.DeadlineScheduler):
        """Counts how often it looks for work."""

        def run_due(self) -> None:
            nonlocal looks
            looks += 1
            super().run_due()

    scheduler = Counted(Slow(), lambda: Served((), ()), clock, poll_seconds=30)  # type: ignore[arg-type]
    await scheduler.start(lambda alarm, peer: None, lambda alarm, problem, peer: None)
    clock.advance(timedelta(seconds=31))
    scheduler.run_due()
    await settle(200)
    assert looks == 1
    answer.set()
    await settle()
    assert looks == 2, "the sweep that was put off"
    await scheduler.close()


async def test_a_paused_scheduler_begins_nothing_and_asks_for_nothing() -> None:
    """parity 92: whatever comes due, and whatever commits still arm; the next owner finds it in the store."""
    clock = ManualClock()
    begun: list[DueAlarm] = []
    looks = 0

    class Empty:
        """A store without alarms."""

        async def due_alarms(self, *_: Any) -> list[DueAlarm]:
            nonlocal looks
            looks += 1
            return []

    scheduler = schedulers.DeadlineScheduler(Empty(), lambda: Served((), ()), clock, poll_seconds=30)  # type: ignore[arg-type]
    await scheduler.start(lambda alarm, peer: begun.append(alarm), lambda alarm, problem, peer: None)
    await settle()
    scheduler.armed(BELL, [AlarmRow("ring", NOW + timedelta(seconds=1))])
    scheduler.pause()
    scheduler.armed(BELL, [AlarmRow("tell", NOW)])
    clock.advance(timedelta(seconds=60))
    scheduler.run_due()
    await settle()
    assert (begun, looks) == ([], 1)
    await scheduler.close()


async def test_a_slow_object_with_many_alarms_keeps_no_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """parity 86: while one object takes its time, and hundreds of its alarms are due, those of others fire."""
    monkeypatch.setattr(schedulers, "IN_FLIGHT_MAX", 64)
    GATES["slow"] = asyncio.Event()
    clock = ManualClock()
    world = MemoryWorld(now=clock.now)
    world.alarms[SLOWCOACH] = {f"{number:03}": AlarmRow(f"{number:03}", NOW) for number in range(200)}
    async with Harness([Bell, Slowcoach], world=world, clock=clock) as h:
        await settle()
        assert h.scheduler.statistics().in_flight == schedulers.PER_OBJECT_MAX
        await h.call(Bell, "a", "arm", ["ring", 1])
        await h.pass_time(1)
        assert await rung(h) == ["ring"]
        GATES["slow"].set()
        await settle(1000)
        assert await h.call(Slowcoach, "a", "get") == [f"{number:03}" for number in range(200)]
        assert h.scheduler.statistics().in_flight == 0


async def test_alarms_that_wait_for_others_of_their_object_can_be_cancelled_and_armed_anew() -> None:
    """parity 79, 86: they fire at their new time, or never, and do not hold up those behind them."""
    GATES["slow"] = asyncio.Event()
    clock = ManualClock()
    world = MemoryWorld(now=clock.now)
    names = [f"{number:03}" for number in range(100)]
    world.alarms[SLOWCOACH] = {name: AlarmRow(name, NOW) for name in names}
    async with Harness([Bell, Slowcoach], world=world, clock=clock) as h:
        await settle()
        changes = [h.call(Slowcoach, "a", "disarm", [name], timeout=1e6) for name in names[40:60]]
        changes += [h.call(Slowcoach, "a", "arm", [name, 10], timeout=1e6) for name in names[60:98]]
        GATES["slow"].set()
        await settle(1000)
        assert all(change.done() for change in changes)
        assert await h.call(Slowcoach, "a", "get") == [*names[:40], *names[98:]]
        await h.pass_time(10)
        await settle(1000)
        assert await h.call(Slowcoach, "a", "get") == [*names[:40], *names[98:], *names[60:98]]


async def test_commits_beyond_the_window_are_found_by_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """parity 86: what does not fit is forgotten in memory, never in the store, and comes back in time."""
    monkeypatch.setattr(schedulers, "WINDOW_MAX", 5)
    async with Harness([Bell]) as h:
        for number in range(40):
            await h.call(Bell, f"{number}", "arm", ["ring", 1 + number / 10], timeout=1e6)
            assert h.scheduler.statistics().armed <= 10
        for _ in range(70):
            await h.pass_time(0.1)
        assert h.world.alarms == {}
        assert h.scheduler.statistics().fired == 40


async def test_far_alarms_come_into_memory_when_they_are_near() -> None:
    """parity 86: the sweep brings them, before they are due."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["ring", 3600])
        assert h.scheduler.statistics().armed == 0
        assert h.scheduler.next_due() is None
        for _ in range(119):
            await h.pass_time(30)
        assert h.scheduler.next_due() == NOW + timedelta(hours=1)
        await h.pass_time(30)
        assert await rung(h) == ["ring"]


async def test_calls_are_served_in_a_storm() -> None:
    """fault C3: parity 86: between portions of firings it is the calls' turn."""
    clock = ManualClock()
    async with Harness([Bell], world=world_with(3000, clock), clock=clock) as h:
        await asyncio.sleep(0)
        assert await h.call(Bell, "other", "get") == []
        assert h.scheduler.statistics().fired < 3000
        assert h.scheduler.statistics().in_flight <= schedulers.IN_FLIGHT_MAX


@pytest.mark.parametrize("name", ["spin", "ping"])
async def test_an_alarm_that_arms_itself_at_once_for_ever_is_slowed_down(name: str) -> None:
    """parity 83: itself or by way of another; a few rounds at once, then no more than ten a second."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", [name])
        for _ in range(20):
            await h.pass_time(0)
        assert len(await rung(h)) == schedulers.STREAK_FREE + 1
        for _ in range(300):
            await h.pass_time(0.01)
        before = len(await rung(h))
        for _ in range(1000):
            await h.pass_time(0.01)
        assert 80 <= len(await rung(h)) - before <= 101


async def test_calls_that_arm_at_once_are_not_slowed_down() -> None:
    """parity 83: only firings that arm are; what people ask for fires at once, however often."""
    async with Harness([Bell]) as h:
        for number in range(3 * schedulers.STREAK_FREE):
            await h.call(Bell, "a", "arm", ["ring"], timeout=1e6)
            await settle()
            assert len(await rung(h)) == number + 1


async def test_alarms_that_are_held_back_do_not_hide_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """parity 86: memory may be full of alarms whose objects cannot be reached; those behind them are found in time."""
    monkeypatch.setattr(schedulers, "WINDOW_MAX", 4)
    clock = ManualClock()
    world = world_with(5, clock)
    async with Harness([Bell], world=world, clock=clock) as h:
        h.shard.parked = {f"Bell/{number:06}" for number in range(5)}
        await settle(100)
        await h.call(Bell, "a", "arm", ["ring", 1])
        await h.pass_time(1)
        await settle(100)
        assert await rung(h) == ["ring"]


async def test_later_alarms_do_not_take_the_place_of_forgotten_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """parity 86: once memory was too small, only what is due before all that was forgotten goes into it."""
    monkeypatch.setattr(schedulers, "WINDOW_MAX", 4)
    async with Harness([Bell]) as h:
        for number in range(1, 10):
            await h.call(Bell, f"{number}", "arm", ["ring", number])
        for number in range(50, 53):
            await h.call(Bell, f"{number}", "arm", ["ring", number])
        for _ in range(9):
            await h.pass_time(1)
            await settle(50)
        assert h.scheduler.statistics().fired == 9


async def test_an_alarm_that_is_put_off_is_known_by_its_new_time() -> None:
    """parity 75, 86: one that was near and is far now leaves memory, and comes back when it is near again."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["ring", 40])
        await h.call(Bell, "a", "arm", ["ring", 70])
        assert h.scheduler.next_due() is None
        await h.pass_time(30)
        assert h.scheduler.next_due() == NOW + timedelta(seconds=70)


async def test_an_alarm_that_is_due_again_while_it_is_fired_is_fired_when_that_is_over() -> None:
    """fault C6: parity 89: a newer arming waits for the firing of the older one, and is not forgotten over it."""
    clock = ManualClock()
    async with Harness([Bell], clock=clock) as h:
        fired: list[tuple[DueAlarm, Firing]] = []
        await h.scheduler.start(lambda alarm, peer: fired.append((alarm, peer)), lambda *_: None)
        h.scheduler.armed(BELL, [AlarmRow("ring", NOW)])
        h.scheduler.run_due()
        clock.advance(timedelta(seconds=1))
        h.scheduler.armed(BELL, [AlarmRow("ring", NOW + timedelta(seconds=1))])
        h.scheduler.run_due()
        assert [alarm.at for alarm, _ in fired] == [NOW]
        fired[0][1].put(Call(0, "Bell", "a", "$fire", []), False)
        h.scheduler.run_due()
        assert [alarm.at for alarm, _ in fired] == [NOW, NOW + timedelta(seconds=1)]


async def test_a_clock_that_is_set_back_puts_off_no_sweep() -> None:
    """fault C1: parity 86: sweeps are so many seconds apart, whatever the clock on the wall shows."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["ring", 65])
        h.world.go_away()
        await h.pass_time(30)
        h.world.come_back()
        h.clock._now -= timedelta(hours=1)  # type: ignore[attr-defined]
        await h.pass_time(1)
        assert h.scheduler.statistics().armed == 1


async def test_a_clock_that_is_set_back_fires_nothing_twice_and_nothing_early() -> None:
    """fault C1: parity 76: alarms follow the wall clock, as their times are wall times."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["ring", 10])
        h.clock._now -= timedelta(hours=1)  # type: ignore[attr-defined]
        await h.pass_time(20)
        assert await rung(h) == []
        h.clock._now += timedelta(hours=2)  # type: ignore[attr-defined]
        await h.pass_time(0)
        assert await rung(h) == ["ring"]
        h.clock._now -= timedelta(hours=2)  # type: ignore[attr-defined]
        await h.pass_time(7200)
        assert await rung(h) == ["ring"]


async def test_a_refused_cancellation_leaves_the_alarm_armed() -> None:
    """parity 79: an alarm whose cancelling turn is undone fires all the same."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["ring", 1])
        h.world.hold()
        h.world.refuse(lambda change: bool(change.alarms_cleared))
        cancelled = h.call(Bell, "a", "disarm", ["ring"], timeout=1e6)
        await settle()
        await h.pass_time(1)
        h.world.release()
        with pytest.raises(Exception, match="refused on order"):
            await cancelled
        h.world.refuse(None)
        await settle()
        assert rows(h)["ring"].attempts == 0, "its method was never called"
        for _ in range(3):
            await h.pass_time(1)
        assert await rung(h) == ["ring"]


async def test_a_failure_that_cannot_be_noted_is_tried_again() -> None:
    """parity 87: the alarm stays armed as it was, and fires again later."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["fail_twice", 1])
        h.world.refuse(lambda change: any(row.attempts for row in change.alarms_set))
        await h.pass_time(1)
        assert rows(h)["fail_twice"].attempts == 0
        h.world.refuse(None)
        await h.pass_time(11)
        assert rows(h)["fail_twice"].attempts == 1


async def test_a_sweep_that_fails_is_repeated(caplog: pytest.LogCaptureFixture) -> None:
    """parity 86, 113: a store that does not answer is asked again, and that is logged."""
    clock = ManualClock()
    world = world_with(1, clock)
    async with Harness([Bell], world=world, clock=clock) as h:
        world.go_away()
        h.scheduler._sweep_at = clock.monotonic()
        await settle()
        await h.pass_time(0)
    world.come_back()

    class Away:
        """A store that fails once."""

        asked = 0

        async def due_alarms(self, *_: Any) -> list[DueAlarm]:
            self.asked += 1
            if self.asked == 1:
                raise StoreUnavailable
            return []

    store = Away()
    scheduler = schedulers.DeadlineScheduler(store, lambda: Served((), ()), clock, poll_seconds=30)  # type: ignore[arg-type]
    await scheduler.start(lambda alarm, peer: None, lambda alarm, problem, peer: None)
    await settle()
    assert "trying again" in caplog.text
    clock.advance(timedelta(seconds=1))
    scheduler.run_due()
    await settle()
    assert store.asked == 2
    await scheduler.close()
