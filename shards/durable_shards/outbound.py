"""`self.engine` inside a handler: calls from one object to others, through the output gate.

A call leaves only when everything its object had seen before is durable. What the running turn itself changed
is not: it commits when the turn ends, so an awaited call in the middle of a turn happens even if the turn is
undone later. `send` is the safe form: it leaves with the turn's own commit, or not at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from hashlib import blake2b
from typing import Any, Protocol

from durable_shards.activation import Activation
from durable_shards.clock import Clock
from durable_shards.errors import CallTimeout, InvalidArguments
from durable_shards.gate import Gate
from durable_shards.handler import Handler
from durable_shards.peers import FuturePeer, detached
from durable_shards.registry import spec_of
from durable_shards.suspended import current_turn
from durable_shards.wire import FLAG_AUTO_KEY, FLAG_ONE_WAY, FLAG_REACHED_OUT, Call, Peer
from durable_storage.address import Address, id_problem, name_problem
from durable_storage.errors import DurableError, PersistenceFailed

log = logging.getLogger("durable_engine.shard")

CHAIN_MAX = 50
"""Objects that may wait for one another in a row."""


class Caller(Protocol):
    """What carries calls to other objects: the frontend of this process."""

    def call(
        self,
        object_type: str,
        object_id: str,
        handler: str,
        args: list[Any],
        kwargs: dict[str, Any] | None,
        *,
        prefix: str,
        timeout: float,
        key: str | None = None,
        flags: int = 0,
        chain: list[str] | None = None,
        trace: dict[str, str] | None = None,
    ) -> asyncio.Future[Any]:
        """Send a call; the future holds plain msgpack values. `timeout` in seconds."""


class Send(Peer):
    """A one-way call that waits for its turn's commit: being released means leaving."""

    reruns = False
    __slots__ = ("_go",)

    def __init__(self, go: Callable[[], None]) -> None:
        self._go = go

    def encode(self, call: Call, version: int, result: Any) -> Any:
        return b""

    def put(self, call: Call, encoded: Any) -> None:
        try:
            self._go()
        except Exception:
            log.exception("one-way call %s/%s.%s could not be sent", call.object_type, call.object_id, call.handler)

    def fail(self, call: Call, error: DurableError) -> None:
        """Its turn was undone: it never was."""


class _Marker(FuturePeer):
    """Stands in the gate for a turn that waits until it is open."""

    reruns = False


class ObjectEngine:
    """The engine as one object sees it."""

    def __init__(self, act: Activation, caller: Caller, gate: Gate, clock: Clock) -> None:
        self._act = act
        self._caller = caller
        self._gate = gate
        self._clock = clock

    def at(
        self,
        cls: Any,
        object_id: str,
        *,
        prefix: str | None = None,
        timeout: float | timedelta | None = None,
    ) -> Any:
        """A reference to another object: `await self.engine.at(Cart, "7").add(sku)`."""
        return ObjectRef(self, cls, object_id, prefix, timeout)

    async def call(
        self,
        handler: Handler[Any, Any],
        object_id: str,
        *args: Any,
        prefix: str | None = None,
        timeout: float | timedelta | None = None,
        idempotency_key: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call a handler of another object and wait for its result."""
        spec = spec_of(handler.owner).handlers[handler.name]
        value = await self._call(
            spec_of(handler.owner).name, object_id, handler.name, list(args), kwargs, prefix, timeout, idempotency_key
        )
        return spec.decode_result(value)

    async def call_by_name(
        self,
        object_type: str,
        object_id: str,
        handler: str,
        args: list[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        *,
        prefix: str | None = None,
        timeout: float | timedelta | None = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """The same by strings; the result is plain values."""
        return await self._call(object_type, object_id, handler, args or [], kwargs, prefix, timeout, idempotency_key)

    def send(
        self,
        handler: Handler[Any, Any],
        object_id: str,
        *args: Any,
        prefix: str | None = None,
        **kwargs: Any,
    ) -> None:
        """A one-way call that leaves when this turn is durable, and never if the turn is undone."""
        act = self._act
        spec = spec_of(handler.owner)
        tenant = act.address.prefix if prefix is None else prefix
        if problem := id_problem(object_id) or (tenant and name_problem("prefix", tenant)):
            raise InvalidArguments(problem)
        # As they are now: the call leaves later, when the turn is durable, and later turns may change them.
        values, named = detached(list(args)), detached(kwargs) or None

        def go() -> None:
            future = self._caller.call(
                spec.name,
                object_id,
                handler.name,
                values,
                named,
                prefix=tenant,
                timeout=spec.options.call_timeout,
                flags=FLAG_ONE_WAY,
            )
            future.add_done_callback(_observe)

        if act.sends is None:
            act.sends = []
        act.sends.append(Call(0, spec.name, object_id, handler.name, peer=Send(go)))

    async def _call(
        self,
        object_type: str,
        object_id: str,
        handler: str,
        args: list[Any],
        kwargs: dict[str, Any] | None,
        prefix: str | None,
        timeout: float | timedelta | None,
        key: str | None,
    ) -> Any:
        act = self._act
        turn = current_turn.get()
        if turn is not None and turn.act is not act:
            turn = None
        tenant = act.address.prefix if prefix is None else prefix
        target = str(Address(tenant, object_type, object_id))
        if act.newest is not None or not self._gate.holds_lease():
            await self._durable()
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        chain: list[str] | None = None
        flags = 0
        if turn is not None:
            if turn.stale:
                raise PersistenceFailed("this turn is undone already; its call to another object was not made")
            remaining = turn.call.deadline - self._clock.monotonic()
            if remaining <= 0:
                raise CallTimeout(
                    "no time is left for a call to another object; it was not made", outcome="not_applied"
                )
            seconds = remaining if seconds is None else min(seconds, remaining)
            chain = [*(turn.call.chain or ()), str(act.address)]
            if len(chain) > CHAIN_MAX:
                raise CallTimeout(f"a chain of {CHAIN_MAX} waiting objects is too long", outcome="not_applied")
            turn.calls_made += 1
            if key is None and turn.call.key is not None:
                key = derived_key(act.address, turn.call.key, turn.calls_made)
                flags = turn.call.flags & FLAG_AUTO_KEY
            if key is None:
                turn.call.flags |= FLAG_REACHED_OUT
            turn.waiting_for.append(target)
        try:
            return await self._caller.call(
                object_type,
                object_id,
                handler,
                args,
                kwargs or None,
                prefix=tenant,
                timeout=act.home.spec.options.call_timeout if seconds is None else seconds,
                key=key,
                flags=flags,
                chain=chain,
                trace=turn.call.trace if turn is not None else None,
            )
        finally:
            if turn is not None:
                turn.waiting_for.remove(target)

    async def _durable(self) -> None:
        """Wait until everything this object had seen before the running turn is committed."""
        act = self._act
        opened = asyncio.get_running_loop().create_future()
        self._gate.answer(act, Call(0, "", "", "", peer=_Marker(opened)), None)
        await opened


class ObjectRef:
    """Another object, as handlers see it: attributes are its handlers."""

    __slots__ = ("_cls", "_engine", "_id", "_prefix", "_timeout")

    def __init__(
        self, engine: ObjectEngine, cls: Any, object_id: str, prefix: str | None, timeout: float | timedelta | None
    ) -> None:
        self._engine = engine
        self._cls = cls
        self._id = object_id
        self._prefix = prefix
        self._timeout = timeout

    def __getattr__(self, name: str) -> Callable[..., Any]:
        engine, object_id = self._engine, self._id
        options: dict[str, Any] = {"prefix": self._prefix, "timeout": self._timeout}
        if isinstance(self._cls, str):
            stored_name = self._cls
            return lambda *args, **kwargs: engine.call_by_name(
                stored_name, object_id, name, list(args), kwargs, **options
            )
        handler = getattr(self._cls, name, None)
        if not isinstance(handler, Handler):
            known = ", ".join(sorted(spec_of(self._cls).handlers)) or "none"
            raise AttributeError(f"{self._cls.__name__} has no handler {name!r}; its handlers are: {known}")
        return lambda *args, **kwargs: engine.call(handler, object_id, *args, **options, **kwargs)


def _observe(future: asyncio.Future[Any]) -> None:
    """One-way calls are counted and logged where they fail; nobody waits for this future."""
    if not future.cancelled():
        future.exception()


def derived_key(caller: Address, key: str, number: int) -> str:
    """The idempotency key of the `number`-th call that a turn makes which itself runs under `key`."""
    return blake2b("\0".join((*caller, key, str(number))).encode(errors="surrogatepass"), digest_size=24).hexdigest()
