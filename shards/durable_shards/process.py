"""The shard process: one event loop, one shard, one socket, one owner of its rows.

Read `ShardProcess.run` first: it is the story of the process. The shard itself (`shard`) knows nothing of
processes; here it gets its store, its socket, its watchdog's board and the way to other shards, and here it
is ended: by a drain, by the loss of its ownership, or with its supervisor.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final, Protocol

import uvloop

from durable_shards.board import ShardBoard, monotonic_ms
from durable_shards.control import (
    EXIT_DRAINED,
    EXIT_FAILED,
    EXIT_FENCED,
    Answer,
    Ask,
    Begin,
    Channel,
    Drain,
    Drained,
    EpochChanged,
    Failed,
    FencedOff,
    Finish,
    Inheritance,
    Park,
    Ready,
    Routes,
    Sealed,
    ShardConfig,
    StandsBy,
    ToShard,
    Unparked,
)
from durable_shards.errors import error_to_wire
from durable_shards.former import FormerShard
from durable_shards.lifeline import limit_memory, name_process
from durable_shards.logs import configure_logging
from durable_shards.outbound import Caller
from durable_shards.schedulers import Scheduler
from durable_shards.server import ShardServer
from durable_shards.shard import Shard
from durable_shards.shard_settings import ShardSettings
from durable_shards.wire import RoutingTable
from durable_storage.errors import DurableError, Fenced
from durable_storage.store import Claim
from durable_storage.urls import open_store

_log = logging.getLogger("durable_engine.shard")

BEAT_SECONDS: Final = 0.1
DUMP_SIGNAL: Final = signal.SIGUSR2
"""Writes the stacks of all threads to the dump file, whatever the process is doing."""
GC_THRESHOLDS: Final = (50_000, 20, 1_000)
"""Rare collections, and of everything almost never: +46 % while objects are being created."""
SWITCH_SECONDS: Final = 0.00005
"""How long the loop may keep the store's writer thread from the interpreter, since an fsync that ended waits for it. It
must be less than the time between two looks of a busy loop at its sockets: each of these lets go of the interpreter and
takes it back before the thread is awake, and the thread begins to count anew (docs/decisions/fairness.md)."""
_LINGER_SECONDS: Final = 1.0
_QUIET_SECONDS: Final = 0.05
"""When no message came for this long, every client has heard that the shard takes no more calls."""
_HEAR_SECONDS: Final = 0.025
"""From the beginning of a drain until the shard may be sealed: so long it runs one-way calls of clients that have not
heard of it yet, because passed on they could be overtaken."""
_SUCCESSOR_SECONDS: Final = 10.0
"""How long a sealed shard waits for its successor to serve."""
_FORMER_SECONDS: Final = 5.0
_FORMER_QUIET_SECONDS: Final = 0.5
"""A sealed shard refuses calls until none came for this long, its successor serving."""
_DEFAULT_DRAIN_SECONDS: Final = 10.0
_TRACEBACK_CHARACTERS_MAX: Final = 20_000


class ObjectCaller(Caller, Protocol):
    """The way from an object to others, wherever they live: given from above, since it needs a client."""

    async def close(self) -> None:
        """Let go of connections."""


MakeCaller = Callable[[ShardConfig, asyncio.AbstractEventLoop], ObjectCaller]
MakeScheduler = Callable[[ShardConfig, ObjectCaller, Shard], Scheduler]
"""Given from above too: some schedulers need packages that the shard knows nothing of."""


def main(inheritance: Inheritance, make_caller: MakeCaller, make_scheduler: MakeScheduler) -> int:
    """Be a shard until drained, fenced or left alone; the exit code."""
    configure_logging(f"shard-{inheritance.config.shard}", inheritance.config.log_level)
    name_process(f"durable-shard-{inheritance.config.shard}")
    faulthandler.enable(inheritance.dump)
    faulthandler.register(DUMP_SIGNAL, inheritance.dump)
    limit_memory(inheritance.config.process_bytes)
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(SWITCH_SECONDS)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    process = ShardProcess(inheritance, make_caller, make_scheduler, loop)
    return loop.run_until_complete(process.run())


class ShardProcess:
    """One shard with everything that surrounds it."""

    def __init__(
        self,
        inheritance: Inheritance,
        make_caller: MakeCaller,
        make_scheduler: MakeScheduler,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._config = config = inheritance.config
        self._loop = loop
        self._board = ShardBoard(inheritance.page)
        self._caller = make_caller(config, loop)
        self._channel = Channel(inheritance.control, loop, on_message=self._on_message, on_close=self._on_orphaned)
        self._store = open_store(config.store)
        self._shard = Shard(
            inheritance.registry,
            self._store,
            self._settings(),
            board=self._board,
            caller=self._caller,
            on_stop=self._on_lost,
            make_scheduler=partial(make_scheduler, config, self._caller),
        )
        self._server: ShardServer | None = None
        self._ended: asyncio.Future[int] = loop.create_future()
        """The exit code, once it is known that and how the process ends."""
        self._drain_seconds = _DEFAULT_DRAIN_SECONDS
        self._hands_over = False
        self._drains_since = 0.0
        self._begin: asyncio.Future[Begin] = loop.create_future()
        self._finish = asyncio.Event()
        self._former: FormerShard | None = None
        self._told_epoch = 0
        self._told_parked = set(config.parked)
        self._asked: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """The whole life; the exit code."""
        self._beat()
        try:
            await self._startup()
        except Exception as error:
            self._report_failure(error)
            return EXIT_FAILED
        status = await self._ended
        if status == EXIT_DRAINED:
            await self._drain()
        await self._shutdown()
        return status

    async def _startup(self) -> None:
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # Ctrl-C reaches all processes: the supervisor decides
        self._loop.add_signal_handler(signal.SIGTERM, self._end, EXIT_DRAINED)
        gc.collect()  # here, because nobody waits for a process that stands by
        gc.freeze()
        acknowledged_seq = await self._stand_by() if self._config.stands_by else self._config.acknowledged_seq
        await self._shard.start(self._claim(acknowledged_seq))
        self._server = ShardServer(self._shard, self._config.bind, self._loop)
        self._told_epoch = self._store.epoch
        self._channel.send(Ready(self._server.endpoint, self._store.epoch, self._store.seq))

    async def _stand_by(self) -> int | None:
        """Wait for the process before; the commit that the store has to show."""
        name_process(f"durable-next-{self._config.shard}")
        self._channel.send(StandsBy())
        begin = await self._begin
        name_process(f"durable-shard-{self._config.shard}")
        self._shard.parked = set(begin.parked)
        self._told_parked = set(begin.parked)
        return begin.acknowledged_seq

    async def _drain(self) -> None:
        """Finish what was taken in, and what turns of other shards need; what is not done in time is undone."""
        try:
            async with asyncio.timeout(self._drain_seconds):
                await self._shard.drain()
                if self._hands_over:
                    await asyncio.sleep(self._drains_since + _HEAR_SECONDS - self._loop.time())
                else:
                    self._channel.send(Drained())
                    await self._finish.wait()
                while True:
                    await self._shard.drain()
                    if self._shard.settled or self._shard.stopped:  # nothing came while objects said their last words
                        break
        except TimeoutError:
            _log.warning("draining took more than %g s: the rest is dropped", self._drain_seconds)
            self._hands_over = False
        if self._hands_over and self._shard.stopped is None:
            await self._give_way()
        else:
            await self._see_clients_off(_QUIET_SECONDS, _LINGER_SECONDS)

    async def _give_way(self) -> None:
        """Seal the shard, in one step of the loop with the look that found it settled; then show clients the way."""
        assert self._server is not None
        self._former = FormerShard(self._caller, self._loop, self._store.epoch, self._store.seq)
        self._server.replace(self._former)
        name_process(f"durable-past-{self._config.shard}")
        self._board.acknowledged(self._store.epoch, self._store.seq)
        self._told_epoch = 0  # from now on others speak for the store
        self._channel.send(Sealed())
        await self._shard.close()
        try:
            async with asyncio.timeout(_SUCCESSOR_SECONDS):
                await self._former.successor_serves.wait()
        except TimeoutError:
            return
        await self._see_clients_off(_FORMER_QUIET_SECONDS, _FORMER_SECONDS)

    async def _see_clients_off(self, quiet_seconds: float, linger_seconds: float) -> None:
        """Go on refusing calls of clients that have not heard of the drain: unanswered, they would seem lost."""
        assert self._server is not None
        received, until = -1, self._loop.time() + linger_seconds
        while received != (received := self._server.messages_received):
            if self._loop.time() >= until:
                return
            await asyncio.sleep(quiet_seconds)

    async def _shutdown(self) -> None:
        fenced = self._ended.result() != EXIT_DRAINED
        if self._server is not None:
            self._server.close(0 if fenced else _LINGER_SECONDS)
        await self._caller.close()
        if self._former is None:
            await self._shard.close()
        self._channel.close()

    # What the process is told.

    def _on_message(self, message: ToShard) -> None:
        match message:
            case Routes(table):
                self._on_routes(table)
            case Begin():
                self._begin.set_result(message)
            case Park(addresses):
                self._shard.parked = set(addresses)
                self._told_parked = set(addresses)
            case Ask():
                task = self._loop.create_task(self._answer(message))
                self._asked.add(task)
                task.add_done_callback(self._asked.discard)
            case Drain(seconds, hands_over):
                self._drain_seconds, self._hands_over = seconds, hands_over
                self._drains_since = self._loop.time()
                self._end(EXIT_DRAINED)
            case Finish():
                self._finish.set()
                if self._former is not None:
                    self._former.successor_serves.set()

    def _on_routes(self, table: RoutingTable) -> None:
        if self._server is not None:
            self._server.set_routes(table)
        if self._former is not None and not self._former.successor_serves.is_set():
            ours = next((route for route in table.shards if route.shard == self._config.shard), None)
            if ours is not None and ours.state == "up" and ours.pid != os.getpid():
                self._former.succeeded()

    async def _answer(self, ask: Ask) -> None:
        try:
            value = await self._shard.request(ask.op, ask.arguments)
        except DurableError as error:
            value = error_to_wire(error)
        self._channel.send(Answer(ask.id, value))

    def _on_orphaned(self) -> None:
        """The supervisor is gone: the kernel is about to kill us anyway, and nobody could restart us."""
        _log.error("the supervisor is gone: the shard ends")
        self._end(EXIT_FAILED)

    def _on_lost(self, error: Exception) -> None:
        """The shard may neither write nor answer any more."""
        if isinstance(error, Fenced):
            self._channel.send(FencedOff(error.message))
            self._end(EXIT_FENCED)
        else:
            self._report_failure(error)
            self._end(EXIT_FAILED)

    def _end(self, status: int) -> None:
        if not self._ended.done():
            self._ended.set_result(status)

    # What the process tells.

    def _beat(self) -> None:
        self._loop.call_later(BEAT_SECONDS, self._beat)
        self._board.beat(monotonic_ms())
        if self._told_epoch:
            self._board.acknowledged(self._store.epoch, self._store.seq)
        if self._store.epoch != self._told_epoch and self._told_epoch:
            self._told_epoch = self._store.epoch
            self._channel.send(EpochChanged(self._told_epoch))
        if len(self._shard.parked) < len(self._told_parked):
            for address in self._told_parked - self._shard.parked:
                self._channel.send(Unparked(address))
            self._told_parked = set(self._shard.parked)

    def _report_failure(self, error: Exception) -> None:
        known = error if isinstance(error, DurableError) else DurableError(f"{type(error).__name__}: {error}")
        stack = "" if isinstance(error, DurableError) else "".join(traceback.format_exception(error))
        self._channel.send(Failed(error_to_wire(known), stack[-_TRACEBACK_CHARACTERS_MAX:]))

    def _claim(self, acknowledged_seq: int | None) -> Claim:
        config = self._config
        return Claim(
            host=f"shard-{config.shard}",
            node=config.node,
            pid=os.getpid(),
            address=config.bind,
            shard=config.shard,
            shards=config.shards,
            acknowledged_seq=acknowledged_seq,
            accept_data_loss=config.accept_data_loss,
            term=config.term,
        )

    def _settings(self) -> ShardSettings:
        config = self._config
        settings = ShardSettings(
            shard=config.shard,
            owned=range(*config.partitions),
            strict_readonly=config.strict_readonly,
            alarms=config.alarms,
            parked=frozenset(config.parked),
        )
        if config.memory_bytes is not None:
            settings = replace(settings, memory_bytes_max=config.memory_bytes)
        return settings
