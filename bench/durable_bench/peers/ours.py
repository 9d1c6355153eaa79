"""durable-engine as one peer among others: a server with one shard, and the typed client in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from durable_bench.peers.postgres import DURABILITY as POSTGRES
from durable_bench.peers.postgres import postmaster
from durable_bench.peers.processes import Worker, free_port, python_worker, server, until_listening, worker
from durable_bench.peers.scenarios import ALL
from durable_bench.stores import fresh_store
from durable_engine.release import RELEASE

_SYNCED = {
    "sqlite": "WAL, synchronous=FULL: the log is synced before the reply, many calls in one commit",
    "postgres": f"{POSTGRES}: synced before the reply, many calls in one commit",
}


@dataclass(frozen=True, slots=True)
class DurableEngine:
    """This engine, over a TCP socket of loopback."""

    store: str
    shards: int = 1
    packages: Mapping[str, str] = field(default_factory=lambda: {"durable-engine": RELEASE})
    scenarios: frozenset[str] = ALL

    @property
    def name(self) -> str:
        return f"durable-{self.store}"

    @property
    def durability(self) -> str:
        return f"{_SYNCED[self.store]}; {self.shards} shard(s)"

    async def install(self, folder: Path) -> None:
        """It is here."""

    @asynccontextmanager
    async def start(self, folder: Path, installed: Path) -> AsyncIterator[Worker]:
        """Raises NotAvailable, or NoPostgres."""
        url = f"tcp://127.0.0.1:{(port := free_port())}"
        with fresh_store(self.store, folder) as store:
            run = [sys.executable, "-m", "durable_engine", "run", "durable_bench.objects", "--store", store]
            words = [*run, "--shards", str(self.shards), "--bind", url, "--migrate"]
            async with server(words, folder) as process:
                await until_listening(process, port, folder / "server.log")
                servers = [process.pid, *postmaster(folder / "postgres")]
                async with worker(**python_worker("engine_client", url), folder=folder, servers=servers) as one:
                    yield one
