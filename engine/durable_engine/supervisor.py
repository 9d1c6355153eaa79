"""The supervisor: starts the shards, knows where everything is, and sees that it stays so.

Read `Supervisor.run` first: it is the story of the process. What it is made of: a fork server that becomes
shards (`forkserver`), a keeper for each shard (`keeper`, with `watchdog`, `restarts` and `strikes`), the
public door (`reception`) and the lease of the store (`durable_storage.lease`). No call of a user passes
through here, so a busy supervisor slows nobody down, and a dead one takes its shards with it rather than
leave them without anyone to restart them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from durable_engine import endpoints
from durable_engine.claims import Claims
from durable_engine.forkserver import ForkServer
from durable_engine.forkserver_main import Load
from durable_engine.forkservers import ForkServers
from durable_engine.keeper import ShardKeeper
from durable_engine.memoryguard import guard_memory
from durable_engine.operations import Operations
from durable_engine.placement import LocalPlacement, node_name
from durable_engine.reception import Reception
from durable_engine.release import RELEASE
from durable_engine.reloading import Reloads
from durable_engine.strikes import Strikes
from durable_engine.supervisor_config import SupervisorConfig
from durable_engine.watchdog import TICK_SECONDS, Watchdog
from durable_shards.board import Boards, monotonic_ms
from durable_shards.control import Failed, Park, Routes, ShardConfig
from durable_shards.errors import error_from_wire
from durable_shards.wire import RoutingTable
from durable_storage.errors import DataLossDetected, DurableError, Fenced
from durable_storage.lease import Control, Holder
from durable_storage.limits import PARTITIONS
from durable_storage.urls import kind_of, open_control

_log = logging.getLogger("durable_engine.supervisor")
T = TypeVar("T")

SHARD_MAIN: Final = "durable_engine.shard_main:run_shard"
RENEW_SECONDS: Final = 1.0
_TAKEOVER_BIND_SECONDS: Final = 5.0
"""How long the supervisor that we fenced off gets to notice and to free the address."""

_DRIVERS: Final = {
    "postgresql": ("durable_storage.postgres",),
    "sqlite": ("durable_storage.sqlite",),
    "memory": ("durable_storage.memory",),
}


def load_of(config: SupervisorConfig) -> Load:
    """What the fork server imports."""
    return Load(config.objects, config.path, SHARD_MAIN, _DRIVERS[kind_of(config.store)])


class Supervisor:
    """One server: a store, its shards and a public address."""

    def __init__(self, config: SupervisorConfig, fork_server: ForkServer, boards: Boards) -> None:
        self.config: SupervisorConfig = config
        self.server: str = secrets.token_hex(8)
        self.endpoint: str = ""
        self.keepers: list[ShardKeeper] = []
        self.placement: LocalPlacement = LocalPlacement(config.shards)
        self.strikes: Strikes = Strikes(config.strikes_max, config.strikes_window)
        self.claims: Claims = Claims(asyncio.get_running_loop(), config.shards, lambda: self.keepers)
        self.serves: bool = False
        """All shards have come up, and it was not asked to stop."""
        self.reloads: Reloads = Reloads(self)
        self._boards = boards
        self._control: Control | None = None
        self._renewing = asyncio.Lock()
        self._term = 0
        self._version = 0
        self._announce_scheduled = False
        self._stopping = asyncio.Event()
        self._failure: DurableError | None = None
        self._signals = 0
        self.interrupted = False
        """Stopped by a person's Ctrl-C."""
        self._background: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self.fork_servers: ForkServers = ForkServers(
            fork_server,
            boards,
            load_of(config),
            loop=self._loop,
            stall_timeout_ms=config.stall_timeout * 1000,
            keepers=lambda: self.keepers,
            in_background=self.in_background,
        )
        self.reception: Reception = Reception(
            self._loop,
            table=self.table,
            operations=Operations(self).by_name(),
            on_acknowledged=self._on_acknowledged,
        )

    async def run(self, on_ready: Callable[[str], None]) -> None:
        """Serve until told to stop. Raises what kept it from starting, or Fenced when another took over."""
        try:
            await self._startup()
            if not self._stopping.is_set():
                on_ready(self.endpoint)
            await self._main_loop()
        finally:
            await self._shutdown()
        if self._failure is not None:
            raise self._failure

    async def _startup(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._on_signal, number)
        self._reload_on_hangup()
        classes = await self._unless_stopped(self.fork_servers.first.loaded())
        if classes is None:
            return
        await self._acquire_store()
        await self._bind()
        self._make_keepers()
        self.fork_servers.listen(self.fork_servers.first)
        for keeper in self.keepers:
            keeper.start()
        self.in_background(self._watch())
        self.in_background(self._renew())
        if self.config.process_bytes is not None and kind_of(self.config.store) != "memory":
            self.in_background(guard_memory(self.keepers, self.config.process_bytes, self.config.drain_timeout))
        await self._until_all_serve()
        names = ", ".join(classes)
        self.serves = not self._stopping.is_set()
        _log.info("serving %s with %d shards at %s", names, self.config.shards, self.endpoint)

    async def _main_loop(self) -> None:
        await self._stopping.wait()

    async def _shutdown(self) -> None:
        self._stopping.set()
        self.serves = False
        if self._failure is not None:
            for keeper in self.keepers:
                keeper.kill()
        for keeper in self.keepers:
            keeper.stop(self.config.drain_timeout)
        self._publish()  # now, so that clients hear of it before the shards fall silent
        for keeper in self.keepers:
            await keeper.ended.wait()
        for task in self._background:
            task.cancel()
        self.reception.close()
        self.claims.close()
        endpoints.forget(self.endpoint)
        self.fork_servers.close()
        await self._release_store()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Drain and end; a second time: end now."""
        if self._stopping.is_set():
            for keeper in self.keepers:
                keeper.kill()
        self._stopping.set()

    def table(self) -> RoutingTable:
        """The routing table as it is now."""
        routes = [keeper.route() for keeper in self.keepers]
        return RoutingTable(self.server, self._version, PARTITIONS, routes, RELEASE)

    # Starting.

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What `work` returns, or None when told to stop first: the import of the user's code may take for ever."""
        working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            working.cancel()
            stopping.cancel()

    async def _acquire_store(self) -> None:
        self._control = open_control(self.config.store)
        await self._control.prepare(shards=self.config.shards, migrate=self.config.migrate)
        holder = Holder.of_this_process(self.config.bind)
        self._term = await self._control.acquire(holder, takeover=self.config.takeover)

    async def _bind(self) -> None:
        patience_until = self._loop.time() + (_TAKEOVER_BIND_SECONDS if self.config.takeover else 0.0)
        while True:
            try:
                self.endpoint = self.reception.open(endpoints.prepare_bind(self.config.bind))
                return
            except (OSError, ValueError) as error:
                if isinstance(error, ValueError) or self._loop.time() >= patience_until:
                    raise DurableError(str(error.args[-1])) from None
            await asyncio.sleep(TICK_SECONDS)

    def _make_keepers(self) -> None:
        self.keepers = [
            ShardKeeper(
                shard,
                self.placement.partitions(shard),
                self.fork_servers.first,
                loop=self._loop,
                boards=self._boards,
                make_watchdog=self._make_watchdog,
                strikes=self.strikes,
                make_config=self._shard_config,
                on_change=self.publish_soon,
                on_parked=self._on_parked,
                on_drained=self._on_drained,
                on_fenced=self._on_shard_fenced,
            )
            for shard in range(self.config.shards)
        ]
        for keeper in self.keepers:
            keeper.accept_data_loss = self.config.accept_data_loss

    def _make_watchdog(self) -> Watchdog:
        return Watchdog(int(self.config.stall_warning * 1000), int(self.config.stall_timeout * 1000))

    def _shard_config(self, keeper: ShardKeeper) -> ShardConfig:
        config = self.config
        return ShardConfig(
            shard=keeper.shard,
            shards=config.shards,
            store=config.store,
            partitions=(keeper.partitions.start, keeper.partitions.stop),
            node=node_name(),
            bind=endpoints.shard_bind(self.endpoint, keeper.shard, keeper.processes.number),
            supervisor=self.endpoint,
            # Every process has a memory store of its own, which knows no terms.
            term=None if kind_of(config.store) == "memory" else self._term,
            acknowledged_seq=keeper.acknowledged_seq or None,
            accept_data_loss=keeper.accept_data_loss,
            parked=self.strikes.parked,
            memory_bytes=config.memory_bytes,
            process_bytes=config.process_bytes,
            alarms=config.alarms,
            strict_readonly=config.strict_readonly,
            log_level=config.log_level,
        )

    async def _until_all_serve(self) -> None:
        first = [keeper.first_outcome for keeper in self.keepers]
        if await self._unless_stopped(asyncio.wait(first)) is None:
            return
        for failed in (outcome.result() for outcome in first):
            if failed is not None and failed.error.get("type") != "DataLossDetected":
                self._failure = _startup_error(failed)
                raise self._failure

    # What happens.

    def _reload_on_hangup(self) -> None:
        """SIGHUP reloads, as with most servers; but the end of a terminal that it was started from ends it."""
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup
            return
        if os.isatty(0):
            self._loop.add_signal_handler(signal.SIGHUP, self._on_signal, signal.SIGHUP)
        else:
            self._loop.add_signal_handler(signal.SIGHUP, self.reloads.on_signal)

    def _on_signal(self, number: int) -> None:
        self._signals += 1
        self.interrupted = number == signal.SIGINT
        again = "; once more to end now" if self._signals == 1 else ", at once"
        _log.info("%s: stopping%s", signal.Signals(number).name, again)
        self.stop()

    def _on_parked(self) -> None:
        for keeper in self.keepers:
            keeper.tell(Park(self.strikes.parked))

    def _on_drained(self) -> None:
        """A stopping shard stays until no turn of another can need its objects any more."""
        if all(keeper.drained or keeper.ended.is_set() for keeper in self.keepers):
            for keeper in self.keepers:
                keeper.finish()

    def _on_shard_fenced(self, text: str) -> None:
        """Either somebody took the store over, or a person meddled with the table: the lease tells which."""
        _log.warning("a shard lost its ownership: %s", text)
        self.in_background(self._renew_once())

    def _on_acknowledged(self, acknowledged: dict[int, tuple[int, int]]) -> None:
        if kind_of(self.config.store) != "memory":
            self.claims.add(acknowledged)

    def publish_soon(self) -> None:
        """Something in the routing table changed; changes of one loop tick are one new version."""
        if not self._announce_scheduled:
            self._announce_scheduled = True
            self._loop.call_soon(self._publish)

    def _publish(self) -> None:
        self._announce_scheduled = False
        self._version += 1
        self.reception.announce()
        table = self.table()
        for keeper in self.keepers:
            keeper.tell(Routes(table))

    # In the background.

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something as long as the supervisor runs, which stops when it fails."""
        task = self._loop.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background_ended)

    def _background_ended(self, task: asyncio.Task[None]) -> None:
        """A supervisor that no longer watches or renews is worse than none: it stops, and says why."""
        self._background.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        _log.error("a part of the supervisor failed: stopping", exc_info=error)
        if self._failure is None:
            self._failure = DurableError(f"the supervisor failed: {type(error).__name__}: {error}")
        self._stopping.set()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now_ms = monotonic_ms()
            for keeper in self.keepers:
                keeper.processes.look(now_ms)
            self.fork_servers.look(now_ms)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self._renew_once()

    async def _renew_once(self) -> None:
        assert self._control is not None
        async with self._renewing:  # one at a time: the term that is asked for may be about to be followed by another
            try:
                await self._control.renew(self._term)
            except Fenced as error:
                _log.error("another supervisor took this store over: stopping. %s", error.message)
                self._failure = error
                self._stopping.set()
            except DataLossDetected as error:
                await self._rule_again(error)
            except DurableError as error:
                _log.warning("the lease of the store could not be renewed: %s", error.message)

    async def _rule_again(self, loss: DataLossDetected) -> None:
        """The store is an old one. We still rule, and we alone remember what it has lost: its shards refuse."""
        assert self._control is not None
        _log.error("%s. Beginning another term on what it has", loss.message)
        holder = Holder.of_this_process(self.config.bind)
        try:
            self._term = await self._control.acquire(holder, takeover=True, after=self._term)
        except DurableError as error:
            _log.warning("the store cannot be taken over again, trying once more: %s", error.message)

    async def _release_store(self) -> None:
        if self._control is None:
            return
        try:
            if self._term and not isinstance(self._failure, Fenced):
                await self._control.release(self._term)
        except DurableError as error:
            _log.warning("the lease of the store could not be released: %s", error.message)
        await self._control.close()


def _startup_error(failed: Failed) -> DurableError:
    error: DurableError = error_from_wire(failed.error)
    return error
