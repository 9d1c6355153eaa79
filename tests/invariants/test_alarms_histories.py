"""Histories of the alarms machine that hypothesis has found, or might: each must end as it says, every time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from durable_shards.clock import ManualClock
from durable_shards.deadline_scheduler import IN_FLIGHT_MAX, PER_OBJECT_MAX, PER_TICK, WINDOW_MAX
from durable_storage.store import AlarmRow
from tests.invariants.test_alarms_machine import AlarmsMachine

BOUNDS = (WINDOW_MAX, IN_FLIGHT_MAX, PER_TICK, PER_OBJECT_MAX)
HOUR = 3600


def begun() -> AlarmsMachine:
    machine = AlarmsMachine()
    machine.begin(BOUNDS)
    return machine


def failed_before_the_clock_was_set_back() -> AlarmsMachine:
    """An alarm has failed once and waits for its second attempt, which is an hour away now."""
    machine = begun()
    machine.arm("b", "arm", "bad", 5, 1, "")
    machine.work()
    machine.pass_time(5)
    (row,) = rows(machine)
    assert row.attempts == 1
    machine.set_the_clock_back(HOUR)
    return machine


def rows(machine: AlarmsMachine) -> list[AlarmRow]:
    return [row for rows in machine.world.alarms.values() for row in rows.values()]


def fired(machine: AlarmsMachine) -> list[int]:
    return sorted(token for _, token, _ in machine.world.effects)


def test_a_retry_after_the_clock_was_set_back_fires_before_the_tick() -> None:
    """People who ask for a retry get it now, though by the new clock its tick is to come."""
    machine = failed_before_the_clock_was_set_back()
    machine.retry("b")
    machine.work()
    machine.pass_time(0)
    machine.pass_time(3)
    machine.judge()
    assert (fired(machine), rows(machine)) == ([1], [])
    machine.teardown()


def test_without_a_retry_it_waits_for_the_new_clock() -> None:
    """A clock that is set back alone makes no attempt early."""
    machine = failed_before_the_clock_was_set_back()
    machine.pass_time(100)
    assert fired(machine) == []
    machine.teardown()
    assert fired(machine) == [1]


def test_an_attempt_that_comes_early_unasked_is_found() -> None:
    """The witness believes what people asked for, and nothing else."""
    machine = failed_before_the_clock_was_set_back()
    machine.harness.scheduler._clock = ManualClock(machine.clock.now() + timedelta(seconds=2 * HOUR))
    machine.pass_time(0)
    with pytest.raises(AssertionError, match="bad of b was fired early: 2023-12-31T23:00:05"):
        machine.judge()
    machine.world.broken.clear()
    machine.teardown()


def test_a_firing_waits_until_a_lease_that_was_lost_with_the_store_is_confirmed() -> None:
    """What waits for the loop's own clock gets its time in the end, on a machine however fast."""
    machine = begun()
    machine.repeat("a", "coalesce", 7.0)
    for _ in range(4):
        machine.freeze_and_thaw()
    machine.lose_the_store(0.5)
    machine.teardown()
    assert len(machine.world.effects) > 1


def test_a_history_is_the_same_when_it_is_played_again() -> None:
    """A chain arms itself by tokens of the history's own: the one played before leaves no trace."""
    seen = []
    for _ in range(2):
        machine = begun()
        machine.arm("a", "arm_slowly", "chain", 0.5, 0, "")
        machine.repeat("b", "all", 7.0)
        for seconds in (1, 6, 20):
            machine.pass_time(seconds)
            machine.idle(0.5)
        machine.take_over()
        machine.teardown()
        seen.append(sorted(machine.world.effects))
    assert seen[0] == seen[1]
    assert len(seen[0]) > 5
