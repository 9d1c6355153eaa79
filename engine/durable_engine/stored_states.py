"""What stored rows are to the classes of this code: tried, and written anew, without a server.

`check` reads a store, running or not, and tells which rows the code could not take. `rewrite` owns the store while it
runs, and stores again every row whose text is not what the code would write: migrated, and with the defaults of new
fields. Both go on past rows that fail and name them; a row that failed is left as it is.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, NamedTuple

from durable_engine.placement import node_name
from durable_shards.spec import ClassSpec
from durable_storage.address import Address, partition_of
from durable_storage.errors import DurableError
from durable_storage.lease import Control, Holder
from durable_storage.scan import Scan, open_scan, pages, shards_of
from durable_storage.store import Change, Claim, Store
from durable_storage.stored_state import StoredState
from durable_storage.urls import open_control, open_store

RENEW_SECONDS: Final = 1.0
PROBLEMS_MAX: Final = 10_000
"""Failed rows of a class that a report names; it counts them all."""
CHECK_ROWS: Final = 1000
"""Rows that `check` reads at a time."""

Progress = Callable[["Tally"], None]


class Trial(NamedTuple):
    """What became of one row's text."""

    text: bytes
    """As the code would write it; as it was, when there is a `problem`."""
    is_older: bool
    """An older schema version of the class wrote it."""
    problem: str | None


@dataclass(slots=True)
class Tally:
    """The rows of one class, counted."""

    name: str
    rows: int = 0
    migrated: int = 0
    """Rows of an older schema version that the code can take."""
    outdated: int = 0
    """Rows that the code can take, and would write in another way; those that are migrated included."""
    rewritten: int = 0
    """Rows that were stored again."""
    failed: int = 0
    """Rows that the code cannot take."""
    problems: list[tuple[str, str]] = field(default_factory=list)
    """(id, reason) of the first of those."""

    def fail(self, object_id: str, problem: str) -> None:
        """Count a row that the code cannot take."""
        self.failed += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append((object_id, problem.removeprefix(f"{self.name}: ")))

    def count(self, row: StoredState, trial: Trial) -> bool:
        """Count a row; whether the code would write it in another way."""
        self.rows += 1
        if trial.problem is not None:
            self.fail(row.object_id, trial.problem)
            return False
        self.migrated += trial.is_older
        is_outdated = trial.text != row.state
        self.outdated += is_outdated
        return is_outdated


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in a store, or done to it."""

    classes: tuple[Tally, ...]
    unknown: Mapping[str, int]
    """Rows of classes that the code does not have, by their stored names."""

    @property
    def failed(self) -> int:
        """Rows that the code cannot take."""
        return sum(tally.failed for tally in self.classes)


def attempt(spec: ClassSpec, data: bytes) -> Trial:
    """Load a row as an activation would, and make the text that a turn would store."""
    codec = spec.codec
    try:
        obj = spec.revive(data, None)
        text = codec.encode_loaded(obj, data)
        if text != data:
            text = codec.verify(obj, text)
        return Trial(text, codec.version_of(data) < codec.version, None)
    except DurableError as error:
        return Trial(data, False, error.message)
    except Exception as error:  # default factories of users may raise anything
        return Trial(data, False, f"{type(error).__name__}: {error}")


async def check(
    url: str, classes: Mapping[str, ClassSpec], *, prefix: str, rows_max: int | None, progress: Progress
) -> Report:
    """Try the rows of the classes, `rows_max` of each at most. Reads only, beside a server too.

    Raises SchemaMismatch, StoreUnavailable, StoreUrlError.
    """
    scan = await open_scan(url, prefix)
    try:
        tallies = []
        for name, spec in classes.items():
            tally = Tally(name)
            tallies.append(tally)
            async for row in _rows(scan, name, rows_max):
                tally.count(row, attempt(spec, row.state))
                if tally.rows % CHECK_ROWS == 0:
                    progress(tally)
        return Report(tuple(tallies), await _unknown(scan, classes))
    finally:
        await scan.close()


async def _rows(scan: Scan, object_type: str, rows_max: int | None) -> AsyncIterator[StoredState]:
    left = rows_max
    for shard in range(scan.shards):
        async for rows in pages(scan, object_type, shard=shard, rows_max=min(CHECK_ROWS, left or CHECK_ROWS)):
            for row in rows[:left]:
                yield row
            if left is not None and (left := left - len(rows)) <= 0:
                return


async def _unknown(scan: Scan, classes: Mapping[str, ClassSpec]) -> dict[str, int]:
    return {name: await scan.count(name) for name in await scan.classes() if name not in classes}


async def rewrite(
    url: str,
    classes: Mapping[str, ClassSpec],
    *,
    prefix: str,
    batch_rows_max: int,
    takeover: bool,
    progress: Progress,
) -> Report:
    """Store again the rows of the classes that the code would write in another way.

    Each batch is one commit, under the lease of the store. Whatever ends it in the middle, the next run goes on:
    rows that are as the code writes them are passed over.
    Raises StoreInUse, Fenced, SchemaMismatch, StoreUnavailable, DataLossDetected, StoreUrlError.
    """
    shards = shards_of(url)
    async with _owned(url, shards, takeover=takeover) as lease:
        scan = await open_scan(url, prefix)
        try:
            tallies = {name: Tally(name) for name in classes}
            for shard in range(shards):
                async with lease.store(shard) as store:
                    for name, spec in classes.items():
                        async for rows in pages(scan, name, shard=shard, rows_max=batch_rows_max):
                            await _rewrite_page(store, spec, prefix, rows, tallies[name])
                            await lease.renew()
                            progress(tallies[name])
            return Report(tuple(tallies.values()), await _unknown(scan, classes))
        finally:
            await scan.close()


async def _rewrite_page(store: Store, spec: ClassSpec, prefix: str, rows: list[StoredState], tally: Tally) -> None:
    changes = []
    for row in rows:
        trial = attempt(spec, row.state)
        if tally.count(row, trial):
            address = Address(prefix, spec.name, row.object_id)
            partition = partition_of(*address)
            changes.append(Change(address, partition, state=trial.text, version=row.version + 1))
    refused = await store.commit(changes) if changes else {}
    tally.rewritten += len(changes) - len(refused)
    for index, error in refused.items():
        tally.fail(changes[index].address.object_id, str(error))


class _Lease:
    """The rule over a store, as a supervisor has it."""

    def __init__(self, url: str, shards: int, control: Control, term: int) -> None:
        self._url = url
        self._shards = shards
        self._control = control
        self._term = term
        self._renewed = monotonic()

    async def renew(self) -> None:
        """At most once a second. Raises Fenced when somebody took the store over."""
        if monotonic() - self._renewed >= RENEW_SECONDS:
            await self._control.renew(self._term)
            self._renewed = monotonic()

    @asynccontextmanager
    async def store(self, shard: int) -> AsyncIterator[Store]:
        """What a shard would own, opened."""
        store = open_store(self._url)
        await store.open(
            Claim(
                host=f"shard-{shard}",
                node=node_name(),
                pid=os.getpid(),
                address="migrate-state",
                shard=shard,
                shards=self._shards,
                term=self._term,
            )
        )
        try:
            yield store
        finally:
            await store.close()


@asynccontextmanager
async def _owned(url: str, shards: int, *, takeover: bool) -> AsyncIterator[_Lease]:
    control = open_control(url)
    try:
        await control.prepare(shards=shards, migrate=None)
        term = await control.acquire(Holder.of_this_process("migrate-state"), takeover=takeover)
        try:
            yield _Lease(url, shards, control, term)
        finally:
            await control.release(term)
    finally:
        await control.close()
