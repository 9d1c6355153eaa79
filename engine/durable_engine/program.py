"""The program that an embedded engine is part of, as the shard sees it: what it hands over, and where outcomes go."""

from __future__ import annotations

from typing import Any, Final

from durable_engine.pending import Pending
from durable_shards.peers import detached
from durable_shards.wire import Call, Peer
from durable_storage.errors import DurableError

_TEXT_LENGTH_MAX: Final = 64 * 1024
_INT_MIN: Final = -(1 << 63)
_INT_MAX: Final = (1 << 64) - 1
_SCALARS: Final = frozenset({bool, float, type(None)})


class ProgramPeer(Peer):
    """The embedding program as the shard sees it: it waits for the outcomes of its pending calls."""

    __slots__ = ("_pending",)

    def __init__(self, pending: dict[int, Pending]) -> None:
        self._pending = pending

    def encode(self, call: Call, version: int, result: Any) -> Any:
        return detached(result)

    def put(self, call: Call, encoded: Any) -> None:
        pending = self._pending.pop(call.id, None)
        if pending is None or pending.future.done():
            return
        if (decode := pending.decode) is None or type(encoded) in decode.kinds:
            pending.future.set_result(encoded)
        else:
            pending.resolve(encoded)

    def fail(self, call: Call, error: DurableError) -> None:
        self.end(call.id, error)

    def end(self, number: int, error: DurableError) -> None:
        """The call of this number failed."""
        pending = self._pending.pop(number, None)
        if pending is not None and not pending.future.done():
            pending.future.set_exception(error)


def passes(value: Any) -> bool:
    """Whether an argument can be handed over as it is: immutable, and something that msgpack would carry."""
    kind = type(value)
    if kind is int:
        return bool(_INT_MIN <= value <= _INT_MAX)
    return kind in _SCALARS or (kind is str and len(value) <= _TEXT_LENGTH_MAX and value.isascii())
