"""Tests of durable objects: an engine by a manual clock, whose alarms, failures and crashes happen when a test says so.

With pytest there is nothing to set up: ask for the fixture `durable` (`durable_engine.pytest_plugin`). Everywhere else:

    async with Durable() as durable:
        assert await durable.call(Counter.increment, "user-123", 5) == 5
        durable.crash()
        assert await durable.at(Counter, "user-123").get() == 5

Handlers and alarms can also be run with no engine at all, on an instance: `await Counter(count=3).increment(2)`, and
`await perform_alarm(counter, "reset")`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import EllipsisType, TracebackType
from typing import Any, Final, Self, TypeVar, overload

import orjson

from durable_engine.embedded import EmbeddedSettings
from durable_engine.engine import Engine
from durable_engine.ref import ClassUse, use_of
from durable_engine.testing_alone import AlarmNotArmed, NotEventually, eventually, perform_alarm
from durable_engine.testing_backend import ManualBackend, Motion
from durable_engine.testing_store import Order, place_of
from durable_engine.testing_time import EndlessAlarms, ManualTime
from durable_engine.views import AlarmView
from durable_shards.alarms import Alarm, PendingAlarm, name_of_alarm
from durable_shards.clock import ManualClock
from durable_shards.errors import EngineClosed
from durable_shards.object import DurableObject
from durable_shards.spec import spec_of
from durable_storage.address import Address
from durable_storage.codec import SCHEMA
from durable_storage.errors import PersistenceFailed, SchemaMismatch

__all__ = [
    "AlarmNotArmed",
    "Durable",
    "EndlessAlarms",
    "Motion",
    "NotEventually",
    "Order",
    "eventually",
    "perform_alarm",
]

T = TypeVar("T", bound=DurableObject)

PAGE: Final = 1_000


class _ManualEngine(Engine):
    """The engine that users know, on a backend in a test's hands."""

    def __init__(self, store: str, clock: ManualClock, **options: Any) -> None:
        super().__init__(store, shards=0, migrate=True, **options)
        self._clock = clock
        self._use_of = self._learn
        self.backend: ManualBackend | None = None

    async def _open(self) -> ManualBackend:
        settings = EmbeddedSettings(self._store, self._objects, **self._settings)
        place = place_of(self._store, self._clock.now)
        backend = ManualBackend(settings, asyncio.get_running_loop(), place, self._clock)
        self.backend = await backend.opened()
        return backend

    def address(self, cls: type[DurableObject] | str, object_id: str, prefix: str | None) -> Address:
        """Of an object, checked."""
        return self._target(cls, object_id, prefix).address

    def _learn(self, cls: type) -> ClassUse:
        use = use_of(cls)
        if self.backend is not None:
            self.backend.learn(use.spec)
        return use


class Durable:
    """An engine for one test. `store` is a URL; `memory://`, the default, is a new and empty one each time.

    Classes are served from when they are first used, be it by the test or by a handler; `objects` is for those that
    nobody names but by strings. `now` is where the clock begins, by default the real time. Further `options` are those
    of `Engine`, such as `alarm_attempts`.
    """

    def __init__(
        self,
        store: str = "memory://",
        *,
        objects: Sequence[type[DurableObject] | str] = (),
        prefix: str | None = None,
        strict_readonly: bool = True,
        now: datetime | None = None,
        **options: Any,
    ) -> None:
        if now is not None and now.utcoffset() is None:
            raise ValueError("now must be an aware datetime: write datetime(..., tzinfo=UTC)")
        self.clock = ManualClock(datetime.now(UTC) if now is None else now.astimezone(UTC))
        """It stands still. Moved by hand it fires nothing: that is what `advance` is for."""
        self._engine = _ManualEngine(
            store, self.clock, objects=objects, prefix=prefix, strict_readonly=strict_readonly, **options
        )
        self.engine: Engine = self._engine
        """The engine itself, with all that programs use."""
        self.at = self.engine.at
        self.call = self.engine.call
        self.send = self.engine.send
        self.eventually = eventually
        self._time: ManualTime | None = None
        self._target: datetime | None = None

    async def __aenter__(self) -> Self:
        await self.engine.start()
        assert self._engine.backend is not None, "an engine that has started has a backend"
        self._time = ManualTime(self._engine.backend)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self._still()
        finally:
            await self.engine.close()

    def now(self) -> datetime:
        """The time by the test's clock, aware, in UTC; where it is going to, while an `advance` is not over."""
        return self.clock.now() if self._target is None else self._target

    # What there is.

    async def pending(
        self, cls: type[DurableObject] | str, object_id: str, *, prefix: str | None = None
    ) -> list[PendingAlarm]:
        """The armed alarms of an object, soonest first."""
        await self._still()
        return await self.engine.alarms(cls, object_id, prefix=prefix).pending()

    async def alarms(self, cls: type[DurableObject] | str | None = None) -> list[AlarmView]:
        """The armed alarms of all objects of all tenants that the test called, or those of one class, soonest first."""
        await self._still()
        wanted = cls if cls is None or isinstance(cls, str) else use_of(cls).object_type
        found = [each for prefix in sorted(self._backend.prefixes) for each in await self._alarms_of(prefix)]
        armed = [each for each in found if each.orphaned != "failed" and wanted in (None, each.object_type)]
        return sorted(armed, key=lambda alarm: (alarm.at, alarm.object_type, alarm.object_id, alarm.name))

    async def _alarms_of(self, prefix: str) -> list[AlarmView]:
        found: list[AlarmView] = []
        with suppress(SchemaMismatch):  # the prefix of a call that was refused
            while page := await self.engine.all_alarms(after=found[-1] if found else None, limit=PAGE, prefix=prefix):
                found += page
        return found

    @overload
    async def persisted(self, cls: type[T], object_id: str, *, prefix: str | None = None) -> T | None: ...
    @overload
    async def persisted(self, cls: str, object_id: str, *, prefix: str | None = None) -> dict[str, Any] | None: ...
    async def persisted(self, cls: type[T] | str, object_id: str, *, prefix: str | None = None) -> Any:
        """What is stored of an object, read from the store itself; None if nothing ever was.

        A class gives an instance of it, a stored name a dict. The object is not woken. Raises StateUnreadable.
        """
        await self._still()
        stored = await self._backend.stored(self._engine.address(cls, object_id, prefix))
        if stored is None or stored.state is None:
            return None
        if not isinstance(cls, str):
            return use_of(cls).copy(stored.state)
        return {name: value for name, value in orjson.loads(stored.state).items() if name != SCHEMA}

    async def settled(self) -> None:
        """Wait until nothing moves by itself: no turn, load, commit or one-way call that has begun is still under way.

        A turn that waits for something outside of the engine is not waited for.
        """
        await self._still()
        await self._manual_time.rest()

    # What happens.

    async def fire(
        self, cls: type[DurableObject] | str, object_id: str, alarm: Alarm[..., Any] | str, *, prefix: str | None = None
    ) -> None:
        """Fire an armed alarm, due or not. The time does not move.

        A new arming by its method is kept; what the method raises is raised, and the alarm then stays as it was.
        Raises AlarmNotArmed.
        """
        name = name_of_alarm(alarm, cls)
        armed = [each.name for each in await self.pending(cls, object_id, prefix=prefix)]
        if name not in armed:
            address = self._engine.address(cls, object_id, prefix)
            raise AlarmNotArmed(f"{address} has no alarm {name!r} armed; armed are: {', '.join(armed) or 'none'}")
        await self.engine.alarms(cls, object_id, prefix=prefix).fire(name)

    async def drain(self, max: int = 100) -> int:  # noqa: A002 - the name that users read
        """Fire all alarms, due or not, the soonest first, until none is armed; how many. The time does not move.

        What a method raises is raised. Raises EndlessAlarms, with their names, when any is armed after `max` firings.
        """
        await self._still()
        return await self._manual_time.drain(max)

    def advance(self, by: timedelta) -> Motion:
        """Let time go on, without waiting: `await durable.advance(timedelta(hours=1))`.

        What happens in that time happens in its order and at its own moment: alarms, with retries of those that fail,
        timeouts of calls, hibernation and shutdown of idle objects. Not awaited, it begins all the same, and the calls
        that the test makes next wait for its end.
        """
        if not isinstance(by, timedelta):
            raise TypeError(f"advance takes a timedelta, such as timedelta(minutes=1), not {by!r}")
        if by < timedelta(0):
            raise ValueError("time goes forward only: pass a positive timedelta")
        time = self._manual_time
        try:
            target = self._target = self.now() + by
        except OverflowError:
            raise ValueError(f"{by} from {self.now()} is beyond the year 9999: advance by less") from None

        async def go_on() -> None:
            try:
                await time.go_on(target)
            finally:
                if self._target == target:
                    self._target = None

        return self._set_going(go_on)

    # What goes wrong.

    def crash(self, cls: type[DurableObject] | str | None = None, object_id: str | None = None) -> Motion:
        """Let the shard that holds the object die like a process under kill -9, now, and another one take its place.

        Memory is lost, and whatever was not committed. Calls under way end with Unavailable and outcome "unknown";
        those with an idempotency key are sent again by themselves. A test has one shard, so it holds every object.
        Awaiting waits until the new shard serves; calls wait for that by themselves.
        """
        del cls, object_id
        backend = self._backend
        backend.crash()
        return self._set_going(backend.reopened)

    def crash_at(self, point: str, nth: int = 1) -> Order:
        """Crash, as `crash` does, when `point` is reached for the `nth` time from now.

        Points are those of `durable_storage.crashpoints.POINTS`, such as "before_commit" and "after_commit" (it is
        durable, and nobody was told). Raises ValueError for any other.
        """
        return self._backend.crash_at(point, nth)

    def fail_next_save(self, error: Exception | None = None) -> Order:
        """Have the store refuse the next commit: its turns are undone, and their callers get `error`.

        By default that is PersistenceFailed; an error that is no DurableError comes out as PersistenceFailed, too.
        """
        said = "the store refused to save this, because the test called fail_next_save()"
        return self._backend.refuse_next_save(PersistenceFailed(said) if error is None else error)

    # Assertions.

    @overload
    async def assert_persisted(
        self, cls: type[T], object_id: str, expected: None, *, prefix: str | None = None
    ) -> None: ...
    @overload
    async def assert_persisted(
        self,
        cls: type[T],
        object_id: str,
        expected: Mapping[str, Any] | EllipsisType = ...,
        *,
        prefix: str | None = None,
        **fields: Any,
    ) -> T: ...
    async def assert_persisted(
        self,
        cls: type[T],
        object_id: str,
        expected: Mapping[str, Any] | EllipsisType | None = ...,
        *,
        prefix: str | None = None,
        **fields: Any,
    ) -> T | None:
        """The stored object has these fields, given by name or as a mapping; with None, nothing is stored of it.

        Fields that are not named may be anything. Returns the stored object.
        """
        stored = await self.persisted(cls, object_id, prefix=prefix)
        address = self._engine.address(cls, object_id, prefix)
        if expected is None:
            assert stored is None, f"{address} is stored: {stored!r}"
            return None
        wanted = {**({} if isinstance(expected, EllipsisType) else expected), **fields}
        known = spec_of(cls).fields
        for name in wanted:
            assert name in known, f"{spec_of(cls).name} has no field {name!r}; its fields are: {', '.join(known)}"
        assert stored is not None, f"nothing is stored of {address}"
        wrong = [
            f"{name} is {getattr(stored, name)!r}, not {value!r}"
            for name, value in wanted.items()
            if getattr(stored, name) != value
        ]
        assert not wrong, f"{address} is stored, but {'; '.join(wrong)}"
        return stored

    async def assert_alarm_scheduled(
        self,
        cls: type[DurableObject] | str,
        object_id: str,
        alarm: Alarm[..., Any] | str,
        *,
        within: timedelta | None = None,
        prefix: str | None = None,
    ) -> PendingAlarm:
        """The alarm is armed, and with `within` for no later than so long from now. Returns it."""
        name = name_of_alarm(alarm, cls)
        pending = await self.pending(cls, object_id, prefix=prefix)
        address = self._engine.address(cls, object_id, prefix)
        found = next((each for each in pending if each.name == name), None)
        armed = ", ".join(f"{each.name} in {each.at - self.now()}" for each in pending) or "none"
        assert found is not None, f"{address} has no alarm {name!r} armed; armed are: {armed}"
        if within is not None:
            after = found.at - self.now()
            assert after <= within, f"alarm {name!r} of {address} is armed for {after} from now, not within {within}"
        return found

    async def refute_alarm_scheduled(
        self,
        cls: type[DurableObject] | str,
        object_id: str,
        alarm: Alarm[..., Any] | str | None = None,
        *,
        prefix: str | None = None,
    ) -> None:
        """The alarm is not armed; without a name, none of the object is."""
        pending = await self.pending(cls, object_id, prefix=prefix)
        armed = [each for each in pending if alarm is None or each.name == name_of_alarm(alarm, cls)]
        address = self._engine.address(cls, object_id, prefix)
        assert not armed, f"{address} has armed: {', '.join(f'{each.name} at {each.at}' for each in armed)}"

    # How it goes.

    @property
    def _manual_time(self) -> ManualTime:
        if self._time is None or self._backend.closed:
            raise EngineClosed(
                "this Durable is not open: use it inside of `async with`, or ask for the fixture `durable`"
            )
        return self._time

    @property
    def _backend(self) -> ManualBackend:
        backend = self._engine.backend
        if backend is None:
            raise EngineClosed(
                "this Durable is not open: use it inside of `async with`, or ask for the fixture `durable`"
            )
        return backend

    def _set_going(self, work: Callable[[], Awaitable[None]]) -> Motion:
        before = self._backend.motion

        async def run() -> None:
            if before is not None:
                await asyncio.wait((before.task,))
            await work()

        motion = self._backend.motion = Motion(asyncio.ensure_future(run()))
        return motion

    async def _still(self) -> None:
        """Wait until what the test set going is over, and the shard serves. An error that nobody awaited is raised."""
        motion = self._backend.motion
        if motion is not None and motion.is_awaited:
            await asyncio.wait((motion.task,))
        elif motion is not None:
            await motion
        await self._backend.reopened()
