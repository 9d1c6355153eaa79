"""Which objects are in memory: per tenant and class, the live ones and the hibernated ones.

Looking a call's object up costs two dictionary accesses and no tuple: class first, then id. A hibernated object
is no more than its encoded state, its version and its alarms; an object that is not here rests in the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from durable_shards.activation import Activation
from durable_storage.address import Address
from durable_storage.store import AlarmRow

if TYPE_CHECKING:
    from durable_shards.registry import ClassSpec
    from durable_shards.shard import Shard


class Hibernated(NamedTuple):
    """What stays of an idle object, and enough to wake it without the store."""

    state: bytes | None
    version: int
    alarms: dict[str, AlarmRow]
    idle_since: float


class ClassTable:
    """All objects of one class of one tenant that this shard holds."""

    __slots__ = ("asleep", "codec", "handlers", "live", "prefix", "shard", "spec")

    def __init__(self, shard: Shard, prefix: str, spec: ClassSpec) -> None:
        self.shard = shard
        self.prefix = prefix
        self.spec = spec
        self.handlers = spec.handlers
        self.codec = spec.codec
        self.live: dict[str, Activation] = {}
        self.asleep: dict[str, Hibernated] = {}
        """In the order in which they fell asleep: the first is the longest idle."""

    def add(self, object_id: str, now: float) -> Activation:
        """A new activation with nothing in it."""
        act = Activation(Address(self.prefix, self.spec.name, object_id), self)
        act.last_used = now
        self.live[object_id] = act
        self.shard.idle.watch(act)
        return act

    def wake(self, object_id: str, now: float) -> Activation | None:
        """Bring a hibernated object back; None if it does not sleep here."""
        kept = self.asleep.pop(object_id, None)
        if kept is None:
            return None
        act = self.add(object_id, now)
        act.state, act.version, act.alarms_now, _ = kept
        act.durable = (act.state, act.version, act.alarms_now)
        return act

    def hibernate(self, act: Activation, now: float) -> None:
        """Keep the bytes of a clean object and let the rest go."""
        assert act.clean, "an object with uncommitted or running turns cannot sleep"
        object_id = act.address.object_id
        del self.live[object_id]
        if act.version or act.alarms_now:
            state = act.state if act.version else None
            self.asleep[object_id] = Hibernated(state, act.version, act.alarms_now, now)

    def evict(self, act: Activation) -> None:
        """Forget a clean object; the next call loads it."""
        assert act.clean, "an object with uncommitted or running turns cannot be forgotten"
        self.live.pop(act.address.object_id, None)


class Directory:
    """The tables by tenant and class."""

    def __init__(self, shard: Shard, classes: dict[str, ClassSpec]) -> None:
        self._shard = shard
        self._classes = classes
        self._tenants: dict[str, dict[str, ClassTable]] = {}
        self.default: dict[str, ClassTable] = self._tenants.setdefault("", {})
        for name, spec in classes.items():
            self.default[name] = ClassTable(shard, "", spec)

    def table(self, prefix: str, object_type: str) -> ClassTable | None:
        """The table of a class of a tenant, made at first use; None for an unknown class."""
        tables = self._tenants.get(prefix)
        table = tables.get(object_type) if tables is not None else None
        if table is None and (spec := self._classes.get(object_type)) is not None:
            table = ClassTable(self._shard, prefix, spec)
            self._tenants.setdefault(prefix, {})[object_type] = table
        return table

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
