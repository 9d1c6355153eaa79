"""The contract between a shard and durable storage.

A store is opened by one shard process for one *host* row (shard number), whose `(epoch, seq)` fences every
write: `open` bumps the epoch, each commit requires the epoch it was given and advances `seq` by one. The idea is
the fencing token of Kleppmann's "How to do distributed locking", checked by the resource itself.

Three implementations (PostgreSQL, SQLite, memory) pass one contract test-suite, `tests/contract`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

import msgspec

from durable_storage.address import Address


class AlarmRow(NamedTuple):
    """An alarm as stored: armed, or parked after it failed too often."""

    name: str
    at: datetime
    """When it is to be fired, or tried again."""
    payload: bytes | None = None
    """JSON text."""
    attempts: int = 0
    """Firings that failed since it was armed."""
    recurrence: str | None = None
    """JSON text of the rule by which it is armed again (`durable_shards.recurrence`); None: it is fired once."""
    tick: datetime | None = None
    """The time it was armed for, while `at` is that of another attempt; None: that is `at`."""
    problem: str | None = None
    """What the last failed firing ended with, for people."""
    is_parked: bool = False
    """It failed too often: it is kept and shown, and not fired until somebody arms it again."""


class Served(NamedTuple):
    """What the classes of a process can do with alarms. Those of others are kept, and wait for a process that can."""

    catch_all: tuple[str, ...]
    """Stored names of classes that take an alarm of any name."""
    named: tuple[tuple[str, str], ...]
    """(stored name of a class, name of an alarm that it declares)."""

    def serves(self, object_type: str, alarm_name: str) -> bool:
        """Whether such an alarm can be fired."""
        return object_type in self.catch_all or (object_type, alarm_name) in self.named


class DueAlarm(NamedTuple):
    """An alarm to be fired, as far as a scheduler needs it."""

    address: Address
    name: str
    at: datetime


class ListedAlarm(NamedTuple):
    """An alarm with its object, for people."""

    address: Address
    row: AlarmRow


class ResultRow(NamedTuple):
    """The first result of a call that carried an idempotency key."""

    key: str
    fingerprint: int
    """64-bit signed hash of handler and arguments; 0 when the key was made by the engine."""
    result: bytes
    """The encoded result, msgpack."""
    expires_at: datetime


class Stored(NamedTuple):
    """An object as it rests. `state` is None for an object that has alarms but was never written."""

    state: bytes | None
    version: int
    alarms: tuple[AlarmRow, ...]


class Change(msgspec.Struct, eq=False):
    """All that one commit does to one object. It is applied as a whole, or refused as a whole."""

    address: Address
    partition: int
    state: bytes | None = None
    """New state, JSON text in UTF-8; None when the state row does not change."""
    version: int = 0
    """The object's version once `state` is stored: one more than that of the state it was made from."""
    alarms_set: Sequence[AlarmRow] = ()
    """Upserts; never names also in `alarms_cleared`."""
    alarms_cleared: Sequence[str] = ()
    results: Sequence[ResultRow] = ()
    """Inserted, never overwritten: a key that exists refuses the change with `KeyExists`."""
    delete: bool = False
    """First remove the object's row and all its alarms (not its results), then apply the rest."""


class KeyExists(Exception):
    """A change carried an idempotency key whose result is stored already."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who opens a store, and what it must at least contain."""

    host: str
    """The ownership row: "shard-0", "shard-1", ..."""
    node: str
    """Machine and boot, for people who look at the table."""
    pid: int
    address: str
    """Endpoint of the shard."""
    shard: int
    shards: int
    acknowledged_seq: int | None = None
    """The last `seq` somebody outside the store knows to be committed; a store that shows less is refused."""
    accept_data_loss: bool = False
    term: int | None = None
    """The supervisor's term (`lease.Control.acquire`). When given, `open` raises Fenced once another one rules."""


class Store(Protocol):
    """What a shard asks of storage. One owner, one event loop; `commit` is never called concurrently with itself."""

    epoch: int
    """Of our ownership; changes when an unknown outcome had to be resolved."""
    seq: int
    """Number of our last successful commit."""

    async def open(self, claim: Claim) -> None:
        """Connect, check the schema version, bump the epoch of the host row (creating it if absent).

        Raises SchemaMismatch, StoreUnavailable, DataLossDetected, and Fenced when `claim.term` is no longer valid.
        """

    async def load(self, addresses: Sequence[Address]) -> list[Stored | None]:
        """The stored objects in the order asked, None for those that have neither state nor alarms.

        Creates nothing. Raises StoreUnavailable, SchemaMismatch (a tenant that was never set up).
        """

    async def load_results(self, keys: Sequence[tuple[Address, str]]) -> list[ResultRow | None]:
        """Stored, unexpired results of (address, idempotency key), in the order asked."""

    async def commit(self, changes: Sequence[Change]) -> dict[int, Exception]:
        """Apply all changes durably (fsync'd) under the fence; addresses are unique within a call.

        Returns {index: error} of the changes that the database refused and that left no trace (KeyExists,
        or PersistenceFailed with the database's reason); all others are durable. An unknown outcome is resolved
        inside by bumping the epoch, retrying with backoff for as long as the store is away.
        Raises Fenced when the ownership is lost: nothing more of this shard may leave it.
        """

    async def confirm(self) -> None:
        """Confirm the ownership without changing anything (the lease for reads).

        Raises Fenced, StoreUnavailable, and DataLossDetected where the store shows less than was committed here.
        """

    async def list_ids(self, prefix: str, object_type: str, after: str | None, limit: int) -> list[str]:
        """Up to `limit` ids with stored state in this shard's partitions, in byte order, greater than `after`."""

    async def due_alarms(self, served: Served, before: datetime, limit: int) -> list[DueAlarm]:
        """Up to `limit` alarms of all tenants in this shard's partitions to be fired before `before`, soonest first.

        Only such as are `served`, and none that is parked.
        """

    async def list_alarms(
        self, prefix: str, served: Served | None, after: tuple[str, str, str] | None, limit: int
    ) -> list[ListedAlarm]:
        """Up to `limit` alarms of a tenant in this shard's partitions, by (class, id, name), greater than `after`.

        With `served`, the orphaned ones only: those that are parked, and those that no class here can take.
        """

    async def purge_results(self, limit: int) -> int:
        """Remove up to `limit` expired idempotency results; how many were removed."""

    async def close(self) -> None:
        """Release connections and threads. A commit under way is waited for."""
