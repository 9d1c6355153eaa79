"""A batch of nothing but states, packed on the loop's side so that the writer's thread has one statement to run.

SQLite's work runs without the interpreter lock, but each statement of a thread takes the lock back when it ends, and
next to a busy loop that costs more than the statement. So the rows of an ordinary batch travel as one JSON text
(`docs/decisions/sqlite-commit.md`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from durable_storage.store import Change

PACKED_BYTES_MAX: Final = 256 * 1024
"""States beyond this are bound row by row: to copy them into a text and out again would cost more than it saves."""


def packed(changes: Sequence[Change]) -> str | None:
    """The rows for `ShardFile.apply_states`; None when the batch holds more than states, or much.

    A state that is no UTF-8 is for `ShardFile.apply` to refuse.
    """
    rows = []
    size = 0
    for change in changes:
        state = change.state
        if state is None or change.results or change.alarms_set or change.alarms_cleared or change.delete:
            return None
        size += len(state)
        _, object_type, object_id = change.address
        try:
            rows.append((object_type, object_id, change.partition, change.version, state.decode()))
        except UnicodeDecodeError:
            return None
    return orjson.dumps(rows).decode() if size <= PACKED_BYTES_MAX else None
