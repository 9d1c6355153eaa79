"""Which objects are in memory: per tenant and class, the live ones and the hibernated ones.

Looking a call's object up costs two dictionary accesses and no tuple: class first, then id. A hibernated object
is no more than its encoded state, its version and its alarms; an object that is not here rests in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from durable_shards import board, shard_events
from durable_shards.activation import Activation, PendingEntry
from durable_shards.shard_events import Fired
from durable_shards.spec import Options, patience_of
from durable_storage.address import Address, crc_of_class, partition_in
from durable_storage.store import AlarmRow

if TYPE_CHECKING:
    from durable_shards.shard_events import Eviction
    from durable_shards.spec import ClassSpec
    from durable_shards.wire import Call


UNCOMMITTED_PER_MAILBOX = 10
"""Answers of one object that may wait for commits, as a multiple of its mailbox."""


class Hibernated(NamedTuple):
    """What stays of an idle object, and enough to wake it without the store."""

    state: bytes | None
    version: int
    alarms: dict[str, AlarmRow]
    idle_since: float


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the objects of a shard need of its other parts."""

    shard: int
    gated_max: int
    """Answers of all objects that may wait for commits."""
    now: Callable[[], datetime]
    engine_for: Callable[[Activation], Any]
    commit: Callable[[PendingEntry], None]
    release: Callable[[list[tuple[Call, Any]], int], None]
    undo: Callable[[PendingEntry, Exception], None]
    watch: Callable[[Activation], None]
    """Told of each object that is live to stay."""
    alarms_committed: Callable[[Activation, dict[str, AlarmRow], Sequence[Fired]], None]
    on_sleep: Callable[[Activation], None]
    """Told of each object that is about to leave memory in good order."""


class ClassTable:
    """All objects of one class of one tenant that this shard holds; the `Home` of its activations."""

    __slots__ = (
        "_class_crc",
        "_label_head",
        "_on_sleep",
        "_patience",
        "_watch",
        "alarms_committed",
        "asleep",
        "commit",
        "engine_for",
        "live",
        "now",
        "own_options",
        "prefix",
        "release",
        "shard",
        "spec",
        "uncommitted_max",
        "undo",
    )

    def __init__(self, prefix: str, spec: ClassSpec, around: Surroundings) -> None:
        self.prefix = prefix
        self.spec = spec
        self.shard = around.shard
        # No object may fill the gate for all others.
        self.uncommitted_max = min(UNCOMMITTED_PER_MAILBOX * spec.options.mailbox, around.gated_max // 4)
        self.now = around.now
        self.engine_for = around.engine_for
        self.commit = around.commit
        self.release = around.release
        self.undo = around.undo
        self._watch = around.watch
        self.alarms_committed = around.alarms_committed
        self._on_sleep = around.on_sleep
        self._class_crc = crc_of_class(prefix, spec.name)
        self._label_head = str(Address(prefix, spec.name, "")).encode()
        self._patience = patience_of(spec.options)
        self.live: dict[str, Activation] = {}
        self.asleep: dict[str, Hibernated] = {}
        """In the order in which they fell asleep: the first is the longest idle."""
        self.own_options: dict[str, Options] = {}
        """Of the few objects in memory, live or asleep, that were woken with options of their own."""

    def add(self, object_id: str, now: float) -> Activation:
        """A new activation with nothing in it."""
        act = Activation(Address(self.prefix, self.spec.name, object_id), self)
        act.last_used = now
        self.live[object_id] = act
        return act

    def partition_of(self, object_id: str) -> int:
        """Of an object of this class."""
        return partition_in(self._class_crc, object_id)

    def label_of(self, object_id: str) -> bytes:
        """What `Board.enter` takes for an object of this class."""
        return board.label(self._label_head + object_id.encode())

    def watch(self, act: Activation) -> None:
        """See to it that an object which was loaded, and stays, hibernates when it is idle for long."""
        if self.live.get(act.address.object_id) is act:
            self._watch(act)

    def patience(self, object_id: str) -> float | None:
        """Seconds of idleness after which a live object does not stay as it is; None for never."""
        return patience_of(self.options(object_id)) if self.own_options else self._patience

    def options(self, object_id: str) -> Options:
        """How long an object may be idle: as its class says, unless it was woken with options of its own."""
        return self.own_options.get(object_id, self.spec.options)

    def set_options(self, act: Activation, options: Options) -> None:
        """Give a live object options of its own, for as long as it is in memory, asleep or not."""
        self.own_options[act.address.object_id] = options
        self._watch(act)

    def wake(self, object_id: str) -> Activation | None:
        """Bring a hibernated object back, as idle as it was until a turn runs; None if it does not sleep here."""
        kept = self.asleep.pop(object_id, None)
        if kept is None:
            return None
        act = self.add(object_id, kept.idle_since)
        act.state, act.version, act.alarms_now, _ = kept
        act.durable = (act.state, act.version, act.alarms_now)
        self._watch(act)
        shard_events.activated(act, "hibernation")
        return act

    def hibernate(self, act: Activation) -> None:
        """Keep the bytes of a clean object and let the rest go."""
        assert act.clean, "an object with uncommitted or running turns cannot sleep"
        if not act.version and not act.alarms_now:
            self.evict(act, "empty")  # it never was: there is nothing to keep
            return
        self._on_sleep(act)
        object_id = act.address.object_id
        del self.live[object_id]
        state = act.state if act.version else None
        self.asleep[object_id] = Hibernated(state, act.version, act.alarms_now, act.last_used)
        shard_events.hibernated(act)
        act.forget()

    def evict(self, act: Activation, reason: Eviction | None = "asked") -> None:
        """Forget a clean object; the next call loads it. Without a `reason`, one that could not be loaded."""
        assert act.clean, "an object with uncommitted or running turns cannot be forgotten"
        object_id = act.address.object_id
        if self.live.get(object_id) is act:
            self._on_sleep(act)
            del self.live[object_id]
            self.own_options.pop(object_id, None)
            if reason is not None:
                is_stored = act.version or act.alarms_now
                shard_events.evicted(act.address, self.shard, reason if is_stored else "empty")
        act.forget()

    def forget(self, object_id: str, reason: Eviction) -> None:
        """Let go of what was kept of a hibernated object; the next call loads it."""
        del self.asleep[object_id]
        self.own_options.pop(object_id, None)
        shard_events.evicted(Address(self.prefix, self.spec.name, object_id), self.shard, reason)


class Directory:
    """The tables by tenant and class. A tenant's tables are made when it is first called, and kept while in use."""

    def __init__(self, classes: dict[str, ClassSpec], around: Surroundings) -> None:
        self._classes = classes
        self._around = around
        self._tenants: dict[str, dict[str, ClassTable]] = {}
        self.default: dict[str, ClassTable] = {name: ClassTable("", spec, around) for name, spec in classes.items()}
        self._tenants[""] = self.default

    def find(self, prefix: str, object_type: str) -> ClassTable | None:
        """The table of a class of a tenant, if it was made."""
        tables = self._tenants.get(prefix)
        return tables.get(object_type) if tables is not None else None

    def table(self, prefix: str, object_type: str) -> ClassTable | None:
        """The table of a class of a tenant, made at first use; None for an unknown class."""
        table = self.find(prefix, object_type)
        if table is None and (spec := self._classes.get(object_type)) is not None:
            table = ClassTable(prefix, spec, self._around)
            self._tenants.setdefault(prefix, {})[object_type] = table
        return table

    def prune(self) -> None:
        """Forget tenants of whom nothing is in memory: a mistyped prefix must not stay for ever."""
        empty = [
            prefix
            for prefix, tables in self._tenants.items()
            if prefix and not any(table.live or table.asleep for table in tables.values())
        ]
        for prefix in empty:
            del self._tenants[prefix]

    @property
    def class_names(self) -> list[str]:
        return sorted(self._classes)

    def tables(self) -> list[ClassTable]:
        """Every table there is."""
        return [table for tables in self._tenants.values() for table in tables.values()]

    def live(self) -> Iterator[Activation]:
        """Every live object."""
        return (act for table in self.tables() for act in table.live.values())

    def counts(self) -> tuple[int, int]:
        """(live, hibernated) objects."""
        tables = self.tables()
        return sum(len(table.live) for table in tables), sum(len(table.asleep) for table in tables)
