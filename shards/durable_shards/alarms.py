"""Alarms of one object: the `@alarm` decorator, the names that may be scheduled, and the changes of one turn.

An `AlarmBook` collects what a turn schedules and cancels over the alarms that are committed; the turn's commit
takes the changes, a rollback drops them with the book.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import update_wrapper
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, Protocol, TypeVar, overload

import orjson

from durable_shards.errors import DefinitionError, InvalidArguments
from durable_shards.recurrence import Missed, recurrence
from durable_shards.shard_events import Fired
from durable_storage.address import name_problem
from durable_storage.errors import TooLarge
from durable_storage.limits import PAYLOAD_BYTES_MAX
from durable_storage.store import AlarmRow
from durable_storage.values import ANYTHING, Mismatch

P = ParamSpec("P")
R = TypeVar("R")

_accept_json = ANYTHING.accept


class PendingAlarm(NamedTuple):
    """An armed alarm as its object and the engine's callers see it."""

    name: str
    at: datetime
    """Aware, in UTC."""
    attempt: int = 0
    """How many times firing it failed so far."""
    payload: Any = None


class Alarm(Generic[P, R]):
    """A method under `@alarm`. On the class it is the reference that `schedule` takes; on an instance, the method."""

    def __init__(self, function: Callable[Concatenate[Any, P], R]) -> None:
        self.function = function
        self.name: str = function.__name__
        self.owner: type[Any] | None = None
        update_wrapper(self, function)  # type: ignore[arg-type]

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.owner, self.name = owner, name

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Alarm[P, R]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> Callable[P, R]: ...
    def __get__(self, instance: object | None, owner: type[Any] | None = None) -> Any:
        return self if instance is None else self.function.__get__(instance, owner)

    def __repr__(self) -> str:
        return f"<alarm {self.owner.__name__ if self.owner else '?'}.{self.name}>"


def alarm(function: Callable[Concatenate[Any, P], R]) -> Alarm[P, R]:
    """Declare a method, sync or async, that runs when the alarm of its name is due.

    It takes `self` and, if it wants them, `attempt` (how many firings failed before), `payload`, and `at` (the time it
    was armed for, aware). Its changes and the removal of the alarm are one commit; if it raises, they are undone and
    the alarm is fired again later.
    """
    if not inspect.isfunction(function):
        said = f"@alarm belongs directly above a plain method, not around {type(function).__name__}"
        raise DefinitionError(f"{said}; remove @staticmethod, @classmethod or @handler")
    return Alarm(function)


class AlarmSpec(NamedTuple):
    """A compiled alarm method, or `handle_alarm` for the names that have no method."""

    name: str
    func: Callable[..., Any]
    is_async: bool
    takes: tuple[str, ...]
    """Of "name", "attempt", "payload" and "at", those that it takes, in its order."""

    def call(self, obj: Any, row: AlarmRow) -> Any:
        """Run it on an instance; the result is a coroutine when `is_async`."""
        if not self.takes:
            return self.func(obj)
        values = {"name": row.name, "attempt": row.attempts, "payload": payload_of(row), "at": row.tick or row.at}
        return self.func(obj, *(values[each] for each in self.takes))


def compile_alarm(where: str, name: str, function: Callable[..., Any], *, named: bool) -> AlarmSpec:
    """Check the signature of an alarm method. Raises DefinitionError."""
    first, *takes = list(inspect.signature(function).parameters) or [""]
    wanted = ["name"] if named else []
    if first != "self" or takes[: len(wanted)] != wanted or not {*takes} <= {*wanted, "attempt", "payload", "at"}:
        right = f"def {name}({', '.join(('self', *wanted))})"
        raise DefinitionError(f"{where}: write {right}; it may also take attempt, payload and at, and nothing else")
    return AlarmSpec(name, function, inspect.iscoroutinefunction(function), tuple(takes))


class ObjectAlarms(Protocol):
    """`self.alarms`: what is scheduled or cancelled here commits with the state of the turn, or not at all."""

    def schedule(
        self,
        alarm: Alarm[..., Any] | str,
        *,
        after: timedelta | None = None,
        at: datetime | None = None,
        every: timedelta | None = None,
        cron: str | None = None,
        tz: str | None = None,
        missed: Missed = "coalesce",
        payload: Any = None,
    ) -> None:
        """Arm an alarm, `after` a time from now or `at` an aware datetime. A name armed before is replaced.

        With `every` (0.1 s or more) it is armed again by each firing, first after that time unless `after` or `at` say
        otherwise; with `cron` (five fields, in the time zone `tz`, by default UTC) at each time that matches. `missed`
        says what becomes of ticks that could not be fired in time: one firing for all of them ("coalesce"), none
        ("skip"), or one for each ("all"). `payload` is plain JSON that the alarm's method gets.
        Raises InvalidArguments, TooLarge.
        """

    def cancel(self, alarm: Alarm[..., Any] | str) -> bool:
        """Disarm an alarm; whether it was armed."""

    def cancel_all(self) -> int:
        """Disarm all alarms of the object; how many there were."""

    def pending(self) -> list[PendingAlarm]:
        """The armed alarms, soonest first."""


class AlarmNames(Protocol):
    """What a class says of its alarms."""

    @property
    def name(self) -> str: ...
    @property
    def cls(self) -> type[Any]: ...
    @property
    def alarms(self) -> Mapping[str, AlarmSpec]: ...
    @property
    def handle_alarm(self) -> AlarmSpec | None: ...


class AlarmBook:
    """The alarms of one object as one turn sees them. Implements `ObjectAlarms`."""

    __slots__ = ("_began", "_committed", "_fired", "_now", "_spec", "cleared", "set")

    def __init__(self, committed: Mapping[str, AlarmRow], now: Callable[[], datetime], spec: AlarmNames) -> None:
        self._committed = committed
        self._now = now
        self._spec = spec
        self._fired: tuple[AlarmRow, AlarmRow | None] | None = None
        self.set: dict[str, AlarmRow] = {}
        """Armed by this turn."""
        self.cleared: Names = Names()
        """Disarmed by this turn; never also in `set`."""

    def fire(self, row: AlarmRow, following: AlarmRow | None) -> None:
        """Begin a turn that fires `row`: its removal, or its next tick, is the turn's first change."""
        self._fired = (row, following)
        self._began = self._now()
        self.replace(row.name, following)

    def has_fired(self) -> Fired | None:
        """What its turn fired, if it did: to be asked when the turn has ended well."""
        if self._fired is None:
            return None
        row = self._fired[0]
        lateness, duration = self._began - row.at, self._now() - self._began
        return Fired(row.name, lateness.total_seconds(), duration.total_seconds())

    def armed_by_firing(self) -> list[str]:
        """The alarms that the method of the fired one has armed itself: its next tick is none of them."""
        return [] if self._fired is None else [name for name, row in self.set.items() if row is not self._fired[1]]

    def replace(self, name: str, row: AlarmRow | None) -> None:
        """Arm an alarm, or disarm it."""
        if row is None:
            self.set.pop(name, None)
            self.cleared.add(name)
        else:
            self.cleared.discard(name)
            self.set[name] = row

    @property
    def changed(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.set or self.cleared)

    def settle(self, armed: Mapping[str, AlarmRow]) -> dict[str, AlarmRow]:
        """All alarms of the object once the turn is committed on top of `armed`.

        An arming that came while the turn fired the alarm of the same name (from an inner turn of a reentrant object)
        is newer than the one that was fired, and stays.
        """
        if self._fired is not None:
            row, following = self._fired
            if armed.get(row.name) is not row and self.set.get(row.name) is following:
                self.set.pop(row.name, None)
                self.cleared.discard(row.name)
        kept = {name: row for name, row in armed.items() if name not in self.cleared}
        return kept | self.set

    def result(self) -> dict[str, AlarmRow]:
        """All alarms of the object as the turn sees them, parked ones too."""
        kept = {name: row for name, row in self._committed.items() if name not in self.cleared}
        return kept | self.set

    def schedule(
        self,
        alarm: Alarm[..., Any] | str,
        *,
        after: timedelta | None = None,
        at: datetime | None = None,
        every: timedelta | None = None,
        cron: str | None = None,
        tz: str | None = None,
        missed: Missed = "coalesce",
        payload: Any = None,
    ) -> None:
        """See `ObjectAlarms`."""
        name = self._name(alarm)
        where = f"alarm {name!r}"
        rule = recurrence(where, every=every, cron=cron, tz=tz, missed=missed)
        if cron is not None and (after is not None or at is not None):
            raise InvalidArguments(f"{where}: cron says when; leave after and at out")
        if rule is not None and after is None and at is None:
            first = rule.first(self._now())
        else:
            first = self._time(where, after, at)
        if first is None:
            raise InvalidArguments(f"{where}: {OUT_OF_TIME}")
        if rule is not None and (missed_ticks := rule.to_catch_up(first, self._now())) > CATCH_UP_MAX:
            said = f"{missed_ticks} ticks lie between {first:%Y-%m-%d} and now, and each would be fired"
            raise InvalidArguments(f"{where}: {said}; begin later, or pass missed='coalesce'")
        text = encoded_payload(name, payload)
        self.replace(name, AlarmRow(name, first, text, recurrence=rule.text if rule else None))

    def cancel(self, alarm: Alarm[..., Any] | str) -> bool:
        """See `ObjectAlarms`. Any name may be cancelled: the class may have lost the method since."""
        name = name_of_alarm(alarm, self._spec.cls)
        armed = self.set.pop(name, None) is not None
        if name in self._committed and name not in self.cleared:
            self.cleared.add(name)
            armed = True
        return armed

    def cancel_all(self) -> int:
        """See `ObjectAlarms`."""
        count = len(self.result())
        self.set.clear()
        self.cleared.update(self._committed)
        return count

    def pending(self) -> list[PendingAlarm]:
        """See `ObjectAlarms`."""
        rows = sorted(self.result().values(), key=lambda row: (row.at, row.name))
        return [PendingAlarm(row.name, row.at, row.attempts, payload_of(row)) for row in rows if not row.is_parked]

    def _name(self, alarm: Alarm[..., Any] | str) -> str:
        spec = self._spec
        known = spec.alarms
        name = name_of_alarm(alarm, spec.cls)
        problem = name_problem("alarm name", name)
        if problem is not None:
            raise InvalidArguments(f"{problem}; pass {spec.name}.<method under @alarm>, or its name")
        if name in known or (spec.handle_alarm is not None and name[0] not in "_$"):
            return name
        names = ", ".join(known) or "none"
        said = f"{spec.name} has no alarm {name!r}; its alarms are: {names}"
        raise InvalidArguments(f"{said}. Declare it with @alarm, or define handle_alarm(self, name)")

    def _time(self, where: str, after: timedelta | None, at: datetime | None) -> datetime:
        if (after is None) is (at is None):
            raise InvalidArguments(f"{where}: say when, by either after=timedelta(...) or at=datetime(...)")
        if after is not None and not isinstance(after, timedelta):
            raise InvalidArguments(f"{where}: after must be a timedelta, such as timedelta(seconds=30)")
        if after is not None and after < timedelta(0):
            raise InvalidArguments(f"{where}: after must not be negative, it is {after}")
        if at is not None and (not isinstance(at, datetime) or at.utcoffset() is None):
            raise InvalidArguments(f"{where}: at must be a datetime with a time zone, such as datetime.now(UTC)")
        try:
            return self._now() + after if after is not None else at.astimezone(UTC)  # type: ignore[union-attr]
        except OverflowError:
            raise InvalidArguments(f"{where}: {OUT_OF_TIME}") from None


CATCH_UP_MAX = 100_000
"""Ticks that may be behind an alarm when it is armed, if each of them is to be fired."""
OUT_OF_TIME = "that time is outside of the years 1 to 9999"

Names = set[str]
"""Said outside of the class, where `set` means the builtin."""


def name_of_alarm(alarm: Any, cls: Any) -> str:
    """The name of an alarm that was passed as a method under `@alarm`, or as its name.

    Raises InvalidArguments for anything else, and for a method of another class than `cls`, where that is a class.
    """
    if isinstance(alarm, str):
        return alarm
    if not isinstance(alarm, Alarm):
        raise InvalidArguments(f"expected a method under @alarm or the name of an alarm, not {alarm!r}")
    if isinstance(cls, type) and alarm.owner is not None and not issubclass(cls, alarm.owner):
        raise InvalidArguments(f"{alarm!r} is an alarm of another class than {cls.__name__}; pass one of its own")
    return alarm.name


def encoded_payload(name: str, payload: Any) -> bytes | None:
    """The payload of an alarm as it is stored. Raises InvalidArguments for what is no plain JSON."""
    if payload is None:
        return None
    try:
        _accept_json(payload)
        text = orjson.dumps(payload)
    except Mismatch as problem:
        raise InvalidArguments(f"alarm {name!r}: payload{problem.path}: {problem.reason}") from None
    except (TypeError, RecursionError) as error:
        raise InvalidArguments(f"alarm {name!r}: the payload cannot be stored: {error}") from None
    if len(text) > PAYLOAD_BYTES_MAX:
        size = f"the payload is {len(text)} bytes, more than the {PAYLOAD_BYTES_MAX} allowed"
        raise TooLarge(f"alarm {name!r}: {size}; keep it in the object's state")
    return text


def payload_of(row: AlarmRow) -> Any:
    """The payload as it was scheduled, in JSON's types."""
    return None if row.payload is None else orjson.loads(row.payload)
