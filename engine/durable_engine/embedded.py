"""`Engine(..., shards=0)`: one shard in the user's own process and event loop, without sockets.

It keeps every promise of a server with one shard, the ownership of the store included, but for one: a handler
that never returns stops the program that it is part of, since there is nobody outside to notice.

A read of an object in memory is run where it is asked for, and awaiting it does not suspend the caller. So that others
get their turns all the same, that goes on for a millisecond in each turn of the loop; all other calls of one turn are
gathered and run in the next (`docs/decisions/embedded-reads.md`).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Self

from durable_engine.pending import Pending, Target, check_key, encode_call, target_of, timed_out
from durable_engine.placement import node_name
from durable_engine.program import ProgramPeer, passes
from durable_engine.scheduling import check_scheduler, make_scheduler
from durable_engine.sweeper import NEVER, Sweeper
from durable_engine.timeouts import CALL_TIMEOUT_SECONDS, TIMEOUT_SECONDS_MAX, checked_timeout
from durable_shards import wire
from durable_shards.alarm_settings import AlarmSettings
from durable_shards.at_once import NOT_NOW, ReadsAtOnce, Unsettled, Watch
from durable_shards.errors import CallTimeout, EngineClosed
from durable_shards.registry import Registry
from durable_shards.shard import Shard
from durable_shards.shard_settings import ShardSettings
from durable_shards.signature import ResultDecoder
from durable_shards.wire import FLAG_AUTO_KEY, FLAG_ONE_WAY, Call
from durable_storage.errors import DurableError, Fenced, Unavailable
from durable_storage.lease import Control, Holder
from durable_storage.store import Claim
from durable_storage.urls import kind_of, open_control, open_store

RENEW_SECONDS: Final = 1.0
DRAIN_SECONDS: Final = 10.0
AT_ONCE_SECONDS: Final = 0.001
"""For how long reads are run where they are asked for before the event loop has to turn."""
_NOT_BEGUN: Final = float("inf")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EmbeddedSettings:
    """What the shard of an embedded engine is started with."""

    store: str
    objects: Sequence[type | str]
    migrate: bool | None = None
    takeover: bool = False
    strict_readonly: bool = False
    alarms: AlarmSettings = field(default_factory=AlarmSettings)


class Embedded:
    """Made by `Embedded.start`; belongs to the running event loop."""

    def __init__(self, settings: EmbeddedSettings, loop: asyncio.AbstractEventLoop) -> None:
        check_scheduler(settings.alarms, settings.store, is_embedded=True)
        self.loop = loop
        self.registry = Registry.load(settings.objects)
        self.closed = False
        self._settings = settings
        self._control = self._new_control()
        self._watch = Watch()
        self._shard = self._new_shard()
        self._pending: dict[int, Pending] = {}
        self._peer = ProgramPeer(self._pending)
        self._calls: list[Call] = []
        self._at_once_until = _NOT_BEGUN
        """On the shard's clock, once a read was run at once in this turn of the loop."""
        self._last_id = 0
        self._sweeper = Sweeper(loop, self._expire)
        # Turns start from here, never in the context of whoever made a call: that may itself be a turn.
        self._context = contextvars.copy_context()
        self._reads = ReadsAtOnce(self._shard, self._watch, self._context)
        self._lost: DurableError | None = None
        self._term: int | None = None
        self._renewal: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, settings: EmbeddedSettings) -> Embedded:
        """Open the store and own it. Raises StoreInUse, StoreUnavailable, SchemaMismatch, DataLossDetected."""
        return await cls(settings, asyncio.get_running_loop()).opened()

    async def opened(self) -> Self:
        """Once made, open it; raises what `start` raises."""
        try:
            await self._open()
        except BaseException:
            await self._control.close()
            raise
        return self

    def _new_control(self) -> Control:
        """The seat of the store's ruler. Tests bring their own, as they do with the shard."""
        return open_control(self._settings.store)

    def _new_shard(self) -> Shard:
        return Shard(
            self.registry,
            open_store(self._settings.store),
            self._shard_settings(),
            board=self._watch,
            caller=self,
            on_stop=self._on_stop,
            make_scheduler=partial(make_scheduler, self._settings.store, self),
        )

    def _shard_settings(self) -> ShardSettings:
        return ShardSettings(strict_readonly=self._settings.strict_readonly, alarms=self._settings.alarms)

    def _claim(self, term: int) -> Claim:
        return Claim(
            host="shard-0",
            node=node_name(),
            pid=os.getpid(),
            address="embedded",
            shard=0,
            shards=1,
            # A nameless memory store is another one for each who opens it, so it knows no terms.
            term=None if kind_of(self._settings.store) == "memory" else term,
        )

    async def _open(self) -> None:
        await self._control.prepare(shards=1, migrate=self._settings.migrate)
        self._term = term = await self._acquire()
        try:
            await self._shard.start(self._claim(term))
        except BaseException:
            await self._shard.close()
            await self._control.release(term)
            raise
        self._renewal = self.loop.create_task(self._renew(term))

    async def _acquire(self) -> int:
        """The lease of the store. Whoever is cancelled while he waits for it must not leave it behind, acquired."""
        holder = Holder.of_this_process("embedded")
        acquiring = asyncio.ensure_future(self._control.acquire(holder, takeover=self._settings.takeover))
        try:
            return await asyncio.shield(acquiring)
        except asyncio.CancelledError:
            await asyncio.wait((acquiring,))
            if acquiring.exception() is None:
                await self._control.release(acquiring.result())
            raise

    async def _renew(self, term: int) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await self._control.renew(term)
            except Unavailable as error:
                _logger.warning("the lease of the store could not be renewed: %s", error.message)
            except DurableError as error:
                self._on_stop(error)
                return

    async def answered(self) -> None:
        """See `Backend`: nothing to do, `aclose` drains."""

    async def aclose(self) -> None:
        """Finish what runs and commit it, then let the store go."""
        if self.closed:
            return
        self.closed = True
        try:
            await asyncio.sleep(0)  # what was called in this tick is on its way to the shard
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._shard.drain()
        except TimeoutError:
            _logger.warning("handlers still run after %g s: they are cancelled and undone", DRAIN_SECONDS)
        finally:  # also when whoever closes loses patience and is cancelled
            await self._let_go()

    async def _let_go(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
        self._sweeper.close()
        await self._shard.close()
        self._fail_all(EngineClosed("the engine was closed while the call was under way", outcome="unknown"))
        if self._term is not None and not isinstance(self._lost, Fenced):
            await self._control.release(self._term)
        await self._control.close()

    # Calls.

    def call(
        self,
        object_type: str,
        object_id: str,
        handler: str,
        args: Any,
        kwargs: dict[str, Any] | None,
        *,
        prefix: str = "",
        timeout: float | None = None,
        key: str | None = None,
        flags: int = 0,
        chain: list[str] | None = None,
        trace: dict[str, str] | None = None,
    ) -> asyncio.Future[Any]:
        """A call out of a turn; the future brings plain builtins. Turns have to end even while the engine closes."""
        target = target_of(prefix, object_type, object_id)
        return self._submit(target, handler, args, kwargs, timeout, key, flags, chain, trace)

    def submit(
        self,
        target: Target,
        handler: str,
        args: Any,
        kwargs: dict[str, Any] | None = None,
        timeout: float | None = None,
        key: str | None = None,
        flags: int = 0,
        chain: list[str] | None = None,
        trace: dict[str, str] | None = None,
        decode: ResultDecoder | None = None,
    ) -> asyncio.Future[Any]:
        """See `Backend`; `decode` makes the result of what a shard would have sent."""
        if self.closed:
            raise EngineClosed("this engine was closed; open another")
        if (
            not (self._calls or self._watch.is_running or self._lost or key or flags or kwargs or chain or trace)
            and (timeout is None or 0 < timeout <= TIMEOUT_SECONDS_MAX)
            and (not args or all(map(passes, args)))
            and (future := self._read_at_once(target, handler, args, timeout, decode)) is not None
        ):
            return future
        return self._submit(target, handler, args, kwargs, timeout, key, flags, chain, trace, decode)

    def _submit(
        self,
        target: Target,
        handler: str,
        args: Any,
        kwargs: dict[str, Any] | None,
        timeout: float | None,
        key: str | None,
        flags: int,
        chain: list[str] | None,
        trace: dict[str, str] | None,
        decode: ResultDecoder | None = None,
    ) -> asyncio.Future[Any]:
        if self._lost is not None:
            raise self._lost
        if timeout is None:
            timeout = CALL_TIMEOUT_SECONDS
        elif not 0 < timeout <= TIMEOUT_SECONDS_MAX:
            timeout = checked_timeout(timeout)
        if key is not None and not flags & FLAG_AUTO_KEY:
            check_key(key)
        prefix, object_type, object_id, _ = target
        self._last_id = number = self._last_id + 1
        milliseconds = int(timeout * 1000) or 1
        if kwargs or (args and not all(map(passes, args))):
            encoded = encode_call(number, target, handler, args, milliseconds, kwargs, key, flags, chain, trace)
            call = wire.unpack_call(encoded)
        else:
            call = Call(
                number,
                object_type,
                object_id,
                handler,
                list(args),
                milliseconds,
                None,
                prefix,
                key,
                flags,
                chain,
                trace,
            )
        future: asyncio.Future[Any] = self.loop.create_future()
        deadline = self.loop.time() + timeout
        one_way = bool(flags & FLAG_ONE_WAY)
        pending = Pending(number, b"", future, deadline, target, handler, decode, key is not None, one_way)
        self._pending[number] = pending
        if deadline < self._sweeper.earliest:
            self._sweeper.arm(deadline)
        if not self._calls:
            self.loop.call_soon(self._deliver, context=self._context)
        self._calls.append(call)
        return future

    def _read_at_once(
        self, target: Target, handler: str, args: tuple[Any, ...], timeout: float | None, decode: ResultDecoder | None
    ) -> asyncio.Future[Any] | None:
        """The outcome of a read, if that can be had at once."""
        gate = self._shard.gate
        if self._at_once_until == _NOT_BEGUN:
            self._at_once_until = gate.tick() + AT_ONCE_SECONDS
            self.loop.call_soon(self._turned)
        elif gate.now >= self._at_once_until:
            return None
        prefix, object_type, object_id, _ = target
        value = NOT_NOW if prefix else self._reads.read(object_type, object_id, handler, args)
        if value is NOT_NOW:
            return None
        future: asyncio.Future[Any] = self.loop.create_future()
        if type(value) is not Unsettled and (decode is None or type(value) in decode.kinds):
            future.set_result(value)
            return future
        seconds = CALL_TIMEOUT_SECONDS if timeout is None else timeout
        self._last_id = number = self._last_id + 1
        pending = Pending(number, b"", future, self.loop.time() + seconds, target, handler, decode, False)
        if type(value) is not Unsettled:
            pending.resolve(value)
            return future
        self._pending[number] = pending
        if pending.deadline < self._sweeper.earliest:
            self._sweeper.arm(pending.deadline)
        call = Call(number, object_type, object_id, handler, list(args), int(seconds * 1000) or 1, peer=self._peer)
        call.deadline = gate.now + seconds
        value.settle(call)
        return future

    def _turned(self) -> None:
        """The loop has turned since reads were run at once."""
        self._at_once_until = _NOT_BEGUN

    def _deliver(self) -> None:
        """All calls of one loop tick, in their order."""
        calls, self._calls = self._calls, []
        if self._lost is not None:
            return
        self._shard.receive(self._peer, calls)
        for call in calls:
            if call.flags & FLAG_ONE_WAY:
                self._peer.put(call, None)

    def _expire(self, now: float) -> float:
        late = [pending for pending in self._pending.values() if pending.deadline <= now]
        for pending in late:
            self._peer.end(pending.id, timed_out(pending))
        return min((pending.deadline for pending in self._pending.values()), default=NEVER)

    def _on_stop(self, error: Exception) -> None:
        """The shard may neither write nor answer any more."""
        if self._lost is None:
            self._lost = error if isinstance(error, DurableError) else DurableError(f"the shard stopped: {error}")
            _logger.error("this engine serves no more: %s", self._lost.message)
            self._fail_all(Unavailable(f"the engine stopped: {self._lost.message}", outcome="unknown", retryable=False))

    def _fail_all(self, error: DurableError) -> None:
        for number in list(self._pending):
            self._peer.end(number, error)

    # Everything that concerns no single object.

    async def request(
        self, op: str, arguments: dict[str, Any] | None = None, *, shard: int | None = None, timeout: float = 5.0
    ) -> Any:
        """Ask the shard (there is one, whatever `shard` says) something that concerns no single object."""
        if self.closed:
            raise EngineClosed("this engine was closed; open another")
        del shard
        if op == "shards":
            return [self._describe()]
        try:
            async with asyncio.timeout(timeout):
                return await self._shard.request(op, arguments or {})
        except TimeoutError:
            raise CallTimeout(f"{op!r} was not answered within {timeout:g} s") from None

    def _describe(self) -> dict[str, Any]:
        return {
            "shard": 0,
            "pid": os.getpid(),
            "state": "up" if self._lost is None else "down",
            "endpoint": "",
            "partitions": [self._shard.settings.owned.start, self._shard.settings.owned.stop],
            "epoch": self._shard.epoch,
            "seq": self._shard.seq,
            "restarts": 0,
        }

    @property
    def shard_numbers(self) -> list[int]:
        """There is one shard."""
        return [0]

    def shard_of(self, target: Target) -> int:
        """There is one shard."""
        del target
        return 0
