"""System handlers: administration of one object, as calls like any others.

Their names begin with `$`, which no user's handler can. They are routed to the object's owner, keep their place
among its turns and pass the same output gate, but they run no user code, so that a broken object can still be
looked at and removed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, Literal

import msgspec
import orjson

from durable_shards import system_alarms
from durable_shards.activation import NO_ALARMS, Activation
from durable_shards.errors import InvalidArguments, ReentrantCall
from durable_shards.failures import as_durable_error
from durable_shards.firing import Firing
from durable_shards.system_parts import Parts, reply
from durable_shards.wire import Call
from durable_storage.codec import SCHEMA
from durable_storage.errors import StateUnreadable


def run(parts: Parts, act: Activation, call: Call) -> None:
    """Run a system handler on a loaded object and answer through its gate."""
    try:
        # What the shard's own scheduler fires was never on the wire.
        own = call.handler == "$fire" and isinstance(call.peer, Firing)
        arguments: Any = call.args if own else msgspec.convert((*call.args,), SIGNATURES[call.handler])
    except msgspec.ValidationError as error:
        parts.gate.refuse(call, InvalidArguments(f"{call.handler}: {error}"))
        return
    try:
        HANDLERS[call.handler](parts, act, call, arguments)
    except Exception as error:
        act.book = None
        parts.gate.answer(act, call, as_durable_error(error))


def _state(parts: Parts, act: Activation, call: Call, _: Any) -> None:
    if not act.version:
        reply(parts, act, call, None)
        return
    try:
        state = orjson.loads(act.state or b"{}")
    except orjson.JSONDecodeError as error:
        raise StateUnreadable(f"{act.address}: the stored state is no JSON: {error}") from None
    found = {"state": state, "version": act.version, "live": act.instance is not None}
    if isinstance(state, dict) and SCHEMA in state:
        found["schema"] = state.pop(SCHEMA)
    reply(parts, act, call, found)


def _wake(parts: Parts, act: Activation, call: Call, arguments: Any) -> None:
    own = _idle_options(arguments)
    if act.instance is None and not parts.revive(act, call):
        return
    act.last_used = parts.gate.now
    if own:
        act.home.set_options(act, replace(act.home.spec.options, **own))
    reply(parts, act, call, None)


def _idle_options(arguments: Any) -> dict[str, Any]:
    """The options of this one object's own. Raises InvalidArguments."""
    own: dict[str, Any] = arguments[0] if arguments else {}
    for name, seconds in own.items():
        if seconds is not None and not seconds >= 0:  # nor is NaN
            raise InvalidArguments(f"$wake: {name} is zero or more seconds, or nil for never, not {seconds!r}")
    if len(arguments) > 1:
        raise InvalidArguments("$wake takes one map of options, or none")
    return own


def _evict(parts: Parts, act: Activation, call: Call, _: Any) -> None:
    act.evicting = True
    assert call.peer is not None
    parts.gate.answer(act, call, call.peer.encode(call, act.version, True))
    if act.clean:
        act.home.evict(act)


def _where(parts: Parts, act: Activation, call: Call, _: Any) -> None:
    reply(parts, act, call, True)


def _delete(parts: Parts, act: Activation, call: Call, _: Any) -> None:
    if act.suspended:
        raise ReentrantCall(f"{act.address} waits for its own deletion, from inside a turn; nothing was deleted")
    existed = bool(act.version or act.alarms_now)
    if existed:
        act.pending().remove_object()
        act.state, act.version, act.alarms_now = None, 0, NO_ALARMS
        act.instance = None
        act.evicting = True
    reply(parts, act, call, existed, changed=True)


HANDLERS: Final[dict[str, Callable[[Any, Activation, Any, Any], None]]] = {
    "$state": _state,
    "$wake": _wake,
    "$evict": _evict,
    "$where": _where,
    "$delete": _delete,
    **system_alarms.HANDLERS,
}
SIGNATURES: Final[dict[str, Any]] = {
    **dict.fromkeys(("$state", "$evict", "$where", "$delete"), tuple[()]),
    "$wake": tuple[dict[Literal["hibernate_after", "shutdown_after"], float | None], ...],
    **system_alarms.SIGNATURES,
}
WITHOUT_OBJECT: Final = frozenset({"$evict", "$where"})
"""Answered with False, and without loading anything, when the object is not in memory."""
