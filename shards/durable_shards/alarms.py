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
from durable_storage.address import name_problem
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

    It takes `self` and, if it wants them, `attempt` (how many firings failed before) and `payload`. Its changes and
    the removal of the alarm are one commit; if it raises, they are undone and the alarm is fired again later.
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
    """Of "name", "attempt" and "payload", those that it takes, in its order."""

    def call(self, obj: Any, row: AlarmRow) -> Any:
        """Run it on an instance; the result is a coroutine when `is_async`."""
        if not self.takes:
            return self.func(obj)
        values = {"name": row.name, "attempt": row.attempts, "payload": _payload_of(row)}
        return self.func(obj, *(values[each] for each in self.takes))


def compile_alarm(where: str, name: str, function: Callable[..., Any], *, named: bool) -> AlarmSpec:
    """Check the signature of an alarm method. Raises DefinitionError."""
    first, *takes = list(inspect.signature(function).parameters) or [""]
    wanted = ["name"] if named else []
    if first != "self" or takes[: len(wanted)] != wanted or not {*takes} <= {*wanted, "attempt", "payload"}:
        right = f"def {name}({', '.join(('self', *wanted))})"
        raise DefinitionError(f"{where}: write {right}; it may also take attempt and payload, and nothing else")
    return AlarmSpec(name, function, inspect.iscoroutinefunction(function), tuple(takes))


class ObjectAlarms(Protocol):
    """`self.alarms`: what is scheduled or cancelled here commits with the state of the turn, or not at all."""

    def schedule(
        self,
        alarm: Alarm[..., Any] | str,
        *,
        after: timedelta | None = None,
        at: datetime | None = None,
        payload: Any = None,
    ) -> None:
        """Arm an alarm, `after` a time from now or `at` an aware datetime. A name armed before is replaced.

        `payload` is plain JSON that the alarm's method gets. Raises InvalidArguments.
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

    __slots__ = ("_committed", "_now", "_spec", "cleared", "set")

    def __init__(self, committed: Mapping[str, AlarmRow], now: Callable[[], datetime], spec: AlarmNames) -> None:
        self._committed = committed
        self._now = now
        self._spec = spec
        self.set: dict[str, AlarmRow] = {}
        """Armed by this turn."""
        self.cleared: Names = Names()
        """Disarmed by this turn; never also in `set`."""

    @property
    def changed(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.set or self.cleared)

    def result(self) -> dict[str, AlarmRow]:
        """All alarms of the object once the turn is committed."""
        kept = {name: row for name, row in self._committed.items() if name not in self.cleared}
        return kept | self.set

    def schedule(
        self,
        alarm: Alarm[..., Any] | str,
        *,
        after: timedelta | None = None,
        at: datetime | None = None,
        payload: Any = None,
    ) -> None:
        """See `ObjectAlarms`."""
        name = self._name(alarm)
        row = AlarmRow(name, self._time(name, after, at), _encoded(name, payload))
        self.cleared.discard(name)
        self.set[name] = row

    def cancel(self, alarm: Alarm[..., Any] | str) -> bool:
        """See `ObjectAlarms`. Any name may be cancelled: the class may have lost the method since."""
        name = alarm.name if isinstance(alarm, Alarm) else alarm
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
        return [PendingAlarm(row.name, row.at, row.attempts, _payload_of(row)) for row in rows]

    def _name(self, alarm: Alarm[..., Any] | str) -> str:
        spec = self._spec
        known = spec.alarms
        if isinstance(alarm, Alarm):
            if alarm.name in known and (alarm.owner is None or issubclass(spec.cls, alarm.owner)):
                return alarm.name
            raise InvalidArguments(f"{alarm!r} is an alarm of another class than {spec.name}; schedule it there")
        problem = name_problem("alarm name", alarm)
        if problem is not None:
            raise InvalidArguments(f"{problem}; pass {spec.name}.<method under @alarm>, or its name")
        if alarm in known or (spec.handle_alarm is not None and alarm[0] not in "_$"):
            return alarm
        names = ", ".join(known) or "none"
        said = f"{spec.name} has no alarm {alarm!r}; its alarms are: {names}"
        raise InvalidArguments(f"{said}. Declare it with @alarm, or define handle_alarm(self, name)")

    def _time(self, name: str, after: timedelta | None, at: datetime | None) -> datetime:
        where = f"alarm {name!r}"
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
            raise InvalidArguments(f"{where}: that time is past the year 9999") from None


Names = set[str]
"""Said outside of the class, where `set` means the builtin."""


def _encoded(name: str, payload: Any) -> bytes | None:
    if payload is None:
        return None
    try:
        _accept_json(payload)
        return orjson.dumps(payload)
    except Mismatch as problem:
        raise InvalidArguments(f"alarm {name!r}: payload{problem.path}: {problem.reason}") from None
    except (TypeError, RecursionError) as error:
        raise InvalidArguments(f"alarm {name!r}: the payload cannot be stored: {error}") from None


def _payload_of(row: AlarmRow) -> Any:
    return None if row.payload is None else orjson.loads(row.payload)
