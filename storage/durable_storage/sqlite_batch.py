"""A batch of states and results, packed on the loop's side so that the writer's thread has one statement to run.

SQLite's work runs without the interpreter lock, but each statement of a thread takes the lock back when it ends, and
next to a busy loop that costs more than the statement. So the rows of an ordinary batch travel as JSON text
(`docs/decisions/commit-path.md`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import orjson

from durable_storage.sqlite_alarms import microseconds
from durable_storage.store import Change

PACKED_BYTES_MAX: Final = 256 * 1024
"""Rows beyond this are bound one by one: to copy them into a text and out again would cost more than it saves."""


class Packed(NamedTuple):
    """The rows for `ShardFile.apply_packed`."""

    states: str
    """JSON: [class, id, partition, version, state] of each."""
    results: str
    """JSON: [class, id, key, fingerprint, result in hexadecimal, microseconds at which it expires] of each."""


def packed(changes: Sequence[Change]) -> Packed | None:
    """The rows of a batch; None when it holds more than states and their results, or much.

    A state that is no UTF-8 is for `ShardFile.apply` to refuse.
    """
    states = []
    results: list[tuple[Any, ...]] = []
    size = 0
    for change in changes:
        state = change.state
        if state is None or change.alarms_set or change.alarms_cleared or change.delete:
            return None
        size += len(state)
        _, object_type, object_id = change.address
        try:
            states.append((object_type, object_id, change.partition, change.version, state.decode()))
        except UnicodeDecodeError:
            return None
        if change.results:
            size += _add_results(results, change)
    if size > PACKED_BYTES_MAX:
        return None
    try:
        return Packed(orjson.dumps(states).decode(), orjson.dumps(results).decode() if results else "[]")
    except TypeError:  # a lone surrogate in a key
        return None


def _add_results(rows: list[tuple[Any, ...]], change: Change) -> int:
    """How many bytes they hold."""
    _, object_type, object_id = change.address
    known, expiry, size = None, 0, 0
    for key, fingerprint, result, expires_at in change.results:
        if expires_at is not known:  # many were kept at one moment
            known, expiry = expires_at, microseconds(expires_at)
        rows.append((object_type, object_id, key, fingerprint, result.hex(), expiry))
        size += 2 * len(result)
    return size
