"""What tests can do without an engine: run an alarm's method on an instance, and wait for something outside."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar, overload

import orjson

from durable_engine.timeouts import plain_seconds
from durable_shards.alarms import Alarm, name_of_alarm
from durable_shards.object import DurableObject
from durable_shards.spec import spec_of
from durable_storage.store import AlarmRow

Found = TypeVar("Found")


class AlarmNotArmed(LookupError):
    """The alarm that was to be fired is not armed, or there is no such alarm."""


class NotEventually(AssertionError, TimeoutError):
    """What a test waited for did not come true in time."""


@overload
async def eventually(
    predicate: Callable[[], Awaitable[Found | None]],
    timeout: float | timedelta = 5,
    interval: float | timedelta = 0.05,
) -> Found: ...
@overload
async def eventually(
    predicate: Callable[[], Found | None],
    timeout: float | timedelta = 5,
    interval: float | timedelta = 0.05,
) -> Found: ...
async def eventually(
    predicate: Callable[[], Any], timeout: float | timedelta = 5, interval: float | timedelta = 0.05
) -> Any:
    """The first true value of `predicate`, sync or async, which is asked every `interval`; both times are real ones.

    An exception counts as "not yet". Raises NotEventually, with what was seen last, when `timeout` is over. This is for
    what happens outside of the engine: what its alarms and timeouts do, `durable.advance` brings about at once.
    """
    loop = asyncio.get_running_loop()
    seconds, pause = plain_seconds(timeout), plain_seconds(interval)
    until = loop.time() + seconds
    while True:
        is_last = loop.time() >= until
        cause: Exception | None = None
        try:
            found = predicate()
            value: Any = await found if inspect.isawaitable(found) else found
            if value:
                return value
            seen = f"it was {value!r:.500}"
        except Exception as error:
            cause, seen = error, f"it raised {error!r:.500}"
        if is_last:
            raise NotEventually(f"not true within {seconds:g} s; when last looked at, {seen}") from cause
        await asyncio.sleep(min(pause, max(0.0, until - loop.time())))


async def perform_alarm(
    obj: DurableObject,
    alarm: Alarm[..., Any] | str,
    *,
    attempt: int = 0,
    payload: Any = None,
    at: datetime | None = None,
) -> None:
    """Run what an alarm runs, its method or `handle_alarm`, on an instance that belongs to no engine.

    As in an engine, the alarm is no longer armed then, unless it arms itself again (`obj.alarms.pending()` tells).
    `attempt`, `payload` and `at` are what the method gets, if it takes them. Raises what the method raises, and
    LookupError for a name that the class has no method for.
    """
    spec, name = spec_of(type(obj)), name_of_alarm(alarm, type(obj))
    method = spec.alarm(name)
    if method is None:
        known = ", ".join(spec.alarms) or "none"
        raise AlarmNotArmed(
            f"{spec.name} has no alarm {name!r}, and no handle_alarm(self, name) for alarms of any name; "
            f"its alarms are: {known}"
        )
    obj.alarms.cancel(name)
    text = None if payload is None else orjson.dumps(payload)
    result = method.call(obj, AlarmRow(name, at or obj.now(), text, attempt))
    if inspect.isawaitable(result):
        await result
