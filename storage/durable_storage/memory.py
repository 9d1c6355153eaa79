"""The store that keeps nothing, for trying things out, and for tests: its failures can be ordered.

`MemoryWorld` is the "database": several stores, one after the other or at once, open the same world, so that crash,
takeover and zombie are played without a process. Faults are those that a real database shows a client:

- "before": the connection broke and the statement never arrived;
- "after": the statement was executed, then the connection broke before the answer;
- "late": the connection broke, and the statement arrives when its outcome has been resolved already;
- an exception: the database refused the whole unit.

Nothing here sleeps or reads a timer: what has to wait waits for an event.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import monotonic
from typing import Literal
from uuid import UUID, uuid4

from durable_storage import crashpoints
from durable_storage.address import Address, partition_of, partitions_of_shard
from durable_storage.batching import Refused, refusal, settle
from durable_storage.errors import SchemaMismatch, StoreUnavailable
from durable_storage.lease import Holder
from durable_storage.ownership import NOBODY, Ownership, data_loss, fenced, fenced_by_term
from durable_storage.store import (
    AlarmRow,
    Change,
    Claim,
    DueAlarm,
    KeyExists,
    ListedAlarm,
    ResultRow,
    Served,
    Stored,
)

Fault = Literal["before", "after", "late"]


@dataclass(slots=True)
class _Host:
    claim: Claim
    incarnation: UUID
    epoch: int = 0
    seq: int = 0


@dataclass(slots=True)
class _Row:
    state: bytes
    version: int
    partition: int


class MemoryWorld:
    """Everything that a database would hold, and the faults in wait for whoever talks to it."""

    def __init__(self, *, now: Callable[[], datetime] | None = None) -> None:
        self.now = now or (lambda: datetime.now(UTC))
        self.hosts: dict[str, _Host] = {}
        self.objects: dict[Address, _Row] = {}
        self.alarms: dict[Address, dict[str, AlarmRow]] = {}
        self.results: dict[tuple[Address, str], ResultRow] = {}
        self.term = 0
        self.ruler: Holder | None = None
        self.renewed = 0.0
        self.shards: int | None = None
        self.statements = 0
        """Units that were applied."""
        self.faults_fired = 0
        self.late_statements_fenced = 0
        self._faults: deque[Fault | Exception] = deque()
        self._load_faults: deque[Exception] = deque()
        self._refuses: Callable[[Change], bool] | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._reachable = asyncio.Event()
        self._reachable.set()
        self.commits_held = 0
        """Commits that wait for `release` or `come_back`."""

    # What a test orders.

    def fail_next(self, fault: Fault | Exception, *, times: int = 1) -> None:
        """Let the next `times` commits meet `fault`, after those ordered before."""
        self._faults.extend([fault] * times)

    def fail_next_load(self, error: Exception) -> None:
        """Let the next load raise `error`."""
        self._load_faults.append(error)

    def refuse(self, predicate: Callable[[Change], bool] | None) -> None:
        """Refuse each unit that contains a change for which `predicate` holds, as a database refuses a bad row."""
        self._refuses = predicate

    def hold(self) -> None:
        """Keep commits in flight from now on."""
        self._flowing.clear()

    def release(self) -> None:
        """Let the held commits go on."""
        self._flowing.set()

    def go_away(self) -> None:
        """Be unreachable: loads fail, commits are tried again until `come_back`."""
        self._reachable.clear()

    def come_back(self) -> None:
        """Be reachable again."""
        self._reachable.set()

    @property
    def is_reachable(self) -> bool:
        """False between `go_away` and `come_back`."""
        return self._reachable.is_set()

    # What a database does.

    def claim(self, claim: Claim) -> tuple[UUID, int, int]:
        """Make the claimant the owner of its host row: (incarnation, epoch, seq)."""
        if claim.term is not None and claim.term != self.term:
            raise fenced_by_term(claim)
        host = self.hosts.get(claim.host)
        seq = host.seq if host else 0
        floor = claim.acknowledged_seq or 0
        if seq < floor and not claim.accept_data_loss:
            raise data_loss(claim, seq)
        self.hosts[claim.host] = host = _Host(claim, uuid4(), (host.epoch if host else 0) + 1, max(seq, floor))
        return host.incarnation, host.epoch, host.seq

    def bump(self, claim: Claim, incarnation: UUID) -> tuple[int, int] | None:
        """(epoch, seq) after one more epoch for the same owner; None when it is the owner no more."""
        host = self.hosts.get(claim.host)
        if host is None or host.incarnation != incarnation:
            return None
        host.epoch += 1
        return host.epoch, host.seq

    def apply(self, claim: Claim, owned: Ownership, changes: Sequence[Change]) -> bool:
        """One fenced unit: all of it, or nothing when it returns False or raises Refused."""
        host = self.hosts.get(claim.host)
        if host is None or (host.incarnation, host.epoch, host.seq) != owned:
            return False
        now = self.now()
        for change in changes:
            if self._refuses is not None and self._refuses(change):
                raise Refused(refusal("refused on order of a test"))
            if len({result.key for result in change.results}) < len(change.results):
                raise Refused(KeyExists(change.results[0].key))
            for result in change.results:
                stored = self.results.get((change.address, result.key))
                if stored is not None and stored.expires_at > now:
                    raise Refused(KeyExists(result.key))
        host.seq += 1
        self.statements += 1
        for change in changes:
            self._store(change)
        return True

    def _store(self, change: Change) -> None:
        address = change.address
        if change.delete:
            self.objects.pop(address, None)
            self.alarms.pop(address, None)
        if change.state is not None:
            self.objects[address] = _Row(change.state, change.version, change.partition)
        if change.alarms_set or change.alarms_cleared:
            alarms = self.alarms.setdefault(address, {})
            for name in change.alarms_cleared:
                alarms.pop(name, None)
            alarms.update((alarm.name, alarm) for alarm in change.alarms_set)
            if not alarms:
                del self.alarms[address]
        for result in change.results:
            self.results[address, result.key] = result

    async def arrive(self) -> Fault | None:
        """A commit reaches the database: waits while commits are held, returns the fault it meets."""
        if not self._flowing.is_set():
            self.commits_held += 1
            try:
                await self._flowing.wait()
            finally:
                self.commits_held -= 1
        if not self._faults:
            return None
        self.faults_fired += 1
        fault = self._faults.popleft()
        if isinstance(fault, Exception):
            raise Refused(fault, divisible=False)
        return fault

    def check_reachable(self) -> None:
        """Raises StoreUnavailable between `go_away` and `come_back`."""
        if not self._reachable.is_set():
            raise StoreUnavailable

    async def reachable(self) -> None:
        """Wait for `come_back`."""
        await self._reachable.wait()

    def check_load(self) -> None:
        """Raises what a load is to meet."""
        self.check_reachable()
        if self._load_faults:
            self.faults_fired += 1
            raise self._load_faults.popleft()


class MemoryStore:
    """A shard's hold on a `MemoryWorld`. Implements `durable_storage.store.Store`."""

    def __init__(self, world: MemoryWorld | None = None, *, volatile: bool = False) -> None:
        self.world = world or MemoryWorld()
        self.epoch = 0
        self.seq = 0
        self.unavailable_since: float | None = None
        """When (`time.monotonic`) the store stopped answering; None while it answers."""
        self._volatile = volatile
        self._claim: Claim | None = None
        self._incarnation = NOBODY.incarnation

    async def open(self, claim: Claim) -> None:
        """Become the owner of the host row."""
        self.world.check_reachable()
        if self.world.shards not in (None, claim.shards):
            raise SchemaMismatch(f"this store is laid out for {self.world.shards} shards, not {claim.shards}")
        if self._volatile:
            # Nothing is meant to survive here, so that nothing remembered from before is a loss.
            claim = replace(claim, accept_data_loss=True)
        self._incarnation, self.epoch, self.seq = self.world.claim(claim)
        self._claim = claim

    async def load(self, addresses: Sequence[Address]) -> list[Stored | None]:
        """The stored objects in the order asked."""
        self.world.check_load()
        return [self._stored(address) for address in addresses]

    def _stored(self, address: Address) -> Stored | None:
        row = self.world.objects.get(address)
        alarms = self.world.alarms.get(address)
        if row is None and alarms is None:
            return None
        armed = tuple(sorted(alarms.values(), key=lambda alarm: alarm.name)) if alarms else ()
        return Stored(row.state, row.version, armed) if row else Stored(None, 0, armed)

    async def load_results(self, keys: Sequence[tuple[Address, str]]) -> list[ResultRow | None]:
        """Unexpired results in the order asked."""
        self.world.check_load()
        now = self.world.now()
        rows = [self.world.results.get(key) for key in keys]
        return [row if row is not None and row.expires_at > now else None for row in rows]

    async def commit(self, changes: Sequence[Change]) -> dict[int, Exception]:
        """Apply all changes; {index: error} of the refused."""
        return await settle(changes, self._apply)

    async def _apply(self, changes: Sequence[Change]) -> None:
        claim = self._owner()
        while True:
            await self._wait_until_reachable()
            fault = await self.world.arrive()
            owned = Ownership(self._incarnation, self.epoch, self.seq)
            if fault in {None, "after"} and not self.world.apply(claim, owned, changes):
                raise fenced(claim)
            if fault is None:
                self.seq += 1
                return
            # No answer came: the outcome is unknown to this side, as it would be to a client of a real database.
            await crashpoints.stop_at("before_resolve", self)
            was_applied = self._resolve()
            if fault == "late" and not self.world.apply(claim, owned, changes):
                self.world.late_statements_fenced += 1
            if was_applied:
                return

    def _resolve(self) -> bool:
        """Whether the statement under way was applied; by a bump of the epoch, so that it cannot be later on."""
        return self._was_applied(self.world.bump(self._owner(), self._incarnation))

    def _was_applied(self, bumped: tuple[int, int] | None) -> bool:
        """The same, by the answer to the bump."""
        if bumped is None:
            raise fenced(self._claim)
        before = self.seq
        self.epoch, self.seq = bumped
        return self.seq > before

    async def _wait_until_reachable(self) -> None:
        if self.world.is_reachable:
            return
        self.unavailable_since = monotonic()
        self.world.commits_held += 1
        try:
            await self.world.reachable()
        finally:
            self.world.commits_held -= 1
            self.unavailable_since = None

    def _owner(self) -> Claim:
        assert self._claim is not None, "open the store first"
        return self._claim

    async def confirm(self) -> None:
        """Raises Fenced when the host row is ours no more."""
        self.world.check_reachable()
        claim = self._owner()
        host = self.world.hosts.get(claim.host)
        if host is None or host.incarnation != self._incarnation:
            raise fenced(claim)

    async def list_ids(self, prefix: str, object_type: str, after: str | None, limit: int) -> list[str]:
        """A page of ids. The order of code points, which is Python's, is that of their UTF-8 bytes."""
        self.world.check_reachable()
        claim = self._owner()
        ours = partitions_of_shard(claim.shard, claim.shards)
        ids = sorted(
            address.object_id
            for address, row in self.world.objects.items()
            if address[:2] == (prefix, object_type)
            and row.partition in ours
            and (after is None or address.object_id > after)
        )
        return ids[:limit]

    async def due_alarms(self, served: Served, before: datetime, limit: int) -> list[DueAlarm]:
        """Alarms to be fired, soonest first."""
        due = [
            DueAlarm(address, row.name, row.at)
            for address, row in self._own_alarms()
            if row.at < before and not row.is_parked and served.serves(address.object_type, row.name)
        ]
        return sorted(due, key=lambda alarm: (alarm.at, alarm))[:limit]

    async def list_alarms(
        self, prefix: str, served: Served | None, after: tuple[str, str, str] | None, limit: int
    ) -> list[ListedAlarm]:
        """A page of a tenant's alarms."""
        listed = [
            ListedAlarm(address, row)
            for address, row in self._own_alarms()
            if address.prefix == prefix
            and (after is None or (*address[1:], row.name) > after)
            and (served is None or row.is_parked or not served.serves(address.object_type, row.name))
        ]
        return sorted(listed, key=lambda alarm: (*alarm.address, alarm.row.name))[:limit]

    def _own_alarms(self) -> Iterator[tuple[Address, AlarmRow]]:
        self.world.check_reachable()
        claim = self._owner()
        ours = partitions_of_shard(claim.shard, claim.shards)
        for address, rows in self.world.alarms.items():
            if partition_of(*address) in ours:
                for row in rows.values():
                    yield address, row

    async def purge_results(self, limit: int) -> int:
        """Remove expired results."""
        self.world.check_reachable()
        now = self.world.now()
        expired = [key for key, row in self.world.results.items() if row.expires_at <= now][:limit]
        for key in expired:
            del self.world.results[key]
        return len(expired)

    async def close(self) -> None:
        """Nothing to release."""
