"""System handlers: administration of one object, as calls like any others.

Their names begin with `$`, which no user's handler can. They are routed to the object's owner, keep their place
among its turns and pass the same output gate, but they run no user code, so that a broken object can still be
looked at and removed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from durable_shards.activation import NO_ALARMS, Activation
from durable_shards.errors import InvalidArguments
from durable_shards.failures import as_durable_error
from durable_shards.gate import Gate
from durable_shards.keys import Keys, remember
from durable_shards.wire import Call
from durable_storage.errors import StateUnreadable


class Parts(NamedTuple):
    """What system handlers use of their shard."""

    gate: Gate
    keys: Keys
    revive: Callable[[Activation, Call], bool]


def run(parts: Parts, act: Activation, call: Call) -> None:
    """Run a system handler on a loaded object and answer through its gate."""
    try:
        arguments = msgspec.convert((*call.args,), SIGNATURES[call.handler])
    except msgspec.ValidationError as error:
        parts.gate.refuse(call, InvalidArguments(f"{call.handler}: {error}"))
        return
    try:
        HANDLERS[call.handler](parts, act, call, arguments)
    except Exception as error:
        act.book = None
        parts.gate.answer(act, call, as_durable_error(error))


def _reply(parts: Parts, act: Activation, call: Call, result: Any, *, changed: bool = False) -> None:
    """Answer; under a key the answer is stored with the change it tells of."""
    assert call.peer is not None
    if changed and call.key is not None:
        row = parts.keys.row(call, result)
        act.pending().keep_result(row)
        remember(act, row)
    parts.gate.answer(act, call, call.peer.encode(call, act.version, result))
    if act.clean and not act.version and not act.alarms_now and act.instance is None:
        act.home.evict(act)  # it was only looked at, and never was


def _state(parts: Parts, act: Activation, call: Call, _: Any) -> None:
    if not act.version:
        _reply(parts, act, call, None)
        return
    try:
        state = orjson.loads(act.state or b"{}")
    except orjson.JSONDecodeError as error:
        raise StateUnreadable(f"{act.address}: the stored state is no JSON: {error}") from None
    _reply(parts, act, call, {"state": state, "version": act.version, "live": act.instance is not None})


def _wake(parts: Parts, act: Activation, call: Call, _: Any) -> None:
    if act.instance is not None or parts.revive(act, call):
        _reply(parts, act, call, None)


def _evict(parts: Parts, act: Activation, call: Call, _: Any) -> None:
    act.evicting = True
    assert call.peer is not None
    parts.gate.answer(act, call, call.peer.encode(call, act.version, True))
    if act.clean:
        act.home.evict(act)


def _where(parts: Parts, act: Activation, call: Call, _: Any) -> None:
    _reply(parts, act, call, True)


def _delete(parts: Parts, act: Activation, call: Call, _: Any) -> None:
    existed = bool(act.version or act.alarms_now)
    if existed:
        act.pending().remove_object()
        act.state, act.version, act.alarms_now = None, 0, NO_ALARMS
        act.instance = None
        act.evicting = True
    _reply(parts, act, call, existed, changed=True)


def _schedule(parts: Parts, act: Activation, call: Call, arguments: Any) -> None:
    name, when, payload = arguments
    if not isinstance(when, dict) or len(when) != 1 or not when.keys() <= {"after", "at"}:
        raise InvalidArguments('$schedule: say when as {"after": seconds} or {"at": "2031-05-01T09:00:00Z"}')
    try:
        after = timedelta(seconds=when["after"]) if "after" in when else None
        at = msgspec.convert(when["at"], datetime) if "at" in when else None
    except (TypeError, ValueError, OverflowError, msgspec.ValidationError) as error:
        raise InvalidArguments(f"$schedule: {error}") from None
    act.alarms.schedule(name, after=after, at=at, payload=payload)
    _finish_alarms(parts, act, call, None)


def _cancel(parts: Parts, act: Activation, call: Call, arguments: Any) -> None:
    existed = arguments[0] in act.alarms_now
    act.alarms.cancel(arguments[0])
    _finish_alarms(parts, act, call, existed)


def _cancel_all(parts: Parts, act: Activation, call: Call, _: Any) -> None:
    count = len(act.alarms_now)
    act.alarms.cancel_all()
    _finish_alarms(parts, act, call, count)


def _finish_alarms(parts: Parts, act: Activation, call: Call, result: Any) -> None:
    book, act.book = act.book, None
    if book is not None and book.changed:
        act.pending().fold_alarms(book)
        act.alarms_now = book.result()
    _reply(parts, act, call, result, changed=True)


def _pending(parts: Parts, act: Activation, call: Call, _: Any) -> None:
    rows = sorted(act.alarms_now.values(), key=lambda row: (row.at, row.name))
    listed = [
        [row.name, row.at.isoformat(), row.attempts, None if row.payload is None else orjson.loads(row.payload)]
        for row in rows
    ]
    _reply(parts, act, call, listed)


HANDLERS: Final[dict[str, Callable[[Any, Activation, Any, Any], None]]] = {
    "$state": _state,
    "$wake": _wake,
    "$evict": _evict,
    "$where": _where,
    "$delete": _delete,
    "$schedule": _schedule,
    "$cancel": _cancel,
    "$cancel_all": _cancel_all,
    "$pending": _pending,
}
SIGNATURES: Final[dict[str, Any]] = {
    "$state": tuple[()],
    "$wake": tuple[()],
    "$evict": tuple[()],
    "$where": tuple[()],
    "$delete": tuple[()],
    "$schedule": tuple[str, dict[str, Any], Any],
    "$cancel": tuple[str],
    "$cancel_all": tuple[()],
    "$pending": tuple[()],
}
WITHOUT_OBJECT: Final = frozenset({"$evict", "$where"})
"""Answered with False, and without loading anything, when the object is not in memory."""
