"""The shard: owner of a range of partitions, and of every object in them.

No sockets and no processes here. Calls come in through `receive`, answers leave through each call's `Peer`, rows
through the `Store`, time through the `Clock`: that is all a shard knows of the world, so that a test can be the
world. Everything runs on one event loop and nothing is shared with other shards.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from durable_shards import system
from durable_shards.activation import Activation, KeyMemory
from durable_shards.board import Board, NullBoard, label_of
from durable_shards.clock import Clock, SystemClock
from durable_shards.deadlines import Deadlines
from durable_shards.directory import ClassTable, Directory
from durable_shards.errors import (
    CallTimeout,
    IdempotencyMismatch,
    InvalidArguments,
    NotOwner,
    ObjectParked,
    Overloaded,
    ReentrantCall,
    UnknownClass,
    UnknownHandler,
)
from durable_shards.idle import IdleSweep
from durable_shards.loader import Loader
from durable_shards.readlease import ReadLease
from durable_shards.registry import Registry
from durable_shards.statistics import ShardStatistics, gather
from durable_shards.turn import Turns, as_durable_error, fingerprint, make_result_row
from durable_shards.wire import FLAG_AUTO_KEY, FLAG_FRESH, FLAG_ONE_WAY, Call, Peer
from durable_storage.address import id_problem, name_problem, partition_of
from durable_storage.errors import DurableError, Fenced, PersistenceFailed, TooLarge
from durable_storage.limits import KEY_BYTES_MAX, PARTITIONS
from durable_storage.store import Claim, KeyExists, ResultRow, Store
from durable_storage.writer import Writer

log = logging.getLogger("durable_engine.shard")

RENEW_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class ShardSettings:
    """How one shard behaves. Times in seconds."""

    shard: int = 0
    owned: range = range(PARTITIONS)
    strict_readonly: bool = False
    """Check that readonly handlers change nothing (dev and tests)."""
    gated_max: int = 100_000
    """Answers that may wait for commits; past it new calls are Overloaded."""
    memory_bytes_max: int = 1 << 30
    """Estimated memory of live and hibernated objects; above it the longest idle are forgotten."""
    key_retention: timedelta = timedelta(hours=24)
    """How long the result of a user's idempotency key is kept."""
    auto_key_retention: timedelta = timedelta(hours=1)
    """The same for keys that the client library makes itself: longer than any client goes on retrying."""
    parked: frozenset[str] = field(default_factory=frozenset)
    """Objects (text of their addresses) that killed their shard too often and are not run."""


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
        object_caller: Callable[[Activation], Any] | None = None,
        on_stop: Callable[[Exception], None] | None = None,
    ) -> None:
        self.registry = registry
        self.store = store
        self.settings = settings
        self.strict_readonly = settings.strict_readonly
        self.clock = clock or SystemClock()
        self.board: Board = board or NullBoard()
        self._object_caller = object_caller
        self.on_release: Callable[[], None] | None = None
        """Called whenever answers were put into outboxes outside `receive`."""
        self._on_stop = on_stop
        self.directory = Directory(self, registry.classes)
        self.parked = set(settings.parked)
        self.gated = 0
        self.refusals = 0
        self.draining = False
        self.stopped: Exception | None = None
        self.one_way_errors = 0
        self._moved = asyncio.Event()
        self._heartbeat: asyncio.TimerHandle | None = None
        self._now = 0.0
        self._expiry_at = float("-inf")

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
        self.turns = Turns(self, loop)
        self.deadlines = Deadlines(self.clock, loop, self.turns.expire)
        self.loader = Loader(self)
        self.writer = Writer(self.store, self.clock.monotonic, self._committed, self._stop)
        self.lease = ReadLease(self.store, self.clock, self.release_held, self._stop)
        self.idle = IdleSweep(self, loop)
        asked_at = self.clock.monotonic()
        await self.store.open(claim)
        self.lease.confirmed(asked_at)
        self.board.acknowledged(self.store.epoch, self.store.seq)
        self._heartbeat = loop.call_later(RENEW_SECONDS, self._beat)
        self.idle.start()

    # The way of a call.

    def receive(self, peer: Peer, calls: Iterable[Call]) -> None:
        """Run or queue calls, in their order. Must not be called from inside a task (turns may start at once)."""
        now = self.tick()
        dispatch = self.dispatch
        for call in calls:
            call.peer = peer
            call.deadline = now + call.timeout_ms / 1000
            dispatch(call)
        self.board.leave()

    def dispatch(self, call: Call) -> None:
        """Find the call's object and run the call now, or queue it where something goes before it."""
        table = (
            self.directory.table(call.prefix, call.object_type)
            if call.prefix
            else self.directory.default.get(call.object_type)
        )
        act = table.live.get(call.object_id) if table is not None else None
        if act is None or self.draining or self.gated >= self.settings.gated_max:
            self._dispatch_slowly(table, act, call)
        elif act.queue or act.paused or act.suspended:
            self._enqueue(act, call)
        else:
            self._run(act, call)

    def _dispatch_slowly(self, table: ClassTable | None, act: Activation | None, call: Call) -> None:
        """Whatever is not a call to a live object of a shard in good health."""
        try:
            table = self._admit(table, call)
        except DurableError as error:
            self.refuse(call, error)
            return
        if act is None:
            act = table.live.get(call.object_id) or table.wake(call.object_id, self._now)
        if act is None:
            if call.handler in system.WITHOUT_OBJECT:
                self.answer_clean_result(call, False)
                return
            act = table.add(call.object_id, self._now)
            self.loader.load(act)
        if act.queue or act.busy:
            self._enqueue(act, call)
        else:
            self._run(act, call)

    def _admit(self, table: ClassTable | None, call: Call) -> ClassTable:
        """Everything that can be said against a call before its object is touched. Creates nothing."""
        if self.stopped is not None or (self.draining and not call.chain):
            raise NotOwner("this shard is shutting down; nothing was run")
        if self.gated >= self.settings.gated_max:
            raise Overloaded(f"{self.gated} answers already wait for the disk; nothing was run, try again shortly")
        if table is None:
            if problem := call.prefix and name_problem("prefix", call.prefix):
                raise InvalidArguments(problem)
            table = self.directory.table(call.prefix, call.object_type)
        if table is None:
            known = ", ".join(self.directory.class_names) or "none"
            raise UnknownClass(f"no class {call.object_type!r} is served here; known are: {known}")
        if problem := id_problem(call.object_id):
            raise (TooLarge if "bytes of UTF-8" in problem else InvalidArguments)(problem)
        if partition_of(call.prefix, call.object_type, call.object_id) not in self.settings.owned:
            raise NotOwner("this object belongs to another shard; nothing was run")
        if call.handler not in system.HANDLERS:
            self._handler(table, call.handler).bind(call.args, call.kwargs)
        if self.parked and call.handler not in system.HANDLERS:
            self._refuse_parked(table, call)
        return table

    def _refuse_parked(self, table: ClassTable, call: Call) -> None:
        address = f"{call.prefix}:{call.object_type}/{call.object_id}" if call.prefix else None
        if (address or f"{call.object_type}/{call.object_id}") in self.parked:
            raise ObjectParked(
                f"{table.spec.name}/{call.object_id} killed its shard too often and is parked; nothing was run. "
                "Fix its class, then unpark it: durable-engine objects unpark"
            )

    @staticmethod
    def _handler(table: ClassTable, name: str) -> Any:
        spec = table.handlers.get(name)
        if spec is None:
            known = ", ".join(sorted(table.handlers)) or "none"
            raise UnknownHandler(f"{table.spec.name} has no handler {name!r}; its handlers are: {known}")
        return spec

    def _enqueue(self, act: Activation, call: Call) -> None:
        """Wait in the object's mailbox, unless the wait would never end or the mailbox is full."""
        if call.chain and act.suspended and not act.paused:
            if str(act.address) in call.chain:
                if act.table.spec.options.reentrant:
                    self._run(act, call)
                    return
                self.refuse(call, reentrant(act, call))
                return
            if any(not turn.waiting_for.isdisjoint(call.chain) for turn in act.suspended):
                self.refuse(call, reentrant(act, call))
                return
        queue = act.queue
        if queue is None:
            queue = act.queue = act.table.new_queue()
        if len(queue) >= act.table.spec.options.mailbox:
            self.refuse(call, Overloaded(f"{len(queue)} calls already wait for {act.address}; nothing was run"))
            return
        queue.append(call)

    def _run(self, act: Activation, call: Call) -> None:
        """Run a call for which nothing is in the way any more."""
        spec = act.table.handlers.get(call.handler)
        try:
            if spec is None:
                if call.handler in system.HANDLERS:
                    system.run(self, act, call)
                    return
                spec = self._handler(act.table, call.handler)
            bound = spec.bind(call.args, call.kwargs)
        except DurableError as error:
            self.refuse(call, error)
            return
        if call.key is not None and not self._first_time(act, call):
            return
        if act.instance is None and not self.revive(act, call):
            return
        act.last_used = self._now
        self.turns.run(act, call, spec, bound)

    def resume(self, act: Activation) -> None:
        """Go on with the mailbox after whatever was in the way; then let the answers leave."""
        queue = act.queue
        while queue and not act.busy:
            call = queue.popleft()
            if call.deadline < self._now:
                self.answer(act, call, CallTimeout("the call's time was up before its turn came; nothing was run",
                                                   outcome="not_applied", retryable=True))  # fmt: skip
                continue
            self._run(act, call)
        if act.evicting and act.clean:
            act.table.evict(act)
        self.board.leave()
        self._moved.set()
        self.released()

    # Activation.

    def revive(self, act: Activation, call: Call) -> bool:
        """Make a live instance. False when `call` cannot go on now: it was answered, or waits for `after_load`."""
        spec = act.table.spec
        if not act.label:
            act.label = label_of(act.address)
        try:
            act.instance = spec.revive(act.state if act.version else None, act)
            act.state = spec.codec.encode(act.instance)
        except BaseException as error:  # noqa: BLE001 - decoding runs user code (enums, default factories)
            act.instance = None
            known = as_durable_error(error)
            self.answer(act, call, known)
            if not act.version and act.clean:
                act.table.evict(act)
            return False
        if spec.after_load is None:
            return True
        act.last_used = self._now
        problems: list[DurableError] = []

        def ended(error: DurableError | None) -> None:
            if error is not None:
                problems.append(error)
                act.instance = None
            if act.queue and act.queue[0] is call:
                if error is not None:
                    self.answer(act, act.queue.popleft(), error)
                self.resume(act)

        if not self.turns.run_after_load(act, ended):
            if act.queue is None:
                act.queue = act.table.new_queue()
            act.queue.appendleft(call)
            return False
        if problems:
            self.answer(act, call, problems[0])
            return False
        return act.instance is not None

    def labeller(self, act: Activation) -> Callable[[bool], None]:
        """For the later steps of an async turn: tell the board before and after each."""
        board, label = self.board, act.label

        def tell(running: bool) -> None:
            if running:
                board.enter(label)
            else:
                board.leave()

        return tell

    def make_object_caller(self, act: Activation) -> Any:
        """What `self.engine` is inside the object's handlers."""
        if self._object_caller is None:
            raise RuntimeError("this shard was started without a way to call other objects")
        return self._object_caller(act)

    def keep_waiting(self, act: Activation, error: DurableError) -> bool:
        """The store is away while `act` loads: let go the calls whose time is up; whether any is left."""
        now = self.tick()
        queue, act.queue = act.queue, None
        for call in queue or ():
            if call.deadline > now:
                if act.queue is None:
                    act.queue = act.table.new_queue()
                act.queue.append(call)
            else:
                self.refuse(call, error)
        return bool(act.queue)

    def give_up(self, act: Activation, error: DurableError) -> None:
        """An object could not be loaded: tell its callers and forget it."""
        queue, act.queue = act.queue, None
        for call in queue or ():
            self.refuse(call, error)
        if act.clean:
            act.table.evict(act)

    # Idempotency.

    def _first_time(self, act: Activation, call: Call) -> bool:
        """Whether a call with a key is to be run; if not, it was answered or waits for a look-up."""
        assert call.key is not None
        if len(call.key.encode()) > KEY_BYTES_MAX or not call.key:
            self.refuse(call, TooLarge(f"an idempotency key has 1 to {KEY_BYTES_MAX} bytes of UTF-8"))
            return False
        memory = act.keys.get(call.key) if act.keys is not None else None
        if memory is not None:
            self._answer_again(act, call, memory)
            return False
        if call.flags & FLAG_FRESH:
            return True
        self.loader.look_up(act, call)
        return False

    def run_looked_up(self, act: Activation, call: Call, memory: KeyMemory | None) -> None:
        """Go on with a call whose key was looked up in the store."""
        if memory is not None:
            self._answer_again(act, call, memory)
        else:
            call.flags |= FLAG_FRESH
            self._run(act, call)

    def _answer_again(self, act: Activation, call: Call, memory: KeyMemory) -> None:
        if memory.fingerprint != fingerprint(call):
            self.answer(act, call, IdempotencyMismatch(
                f"the idempotency key {call.key!r} was used for another call; nothing was run"
            ))  # fmt: skip
            return
        assert call.peer is not None
        self.answer(act, call, call.peer.encode(call, act.version, system.decode_value(memory.result)))

    def result_row(self, call: Call, result: Any) -> ResultRow:
        """The stored result of a turn that carried a key."""
        auto = call.flags & FLAG_AUTO_KEY
        retention = self.settings.auto_key_retention if auto else self.settings.key_retention
        return make_result_row(call, result, self.clock.now(), retention)

    # Answers.

    def released(self) -> None:
        """Answers are in outboxes: whoever owns the outboxes may send them."""
        if self.on_release is not None:
            self.on_release()

    def answer(self, act: Activation, call: Call, outcome: Any) -> None:
        """Send an outcome through the object's gate: after everything it may have seen is durable."""
        if act.newest is not None:
            act.newest.outputs.append((call, outcome))
            self.gated += 1
        else:
            self.answer_clean(call, outcome)

    def answer_clean(self, call: Call, outcome: Any) -> None:
        """Send an outcome that has seen durable state only; the ownership must still be ours."""
        if self._now < self.lease.until:
            self.send(call, outcome)
        else:
            self.lease.hold(call, outcome)

    def lease_holds(self) -> bool:
        """Whether what is read now may be told at once."""
        return self.tick() < self.lease.until

    def answer_clean_result(self, call: Call, result: Any) -> None:
        assert call.peer is not None
        self.answer_clean(call, call.peer.encode(call, 0, result))

    def send(self, call: Call, outcome: Any) -> None:
        assert call.peer is not None
        if outcome.__class__ is bytes or not isinstance(outcome, DurableError):
            call.peer.put(call, outcome)
        else:
            if call.flags & FLAG_ONE_WAY:
                self.one_way_errors += 1
                log.warning("one-way call %s/%s.%s failed: %s", call.object_type, call.object_id, call.handler, outcome)
            call.peer.fail(call, outcome)

    def refuse(self, call: Call, error: DurableError) -> None:
        """Answer a call that was not run. It has seen nothing, so nothing needs to be waited for."""
        self.refusals += 1
        self.send(call, error)

    def release(self, outputs: list[tuple[Call, Any]]) -> None:
        """The gate opens: these outcomes are durable."""
        self.gated -= len(outputs)
        send = self.send
        for call, outcome in outputs:
            if outcome.__class__ is bytes:
                call.peer.put(call, outcome)  # type: ignore[union-attr]
            else:
                send(call, outcome)

    def release_held(self, held: list[tuple[Call, Any]]) -> None:
        """The ownership is confirmed: answers that waited for that may leave."""
        self.tick()
        for call, outcome in held:
            self.send(call, outcome)
        self.released()

    def undo_refused(self, entry: Any, error: Exception) -> None:
        """The store refused an object's change: roll back, with everything that was built on it."""
        act = entry.activation
        outputs = entry.outputs + act.rollback(entry)
        self.gated -= len(outputs)
        if isinstance(error, KeyExists):
            # Somebody's first attempt was a retry after all: nothing was applied, so let all of them try again.
            again = [call for call, _ in outputs if call.peer is not None and call.peer.reruns]
            for call in again:
                call.flags &= ~FLAG_FRESH
            if act.queue is None:
                act.queue = act.table.new_queue()
            act.queue.extendleft(reversed(again))
            self.resume(act)
            return
        failure = error if isinstance(error, PersistenceFailed) else PersistenceFailed(str(error))
        for call, _ in outputs:
            self.refuse(call, failure)

    # The store's side.

    def tick(self) -> float:
        """Read the clock for what follows; called once per batch of work, not per call."""
        self._now = self.clock.monotonic()
        return self._now

    def _committed(self, sent_at: float) -> None:
        """Outputs of a commit are in the outboxes: note what is being acknowledged, then let them leave."""
        self.lease.confirmed(sent_at)
        self.board.acknowledged(self.store.epoch, self.store.seq)
        self._moved.set()
        self.released()

    def _beat(self) -> None:
        self._heartbeat = asyncio.get_running_loop().call_later(RENEW_SECONDS, self._beat)
        self.lease.renew_if_ageing()

    def _stop(self, error: Exception) -> None:
        """The ownership is lost: nothing may leave any more, be it a reply or a write."""
        if self.stopped is None:
            self.stopped = error
            level = logging.WARNING if isinstance(error, Fenced) else logging.ERROR
            log.log(level, "shard %s stops: %s", self.settings.shard, error)
            self.writer.stop()
            self.lease.close()
            self._moved.set()
            if self._on_stop is not None:
                self._on_stop(error)

    # Administration.

    async def request(self, op: str, arguments: dict[str, Any]) -> Any:
        """Answer something asked of the shard itself. Raises DurableError."""
        return await system.request(self, op, arguments)

    def park(self, addresses: Iterable[str]) -> None:
        """Do not run these objects any more (text of their addresses)."""
        self.parked.update(addresses)

    def unpark(self, address: str) -> bool:
        """Run an object again; whether it was parked."""
        was_parked = address in self.parked
        self.parked.discard(address)
        return was_parked

    def statistics(self) -> ShardStatistics:
        """A snapshot of every moving part."""
        return gather(self)

    async def drain(self) -> None:
        """Take no new calls, finish what runs and waits, commit it, and let the answers leave."""
        self.draining = True
        while self.stopped is None and not self._settled():
            self._moved.clear()
            await self._moved.wait()
        self.released()

    def _settled(self) -> bool:
        return not self.gated and all(
            act.clean for table in self.directory.tables() for act in table.live.values()
        )

    async def close(self) -> None:
        """Stop everything and let the store go. What is not committed is gone, and nobody was told otherwise."""
        self.draining = True
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        self.idle.close()
        self.loader.close()
        self.lease.close()
        self.deadlines.close()
        self.writer.stop()
        turns = [turn.work for table in self.directory.tables() for act in table.live.values()
                 for turn in act.suspended if turn.work is not None]  # fmt: skip
        for work in turns:
            work.cancel()
        if turns:
            await asyncio.wait(turns, timeout=1)
        await self.store.close()


def reentrant(act: Activation, call: Call) -> ReentrantCall:
    """The error of a call that would wait for itself."""
    chain = [*(call.chain or ()), str(act.address)]
    return ReentrantCall(
        f"{' -> '.join(chain)}: {act.address} waits for this very chain; nothing was run. "
        "Break the circle, or declare the class with reentrant=True",
        chain=chain,
    )
