"""Alarms as rows of SQLite: what is bound to its statements, and what is made of their answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from durable_storage.address import Address
from durable_storage.store import AlarmRow, Change, DueAlarm, ListedAlarm, Served

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def microseconds(at: datetime) -> int:
    """Since 1970, exact."""
    return (at - _EPOCH) // _MICROSECOND


def from_microseconds(value: int) -> datetime:
    """The inverse of `microseconds`."""
    return _EPOCH + timedelta(microseconds=value)


def alarm_row(change: Change, alarm: AlarmRow) -> tuple[Any, ...]:
    """For `set_alarm`. Raises UnicodeError."""
    name, at, payload, attempts, recurrence, tick, problem, is_parked = alarm
    return (
        *change.address[1:],
        name,
        change.partition,
        microseconds(at),
        None if payload is None else payload.decode(),
        attempts,
        recurrence,
        None if tick is None else microseconds(tick),
        problem,
        is_parked,
    )


def alarm_of(row: Any) -> AlarmRow:
    """From the columns of `load_alarms`."""
    name, at, payload, attempts, recurrence, tick, problem, parked = row
    tick = None if tick is None else from_microseconds(tick)
    return AlarmRow(name, from_microseconds(at), payload, attempts, recurrence, tick, problem, bool(parked))


def listed_alarm_of(prefix: str, row: Any) -> ListedAlarm:
    """From the columns of `list_alarms`."""
    return ListedAlarm(Address(prefix, *row[:2]), alarm_of(row[2:]))


def due_alarm_of(prefix: str, row: Any) -> DueAlarm:
    """From the columns of `due_alarms`."""
    object_type, object_id, name, at = row
    return DueAlarm(Address(prefix, object_type, object_id), name, from_microseconds(at))


def served_arguments(served: Served) -> tuple[str, str]:
    """For `json_each`: the classes that take any alarm, and the pairs of class and name."""
    return orjson.dumps(served.catch_all).decode(), orjson.dumps(served.named).decode()
