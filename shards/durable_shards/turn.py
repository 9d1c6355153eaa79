"""A turn: decode, run, encode; equal bytes mean that there is nothing to write.

Everything a turn does becomes visible together or not at all. Its outcomes (reply, one-way calls) are handed to the
gate, so that nothing which has seen uncommitted state leaves before that state is durable; errors too, since they
may tell what they saw.

Reentrant classes: while a turn waits, calls of its own chain may run inside it, one at a time at each depth. An
inner turn commits what the object holds when it ends, the outer turn's work so far included, since its caller is
about to see it. An outer turn that fails after that says `outcome="unknown"`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Protocol

from durable_shards.activation import Activation, PendingEntry, SuspendedTurn
from durable_shards.board import Board
from durable_shards.clock import Clock
from durable_shards.deadlines import Deadlines
from durable_shards.errors import HandlerFailed
from durable_shards.failures import as_durable_error, timed_out
from durable_shards.gate import Gate
from durable_shards.keys import Keys, remember
from durable_shards.suspended import first_step
from durable_shards.wire import FLAG_AUTO_KEY, Call, Peer
from durable_storage import crashpoints
from durable_storage.errors import DurableError, PersistenceFailed
from durable_storage.store import ResultRow

UNWIND_SECONDS = 1.0
"""How long a cancelled handler may clean up before its object goes on without it."""
KEPT = ("_durable", "_durable_extra")
"""Attributes of an instance that are the engine's; all others that begin with an underscore are a user's scratch."""

log = logging.getLogger("durable_engine.shard")


class Runnable(Protocol):
    """What a turn runs: a handler, or an alarm's method."""

    func: Callable[..., Any]
    is_async: bool
    readonly: bool


class Discard(Peer):
    """The peer of turns nobody waits for (`after_load`)."""

    reruns = False

    def encode(self, call: Call, version: int, result: Any) -> Any:
        return b""

    def put(self, call: Call, encoded: Any) -> None:
        pass

    def fail(self, call: Call, error: DurableError) -> None:
        pass


DISCARD = Discard()


class Turns:
    """Runs the turns of one shard."""

    def __init__(
        self,
        gate: Gate,
        keys: Keys,
        clock: Clock,
        board: Board,
        *,
        strict_readonly: bool,
        run: Callable[[Activation, Call], None],
        resume: Callable[[Activation], None],
    ) -> None:
        self._gate = gate
        self._keys = keys
        self._clock = clock
        self._board = board
        self._strict_readonly = strict_readonly
        self._run_call = run
        self._resume = resume
        self._loop = asyncio.get_running_loop()
        self.deadlines = Deadlines(clock, self._loop, self._expire)
        self.count = 0
        self.failures = 0

    def ready(self, act: Activation, call: Call) -> bool:
        """See to it that the instance is live, and as it was committed. False when `call` cannot go on now."""
        if act.instance is not None and act.home.spec.has_async and not act.suspended:
            self.drop_late_changes(act)
        if act.instance is None and not self.revive(act, call):
            return False
        act.last_used = self._gate.now
        return True

    def run(self, act: Activation, call: Call, spec: Runnable, bound: tuple[Any, ...]) -> None:
        """One turn of a handler on a live instance."""
        self.count += 1
        if not spec.is_async:
            snapshot = None
            self._board.enter(act.label)
            try:
                if act.suspended:
                    snapshot = act.home.spec.codec.encode(act.instance)
                # A context of its own: what a handler sets in a ContextVar is no other turn's business.
                result = copy_context().run(spec.func, act.instance, *bound)
            except BaseException as error:
                self._undo(act, call, error, snapshot)
            else:
                self._finish(act, call, result, spec.readonly, snapshot)
            return
        self._run_async(act, call, spec, bound)

    def _run_async(self, act: Activation, call: Call, spec: Runnable, bound: tuple[Any, ...]) -> None:
        snapshot = None
        try:
            if act.suspended:
                snapshot = act.home.spec.codec.encode(act.instance)
            turn = SuspendedTurn(act, call, snapshot)
            ended, result = self._first_step(turn, lambda: spec.func(act.instance, *bound))
        except BaseException as error:
            self._undo(act, call, error, snapshot)
            return
        if ended:
            self._finish(act, call, result, spec.readonly, snapshot)
        else:
            self._suspend(turn, lambda done: self._resumed(turn, done, spec.readonly))

    def _first_step(self, turn: SuspendedTurn, start: Callable[[], Any]) -> tuple[bool, Any]:
        self._board.enter(turn.act.label)
        return copy_context().run(first_step, turn, start, self._loop, self._board)

    @staticmethod
    def drop_late_changes(act: Activation) -> None:
        """A task that outlived its turn may have changed the instance since. That was no turn, so it never was."""
        assert act.instance is not None
        try:
            same = act.home.spec.codec.encode(act.instance) == act.state
        except DurableError:
            same = False
        if not same:
            log.warning("%s was changed outside of a turn; the change is dropped", act.address)
            act.instance.__dict__.pop("_durable", None)
            act.instance = None

    # Waking.

    def revive(self, act: Activation, call: Call) -> bool:
        """Make a live instance. False when `call` cannot go on now: it was answered, or waits for `after_load`."""
        spec = act.home.spec
        if not act.label:
            act.label = act.home.label_of(act.address.object_id)
        self._board.enter(act.label)
        try:
            stored = act.state if act.version else None
            act.instance = spec.revive(stored, act)
            act.state = spec.codec.encode_loaded(act.instance, stored)
            if spec.options.create_on_touch and not act.version:
                act.pending().writes_state = True
                act.version = 1
        except BaseException as error:  # decoding runs user code (migrate, enums, default factories)
            act.instance = None
            self._gate.answer(act, call, as_durable_error(error))
            if not act.version and act.clean:
                act.home.evict(act)
            return False
        if crashpoints.reach("in_activation", self._gate.store):
            return False
        if spec.after_load is None:
            return True
        return self._after_load(act, call, spec.after_load)

    def _after_load(self, act: Activation, call: Call, after_load: Callable[[Any], Any]) -> bool:
        """Run `after_load` as a turn without a caller; whether `call` can go on at once."""
        spec = act.home.spec
        own = Call(0, spec.name, act.address.object_id, "after_load", peer=DISCARD)
        own.deadline = self._clock.monotonic() + spec.options.call_timeout
        failure: DurableError | None
        self._board.enter(act.label)
        try:
            if asyncio.iscoroutinefunction(after_load):
                turn = SuspendedTurn(act, own, None)
                ended, _ = self._first_step(turn, lambda: after_load(act.instance))
                if not ended:
                    act.head = call
                    self._suspend(turn, lambda done: self._after_load_resumed(turn, done))
                    return False
            else:
                copy_context().run(after_load, act.instance)
        except BaseException as error:
            failure = self._undo(act, own, error, None)
        else:
            failure = self._finish(act, own, None, False, None)
        if failure is not None:
            act.instance = None
            self._gate.answer(act, call, failure)
        return failure is None

    def _after_load_resumed(self, turn: SuspendedTurn, done: asyncio.Task[Any]) -> None:
        if turn.abandoned:
            _look_at(done)
            return
        act = turn.act
        self._gate.tick()
        try:
            _, error = self._ended(turn, done)
            failure = (
                self._undo(act, turn.call, error, None)
                if error is not None
                else self._finish(act, turn.call, None, False, None)
            )
            self._go_on_with_head(act, failure)
        finally:
            self._resume(act)

    def _go_on_with_head(self, act: Activation, failure: DurableError | None) -> None:
        """`after_load` ended: run the call that woke the object, unless it was put back to run again later."""
        call, act.head = act.head, None
        if failure is not None:
            act.instance = None
        if call is None:
            return
        if failure is None:
            self._run_call(act, call)
        else:
            self._gate.answer(act, call, failure)

    # Waiting.

    def _suspend(self, turn: SuspendedTurn, resumed: Callable[[asyncio.Task[Any]], None]) -> None:
        assert turn.work is not None
        turn.act.suspended.append(turn)
        turn.work.add_done_callback(resumed)
        self.deadlines.arm(turn, turn.call.deadline)

    def _expire(self, turn: SuspendedTurn) -> None:
        """The deadline of a suspended turn passed: cancel it; if it takes no notice, go on without it."""
        assert turn.work is not None
        self._gate.tick()
        if not turn.expired:
            turn.expired = True
            turn.work.cancel("the call's deadline passed")
            self.deadlines.arm(turn, self._clock.monotonic() + UNWIND_SECONDS)
            return
        act = turn.act
        turn.abandoned = True
        act.suspended.remove(turn)
        if act.instance is not None:
            # Whatever the stray handler still does, it does to an instance that is nobody's.
            act.instance.__dict__.pop("_durable", None)
            act.instance = None
        act.generation += 1
        failure = self._undo(act, turn.call, timed_out(turn.call), None)
        if turn.call.peer is DISCARD:
            self._go_on_with_head(act, failure)
        self._resume(act)

    def _ended(self, turn: SuspendedTurn, done: asyncio.Task[Any]) -> tuple[Any, BaseException | None]:
        """Result and error of a suspended turn's task, with the turn taken off its object and its changes put on."""
        act = turn.act
        self.deadlines.disarm(turn)
        act.suspended.remove(turn)
        turn.step_in()
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if turn.generation != act.generation:
            return None, PersistenceFailed(
                "an earlier turn of this object could not be stored, so this one was undone with it; call again",
                retryable=True,
            )
        if error is None:
            return done.result(), None
        known: BaseException = timed_out(turn.call) if turn.expired else error
        if turn.half_told:
            known = as_durable_error(known)
            known.outcome = "unknown"
        return None, known

    def _resumed(self, turn: SuspendedTurn, done: asyncio.Task[Any], readonly: bool) -> None:
        if turn.abandoned:
            _look_at(done)
            return
        act = turn.act
        self._gate.tick()
        try:
            result, error = self._ended(turn, done)
            if error is not None:
                snapshot = turn.snapshot if turn.generation == act.generation else None
                self._undo(act, turn.call, error, snapshot)
            else:
                self._finish(act, turn.call, result, readonly, turn.snapshot)
        finally:
            self._resume(act)

    # Ending.

    def settle(self, act: Activation, call: Call, result: Any, error: BaseException | None) -> None:
        """End a readonly turn that was run where it was asked for (`at_once`)."""
        if error is not None:
            self._undo(act, call, error, None)
        else:
            self._finish(act, call, result, True, None)

    def _finish(
        self, act: Activation, call: Call, result: Any, readonly: bool, snapshot: bytes | None
    ) -> DurableError | None:
        """Make what the turn did part of the current state, or undo it. Returns the error, if any."""
        codec = act.home.spec.codec
        state = act.state
        changed = False
        armed = act.book is not None and act.book.changed
        try:
            if not readonly or self._strict_readonly:
                state = codec.encode(act.instance)
                if state != act.state:
                    state = codec.verify(act.instance, state)
                    changed = True
                if readonly and (changed or armed):
                    raise HandlerFailed.readonly_violation(call.handler)
            assert call.peer is not None
            encoded = call.peer.encode(call, act.version + 1 if changed else act.version, result)
            keyed = None
            if call.key is not None and (changed or armed or act.sends or not call.flags & FLAG_AUTO_KEY):
                keyed = self._keys.row(call, result)
        except BaseException as error:
            return self._undo(act, call, error, snapshot)
        if changed or armed or keyed is not None:
            entry = act.entry or act.pending()
            if changed:
                act.state = state
                act.version += 1
                entry.writes_state = True
            if armed or keyed is not None:
                self._fold_in(act, entry, keyed)
            for outer in act.suspended:
                outer.half_told = True
        if act.sends is not None:
            for send in act.sends:
                self._gate.answer(act, send, b"")
        act.book = act.sends = None
        self._gate.answer(act, call, encoded)
        return None

    @staticmethod
    def _fold_in(act: Activation, entry: PendingEntry, keyed: ResultRow | None) -> None:
        """What only some turns have: alarms, and a result to keep."""
        if act.book is not None and act.book.changed:
            act.take_over(act.book)
        if keyed is not None:
            entry.keep_result(keyed)
            remember(act, keyed)

    def _undo(self, act: Activation, call: Call, error: BaseException, snapshot: bytes | None) -> DurableError:
        """Take back what the turn did and answer with its error."""
        self.failures += 1
        act.book = act.sends = None
        if act.suspended and snapshot is None:
            act.generation += 1  # this turn was the ground of others that still run
        if act.instance is not None and not _untouched(act, snapshot):
            if snapshot is None:
                act.instance = None  # the next turn revives it from the current state
            else:
                # The outer turn still works on this very instance: give it back what it had.
                codec = act.home.spec.codec
                act.instance.__dict__.update(codec.decode(snapshot))
                codec.encode_loaded(act.instance, snapshot)
        known = as_durable_error(error)
        self._gate.answer(act, call, known)
        return known


def _untouched(act: Activation, snapshot: bytes | None) -> bool:
    """Whether the instance is as before the turn for certain: equal state, and no scratch that could tell more."""
    assert act.instance is not None
    try:
        if act.home.spec.codec.encode(act.instance) != (act.state if snapshot is None else snapshot):
            return False
    except Exception:
        return False
    return not any(name[0] == "_" and name not in KEPT for name in act.instance.__dict__)


def _look_at(done: asyncio.Task[Any]) -> None:
    """Nobody wants to know how the task ended; asyncio complains of errors that nobody looked at."""
    if not done.cancelled():
        done.exception()
