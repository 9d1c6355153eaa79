"""Who rules a SQLite store: one row in `control.sqlite3`, and the lock of that file while the layout changes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import time
from typing import Any

import apsw

from durable_storage import sqlite_file
from durable_storage.lease import LEASE_SECONDS, Holder, Incumbent, must_wait_for_lease, term_over
from durable_storage.migrations import Applied, Step, plan
from durable_storage.sqlite_errors import explained, explanation
from durable_storage.sqlite_file import ShardFile
from durable_storage.sqlite_layout import Layout

_TABLE = """
CREATE TABLE IF NOT EXISTS durable_controller (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    term INTEGER NOT NULL,
    node TEXT NOT NULL,
    boot TEXT NOT NULL,
    pid INTEGER NOT NULL, -- 0: nobody
    process_started INTEGER NOT NULL,
    address TEXT NOT NULL,
    renewed_at REAL NOT NULL -- seconds since 1970
) STRICT
"""


@contextmanager
def term_in_force(control: Path) -> Iterator[int]:
    """The term, 0 where nobody ever ruled. During the block it cannot end, nor can the files be laid out anew."""
    if not control.exists():
        yield 0
        return
    with closing(apsw.Connection(str(control), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
        connection.set_busy_timeout(int(sqlite_file.BUSY_SECONDS * 1000))
        connection.execute("BEGIN IMMEDIATE")
        yield _term(connection) if connection.table_exists("main", "durable_controller") else 0


class SqliteControl:
    """The seat of the ruler of a directory. Implements `durable_storage.lease.Control`."""

    def __init__(self, directory: Path, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self._layout = Layout(directory)
        self._lease_seconds = lease_seconds
        self._shards: int | None = None
        self._term = 0

    async def prepare(self, *, shards: int, migrate: bool | None) -> None:
        """Create, upgrade, re-split. A re-split of a store in use is left for `acquire`."""
        self._shards = shards
        await asyncio.to_thread(self._prepare)

    def _prepare(self) -> None:
        with self._locked() as connection:
            incumbent = _incumbent(connection)
            if incumbent is None or incumbent.holder.is_provably_dead() or _term(connection) == self._term:
                self._lay_out()

    def _lay_out(self) -> None:
        if self._shards is None:
            return
        generation = self._layout.current()
        if generation is None:
            self._layout.create(self._shards)
        elif generation.shards != self._shards:
            self._layout.resplit(generation, self._shards)
        else:
            self._layout.sweep(generation)
            self._layout.migrate(generation)

    def migrate(self, to: int | None, direction: str) -> list[Step]:
        """Migrate all files, creating the store where there is none. Blocks. Raises StoreInUse."""
        if self._layout.current() is None and not plan("sqlite", 0, to, direction):
            return []  # refused, or nothing to do: nothing is created for that
        with self._locked() as connection:
            must_wait_for_lease(_incumbent(connection), takeover=False)
            generation = self._layout.current()
            if generation is None:
                self._layout.migrate(self._layout.create(1), to)  # new files begin with the latest version
                return plan("sqlite", 0, to, direction)
            return self._layout.migrate(generation, to, direction)

    def applied(self) -> list[Applied]:
        """The history of the file that is furthest behind. Blocks."""
        generation = self._layout.current()
        if generation is None:
            return []
        return explained(self._layout.root, self._layout.applied, generation)

    async def acquire(self, holder: Holder, *, takeover: bool, after: int = 0) -> int:
        """Become the ruler."""
        term, waits = await asyncio.to_thread(self._acquire, holder, takeover, after)
        if waits:
            await asyncio.sleep(self._lease_seconds)
        return term

    def _acquire(self, holder: Holder, takeover: bool, after: int) -> tuple[int, bool]:
        with self._locked() as connection:
            waits = must_wait_for_lease(_incumbent(connection), takeover=takeover)
            self._term = max(_term(connection), after) + 1
            row = (
                self._term,
                holder.node,
                holder.boot,
                holder.pid,
                holder.process_started,
                holder.address,
                time(),
            )
            connection.execute("INSERT OR REPLACE INTO durable_controller VALUES (1, ?, ?, ?, ?, ?, ?, ?)", row)
        # The old shards are fenced only now, when none of them can be opened in the old term any more.
        with self._locked():
            generation = self._layout.current()
            if generation is not None:
                for _, path in self._layout.files(generation):
                    with closing(ShardFile(path)) as file:
                        file.fence_off()
            self._lay_out()
        return self._term, waits

    async def renew(self, term: int) -> None:
        """Raises Fenced when somebody else rules."""
        if (found := await asyncio.to_thread(self._update, "renewed_at = ?1", term)) is not None:
            raise term_over(term, found)

    async def release(self, term: int) -> None:
        """Rule no more."""
        await asyncio.to_thread(self._update, "pid = 0, renewed_at = ?1", term)

    def _update(self, assignment: str, term: int) -> int | None:
        # The term that is in force instead; None when it was updated.
        with self._locked() as connection:
            statement = f"UPDATE durable_controller SET {assignment} WHERE term = ?2"  # noqa: S608 - ours
            connection.execute(statement, (time(), term))
            return None if connection.changes() == 1 else _term(connection)

    async def close(self) -> None:
        """Nothing is kept open."""

    @contextmanager
    def _locked(self) -> Iterator[apsw.Connection]:
        # The write lock of control.sqlite3 keeps two supervisors from laying out one directory at once.
        try:
            self._layout.root.mkdir(parents=True, exist_ok=True)
            with closing(apsw.Connection(str(self._layout.control))) as connection:
                connection.set_busy_timeout(5000)
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_TABLE)
                yield connection
                connection.execute("COMMIT")
        except (apsw.Error, OSError) as error:
            raise explanation(self._layout.root, error) from error


def _incumbent(connection: apsw.Connection) -> Incumbent | None:
    columns = "node, boot, pid, process_started, address, renewed_at"
    row: Any = connection.execute(f"SELECT {columns} FROM durable_controller WHERE pid != 0").fetchone()  # noqa: S608
    return Incumbent(Holder(*row[:5]), max(0.0, time() - row[5])) if row else None


def _term(connection: apsw.Connection) -> int:
    row: Any = connection.execute("SELECT term FROM durable_controller").fetchone()
    return int(row[0]) if row else 0
