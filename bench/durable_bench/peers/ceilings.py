"""What the disk and the database give when nothing is in the way: bare group commits, in a loop of their own.

pgbench (`durable_bench.peers.pgbench`) is the ceiling of one commit a call; these are that of one commit a batch.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from durable_bench.peers.postgres import DURABILITY, postmaster
from durable_bench.peers.processes import Worker, python_worker, worker
from durable_bench.postgres_server import find_binaries
from durable_bench.stores import fresh_store

_SYNCED = {"sqlite": "SQLite, WAL, synchronous=FULL", "postgres": DURABILITY}


@dataclass(frozen=True, slots=True)
class GroupCommit:
    """No engine: a program that commits one batch after the other, each of as many calls as there are callers."""

    store: str
    packages: Mapping[str, str] = field(default_factory=dict)
    scenarios: frozenset[str] = frozenset({"spread", "hot", "alone", "new"})

    @property
    def name(self) -> str:
        return f"group-{self.store}"

    @property
    def durability(self) -> str:
        return f"{_SYNCED[self.store]}: a ceiling, no calls and no engine, one commit for as many upserts as callers"

    async def install(self, folder: Path) -> None:
        """Nothing but PostgreSQL itself. Raises NoPostgres."""
        if self.store == "postgres":
            find_binaries()

    @asynccontextmanager
    async def start(self, folder: Path, installed: Path) -> AsyncIterator[Worker]:
        """Raises NotAvailable, or NoPostgres."""
        with fresh_store(self.store, folder) as url:
            where = str(folder / "counters.sqlite3") if self.store == "sqlite" else url
            servers = postmaster(folder / "postgres")
            async with worker(
                **python_worker("group_commit", self.store, where), folder=folder, servers=servers
            ) as one:
                yield one
