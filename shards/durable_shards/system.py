"""System handlers: administration of one object, as calls like any others.

Their names begin with `$`, which no user's handler can. They are routed to the object's owner, keep their place
among its turns and pass the same output gate, but they run no user code, so that a broken object can still be
looked at and removed. Here are also the requests that a shard answers about itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson

from durable_shards.activation import NO_ALARMS, Activation
from durable_shards.errors import InvalidArguments, UnknownClass
from durable_storage.address import id_problem, name_problem
from durable_storage.errors import DurableError

if TYPE_CHECKING:
    from durable_shards.shard import Shard
    from durable_shards.wire import Call

decode_value: Final = msgspec.msgpack.Decoder().decode
LIST_MAX: Final = 10_000


def run(shard: Shard, act: Activation, call: Call) -> None:
    """Run a system handler on a loaded object and answer through its gate."""
    try:
        arguments = msgspec.convert((*call.args,), SIGNATURES[call.handler])
    except msgspec.ValidationError as error:
        shard.gate.refuse(call, InvalidArguments(f"{call.handler}: {error}"))
        return
    try:
        HANDLERS[call.handler](shard, act, call, arguments)
    except DurableError as error:
        act.book = None
        shard.gate.answer(act, call, error)


def _reply(shard: Shard, act: Activation, call: Call, result: Any) -> None:
    assert call.peer is not None
    shard.gate.answer(act, call, call.peer.encode(call, act.version, result))
    if act.clean and not act.version and not act.alarms_now and act.instance is None:
        act.table.evict(act)  # it was only looked at, and never was


def _state(shard: Shard, act: Activation, call: Call, _: Any) -> None:
    if not act.version:
        _reply(shard, act, call, None)
        return
    state = orjson.loads(act.state or b"{}")
    _reply(shard, act, call, {"state": state, "version": act.version, "live": act.instance is not None})


def _wake(shard: Shard, act: Activation, call: Call, _: Any) -> None:
    if act.instance is not None or shard.turns.revive(act, call):
        _reply(shard, act, call, None)


def _evict(shard: Shard, act: Activation, call: Call, _: Any) -> None:
    act.evicting = True
    assert call.peer is not None
    shard.gate.answer(act, call, call.peer.encode(call, act.version, True))
    if act.clean:
        act.table.evict(act)


def _where(shard: Shard, act: Activation, call: Call, _: Any) -> None:
    _reply(shard, act, call, True)


def _delete(shard: Shard, act: Activation, call: Call, _: Any) -> None:
    existed = bool(act.version or act.alarms_now)
    if existed:
        act.pending().remove_object()
        act.state, act.version, act.alarms_now = None, 0, NO_ALARMS
        act.instance = None
        act.evicting = True
    _reply(shard, act, call, existed)


def _schedule(shard: Shard, act: Activation, call: Call, arguments: Any) -> None:
    name, when, payload = arguments
    if not isinstance(when, dict) or len(when) != 1 or not when.keys() <= {"after", "at"}:
        raise InvalidArguments('$schedule: say when as {"after": seconds} or {"at": "2031-05-01T09:00:00Z"}')
    try:
        after = timedelta(seconds=when["after"]) if "after" in when else None
        at = msgspec.convert(when["at"], datetime) if "at" in when else None
    except (TypeError, ValueError, OverflowError, msgspec.ValidationError) as error:
        raise InvalidArguments(f"$schedule: {error}") from None
    act.alarms.schedule(name, after=after, at=at, payload=payload)
    _finish_alarms(shard, act, call, None)


def _cancel(shard: Shard, act: Activation, call: Call, arguments: Any) -> None:
    existed = arguments[0] in act.alarms_now
    act.alarms.cancel(arguments[0])
    _finish_alarms(shard, act, call, existed)


def _cancel_all(shard: Shard, act: Activation, call: Call, _: Any) -> None:
    count = len(act.alarms_now)
    act.alarms.cancel_all()
    _finish_alarms(shard, act, call, count)


def _finish_alarms(shard: Shard, act: Activation, call: Call, result: Any) -> None:
    book, act.book = act.book, None
    if book is not None and book.changed:
        act.pending().fold_alarms(book)
        act.alarms_now = book.result()
    _reply(shard, act, call, result)


def _pending(shard: Shard, act: Activation, call: Call, _: Any) -> None:
    rows = sorted(act.alarms_now.values(), key=lambda row: (row.at, row.name))
    listed = [
        [row.name, row.at.isoformat(), row.attempts, None if row.payload is None else orjson.loads(row.payload)]
        for row in rows
    ]
    _reply(shard, act, call, listed)


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


async def request(shard: Shard, op: str, arguments: dict[str, Any]) -> Any:
    """Requests about the shard itself. Raises InvalidArguments for what it does not know."""
    if op == "ping":
        return "pong"
    if op == "statistics":
        return asdict(shard.statistics())
    if op == "unpark":
        return shard.unpark(str(arguments.get("address", "")))
    if op == "list":
        return await _list(shard, arguments)
    raise InvalidArguments(f"a shard does not know the request {op!r}; it knows list, ping, statistics and unpark")


class ListArguments(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of the request `list`."""

    object_type: str
    prefix: str = ""
    after: str | None = None
    limit: int = 100


async def _list(shard: Shard, arguments: dict[str, Any]) -> list[str]:
    try:
        asked = msgspec.convert(arguments, ListArguments)
    except msgspec.ValidationError as error:
        raise InvalidArguments(f"list: {error}") from None
    if asked.object_type not in shard.registry.classes:
        raise UnknownClass(
            f"no class {asked.object_type!r} is served here; known are: {', '.join(sorted(shard.registry.classes))}"
        )
    problem = (asked.prefix and name_problem("prefix", asked.prefix)) or (asked.after and id_problem(asked.after))
    if problem or not 0 < asked.limit <= LIST_MAX:
        raise InvalidArguments(f"list: {problem or f'limit must be 1 to {LIST_MAX}'}")
    return await shard.store.list_ids(asked.prefix, asked.object_type, asked.after, asked.limit)
