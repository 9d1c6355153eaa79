"""Cold loads from a SQLite file: all objects of one class that are wanted together are one statement with one row.

The thread that reads gives the interpreter away for every row that it fetches, and a busy event loop keeps it for half
a millisecond each time: a statement per object made of two microseconds of work a wait of many milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import accumulate, pairwise
from typing import Any, Final

import apsw
import orjson

from durable_storage.queries import queries
from durable_storage.sqlite_alarms import alarm_of
from durable_storage.store import AlarmRow, Stored

TOGETHER_BYTES_MAX: Final = 16_384
"""States and payloads up to this length travel as one text; a larger one, copied once more, would cost more than a
statement."""

_SQL: Final = queries("sqlite")

Run = Callable[[str, tuple[Any, ...]], Any]
Transaction = Callable[[str], AbstractContextManager[None]]


def load(run: Run, transaction: Transaction, keys: Sequence[tuple[str, str]]) -> list[Stored | None]:
    """Objects by (object_type, object_id) in the order asked, each with its alarms as of one moment.

    Raises apsw.Error.
    """
    found: list[Stored | None] = [None] * len(keys)
    apart: list[int] = []
    for object_type, places in _by_class(keys).items():
        ids = orjson.dumps([keys[place][1] for place in places]).decode()
        try:
            (row,) = run(_SQL["load_objects"], (object_type, ids, TOGETHER_BYTES_MAX)).fetchall()
            alarms, heavy = _alarms(row[4])
        except (ValueError, apsw.TooBigError):
            # Text that is no UTF-8, written by somebody else: its object shall fail alone. Or more alarms than fit into
            # one text: each object's do.
            apart += places
            continue
        apart += _take(row, alarms, heavy, places, found)
    if apart:
        with transaction("BEGIN"):
            for place in apart:
                found[place] = _load_one(run, keys[place])
    return found


def _take(
    row: tuple[Any, ...],
    alarms: dict[int, list[AlarmRow]],
    heavy: set[int],
    places: Sequence[int],
    found: list[Stored | None],
) -> list[int]:
    """Put the objects of one class where they belong; the places of those that are too large to be among them."""
    large = [places[index] for index in heavy]
    for index in heavy:
        del alarms[index]
    indices, versions, sizes = map(orjson.loads, row[:3])
    ends = accumulate((size if size <= TOGETHER_BYTES_MAX else 0 for size in sizes), initial=0)
    for index, version, size, (start, end) in zip(indices, versions, sizes, pairwise(ends), strict=True):
        if index in heavy:
            continue
        if size <= TOGETHER_BYTES_MAX:
            found[places[index]] = Stored(row[3][start:end], version, tuple(alarms.pop(index, ())))
        else:
            large.append(places[index])
            alarms.pop(index, None)
    for index, armed in alarms.items():
        found[places[index]] = Stored(None, 0, tuple(armed))
    return large


def _alarms(text: bytes) -> tuple[dict[int, list[AlarmRow]], set[int]]:
    """The alarms by the index of their object, and the objects of which a payload was left out. Raises ValueError."""
    alarms: dict[int, list[AlarmRow]] = {}
    heavy = set()
    for index, is_heavy, name, at, payload, *rest in orjson.loads(text):
        if is_heavy:
            heavy.add(index)
        row = alarm_of((name, at, None if payload is None else payload.encode(), *rest))
        alarms.setdefault(index, []).append(row)
    return alarms, heavy


def _load_one(run: Run, key: tuple[str, str]) -> Stored | None:
    # To the end, always: a statement that is not finished holds its view of the file.
    rows = run(_SQL["load_object"], key).fetchall()
    alarms = tuple(map(alarm_of, run(_SQL["load_alarms"], key).fetchall()))
    if rows:
        state, version = rows[0]
        return Stored(state, version, alarms)
    return Stored(None, 0, alarms) if alarms else None


def _by_class(keys: Sequence[tuple[str, str]]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for place, (object_type, _) in enumerate(keys):
        places.setdefault(object_type, []).append(place)
    return places
