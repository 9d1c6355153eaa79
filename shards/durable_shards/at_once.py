"""Reads where they are asked for: for a caller in the shard's own process, without a queue or a turn of the loop.

A read of an object that is live, clean and idle needs nothing that a turn of its own would wait for. What is done here
is what `Shard.receive` does for such a call, in the same order, less what cannot happen to it. As soon as anything is
out of the ordinary the answer is `NOT_NOW`, and the call goes the usual way. Only sync handlers of classes without
async methods are run so, since they run inside whatever task asks; their turns never wait, so none is suspended.
"""

from __future__ import annotations

from contextvars import Context
from typing import TYPE_CHECKING, Any, Final

from durable_shards.board import NullBoard
from durable_shards.peers import detached
from durable_storage.errors import DurableError

if TYPE_CHECKING:
    from durable_shards.activation import Activation
    from durable_shards.shard import Shard
    from durable_shards.wire import Call

NOT_NOW: Final = object()
"""Nothing was run: the call has to go the usual way."""


class Watch(NullBoard):
    """Knows whether user code of an object runs: calls that it makes must not run inside its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.is_running = False
        self.enter, self.leave = self._enter, self._leave

    def _enter(self, _: bytes) -> None:
        self.is_running = True

    def _leave(self) -> None:
        self.is_running = False


class Unsettled:
    """A turn that was run and needs a call for its end: its handler failed, or did more than to read."""

    __slots__ = ("_act", "_error", "_result", "_shard")

    def __init__(self, shard: Shard, act: Activation, result: Any, error: BaseException | None) -> None:
        self._shard = shard
        self._act = act
        self._result = result
        self._error = error

    def settle(self, call: Call) -> None:
        """End the turn as that of this call, whose peer hears the outcome."""
        self._shard.turns.settle(self._act, call, self._result, self._error)


class ReadsAtOnce:
    """The short way to the readonly handlers of one shard's default tenant."""

    def __init__(self, shard: Shard, watch: Watch, context: Context) -> None:
        self._shard = shard
        self._watch = watch
        self._context = context
        """Where handlers start from: never the context of whoever asks, who may himself be a turn."""
        self._tables = shard.directory.default
        self._gate = shard.gate
        self._is_checked = shard.settings.strict_readonly

    def read(self, object_type: str, object_id: str, handler: str, args: tuple[Any, ...]) -> Any:
        """The result as a reply would bring it, or NOT_NOW, or Unsettled."""
        table = self._tables.get(object_type)
        act = table.live.get(object_id) if table is not None else None
        if (
            act is None
            or act.instance is None
            or act.newest is not None
            or act.queue
            or act.paused
            or act.head is not None
        ):
            return NOT_NOW
        definition = act.home.spec
        spec = definition.handlers.get(handler)
        shard, gate = self._shard, self._gate
        if (
            spec is None
            or not spec.readonly
            or definition.has_async
            or self._is_checked
            or shard.draining
            or shard.admission.parked
            or gate.waiting >= shard.settings.gated_max
            or not gate.holds_lease()
        ):
            return NOT_NOW
        try:
            bound = spec.bind(args, None)
        except DurableError:
            return NOT_NOW  # the usual way tells the caller
        act.last_used = gate.now
        shard.turns.count += 1
        watch = self._watch
        watch.is_running = True
        try:
            result = self._context.copy().run(spec.func, act.instance, *bound)
            if act.book is None and act.sends is None:
                return detached(result)
        except BaseException as error:
            return Unsettled(shard, act, None, error)
        finally:
            watch.is_running = False
        return Unsettled(shard, act, result, None)
