"""A shard's files, as its writer thread sees them: one per tenant, one owner, one count of commits over all of them.

SQLite commits to several files one after the other. So that a loss in one file shows, each commit notes how far the
file of the commit before it was, where that was another file; `open` follows these notes. The last commit of all is
vouched for from outside, by `Claim.acknowledged_seq`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import apsw

from durable_storage import sqlite_schema
from durable_storage.batching import Refused, refusal
from durable_storage.due import Soonest
from durable_storage.errors import (
    DataLossDetected,
    Fenced,
    PersistenceFailed,
    SchemaMismatch,
    StoreUnavailable,
)
from durable_storage.ownership import NOBODY, Ownership, data_loss, fenced, fenced_by_term
from durable_storage.sqlite_alarms import microseconds
from durable_storage.sqlite_batch import Packed
from durable_storage.sqlite_control import term_in_force
from durable_storage.sqlite_errors import is_full
from durable_storage.sqlite_file import HostRow, ShardFile, Sibling, connect
from durable_storage.sqlite_layout import Generation, Layout
from durable_storage.store import Change, Claim, DueAlarm, Served


class OutcomeUnknown(Exception):
    """A commit failed in a way that leaves open whether it took place."""


class SqliteShard:
    """Everything of a store that blocks on writing. Used by one thread."""

    def __init__(self, layout: Layout, claim: Claim, now: Callable[[], datetime]) -> None:
        self._layout = layout
        self._claim = claim
        self._now = now
        self._files: dict[str, ShardFile] = {}
        self._last_prefix = ""
        self._generation = Generation(0, 0)
        self.owned = NOBODY

    def open(self) -> Generation:
        """Become the owner of all files of the shard."""
        try:
            with term_in_force(self._layout.control) as term:
                self._generation = self._inspect(term)
                self._take(self._open_files())
            self._take_tenants()
        except BaseException:
            self.close()
            raise
        return self._generation

    def _inspect(self, term: int) -> Generation:
        claim = self._claim
        generation = self._layout.existing()
        if generation.shards != claim.shards:
            raise SchemaMismatch(
                f"{self._layout.root} is laid out for {generation.shards} shards, not {claim.shards}: "
                "it is re-split when a supervisor starts with that number"
            )
        if claim.term is not None and claim.term != term:
            raise fenced_by_term(claim)
        return generation

    def _open_files(self) -> dict[str, HostRow | None]:
        hosts: dict[str, HostRow | None] = {}
        for prefix in self._layout.tenants(self._generation):
            path = self._layout.file(self._generation, prefix, self._claim.shard)
            if prefix not in self._files and (path.exists() or not prefix):
                hosts[prefix] = self._open_file(prefix, path).host()
        return hosts

    def _open_file(self, prefix: str, path: Path) -> ShardFile:
        if not path.exists():
            raise DataLossDetected(f"{path} is gone: nothing is served without it. Restore it from a backup")
        with closing(connect(path)) as connection:
            sqlite_schema.check(connection)
        file = self._files[prefix] = ShardFile(path)
        return file

    def _take(self, hosts: dict[str, HostRow | None]) -> None:
        claim = self._claim
        reached = {prefix: host.seq if host else 0 for prefix, host in hosts.items()}
        missing = self._missing(reached)
        seq = max(reached.values())
        floor = max(claim.acknowledged_seq or 0, *missing.values(), 0)
        if (floor > seq or missing) and not claim.accept_data_loss:
            self._refuse(reached, missing)
        epoch = max((host.epoch for host in hosts.values() if host), default=0) + 1
        self.owned = Ownership(uuid4(), epoch, max(seq, floor))
        # The file without a prefix first: once it is ours, nobody else can begin another tenant.
        self._take_file("", None)

    def _take_tenants(self) -> None:
        self._open_files()
        try:
            for prefix in list(self._files)[1:]:
                # While it is still ours: whoever took over meanwhile must not lose a tenant to us.
                with self._files[""].held(self.owned):
                    self._take_file(prefix, self._last_sibling())
        except Fenced:
            raise fenced(self._claim) from None

    def _take_file(self, prefix: str, sibling: Sibling | None) -> None:
        file = self._files[prefix]
        file.claim(self._claim, self.owned, sibling, microseconds(self._now()))
        self.owned = self.owned._replace(seq=file.seq)
        self._last_prefix = prefix

    def _last_sibling(self) -> Sibling:
        return Sibling(self._last_prefix, self._files[self._last_prefix].seq)

    def _missing(self, reached: dict[str, int]) -> dict[str, int]:
        # Files that are behind what another file knows of them: {prefix: seq it had reached}.
        return {
            prefix: seq
            for file in self._files.values()
            for prefix, seq in file.siblings().items()
            if reached.get(prefix, -1) < seq
        }

    def _refuse(self, reached: dict[str, int], missing: dict[str, int]) -> None:
        for prefix, seq in missing.items():
            if prefix not in reached:
                raise DataLossDetected(
                    f"the file of tenant {prefix!r} of {self._claim.host} is gone, which ended at commit {seq}. "
                    "Nothing is served. Restore it from a backup, or accept the loss with --accept-data-loss"
                )
            raise data_loss(self._claim, reached[prefix], known=seq)
        raise data_loss(self._claim, max(reached.values()))

    def apply(self, changes: Sequence[Change], batch: Packed | None = None) -> Ownership:
        """One commit, of one tenant. Raises Fenced, Refused, StoreUnavailable (not applied), OutcomeUnknown.

        `batch` is what `sqlite_batch.packed` made of the changes, if anything.
        """
        prefix = changes[0].address.prefix
        try:
            file = self._files.get(prefix) or self._create(prefix)
            sibling = None if prefix == self._last_prefix else self._last_sibling()
            now = microseconds(self._now())
            if batch is not None and sibling is None:
                file.apply_packed(batch, self._claim, self.owned, now)
            else:
                file.apply(changes, self._claim, self.owned, sibling, now)
        except Fenced:
            raise fenced(self._claim) from None
        except SchemaMismatch as error:
            raise Refused(refusal(error), divisible=False) from error
        except (apsw.Error, OSError) as error:
            raise self._failure(error) from error
        self._last_prefix = prefix
        self.owned = self.owned._replace(seq=self.owned.seq + 1)
        return self.owned

    def _failure(self, error: Exception) -> Exception:
        if is_full(error):
            problem = f"no space is left for {self._layout.root}, nothing was stored: free some and call again"
            return Refused(PersistenceFailed(problem, retryable=True), divisible=False)
        if isinstance(error, apsw.BusyError):
            return StoreUnavailable(f"{self._layout.root} is locked by another process")
        return OutcomeUnknown(str(error))

    def _create(self, prefix: str) -> ShardFile:
        path = self._layout.file(self._generation, prefix, self._claim.shard)
        now = microseconds(self._now())
        # A tenant is begun under the lock of the file that every owner has to take over first.
        with self._files[""].confirmed(self._claim, self.owned, now):
            if not path.exists():
                self._layout.create_file(self._generation, prefix, self._claim.shard)
            file = ShardFile(path)
            file.claim(self._claim, self.owned, None, now)
        self._files[prefix] = file
        return file

    def resolve(self, prefix: str) -> bool:
        """Whether the last commit took place, after an error that left it open. Raises Fenced, StoreUnavailable.

        The file is opened anew and its whole log folded in, because after a failed fsync what can be read need not
        be on the disk: this writes it once more, and fsyncs that.
        """
        stale = self._files.pop(prefix, None)
        try:
            if stale is not None:
                stale.close()
            path = self._layout.file(self._generation, prefix, self._claim.shard)
            if not path.exists() and prefix and stale is None:
                return False
            file = ShardFile(path)
            try:
                return self._reclaim(prefix, file)
            finally:
                if self._files.get(prefix) is not file:
                    file.close()
        except (apsw.Error, OSError) as error:
            raise StoreUnavailable(f"{self._layout.root} cannot be used at the moment: {error}") from error

    def _reclaim(self, prefix: str, file: ShardFile) -> bool:
        host = file.host()
        if host is None and prefix:
            return False
        if host is None or host.incarnation != self.owned.incarnation.bytes:
            raise fenced(self._claim)
        file.checkpoint()
        was_applied = host.seq > self.owned.seq
        owned = Ownership(self.owned.incarnation, self.owned.epoch + 1, max(host.seq, self.owned.seq))
        try:
            file.claim(self._claim, owned, None, microseconds(self._now()), only_if_ours=True)
        except Fenced:
            raise fenced(self._claim) from None
        # Only now: if the claim fails, the next attempt has to find again that the commit took place.
        self.owned = owned
        self._files[prefix] = file
        if was_applied:
            self._last_prefix = prefix
        return was_applied

    def confirm(self) -> None:
        """Raises Fenced, StoreUnavailable."""
        for prefix in {"", self._last_prefix} & self._files.keys():
            if self._files[prefix].is_displaced():
                # Closing writes down what can still be saved; whether that was all is for the next owner to see.
                path = self._files[prefix].path
                raise Fenced(f"{path}, or its log, was deleted or replaced while it was in use: this shard ends")
        try:
            # Nothing is written: on a full disk what is stored can still be read.
            with self._files[""].held(self.owned):
                pass
        except Fenced:
            raise fenced(self._claim) from None
        except (apsw.Error, OSError, KeyError) as error:
            raise StoreUnavailable(f"{self._layout.root} cannot be used at the moment: {error}") from error

    def purge_results(self, limit: int) -> int:
        """Remove up to `limit` expired results over all tenants."""
        now = microseconds(self._now())
        removed = 0
        for file in self._files.values():
            if removed < limit:
                removed += file.purge_results(now, limit - removed)
        return removed

    def due_alarms(self, served: Served, before: datetime, limit: int) -> list[DueAlarm]:
        """Alarms of all tenants to be fired. Asked here, since the writer has every file open as it is."""
        soonest = Soonest(before, limit)
        for prefix, file in self._files.items():
            soonest.add(file.due_alarms(prefix, served, soonest.before, limit))
        return soonest.alarms

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
        self._files.clear()
