"""Alarms of one object, from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from durable_shards.alarms import Alarm, PendingAlarm, encoded_payload, name_of_alarm
from durable_shards.errors import InvalidArguments
from durable_shards.recurrence import Missed, recurrence

Ask = Callable[..., Awaitable[Any]]


class AlarmsOf:
    """What `engine.alarms(Class, id)` returns. Every change is committed when its call returns."""

    def __init__(self, ask: Ask, cls: type[Any] | str) -> None:
        self._ask = ask
        self._cls = cls

    async def schedule(
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
        """Arm an alarm, `after` a time from now or `at` an aware time; one armed by this name before is replaced.

        `every` and `cron` (in the time zone `tz`) arm it again and again, `missed` says what becomes of ticks that
        could not be fired in time: all as in `self.alarms.schedule`. The object is not woken by it.
        Raises InvalidArguments.
        """
        name = name_of_alarm(alarm, self._cls)
        recurrence(f"alarm {name!r}", every=every, cron=cron, tz=tz, missed=missed)
        when: dict[str, Any] = {"cron": cron, "tz": tz, "missed": missed}
        for word, value in (("after", after), ("every", every)):
            if value is not None:
                when[word] = _seconds(name, word, value)
        if at is not None:
            when["at"] = _aware(name, at)
        encoded_payload(name, payload)
        given = {word: value for word, value in when.items() if value is not None}
        if not given.keys() & {"after", "at", "every", "cron"} or {"after", "at"} <= given.keys():
            raise InvalidArguments(f"alarm {name!r}: say when: either after=timedelta(...) or at=datetime(...)")
        await self._ask("$schedule", name, given, payload)

    async def cancel(self, alarm: Alarm[..., Any] | str) -> bool:
        """Disarm one; whether it was armed."""
        return bool(await self._ask("$cancel", name_of_alarm(alarm, self._cls)))

    async def cancel_all(self) -> int:
        """Disarm all; how many there were."""
        return int(await self._ask("$cancel_all"))

    async def fire(self, alarm: Alarm[..., Any] | str) -> None:
        """Fire an armed (or parked) alarm now, whatever its time. Raises InvalidArguments for one that is not armed.

        A handler that fails is the caller's to hear of, and the alarm stays as it is.
        """
        await self._ask("$fire", name_of_alarm(alarm, self._cls), None)

    async def retry(self, alarm: Alarm[..., Any] | str | None = None) -> int:
        """Arm again, for now, what was parked or waits for another attempt (None: all); how many. Its count is 0 again.

        Raises InvalidArguments for an alarm that there is not, or whose method is gone.
        """
        return int(await self._ask("$retry", None if alarm is None else name_of_alarm(alarm, self._cls)))

    async def pending(self) -> list[PendingAlarm]:
        """The armed alarms, soonest first."""
        return [
            PendingAlarm(name, datetime.fromisoformat(at), attempt, payload)
            for name, at, attempt, payload in await self._ask("$pending")
        ]


def _seconds(name: str, word: str, value: Any) -> float:
    if not isinstance(value, timedelta):
        raise InvalidArguments(f"alarm {name!r}: {word} must be a timedelta, such as timedelta(seconds=30)")
    return value.total_seconds()


def _aware(name: str, at: Any) -> str:
    if not isinstance(at, datetime) or at.utcoffset() is None:
        raise InvalidArguments(f"alarm {name!r}: at must be an aware datetime: write datetime(..., tzinfo=UTC)")
    try:
        return at.astimezone(UTC).isoformat()
    except OverflowError:
        raise InvalidArguments(f"alarm {name!r}: that time is outside of the years 1 to 9999") from None
