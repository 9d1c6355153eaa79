"""One SQLite file of one shard and one tenant, used by one thread: connection, fence, statements.

`apsw` brings a current SQLite of its own and binds rows faster than the standard library's module. The file is in WAL
mode with `synchronous=FULL`: COMMIT returns after the log was fsync'd.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

from durable_storage.batching import Refused, refusal
from durable_storage.errors import Fenced
from durable_storage.ownership import Ownership
from durable_storage.queries import queries
from durable_storage.sqlite_alarms import (
    alarm_row,
    due_alarm_of,
    from_microseconds,
    listed_alarm_of,
    microseconds,
    served_arguments,
)
from durable_storage.sqlite_batch import Packed
from durable_storage.sqlite_load import load
from durable_storage.store import Change, Claim, DueAlarm, KeyExists, ListedAlarm, ResultRow, Served, Stored

BUSY_SECONDS: Final = 5.0
"""For how long a statement waits for somebody else's lock on the file."""
CHECKPOINT_PAGES: Final = 4000
"""Size of the write-ahead log (4 KB pages) at which it is folded into the file: larger makes it rarer."""

SQL: Final = queries("sqlite")


class HostRow(NamedTuple):
    """The owner on record."""

    host: str
    node: str
    pid: int
    incarnation: bytes
    epoch: int
    seq: int


class Sibling(NamedTuple):
    """How far the file of another tenant is."""

    prefix: str
    seq: int


def connect(path: Path, *, readonly: bool = False) -> apsw.Connection:
    """A connection with the engine's settings. Raises apsw.Error."""
    # A reader of a file in WAL mode has to write to its index, so that "readonly" is a promise, not a mode of opening.
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(int(BUSY_SECONDS * 1000))
    try:
        if readonly:
            connection.execute("PRAGMA query_only = ON")
        else:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.wal_autocheckpoint(CHECKPOINT_PAGES)
        connection.execute("PRAGMA temp_store = MEMORY")
    except BaseException:
        connection.close()
        raise
    return connection


class ShardFile:
    """A file and the statements that a store runs on it. Methods raise apsw.Error."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self.path = path
        self.seq = 0
        """Of the last commit that touched this file, once it was claimed."""
        self._connection = connect(path, readonly=readonly)
        self._identities = {path: _identity(path)}
        self._run = self._connection.cursor().execute
        self._run_many = self._connection.cursor().executemany
        self._takes_packed = False
        """Whether the connection knows the view that packed batches are inserted into."""

    def is_displaced(self) -> bool:
        """Whether somebody deleted or replaced the file under us, its log or its index: our writes go nowhere then."""
        if self.seq and len(self._identities) == 1:
            for suffix in ("-wal", "-shm"):
                path = self.path.with_name(self.path.name + suffix)
                self._identities[path] = _identity(path)
        return any(_identity(path) != known for path, known in self._identities.items())

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextmanager
    def transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
        """Everything or nothing of the block; durable once it was left."""
        self._run(begin)
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._run("ROLLBACK")
            raise

    # Ownership

    def host(self) -> HostRow | None:
        """The owner on record, None for a file that nobody opened yet."""
        rows = self._fetch("read_host")
        return HostRow(*rows[0]) if rows else None

    def siblings(self) -> dict[str, int]:
        """How far the files of the shard's other tenants were at the last write to this one."""
        return dict(self._fetch("read_siblings"))

    def claim(
        self, claim: Claim, owned: Ownership, sibling: Sibling | None, now: int, *, only_if_ours: bool = False
    ) -> None:
        """Put the claimant in the place of whoever owned the file, and forget what it knew of other files.

        The file's count becomes `owned.seq`, or stays where it is beyond: the owner before may have just committed.
        With `only_if_ours` raises Fenced when the claimant does not own the file already.
        """
        incarnation, epoch, seq = owned
        with self.transaction():
            host = self.host()
            if only_if_ours and (host is None or host.incarnation != incarnation.bytes):
                raise Fenced
            self.seq = max(seq, host.seq) if host else seq
            row = (claim.host, claim.node, claim.pid, claim.address, incarnation.bytes, epoch, self.seq, now)
            self._run(SQL["claim_host"], row)
            self._run(SQL["forget_siblings"])
            if sibling:
                self._run(SQL["note_sibling"], sibling)

    def fence_off(self) -> None:
        """Turn away whoever owns the file."""
        with self.transaction():
            self._run(SQL["fence_hosts"])

    @contextmanager
    def confirmed(self, claim: Claim, owned: Ownership, now: int) -> Iterator[None]:
        """Nobody can take the file over during the block; raises Fenced when it has another owner already."""
        with self.transaction():
            self._advance(claim, owned, self.seq, now)
            yield

    @contextmanager
    def held(self, owned: Ownership) -> Iterator[None]:
        """As `confirmed`, but writes nothing and so waits for no fsync."""
        with self.transaction():
            host = self.host()
            if host is None or host.incarnation != owned.incarnation.bytes:
                raise Fenced
            yield

    def checkpoint(self) -> None:
        """Fold the whole log into the file, fsync'd: after a failed fsync this writes all of it anew."""
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def _advance(self, claim: Claim, owned: Ownership, seq: int, now: int) -> None:
        row = (owned.epoch, seq, now, claim.host, owned.incarnation.bytes, self.seq)
        self._run(SQL["advance_fence"], row)
        if self._connection.changes() != 1:
            raise Fenced

    # Writing

    def apply_packed(self, batch: Packed, claim: Claim, owned: Ownership, now: int) -> None:
        """Commit number `owned.seq + 1`, of what `sqlite_batch` packed. Raises Fenced or Refused, as `apply`.

        One statement, so that the thread lets go of the interpreter once and takes it back once.
        """
        if not self._takes_packed:
            self._run(SQL["batch_view"])
            self._run(SQL["batch_trigger"])
            self._takes_packed = True
        seq = owned.seq + 1
        row = (claim.host, owned.incarnation.bytes, self.seq, owned.epoch, seq, now, *batch)
        try:
            self._run(SQL["commit_batch"], row)
        except apsw.ConstraintError as error:
            if getattr(error, "extendedresult", 0) != apsw.SQLITE_CONSTRAINT_TRIGGER:
                raise Refused(refusal(error)) from error
            if "key" in str(error):  # the trigger knows two reasons
                raise Refused(KeyExists(str(error))) from error
            raise Fenced from None
        except (apsw.TooBigError, apsw.MismatchError) as error:
            raise Refused(refusal(error)) from error
        self.seq = seq

    def apply(
        self, changes: Sequence[Change], claim: Claim, owned: Ownership, sibling: Sibling | None, now: int
    ) -> None:
        """Commit number `owned.seq + 1`. Raises Fenced or Refused with nothing applied."""
        objects, extras = _object_rows(changes, now)
        seq = owned.seq + 1
        with self.transaction():
            self._advance(claim, owned, seq, now)
            if sibling:
                self._run(SQL["note_sibling"], sibling)
            try:
                for change in extras:
                    self._apply_deletes(change)
                self._run_many(SQL["store_object"], objects)
                for change in extras:
                    self._apply_alarms(change)
                self._apply_results(extras, now)
            except (apsw.ConstraintError, apsw.TooBigError, apsw.MismatchError, apsw.RangeError) as error:
                raise Refused(refusal(error)) from error
            except (OverflowError, UnicodeError) as error:
                raise Refused(refusal(error)) from error
        self.seq = seq

    def _apply_deletes(self, change: Change) -> None:
        if change.delete:
            key = change.address[1:]
            self._run(SQL["delete_object"], key)
            self._run(SQL["delete_alarms"], key)

    def _apply_alarms(self, change: Change) -> None:
        _, object_type, object_id = change.address
        for name in change.alarms_cleared:
            self._run(SQL["clear_alarm"], (object_type, object_id, name))
        for alarm in change.alarms_set:
            self._run(SQL["set_alarm"], alarm_row(change, alarm))

    def _apply_results(self, changes: Sequence[Change], now: int) -> None:
        rows = []
        known, expiry = None, 0
        for change in changes:
            _, object_type, object_id = change.address
            for key, fingerprint, result, expires_at in change.results:
                if expires_at is not known:  # many were kept at one moment
                    known, expiry = expires_at, microseconds(expires_at)
                rows.append((object_type, object_id, key, fingerprint, result, expiry, now))
        if rows:
            before = self._connection.total_changes()
            self._run_many(SQL["store_result"], rows)
            if self._connection.total_changes() - before != len(rows):
                raise Refused(KeyExists(rows[0][2]))

    def purge_results(self, now: int, limit: int) -> int:
        """Remove up to `limit` expired results; how many were removed."""
        with self.transaction():
            self._run(SQL["purge_results"], (now, limit))
            return self._connection.changes()

    # Reading

    def load(self, keys: Sequence[tuple[str, str]]) -> list[Stored | None]:
        """Objects by (object_type, object_id), each with its alarms as of one moment."""
        return load(self._run, self.transaction, keys)

    def load_results(self, keys: Sequence[tuple[str, str, str]], now: int) -> list[ResultRow | None]:
        """Unexpired results by (object_type, object_id, key)."""
        found: list[ResultRow | None] = []
        for key in keys:
            rows = self._fetch("load_result", (*key, now))
            found += [ResultRow(row[0], row[1], row[2], from_microseconds(row[3])) for row in rows] or [None]
        return found

    def list_ids(self, object_type: str, after: str, limit: int) -> list[str]:
        """A page of ids in byte order."""
        return [row[0] for row in self._fetch("list_ids", (object_type, after, limit))]

    def due_alarms(self, prefix: str, served: Served, before: datetime, limit: int) -> list[DueAlarm]:
        """Alarms to be fired, soonest first. `prefix` is the tenant whose file this is."""
        rows = self._fetch("due_alarms", (microseconds(before), *served_arguments(served), limit))
        return [due_alarm_of(prefix, row) for row in rows]

    def list_alarms(self, prefix: str, served: Served, after: tuple[str, str, str], limit: int) -> list[ListedAlarm]:
        """A page of the alarms that are parked or not served. `prefix` is the tenant whose file this is."""
        rows = self._fetch("list_alarms", (*after, *served_arguments(served), limit))
        return [listed_alarm_of(prefix, row) for row in rows]

    def next_class(self, after: str) -> str | None:
        """The first class with stored objects after `after`."""
        rows = self._fetch("next_class", (after,))
        return rows[0][0] if rows else None

    def count(self, object_type: str) -> int:
        """Stored objects of a class."""
        return int(self._fetch("count_class", (object_type,))[0][0])

    def scan(self, object_type: str, after: str, rows_max: int, bytes_max: int) -> list[Any]:
        """A page of (id, state, version)."""
        return self._fetch("scan_class", (object_type, after, rows_max, bytes_max))

    def _fetch(self, name: str, key: tuple[Any, ...] = ()) -> list[Any]:
        # To the end, always: a statement that is not finished holds its view of the file, and keeps the log from
        # being folded in.
        return self._run(SQL[name], key).fetchall()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _object_rows(changes: Sequence[Change], now: int) -> tuple[list[tuple[Any, ...]], list[Change]]:
    """Rows for `store_object`, and the changes that do more than that."""
    rows = []
    extras = []
    try:
        for change in changes:
            if change.state is not None:
                _, object_type, object_id = change.address
                rows.append((object_type, object_id, change.partition, change.version, change.state.decode(), now))
            if change.alarms_set or change.alarms_cleared or change.results or change.delete:
                extras.append(change)
    except UnicodeDecodeError as error:
        raise Refused(refusal(error)) from error
    return rows, extras
