"""Alarms of one object, from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from durable_shards.alarms import Alarm, PendingAlarm
from durable_shards.errors import InvalidArguments

Ask = Callable[..., Awaitable[Any]]


class AlarmsOf:
    """What `engine.alarms(Class, id)` returns. Every change is committed when its call returns."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def schedule(
        self,
        alarm: Alarm[..., Any] | str,
        *,
        after: timedelta | None = None,
        at: datetime | None = None,
        payload: Any = None,
    ) -> None:
        """Arm an alarm, `after` a time from now or `at` an aware time; one armed by this name before is replaced."""
        when: dict[str, Any]
        if isinstance(after, timedelta) and at is None:
            when = {"after": after.total_seconds()}
        elif isinstance(at, datetime) and after is None:
            if at.tzinfo is None:
                raise InvalidArguments("at must be an aware datetime: write datetime(..., tzinfo=UTC)")
            when = {"at": at.astimezone(UTC).isoformat()}
        else:
            raise InvalidArguments("say when: either after=timedelta(...) or at=datetime(...)")
        await self._ask("$schedule", _name(alarm), when, payload)

    async def cancel(self, alarm: Alarm[..., Any] | str) -> bool:
        """Disarm one; whether it was armed."""
        return bool(await self._ask("$cancel", _name(alarm)))

    async def cancel_all(self) -> int:
        """Disarm all; how many there were."""
        return int(await self._ask("$cancel_all"))

    async def pending(self) -> list[PendingAlarm]:
        """The armed alarms, soonest first."""
        return [
            PendingAlarm(name, datetime.fromisoformat(at), attempt, payload)
            for name, at, attempt, payload in await self._ask("$pending")
        ]


def _name(alarm: Alarm[..., Any] | str) -> str:
    if isinstance(alarm, Alarm):
        return alarm.name
    if isinstance(alarm, str):
        return alarm
    raise InvalidArguments(f"expected a method under @alarm or the name of an alarm, not {alarm!r}")
