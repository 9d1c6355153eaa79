"""The output gate: outcomes wait here until everything they may have seen is durable and still ours.

An outcome of an object with uncommitted turns joins the newest of them and leaves with its commit. One that has
seen durable state only leaves at once, as long as the lease for reads holds. Nobody else talks to peers about
turns that ran.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from durable_shards.readlease import ReadLease
from durable_shards.wire import FLAG_FRESH, FLAG_ONE_WAY, FLAG_REACHED_OUT, Call
from durable_storage import crashpoints
from durable_storage.errors import DurableError, PersistenceFailed
from durable_storage.store import KeyExists

if TYPE_CHECKING:
    from durable_shards.activation import Activation, PendingEntry
    from durable_shards.clock import Clock
    from durable_storage.store import Store

PORTION = 128
"""Outcomes of one commit that are let go together."""

log = logging.getLogger("durable_engine.shard")


class Gate:
    """Where the outcomes of one shard's calls leave."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        resume: Callable[[Activation], None],
        lost: Callable[[Exception], None],
    ) -> None:
        self._clock = clock
        self._resume = resume
        self.now = 0.0
        """Monotonic time at the last `tick`."""
        self.store = store
        self.lease = ReadLease(store, clock, self._release_held, lost)
        self.waiting = 0
        """Outcomes that wait for commits, or for the lease."""
        self.refusals = 0
        self.one_way_errors = 0
        self.on_release: Callable[[], None] | None = None
        """Called whenever outcomes were put into outboxes outside of `Shard.receive`."""
        self.on_portion: Callable[[], None] | None = None
        """Called when many outcomes of one commit are in outboxes, so that callers work on them while we go on."""
        self._portion = 0
        self.moved = asyncio.Event()
        """Something happened that a drain may have waited for."""

    def tick(self) -> float:
        """Read the clock for what follows; once per batch of work, not per call."""
        self.now = self._clock.monotonic()
        return self.now

    def holds_lease(self) -> bool:
        """Whether what is read now may be told at once."""
        return self.tick() < self.lease.until

    def answer(self, act: Activation, call: Call, outcome: Any) -> None:
        """Send an outcome of a turn of `act`: a result encoded by the call's peer, or a DurableError."""
        newest = act.newest
        if newest is not None:
            newest.outputs.append((call, outcome))
            self.waiting += 1
        else:
            self.answer_clean(call, outcome)

    def answer_clean(self, call: Call, outcome: Any) -> None:
        """Send an outcome that has seen durable state only; the ownership must still be ours."""
        if self.now < self.lease.until:
            self._send(call, outcome)
        else:
            self.waiting += 1
            self.lease.hold(call, outcome)

    def refuse(self, call: Call, error: DurableError) -> None:
        """Answer a call that was not run, or was undone: it has seen nothing, so nothing is waited for."""
        self.refusals += 1
        self._send(call, error)

    def release(self, outputs: list[tuple[Call, Any]], in_batch: int) -> None:
        """The gate opens: these outcomes are durable.

        A batch is known to be ours at the moment in which the store took it, which may be long ago: its answer was
        late, or this process was stopped. That is enough for the calls that it was made of, the first `in_batch`. Those
        that came later have read what somebody else may have changed since, so they need the lease as every read does.
        """
        if crashpoints.reach("before_reply", self.store):
            return
        if len(outputs) > in_batch and not self.holds_lease():
            for call, outcome in outputs[in_batch:]:
                self.lease.hold(call, outcome)
            outputs = outputs[:in_batch]
        self.waiting -= len(outputs)
        send = self._send
        for call, outcome in outputs:
            if outcome.__class__ is bytes:
                call.peer.put(call, outcome)  # type: ignore[union-attr]
            else:
                send(call, outcome)
        self._portion += len(outputs)
        if self._portion >= PORTION:
            self._portion = 0
            if self.on_portion is not None:
                self.on_portion()

    def undo(self, entry: PendingEntry, error: Exception) -> None:
        """The store refused an object's change: roll back, with everything that was built on it."""
        act = entry.activation
        outputs = entry.outputs + act.rollback(entry)
        self.waiting -= len(outputs)
        if isinstance(error, KeyExists):
            # A first attempt was a retry after all. Nothing was applied, so let all of them try again.
            outputs = self._run_again(act, outputs)
            error = PersistenceFailed("another turn of the same commit was undone and this one with it", retryable=True)
        else:
            log.error("a change of %s was refused, %d calls were undone: %s", act.address, len(outputs), error)
        failure = error if isinstance(error, DurableError) else PersistenceFailed(str(error))
        for call, _ in outputs:
            self.refuse(call, failure)
        self._resume(act)

    def _run_again(self, act: Activation, outputs: list[tuple[Call, Any]]) -> list[tuple[Call, Any]]:
        """Put calls back to where they were, in front of the mailbox; what cannot run again is returned."""
        again = [call for call, _ in outputs if _repeatable(call)]
        for call in again:
            call.flags &= ~FLAG_FRESH
        if act.head is not None:  # it came after them
            again.append(act.head)
            act.head = None
        act.mailbox().extendleft(reversed(again))
        return [(call, outcome) for call, outcome in outputs if not _repeatable(call)]

    def released(self) -> None:
        """Outcomes are in outboxes: whoever owns the outboxes may send them."""
        self.moved.set()
        if self.on_release is not None:
            self.on_release()

    def _send(self, call: Call, outcome: Any) -> None:
        assert call.peer is not None
        if outcome.__class__ is bytes or not isinstance(outcome, DurableError):
            call.peer.put(call, outcome)
            return
        if call.flags & FLAG_ONE_WAY:
            self.one_way_errors += 1
            address = f"{call.object_type}/{call.object_id}"
            log.warning("one-way call %s.%s failed: %s", address, call.handler, outcome)
        call.peer.fail(call, outcome)

    def _release_held(self, held: list[tuple[Call, Any]]) -> None:
        self.tick()
        self.waiting -= len(held)
        for call, outcome in held:
            self._send(call, outcome)
        self.released()


def _repeatable(call: Call) -> bool:
    """Whether a turn that was undone unseen can run again: it told nobody, and its arguments are as they were sent."""
    if call.flags & FLAG_REACHED_OUT:
        return False
    plain = call.kwargs is None and not any(isinstance(value, list | dict) for value in call.args)
    return call.peer is not None and call.peer.reruns and (plain or call.key is not None)
