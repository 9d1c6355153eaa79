"""A turn: decode, run, encode; equal bytes mean that there is nothing to write.

Everything a turn does becomes visible together or not at all. Its outputs (reply, one-way calls) are handed to
the object's newest pending entry, if there is one, so that nothing which has seen uncommitted state leaves before
that state is durable; errors too, since they may tell what they saw.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from typing import Any

from durable_shards.activation import Activation, Outer, SuspendedTurn
from durable_shards.board import Board, label_of
from durable_shards.clock import Clock
from durable_shards.deadlines import Deadlines
from durable_shards.errors import CallTimeout, HandlerFailed
from durable_shards.gate import Gate
from durable_shards.handler import HandlerSpec
from durable_shards.keys import Keys, remember
from durable_shards.suspended import first_step
from durable_shards.wire import FLAG_AUTO_KEY, Call, Peer
from durable_storage.errors import DurableError, PersistenceFailed

TRACEBACK_CHARS_MAX = 16_000
UNWIND_SECONDS = 1.0
"""How long a cancelled handler may clean up before its turn goes on without it."""


class Discard(Peer):
    """The peer of turns nobody waits for (`after_load`)."""

    reruns = False

    def encode(self, call: Call, version: int, result: Any) -> Any:
        return b""

    def put(self, call: Call, encoded: Any) -> None:
        pass

    def fail(self, call: Call, error: DurableError) -> None:
        pass


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
        resume: Callable[[Activation], None],
    ) -> None:
        self._gate = gate
        self._keys = keys
        self._clock = clock
        self._board = board
        self._strict_readonly = strict_readonly
        self._resume = resume
        self._loop = asyncio.get_running_loop()
        self.deadlines = Deadlines(clock, self._loop, self._expire)
        self.count = 0
        self.failures = 0

    def run(self, act: Activation, call: Call, spec: HandlerSpec, bound: tuple[Any, ...]) -> None:
        """One turn of a handler on a live instance."""
        self.count += 1
        outer = self._step_inside(act) if act.suspended else None
        self._board.enter(act.label)
        try:
            result = spec.func(act.instance, *bound)
            if spec.is_async:
                turn = SuspendedTurn(act, call)
                turn.outer = outer
                ended, result = first_step(turn, result, self._loop, self._labeller(act))
                if not ended:
                    self._suspend(turn, lambda done: self._resumed(turn, done, spec))
                    return
        except BaseException as error:
            self._undo(act, call, error, outer)
        else:
            self._finish(act, call, result, spec.readonly, outer)

    @staticmethod
    def _step_inside(act: Activation) -> Outer:
        """Put aside what the outer turn of a reentrant object has done so far; the inner turn is one of its own."""
        outer = Outer(act.home.spec.codec.encode(act.instance), act.book, act.sends)
        act.book = act.sends = None
        return outer

    @staticmethod
    def _step_outside(act: Activation, outer: Outer | None) -> None:
        if outer is not None:
            act.book, act.sends = outer.book, outer.sends

    def run_after_load(self, act: Activation, then: Callable[[DurableError | None], None]) -> bool:
        """Run `after_load` as a turn without a caller. True when it ended at once; `then` hears how it ended."""
        spec = act.home.spec
        assert spec.after_load is not None
        call = Call(0, spec.name, act.address.object_id, "after_load", peer=DISCARD)
        call.deadline = self._clock.monotonic() + spec.options.call_timeout
        self._board.enter(act.label)
        try:
            result = spec.after_load(act.instance)
            if asyncio.iscoroutine(result):
                turn = SuspendedTurn(act, call)
                ended, result = first_step(turn, result, self._loop, self._labeller(act))
                if not ended:
                    self._suspend(turn, lambda done: self._after_load_resumed(turn, done, then))
                    return False
            then(self._finish_or_undo(act, call))
        except BaseException as error:
            self._undo(act, call, error, None)
            then(as_durable_error(error))
        return True

    def _finish(
        self, act: Activation, call: Call, result: Any, readonly: bool, outer: Outer | None = None
    ) -> DurableError | None:
        """Make what the turn did part of the current state, or undo it. Returns the error, if any."""
        codec = act.home.spec.codec
        state = act.state
        changed = False
        try:
            if not readonly or self._strict_readonly:
                state = codec.encode(act.instance)
                if state != act.state:
                    if readonly:
                        raise HandlerFailed.readonly_violation(call.handler)
                    state = codec.verify(act.instance, state)
                    changed = True
            version = act.version + 1 if changed else act.version
            assert call.peer is not None
            encoded = call.peer.encode(call, version, result)
            book = act.book
            armed = book is not None and book.changed
            keyed = None
            if call.key is not None and (changed or armed or not call.flags & FLAG_AUTO_KEY):
                keyed = self._keys.row(call, result)
        except BaseException as error:
            return self._undo(act, call, error, outer)
        if changed or armed or keyed is not None:
            entry = act.entry or act.pending()
            if changed:
                act.state = state
                act.version = version
                entry.writes_state = True
            if armed and book is not None:
                entry.fold_alarms(book)
                act.alarms_now = book.result()
            if keyed is not None:
                entry.keep_result(keyed)
                remember(act, keyed)
        act.book = None
        if act.sends is not None:
            self._send(act)
        if act.newest is not None:
            act.newest.outputs.append((call, encoded))
            self._gate.waiting += 1
        else:
            self._gate.answer_clean(call, encoded)
        self._step_outside(act, outer)
        return None

    def revive(self, act: Activation, call: Call) -> bool:
        """Make a live instance. False when `call` cannot go on now: it was answered, or waits for `after_load`."""
        spec = act.home.spec
        if not act.label:
            act.label = label_of(act.address)
        try:
            act.instance = spec.revive(act.state if act.version else None, act)
            act.state = spec.codec.encode(act.instance)
        except BaseException as error:  # decoding runs user code (enums, default factories)
            act.instance = None
            self._gate.answer(act, call, as_durable_error(error))
            if not act.version and act.clean:
                act.home.evict(act)
            return False
        if spec.after_load is None:
            return True
        act.last_used = self._gate.now
        act.mailbox().appendleft(call)  # it keeps its place, should `after_load` suspend
        problems: list[DurableError] = []

        def ended(error: DurableError | None) -> None:
            if error is not None:
                problems.append(error)
                act.instance = None
                first = act.mailbox().popleft()
                assert first is call, "nothing overtakes the call that woke the object"
                self._gate.answer(act, call, error)

        if not self.run_after_load(act, ended) or problems:
            return False
        act.mailbox().popleft()
        return True

    def _finish_or_undo(self, act: Activation, call: Call) -> DurableError | None:
        return self._finish(act, call, None, readonly=False)

    def _suspend(self, turn: SuspendedTurn, resumed: Callable[[asyncio.Task[Any]], None]) -> None:
        assert turn.work is not None
        turn.act.suspended.append(turn)
        turn.work.add_done_callback(resumed)
        self.deadlines.arm(turn, turn.call.deadline)

    def _expire(self, turn: SuspendedTurn) -> None:
        """The deadline of a suspended turn passed: cancel it; if it takes no notice, go on without it."""
        assert turn.work is not None
        act = turn.act
        if not turn.expired:
            turn.expired = True
            turn.work.cancel("the call's deadline passed")
            self.deadlines.arm(turn, self._clock.monotonic() + UNWIND_SECONDS)
            return
        turn.abandoned = True
        act.suspended.remove(turn)
        act.instance = None  # the abandoned handler keeps the old one, and nobody looks at that again
        act.generation += 1
        self._undo(act, turn.call, timed_out(turn.call), None)
        self._resume(act)

    def _ended(self, turn: SuspendedTurn, done: asyncio.Task[Any]) -> tuple[Any, BaseException | None]:
        """Result and error of a suspended turn's task, with the turn taken off its object."""
        turn.armed = None
        turn.act.suspended.remove(turn)
        error: BaseException | None
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if turn.expired and error is not None:
            error = timed_out(turn.call)
        if turn.generation != turn.act.generation:
            error = PersistenceFailed(
                "an earlier turn of this object could not be stored, so this one was undone with it; call again",
                retryable=True,
            )
        return (None, error) if error is not None else (done.result(), None)

    def _resumed(self, turn: SuspendedTurn, done: asyncio.Task[Any], spec: HandlerSpec) -> None:
        if turn.abandoned:
            done.cancelled() or done.exception()
            return
        act = turn.act
        self._gate.tick()
        result, error = self._ended(turn, done)
        if error is not None:
            self._undo(act, turn.call, error, turn.outer)
        else:
            self._finish(act, turn.call, result, spec.readonly, turn.outer)
        self._resume(act)

    def _after_load_resumed(
        self, turn: SuspendedTurn, done: asyncio.Task[Any], then: Callable[[DurableError | None], None]
    ) -> None:
        self._gate.tick()
        if turn.abandoned:
            done.cancelled() or done.exception()
            then(timed_out(turn.call))
        else:
            _, error = self._ended(turn, done)
            then(
                self._finish_or_undo(turn.act, turn.call)
                if error is None
                else self._undo(turn.act, turn.call, error, None)
            )
        self._resume(turn.act)

    def _undo(self, act: Activation, call: Call, error: BaseException, outer: Outer | None) -> DurableError:
        """Take back what the turn did and answer with its error."""
        self.failures += 1
        act.book = None
        act.sends = None
        instance = act.instance
        if instance is not None and not self._untouched(act, outer):
            if outer is None:
                act.instance = None  # revived from the current state by the next turn, scratch attributes too
            else:
                # An outer turn still works on this very instance: give it back what it had.
                instance.__dict__.update(act.home.spec.codec.decode(outer.state))
        self._step_outside(act, outer)
        known = as_durable_error(error)
        self._gate.answer(act, call, known)
        return known

    @staticmethod
    def _untouched(act: Activation, outer: Outer | None) -> bool:
        try:
            expected = act.state if outer is None else outer.state
            return bool(act.home.spec.codec.encode(act.instance) == expected)
        except DurableError:
            return False

    def _labeller(self, act: Activation) -> Callable[[bool], None]:
        """For the later steps of an async turn: tell the board before and after each."""
        board, label = self._board, act.label

        def tell(running: bool) -> None:
            if running:
                board.enter(label)
            else:
                board.leave()

        return tell

    def _send(self, act: Activation) -> None:
        """Let the turn's one-way calls go: with the commit, or at once when nothing is uncommitted."""
        sends, act.sends = act.sends or [], None
        for send in sends:
            self._gate.answer(act, send, b"")


def timed_out(call: Call) -> CallTimeout:
    """The error of a turn whose deadline passed while it ran; everything it did was undone."""
    return CallTimeout(
        f"{call.object_type}.{call.handler} did not end within its timeout; it was cancelled and undone",
        outcome="not_applied",
        retryable=True,
    )


def as_durable_error(error: BaseException) -> DurableError:
    """What the caller hears of whatever a handler raised."""
    if isinstance(error, DurableError):
        return error  # a rejection, or what a called object answered and the handler let pass
    text = "".join(traceback.format_exception(error))
    return HandlerFailed(
        remote_type=type(error).__qualname__,
        remote_message=str(error),
        traceback=text[-TRACEBACK_CHARS_MAX:],
    )


DISCARD = Discard()
