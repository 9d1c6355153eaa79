"""The shard: owner of a range of partitions, and of every object in them.

No sockets and no processes here. Calls come in through `receive`, answers leave through each call's `Peer`, rows
through the `Store`, time through the `Clock`: that is all a shard knows of the world, so that a test can be the
world. Everything runs on one event loop and nothing is shared with other shards.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from durable_shards import mailbox, shard_events, system
from durable_shards.activation import Activation
from durable_shards.admission import Admission, handler_of
from durable_shards.alarm_driver import AlarmDriver
from durable_shards.board import Board, NullBoard
from durable_shards.clock import Clock, SystemClock
from durable_shards.deadline_scheduler import deadline_scheduler
from durable_shards.directory import ClassTable, Directory, Surroundings
from durable_shards.errors import NotOwner, Overloaded
from durable_shards.firing import Firings
from durable_shards.gate import Gate
from durable_shards.idle import IdleSweep
from durable_shards.keys import Keys
from durable_shards.loader import Loader
from durable_shards.outbound import Caller, ObjectEngine
from durable_shards.purge import Purge
from durable_shards.registry import Registry
from durable_shards.requests import Requests
from durable_shards.schedulers import Scheduler
from durable_shards.shard_events import Fired
from durable_shards.shard_settings import ShardSettings
from durable_shards.shard_statistics import statistics_of
from durable_shards.sleep import last_word, say_last_words
from durable_shards.statistics import ShardStatistics
from durable_shards.system_parts import Parts
from durable_shards.turn import Turns
from durable_shards.wire import FLAG_ONE_WAY, Call, Peer
from durable_storage.errors import DurableError
from durable_storage.store import AlarmRow, Claim, Store
from durable_storage.writer import Writer

log = logging.getLogger("durable_engine.shard")

RENEW_SECONDS = 0.5
UNWIND_SECONDS = 1.0  # how long cancelled handlers may clean up when the shard closes


class Shard:
    """The objects of some partitions, and their turns."""

    def __init__(
        self,
        registry: Registry,
        store: Store,
        settings: ShardSettings,
        *,
        clock: Clock | None = None,
        board: Board | None = None,
        caller: Caller | None = None,
        on_stop: Callable[[Exception], None] | None = None,
        make_scheduler: Callable[[Shard], Scheduler] | None = None,
    ) -> None:
        self.registry = registry
        self.store = store
        self.settings = settings
        self.clock = clock or SystemClock()
        self.board: Board = board or NullBoard()
        self._caller = caller
        self._on_stop = on_stop
        self._make_scheduler = make_scheduler or deadline_scheduler
        self.gate = Gate(store, self.clock, self.resume, self.stop)
        number = settings.shard
        self.writer = Writer(store, self.clock.monotonic, self._committed, self.gate.released, self.stop, number)
        self.loader = Loader(store, self.gate, self._go_on, self._rest, shard=number)
        self.keys = Keys(
            self.gate,
            self.clock,
            retention=settings.key_retention,
            auto_retention=settings.auto_key_retention,
            look_up=self.loader.look_up,
            run=self.run,
        )
        self.loader.on_looked_up = self.keys.looked_up
        self.idle = IdleSweep(self.clock, settings.memory_bytes_max)
        self.directory = Directory(
            registry.classes,
            Surroundings(
                shard=number,
                gated_max=settings.gated_max,
                now=self.clock.now,
                engine_for=self._engine_for,
                commit=self.writer.add,
                release=self.gate.release,
                undo=self.gate.undo,
                watch=self.idle.watch,
                alarms_committed=self._alarms_committed,
                on_sleep=lambda act: last_word(act, self.board),
            ),
        )
        self.admission = Admission(self.directory, settings.owned, set(settings.parked))
        self.requests = Requests(store, self.directory, self.admission, registry.served, self.statistics)
        self.draining = False
        self.stopped: Exception | None = None
        self.closed = False
        self.alarms: AlarmDriver | None = None
        self._heartbeat: asyncio.TimerHandle | None = None
        self._purge: Purge | None = None

    @property
    def on_release(self) -> Callable[[], None] | None:
        """Called whenever answers were put into outboxes outside of `receive`."""
        return self.gate.on_release

    @on_release.setter
    def on_release(self, flush: Callable[[], None] | None) -> None:
        self.gate.on_release = flush

    @property
    def on_portion(self) -> Callable[[], None] | None:
        """Called now and then while the outcomes of a large commit are released: those in outboxes may leave."""
        return self.gate.on_portion

    @on_portion.setter
    def on_portion(self, flush: Callable[[], None] | None) -> None:
        self.gate.on_portion = flush

    @property
    def epoch(self) -> int:
        """Of the ownership."""
        return self.store.epoch

    @property
    def seq(self) -> int:
        """Of the last commit."""
        return self.store.seq

    async def start(self, claim: Claim) -> None:
        """Open the store and take the ownership. Raises what `Store.open` raises."""
        loop = asyncio.get_running_loop()
        self.turns = Turns(
            self.gate,
            self.keys,
            self.clock,
            self.board,
            strict_readonly=self.settings.strict_readonly,
            run=self.run,
            resume=self.resume,
        )
        self.firings = Firings(self.turns, self.clock, self.settings.alarms, store=self.store)
        self._parts = Parts(self.gate, self.keys, self.firings, self.turns.revive)
        self.alarms = AlarmDriver(self._make_scheduler(self), self.registry.classes, self.gate, self.receive)
        asked_at = self.clock.monotonic()
        await self.store.open(claim)
        self.gate.lease.confirmed(asked_at)
        self.board.acknowledged(self.store.epoch, self.store.seq)
        self._heartbeat = loop.call_later(RENEW_SECONDS, self._beat)
        self._purge = Purge(self.store)
        self.idle.start(self.directory, loop)
        shard_events.shard_started(self, self.clock.monotonic() - asked_at)
        await self.alarms.start()

    # The way of a call.

    def receive(self, peer: Peer, calls: Iterable[Call]) -> None:
        """Run or queue calls, in their order. Must not be called from inside a task (turns may start at once)."""
        now = self.gate.tick()
        dispatch = self._dispatch
        for call in calls:
            call.peer = peer
            call.deadline = now + call.timeout_ms / 1000
            try:
                if call.timeout_ms > 0:
                    dispatch(call)
                else:
                    self.gate.refuse(call, mailbox.out_of_time())
            except Exception as error:
                self._fail_unexpectedly(call, error)
        self.board.leave()

    def _dispatch(self, call: Call) -> None:
        """Find the call's object and run the call now, or queue it where something goes before it."""
        if call.prefix:
            table = self.directory.find(call.prefix, call.object_type)
        else:
            table = self.directory.default.get(call.object_type)
        act = table.live.get(call.object_id) if table is not None else None
        if act is None or self.draining or self.admission.parked or self.gate.waiting >= self.settings.gated_max:
            self._dispatch_slowly(table, act, call)
        elif act.queue or act.paused or act.suspended:
            self._enqueue(act, call)
        else:
            self.run(act, call)

    def _dispatch_slowly(self, table: ClassTable | None, act: Activation | None, call: Call) -> None:
        """Whatever is not a call to a live object of a shard in good health."""
        try:
            self._check_health(call)
            table = self.admission.admit(table, call)
        except DurableError as error:
            self.gate.refuse(call, error)
            return
        if act is None:
            act = table.live.get(call.object_id) or table.wake(call.object_id)
        if act is None:
            if call.handler in system.WITHOUT_OBJECT:
                assert call.peer is not None
                self.gate.answer_clean(call, call.peer.encode(call, 0, False))
                return
            act = table.add(call.object_id, self.gate.now)
            self.loader.load(act)
        if act.queue or act.busy:
            self._enqueue(act, call)
        else:
            self.run(act, call)

    def _check_health(self, call: Call) -> None:
        """Raises NotOwner, Overloaded.

        A shard that drains still serves the chains that its own turns wait for, and one-way calls: nobody would
        send those again.
        """
        if self.stopped is not None or (self.draining and not call.chain and not call.flags & FLAG_ONE_WAY):
            raise NotOwner("this shard is shutting down; nothing was run")
        waiting = self.gate.waiting + self.loader.waiting()
        if waiting >= self.settings.gated_max:
            raise Overloaded(f"{waiting} answers and loads wait for the store; nothing was run, try again shortly")

    def _enqueue(self, act: Activation, call: Call) -> None:
        """Wait in the mailbox; or run inside the turn that waits for this very call, if the class allows it."""
        try:
            waits = mailbox.put(act, call)
        except DurableError as error:
            self.gate.refuse(call, error)
            return
        if not waits:
            self.run(act, call)

    def run(self, act: Activation, call: Call) -> None:
        """Run a call for which nothing is in the way any more."""
        definition = act.home.spec
        spec = definition.handlers.get(call.handler)
        try:
            if spec is not None:
                bound = spec.bind(call.args, call.kwargs)
            elif call.handler not in system.HANDLERS:
                handler_of(definition, call.handler)
            if act.newest is not None and len(act.newest.outputs) >= act.home.uncommitted_max:
                raise Overloaded(f"too many answers of {act.address} wait for the store; nothing was run")
        except DurableError as error:
            self.gate.refuse(call, error)
            return
        if call.key is not None and not self.keys.first_time(act, call):
            return
        if spec is None:
            system.run(self._parts, act, call)
            return
        if self.turns.ready(act, call):
            self.turns.run(act, call, spec, bound)

    def resume(self, act: Activation) -> None:
        """Go on with what waits for the object after whatever was in the way; then let the answers leave."""
        self._go_on(act)
        self._rest()

    def _go_on(self, act: Activation) -> None:
        if self.closed:
            return
        while (call := mailbox.take(act)) is not None:
            if call.deadline < self.gate.now:
                self.gate.refuse(call, mailbox.out_of_time())
                continue
            try:
                self.run(act, call)
            except Exception as error:
                self._fail_unexpectedly(call, error)
        if act.evicting and act.clean:
            act.home.evict(act)

    def _rest(self) -> None:
        if not self.closed:
            self.board.leave()
            self.gate.released()

    def _fail_unexpectedly(self, call: Call, error: Exception) -> None:
        """A bug of ours with one call: its neighbours in the message must not suffer, and its caller must hear."""
        log.error("call %s.%s failed in an unexpected way", call.object_type, call.handler, exc_info=error)
        problem = f"the shard failed in an unexpected way: {type(error).__name__}: {error}"
        self.gate.refuse(call, DurableError(problem, outcome="unknown"))

    def _engine_for(self, act: Activation) -> Any:
        """What `self.engine` is inside the object's handlers."""
        assert self._caller is not None, "this shard was started without a way to call other objects"
        return ObjectEngine(act, self._caller, self.gate, self.clock)

    # The store's side.

    def _alarms_committed(self, act: Activation, before: dict[str, AlarmRow], fired: Sequence[Fired]) -> None:
        shard_events.alarms_committed(act, before, fired)
        if self.alarms is not None:
            self.alarms.committed(act, before)

    def _committed(self, sent_at: float) -> None:
        """A commit is durable: note what is about to be acknowledged."""
        self.gate.lease.confirmed(sent_at)
        self.board.acknowledged(self.store.epoch, self.store.seq)

    def _beat(self) -> None:
        self._heartbeat = asyncio.get_running_loop().call_later(RENEW_SECONDS, self._beat)
        self.gate.lease.renew_if_ageing()
        if self._purge is not None:
            self._purge.look()

    def stop(self, error: Exception) -> None:
        """The ownership is lost, or the store gave up: nothing may leave any more, be it a reply or a write."""
        if self.stopped is not None:
            return
        self.stopped = error
        self.draining = True
        shard_events.shard_lost(self, error)
        self.writer.stop()
        self._pause_alarms()
        self.gate.lease.close()
        self.gate.moved.set()
        if self._on_stop is not None:
            self._on_stop(error)

    # Administration.

    async def request(self, op: str, arguments: dict[str, Any]) -> Any:
        """Answer something asked of the shard itself. Raises DurableError."""
        return await self.requests.answer(op, arguments)

    @property
    def parked(self) -> set[str]:
        """Objects (text of their addresses) that are not run because they killed their shard too often."""
        return self.admission.parked

    @parked.setter
    def parked(self, addresses: set[str]) -> None:
        self.admission.parked = addresses

    def statistics(self) -> ShardStatistics:
        """A snapshot of every moving part."""
        return statistics_of(self)

    async def drain(self) -> None:
        """Take no new calls, finish what runs and waits, commit it, and let the answers leave."""
        again, self.draining = self.draining, True
        self._pause_alarms()
        while self.stopped is None and not self.settled:
            self.gate.moved.clear()
            await self.gate.moved.wait()
        self.gate.released()
        if self.stopped is None:
            await say_last_words(self.directory)
            if not again:
                shard_events.shard_drained(self)

    @property
    def settled(self) -> bool:
        """Whether nothing runs, waits, or is still to be committed."""
        return not self.gate.waiting and all(act.clean for act in self.directory.live())

    def _pause_alarms(self) -> None:
        if self.alarms is not None:
            self.alarms.scheduler.pause()

    async def close(self) -> None:
        """Stop everything and let the store go. What is not committed is gone, and nobody was told otherwise."""
        self.draining = self.closed = True
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        self.idle.close()
        self.loader.close()
        self.gate.lease.close()
        self.turns.deadlines.close()
        self.writer.stop()
        work: list[asyncio.Task[Any]] = [
            turn.work for act in self.directory.live() for turn in act.suspended if turn.work
        ]
        if self._purge is not None and self._purge.task is not None:
            work.append(self._purge.task)
        for task in work:
            task.cancel()
        if work:
            await asyncio.wait(work, timeout=UNWIND_SECONDS)
        if self.alarms is not None:
            await self.alarms.scheduler.close()
        await self.store.close()
        shard_events.shard_stopped(self)
