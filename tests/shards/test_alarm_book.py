"""What a turn may schedule and cancel, and what its commit takes over."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest

from durable_shards.alarms import AlarmBook, PendingAlarm, alarm
from durable_shards.errors import InvalidArguments
from durable_shards.object import DurableObject
from durable_shards.registry import spec_of
from durable_storage.errors import TooLarge
from durable_storage.limits import PAYLOAD_BYTES_MAX
from durable_storage.store import AlarmRow

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Clock(DurableObject):
    rung: int = 0

    @alarm
    def ring(self) -> None:
        self.rung += 1

    @alarm
    async def tick(self, attempt: int, payload: Any) -> tuple[int, Any]:
        return attempt, payload

    @alarm
    def note(self, payload: str) -> str:
        return payload


class Open(DurableObject):
    def handle_alarm(self, name: str, payload: Any, attempt: int) -> tuple[str, Any, int]:
        return name, payload, attempt


def book(cls: type = Clock, **committed: timedelta) -> AlarmBook:
    rows = {name: AlarmRow(name, NOW + after) for name, after in committed.items()}
    return AlarmBook(rows, lambda: NOW, spec_of(cls))


def test_a_new_book_has_nothing_to_commit() -> None:
    """Looking at alarms changes nothing."""
    empty = book(ring=SECOND)
    assert empty.pending() == [PendingAlarm("ring", NOW + SECOND, 0, None)]
    assert not empty.changed


def test_a_beat_from_the_dawn_of_time_is_no_storm() -> None:
    """Ticks that would all be fired at once are refused when they are far too many, and are no matter otherwise."""
    long_ago = datetime(1, 1, 1, tzinfo=UTC)
    it = book()
    with pytest.raises(InvalidArguments, match=r"\d{6} ticks lie between .* begin later, or pass missed='coalesce'"):
        it.schedule(Clock.ring, at=long_ago, every=timedelta(days=1), missed="all")
    assert not it.changed
    it.schedule(Clock.ring, at=long_ago, every=timedelta(days=1))
    it.schedule(Clock.note, at=NOW - 100 * SECOND, every=SECOND, missed="all")


def test_an_alarm_is_scheduled_after_a_time_or_at_a_time() -> None:
    """parity 74, 76: relative, zero, very long, and absolute."""
    it = book()
    it.schedule(Clock.ring, after=SECOND)
    it.schedule("tick", at=datetime(2031, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), payload={"a": [1]})
    it.schedule(Clock.note, after=timedelta(0))
    assert it.pending() == [
        PendingAlarm("note", NOW),
        PendingAlarm("ring", NOW + SECOND),
        PendingAlarm("tick", datetime(2031, 1, 1, tzinfo=UTC), 0, {"a": [1]}),
    ]
    assert it.set["tick"] == AlarmRow("tick", datetime(2031, 1, 1, tzinfo=UTC), b'{"a":[1]}', 0)
    assert it.changed
    it.schedule(Clock.ring, after=timedelta(days=365_000))
    assert it.pending()[-1].at.year > 3000


def test_scheduling_a_name_again_replaces_it() -> None:
    """parity 75: the last word wins, and attempts begin anew."""
    it = AlarmBook({"ring": AlarmRow("ring", NOW, None, 7)}, lambda: NOW, spec_of(Clock))
    assert it.pending()[0].attempt == 7
    it.schedule(Clock.ring, after=2 * SECOND)
    it.schedule(Clock.ring, after=SECOND)
    assert it.pending() == [PendingAlarm("ring", NOW + SECOND)]
    assert it.result() == it.set


def test_cancelling_tells_whether_it_was_armed() -> None:
    """parity 79: an absent alarm is no error."""
    it = book(ring=SECOND)
    assert it.cancel(Clock.ring)
    assert not it.cancel("ring")
    assert not it.cancel("never was")
    assert (it.pending(), it.set, it.cleared) == ([], {}, {"ring"})
    it.schedule(Clock.tick, after=SECOND)
    assert it.cancel(Clock.tick)
    assert it.cleared == {"ring"}


def test_cancelled_and_scheduled_again_is_scheduled() -> None:
    """No name is both set and cleared."""
    it = book(ring=SECOND)
    it.cancel(Clock.ring)
    it.schedule(Clock.ring, after=3 * SECOND)
    assert it.cleared == set()
    assert it.result() == {"ring": AlarmRow("ring", NOW + 3 * SECOND)}


def test_cancel_all_counts_what_was_armed() -> None:
    """parity 80: committed ones and those of this turn."""
    it = book(ring=SECOND, old=SECOND)
    it.schedule(Clock.note, after=SECOND)
    it.schedule(Clock.ring, after=SECOND)
    assert it.cancel_all() == 3
    assert it.cancel_all() == 0
    assert (it.pending(), it.cleared) == ([], {"ring", "old"})


def test_pending_alarms_are_listed_soonest_first() -> None:
    """parity 81: ties by name."""
    it = book(tick=SECOND, ring=SECOND)
    it.schedule(Clock.note, after=timedelta(0))
    assert [each.name for each in it.pending()] == ["note", "ring", "tick"]


WRONG: list[tuple[Any, dict[str, Any], str]] = [
    ("ring", {}, "alarm 'ring': say when, by either after=timedelta(...) or at=datetime(...)"),
    ("ring", {"after": SECOND, "at": NOW}, "alarm 'ring': say when, by either"),
    ("ring", {"after": 5}, "alarm 'ring': after must be a timedelta, such as timedelta(seconds=30)"),
    ("ring", {"after": -SECOND}, "alarm 'ring': after must not be negative"),
    ("ring", {"after": timedelta.max}, "alarm 'ring': that time is outside of the years 1 to 9999"),
    ("ring", {"at": datetime(2030, 1, 1)}, "alarm 'ring': at must be a datetime with a time zone, such as"),
    ("ring", {"at": "2030-01-01"}, "alarm 'ring': at must be a datetime with a time zone"),
    ("ring", {"at": datetime.max.replace(tzinfo=timezone(-timedelta(hours=9)))}, "outside of the years 1 to 9999"),
    ("ring", {"after": SECOND, "payload": {1, 2}}, "alarm 'ring': payload: expected plain JSON"),
    ("ring", {"after": SECOND, "payload": [{"a": (1,)}]}, "alarm 'ring': payload[0]['a']: expected plain JSON"),
    ("ring", {"after": SECOND, "payload": 2**64}, "alarm 'ring': the payload cannot be stored: Integer exceeds"),
    ("rung", {"after": SECOND}, "Clock has no alarm 'rung'; its alarms are: ring, tick, note. Declare it with @alarm"),
    ("", {"after": SECOND}, "alarm name must not be empty; pass Clock.<method under @alarm>, or its name"),
    (len, {"after": SECOND}, "expected a method under @alarm or the name of an alarm, not <built-in function len>"),
    ("x" * 201, {"after": SECOND}, "alarm name is 201 bytes"),
]


@pytest.mark.parametrize(("name", "when", "message"), WRONG)
def test_a_wrong_alarm_is_refused(name: Any, when: dict[str, Any], message: str) -> None:
    """The message says what to pass instead, and nothing is scheduled."""
    it = book()
    with pytest.raises(InvalidArguments) as wrong:
        it.schedule(name, **when)
    assert message in str(wrong.value)
    assert not it.changed


def test_a_payload_has_a_limit() -> None:
    """One that a database could not take would hold up the commits of all objects."""
    it = book()
    it.schedule(Clock.ring, after=SECOND, payload="x" * (PAYLOAD_BYTES_MAX - 2))
    with pytest.raises(TooLarge, match="alarm 'tick': the payload is 4194305 bytes, more than the 4194304 allowed"):
        it.schedule("tick", after=SECOND, payload="x" * (PAYLOAD_BYTES_MAX - 1))
    assert list(it.set) == ["ring"]


def test_an_alarm_of_another_class_is_refused() -> None:
    """Even when this class has one of the same name."""

    class Other(DurableObject):
        @alarm
        def ring(self) -> None: ...

    it = book()
    it.schedule("ring", after=SECOND)
    for act in (partial(it.schedule, after=SECOND), it.cancel):
        with pytest.raises(InvalidArguments, match=r"<alarm Other.ring> is an alarm of another class than Clock"):
            act(Other.ring)
    with pytest.raises(InvalidArguments, match="expected a method under @alarm or the name of an alarm, not 5"):
        it.cancel(5)  # type: ignore[arg-type]
    assert it.cancel("ring")


def test_a_class_with_handle_alarm_takes_any_name() -> None:
    """parity 82: but for those that the engine keeps to itself."""
    it = book(Open)
    it.schedule("whatever", after=SECOND)
    assert it.pending()[0].name == "whatever"
    for name in ("$retry", "_x"):
        with pytest.raises(InvalidArguments):
            it.schedule(name, after=SECOND)


def test_an_alarm_method_gets_the_attempt_and_the_payload_if_it_wants_them() -> None:
    """In whatever order it names them."""
    spec, row = spec_of(Clock), AlarmRow("tick", NOW, b'{"a":1}', 2)
    clock = Clock()
    assert spec.alarms["ring"].call(clock, AlarmRow("ring", NOW)) is None
    assert clock.rung == 1
    assert asyncio.run(spec.alarms["tick"].call(clock, row)) == (2, {"a": 1})
    assert spec.alarms["note"].call(clock, row) == {"a": 1}
    assert spec.alarms["tick"].is_async
    assert spec.alarm("unknown") is None


def test_handle_alarm_gets_the_name() -> None:
    """parity 82: one method for all names that have none."""
    spec = spec_of(Open)
    found = spec.alarm("whatever")
    assert found is not None
    assert found.call(Open(), AlarmRow("whatever", NOW, b"1", 3)) == ("whatever", 1, 3)
