"""One object in memory: its live instance, its current and its committed state, and what waits for the disk.

Three states matter, newest last:

* *durable*: what the store holds for certain;
* *current* (`state`, `version`, `alarms`): durable plus the turns whose commit is gathering or in flight;
* the live instance, which inside a turn may be ahead of `state`, and after a failed turn is thrown away.

Turns run ahead of the commit (pipelining); their outputs sit in the newest `PendingEntry` and leave when that
entry is durable. This is the output gate of Cloudflare's Durable Objects, kept per object.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from durable_shards.alarms import AlarmBook
from durable_shards.shard_events import Fired
from durable_storage.address import Address
from durable_storage.store import AlarmRow, Change, ResultRow

if TYPE_CHECKING:
    import asyncio
    from datetime import datetime

    from durable_shards.home import Home
    from durable_shards.object import DurableObject
    from durable_shards.wire import Call

NO_ALARMS: dict[str, AlarmRow] = {}
"""Shared by all objects without alarms; never mutated."""
RECENT_RESULTS_MAX = 256
"""Committed idempotency results kept in memory per live object; older ones are looked up in the store."""
RECENT_RESULT_BYTES_MAX = 1_024
"""Larger ones are not kept once they are committed."""
Durable = tuple[bytes | None, int, dict[str, AlarmRow]]
"""State, version and alarms as the store holds them."""


class Activation:
    """The one activation of an address in this shard. Also the `Context` that the live instance sees."""

    __slots__ = (
        "address",
        "alarms_now",
        "book",
        "bucket",
        "caller",
        "durable",
        "entry",
        "evicting",
        "generation",
        "head",
        "home",
        "inner",
        "instance",
        "keys",
        "label",
        "last_used",
        "newest",
        "partition",
        "paused",
        "queue",
        "sends",
        "state",
        "suspended",
        "version",
    )

    def __init__(self, address: Address, home: Home) -> None:
        self.address = address
        self.home = home
        self.partition = home.partition_of(address.object_id)
        self.label = b""
        self.instance: DurableObject | None = None
        self.state: bytes | None = None
        """Encoded current state. For an object that was never stored: the encoding of its defaults."""
        self.version = 0
        """0 while nothing was ever stored."""
        self.alarms_now = NO_ALARMS
        self.durable: Durable = (None, 0, NO_ALARMS)
        self.entry: PendingEntry | None = None
        """Gathering: the next commit takes it."""
        self.newest: PendingEntry | None = None
        """Gathering or in flight; None when current equals durable."""
        self.head: Call | None = None
        """The call whose turn it is, while it waits for a look-up or for `after_load`."""
        self.queue: deque[Call] | None = None
        self.inner: deque[Call] | None = None
        """Calls of the running chain that have to wait for another inner turn of a reentrant object."""
        self.paused = 0
        """Loads and look-ups that calls have to wait for."""
        self.suspended: list[SuspendedTurn] = []
        """Turns that wait for something, outermost first; more than one only in reentrant classes."""
        self.generation = 0
        """Counts rollbacks: a suspended turn that began in an older generation has lost its ground."""
        self.keys: dict[str, KeyMemory] | None = None
        self.book: AlarmBook | None = None
        self.sends: list[Call] | None = None
        self.caller: Any = None
        self.last_used = 0.0
        self.bucket: set[Activation] | None = None
        """Objects that are looked at together when they may have been idle for long enough, this one among them."""
        self.evicting = False

    # What the live instance reaches through its Context.

    @property
    def object_id(self) -> str:
        return self.address.object_id

    def now(self) -> datetime:
        return self.home.now()

    @property
    def alarms(self) -> AlarmBook:
        if self.book is None:
            self.book = AlarmBook(self.alarms_now, self.home.now, self.home.spec)
        return self.book

    @property
    def engine(self) -> Any:
        if self.caller is None:
            self.caller = self.home.engine_for(self)
        return self.caller

    # What the shard asks.

    @property
    def busy(self) -> bool:
        """Whether a new call has to queue."""
        return bool(self.paused or self.suspended or self.head)

    @property
    def clean(self) -> bool:
        """Whether it may leave memory: nothing runs, waits or is uncommitted."""
        waits = self.paused or self.suspended or self.head or self.queue or self.inner
        return self.newest is None and not waits

    def mailbox(self) -> deque[Call]:
        """Calls that wait for their turn; made only for objects that something waits for."""
        if self.queue is None:
            self.queue = deque()
        return self.queue

    def pending(self) -> PendingEntry:
        """The entry of the gathering batch, made and handed to the writer at need."""
        entry = self.entry
        if entry is None:
            entry = self.entry = self.newest = PendingEntry(self)
            self.home.commit(entry)
        return entry

    def take_over(self, book: AlarmBook) -> None:
        """Make a turn's changes of alarms part of the current state."""
        self.alarms_now = book.settle(self.alarms_now)
        self.pending().fold_alarms(book)

    def arm(self, name: str, row: AlarmRow | None) -> None:
        """Replace an alarm in the name of the engine, or disarm it."""
        book = AlarmBook(self.alarms_now, self.home.now, self.home.spec)
        book.replace(name, row)
        self.take_over(book)

    def rollback(self, refused: PendingEntry) -> list[tuple[Call, Any]]:
        """Return to the durable state after a refused commit; what waited for later turns is returned."""
        self.state, self.version, self.alarms_now = self.durable
        self.instance = None
        self.book = None
        self.sends = None
        self.generation += 1
        self.newest = None
        self._forget_keys(refused)
        later, self.entry = self.entry, None
        if later is None:
            return []
        later.cancelled = True
        self._forget_keys(later)
        return later.outputs

    def forget(self) -> None:
        """Let go of everything: whoever still holds this object shall not hold its state."""
        self.unwatch()
        self.instance = self.keys = self.state = None
        self.durable = (None, 0, NO_ALARMS)
        self.alarms_now = NO_ALARMS

    def unwatch(self) -> None:
        """Nobody looks any more whether it is idle."""
        if self.bucket is not None:
            self.bucket.discard(self)
            self.bucket = None

    def trim_keys(self, committed: PendingEntry) -> None:
        """Keep a bounded number of small results at hand; those of uncommitted turns stay whatever their size."""
        keys = self.keys
        if keys is None:
            return
        for row in committed.results or ():
            if len(row.result) > RECENT_RESULT_BYTES_MAX:
                keys.pop(row.key, None)
        uncommitted = len(self.newest.results or ()) if self.newest is not None else 0
        if (surplus := len(keys) - max(RECENT_RESULTS_MAX, uncommitted)) > 0:
            for oldest in list(islice(keys, surplus)):
                del keys[oldest]

    def _forget_keys(self, entry: PendingEntry) -> None:
        if self.keys is not None:
            for row in entry.results or ():
                self.keys.pop(row.key, None)


class SuspendedTurn:
    """An async turn, from its first step to its end."""

    __slots__ = (
        "abandoned",
        "act",
        "armed",
        "book",
        "call",
        "calls_made",
        "depth",
        "expired",
        "generation",
        "half_told",
        "sends",
        "snapshot",
        "waiting_for",
        "work",
    )

    def __init__(self, act: Activation, call: Call, snapshot: bytes | None) -> None:
        self.act = act
        self.call = call
        self.generation = act.generation
        self.depth = len(act.suspended)
        """0 for an ordinary turn; how many turns of the same object wait for this one, in a reentrant class."""
        self.snapshot = snapshot
        """Of an inner turn: the encoded instance as the outer turn left it."""
        self.book: AlarmBook | None = None
        self.sends: list[Call] | None = None
        self.armed: float | None = None
        self.expired = False
        """Its deadline passed; the task was cancelled."""
        self.abandoned = False
        """It ignored the cancellation, and the object went on without it."""
        self.half_told = False
        """An inner turn committed with what this one had changed until then."""
        self.calls_made = 0
        """Outgoing calls so far: part of their derived idempotency keys."""
        self.waiting_for: list[str] = []
        """Objects that this turn has called and that have not answered (text of their addresses)."""
        self.work: asyncio.Task[Any] | None = None

    @property
    def stale(self) -> bool:
        """What it began on was rolled back, or its time is up: it will be undone, so it must not reach out."""
        return self.expired or self.abandoned or self.generation != self.act.generation

    def step_in(self) -> None:
        """Before each step: the object's alarms and one-way calls are this turn's."""
        self.act.book, self.act.sends = self.book, self.sends

    def step_out(self) -> None:
        """After each step: and now they are nobody's."""
        self.book, self.sends = self.act.book, self.act.sends
        self.act.book = self.act.sends = None


class KeyMemory(msgspec.Struct, gc=False):
    """A recent idempotency result of a live object, so that a quick retry needs no look-up.

    There are hundreds of them for each object, and the garbage collector need not look at any.
    """

    fingerprint: int
    result: bytes


class PendingEntry(msgspec.Struct, eq=False):
    """What one object commits in one batch: the fold of all its turns since the batch before.

    (A struct: a third of the cost of a plain object to make.)
    """

    activation: Activation
    cancelled: bool = False
    outputs: list[tuple[Call, Any]] = []
    """In the order of the turns. A DurableError in the second place is a reply that says so."""
    in_batch: int = 0
    """So many of them are of calls that came before the batch left; the others have joined it on its way."""
    writes_state: bool = False
    delete: bool = False
    results: list[ResultRow] | None = None
    alarms_set: dict[str, AlarmRow] | None = None
    alarms_cleared: set[str] | None = None
    fired: list[Fired] | None = None
    snapshot: Durable | None = None

    def change(self) -> Change:
        act = self.activation
        act.entry = None
        self.in_batch = len(self.outputs)
        self.snapshot = (act.state, act.version, act.alarms_now)
        change = Change(act.address, act.partition, act.state if self.writes_state else None, act.version)
        if self.results is not None:
            change.results = self.results
        if self.delete:
            change.delete = True
        if self.alarms_set is not None and self.alarms_cleared is not None:
            change.alarms_set = list(self.alarms_set.values())
            change.alarms_cleared = list(self.alarms_cleared)
        return change

    def keep_result(self, row: ResultRow) -> None:
        """Store the result of a turn that carried an idempotency key."""
        if self.results is None:
            self.results = []
        self.results.append(row)

    def fold_alarms(self, book: AlarmBook) -> None:
        """Take a turn's alarm changes over; the last word on each name wins."""
        if self.alarms_set is None or self.alarms_cleared is None:
            self.alarms_set, self.alarms_cleared = {}, set()
        if (fired := book.has_fired()) is not None:
            self.fired = [*(self.fired or ()), fired]
        for name in book.cleared:
            self.alarms_set.pop(name, None)
            self.alarms_cleared.add(name)
        for name, row in book.set.items():
            self.alarms_cleared.discard(name)
            self.alarms_set[name] = row

    def remove_object(self) -> None:
        """Delete the object; what was gathered for it before goes with it."""
        self.delete = True
        self.writes_state = False
        self.alarms_set = self.alarms_cleared = None

    def committed(self) -> None:
        act = self.activation
        assert self.snapshot is not None, "a change is committed only after it was made"
        before, act.durable = act.durable[2], self.snapshot
        if self.snapshot[2] is not before:
            act.home.alarms_committed(act, before, self.fired or ())
        if act.newest is self:
            act.newest = None
        if self.results is not None:
            act.trim_keys(self)
        act.home.release(self.outputs, self.in_batch)
        if act.evicting and act.clean:
            act.home.evict(act)

    def refused(self, error: Exception) -> None:
        self.activation.home.undo(self, error)
