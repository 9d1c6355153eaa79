"""What system handlers have in common: the parts of the shard that they use, and how they answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from durable_shards.activation import Activation
from durable_shards.firing import Firings
from durable_shards.gate import Gate
from durable_shards.keys import Keys, remember
from durable_shards.wire import Call


class Parts(NamedTuple):
    """What system handlers use of their shard."""

    gate: Gate
    keys: Keys
    firings: Firings
    revive: Callable[[Activation, Call], bool]


def reply(parts: Parts, act: Activation, call: Call, result: Any, *, changed: bool = False) -> None:
    """Answer; under a key the answer is stored with the change it tells of."""
    assert call.peer is not None
    if changed and call.key is not None:
        row = parts.keys.row(call, result)
        act.pending().keep_result(row)
        remember(act, row)
    parts.gate.answer(act, call, call.peer.encode(call, act.version, result))
    if act.clean and not act.version and not act.alarms_now and act.instance is None:
        act.home.evict(act)  # it was only looked at, and never was
