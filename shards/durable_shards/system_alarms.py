"""System handlers for the alarms of one object: set, cancel, look, fire, and what becomes of a firing that failed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from durable_shards.activation import Activation
from durable_shards.alarms import OUT_OF_TIME, payload_of
from durable_shards.errors import InvalidArguments
from durable_shards.firing import Verdict
from durable_shards.recurrence import recurrence_of
from durable_shards.system_parts import Parts, reply
from durable_shards.wire import Call
from durable_storage.store import AlarmRow


class When(msgspec.Struct, forbid_unknown_fields=True):
    """The time of an alarm on the wire: `after` and `every` in seconds, `at` as RFC 3339."""

    after: float | None = None
    at: datetime | None = None
    every: float | None = None
    cron: str | None = None
    tz: str | None = None
    missed: str = "coalesce"


def _schedule(parts: Parts, act: Activation, call: Call, arguments: Any) -> None:
    name, when, payload = arguments
    try:
        after, every = (None if seconds is None else timedelta(seconds=seconds) for seconds in (when.after, when.every))
    except ValueError:
        raise InvalidArguments(f"alarm {name!r}: after and every must be numbers of seconds, not NaN") from None
    except OverflowError:
        raise InvalidArguments(f"alarm {name!r}: {OUT_OF_TIME}") from None
    act.alarms.schedule(
        name, after=after, at=when.at, every=every, cron=when.cron, tz=when.tz, missed=when.missed, payload=payload
    )
    _finish(parts, act, call, None)


def _cancel(parts: Parts, act: Activation, call: Call, arguments: Any) -> None:
    _finish(parts, act, call, act.alarms.cancel(arguments[0]))


def _cancel_all(parts: Parts, act: Activation, call: Call, _: Any) -> None:
    _finish(parts, act, call, act.alarms.cancel_all())


def _fire(parts: Parts, act: Activation, call: Call, arguments: Any) -> None:
    fired = parts.firings.fire(act, call, *arguments)
    if fired is not None:
        reply(parts, act, call, fired)


def _failed(parts: Parts, act: Activation, call: Call, arguments: Any) -> None:
    reply(parts, act, call, parts.firings.failed(act, *arguments), changed=True)


def _retry(parts: Parts, act: Activation, call: Call, arguments: Any) -> None:
    reply(parts, act, call, parts.firings.retry(act, arguments[0]), changed=True)


def _finish(parts: Parts, act: Activation, call: Call, result: Any) -> None:
    book, act.book = act.book, None
    if book is not None and book.changed:
        act.take_over(book)
    reply(parts, act, call, result, changed=True)


def _pending(parts: Parts, act: Activation, call: Call, _: Any) -> None:
    listed = [
        [row.name, row.at.isoformat(), row.attempts, payload_of(row)] for row in _sorted(act) if not row.is_parked
    ]
    reply(parts, act, call, listed)


def _alarms(parts: Parts, act: Activation, call: Call, _: Any) -> None:
    reply(parts, act, call, [described(row) for row in _sorted(act)])


def _sorted(act: Activation) -> list[AlarmRow]:
    return sorted(act.alarms_now.values(), key=lambda row: (row.at, row.name))


def described(row: AlarmRow) -> dict[str, Any]:
    """An alarm as plain values, with all that people may want to know of it."""
    return {
        "name": row.name,
        "at": row.at.isoformat(),
        "attempt": row.attempts,
        "payload": payload_of(row),
        "recurrence": recurrence_of(row.recurrence).describe() if row.recurrence else None,
        "problem": row.problem,
        "parked": row.is_parked,
    }


HANDLERS: Final[dict[str, Callable[[Any, Activation, Any, Any], None]]] = {
    "$schedule": _schedule,
    "$cancel": _cancel,
    "$cancel_all": _cancel_all,
    "$pending": _pending,
    "$alarms": _alarms,
    "$fire": _fire,
    "$alarm_failed": _failed,
    "$retry": _retry,
}
SIGNATURES: Final[dict[str, Any]] = {
    "$schedule": tuple[str, When, Any],
    "$cancel": tuple[str],
    "$cancel_all": tuple[()],
    "$pending": tuple[()],
    "$alarms": tuple[()],
    "$fire": tuple[str, datetime | None],
    "$alarm_failed": tuple[str, datetime, str, Verdict],
    "$retry": tuple[str | None],
}
