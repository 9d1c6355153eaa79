"""A batch as one SQL statement: the fence first, everything else joined to it.

    WITH fence AS (UPDATE durable_hosts SET seq = seq + 1 WHERE host = … AND epoch = … AND seq = … RETURNING seq),
         objects AS (INSERT … SELECT … FROM fence, unnest(…) ON CONFLICT … DO UPDATE …), …
    SELECT seq FROM fence

One statement leaves no transaction open when its client is stopped, and a statement that waited for the host row's
lock during a takeover finds the row changed and does nothing (`docs/decisions/single-statement-fence.md`). The parts
that a batch does not need are left out; each of the 32 shapes is composed, and prepared, when it first occurs.

All parts see one snapshot and must not touch one row twice. So a deletion that is followed by a new state is a
replacement, and the alarms of a deleted object that are armed anew are left out of the deletion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

from durable_storage.batching import Refused, refusal
from durable_storage.queries import queries
from durable_storage.store import Change

_SQL: Final = queries("postgres")

_ADDRESS: Final = ("text", "text")
_ALARM: Final = ("text", "text", "text")
_COLUMNS: Final = {
    "objects": ("text", "text", "smallint", "bigint", "text"),
    "deletes": _ADDRESS,
    "disarms": _ADDRESS,
    "clears": _ALARM,
    "alarms": (*_ALARM, "timestamptz", "text", "integer", "text", "timestamptz", "text", "boolean", "smallint"),
    "results": ("text", "text", "text", "bigint", "bytea", "timestamptz"),
}


class Shape(NamedTuple):
    """Which parts a batch has."""

    objects: bool = False
    deletes: bool = False
    clears: bool = False
    alarms: bool = False
    results: bool = False


_OBJECTS_ONLY: Final = Shape(objects=True)


def quoted(identifier: str) -> str:
    """An identifier for SQL."""
    return '"' + identifier.replace('"', '""') + '"'


@lru_cache(maxsize=256)
def statement(shape: Shape, home: str, schema: str) -> str:
    """The SQL for a shape: `home` is the quoted schema of the owners' tables, `schema` that of the tenant's.

    Arguments: host, incarnation, epoch, seq, then what `compose` returns.
    """
    numbers = iter(range(7 if shape.results else 5, 100))
    parts = [("fence", _SQL["batch_fence"].format(home=home))]
    for name in _parts(shape):
        batch = _unnest(_COLUMNS[name], numbers)
        kept = _unnest(_ALARM, numbers) if name == "disarms" else ""
        parts.append((name, _SQL[f"batch_{name}"].format(schema=schema, batch=batch, kept=kept)))
    end = _SQL["batch_end_with_results" if shape.results else "batch_end"].format(schema=schema)
    return "WITH " + ", ".join(f"{name} AS ({part})" for name, part in parts) + " " + end


def _parts(shape: Shape) -> Iterator[str]:
    for name, is_there in shape._asdict().items():
        if is_there:
            yield name
            if name == "deletes":
                yield "disarms"


def _unnest(types: Sequence[str], numbers: Iterator[int]) -> str:
    return "unnest(" + ", ".join(f"${next(numbers)}::{name}[]" for name in types) + ")"


def compose(changes: Sequence[Change], now: datetime) -> tuple[Shape, list[Any]]:
    """The shape of a batch and the arguments of its parts. Raises Refused for a text that is not UTF-8."""
    try:
        rows = []
        extras = []
        for change in changes:
            if change.state is not None:
                _, object_type, object_id = change.address
                rows.append((object_type, object_id, change.partition, change.version, change.state.decode()))
            if change.alarms_set or change.alarms_cleared or change.results or change.delete:
                extras.append(change)
        if not extras and rows:
            return _OBJECTS_ONLY, _columns(rows, 5)
        return _compose_all(rows, extras, now)
    except UnicodeDecodeError as error:
        raise Refused(refusal(error)) from error


def _compose_all(objects: list[tuple[Any, ...]], extras: list[Change], now: datetime) -> tuple[Shape, list[Any]]:
    deleted = [change for change in extras if change.delete]
    clears = [(*change.address[1:], name) for change in extras for name in change.alarms_cleared]
    alarms = [
        (*change.address[1:], name, at, None if payload is None else payload.decode(), *rest, change.partition)
        for change in extras
        for name, at, payload, *rest in change.alarms_set
    ]
    results = [(*change.address[1:], *row) for change in extras for row in change.results]
    arguments: list[Any] = [now, len(results)] if results else []
    if objects:
        arguments += _columns(objects, 5)
    if deleted:
        arguments += _columns([change.address[1:] for change in deleted if change.state is None], 2)
        arguments += _columns([change.address[1:] for change in deleted], 2)
        arguments += _columns([(*change.address[1:], row.name) for change in deleted for row in change.alarms_set], 3)
    if clears:
        arguments += _columns(clears, 3)
    if alarms:
        arguments += _columns(alarms, 11)
    if results:
        arguments += _columns(results, 6)
    return Shape(bool(objects), bool(deleted), bool(clears), bool(alarms), bool(results)), arguments


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[Any]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]
