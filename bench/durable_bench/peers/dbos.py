"""DBOS: workflows of one step in the program that calls, on PostgreSQL, as its documentation recommends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from durable_bench.peers.installing import chosen_versions, pip_install
from durable_bench.peers.postgres import DURABILITY, postmaster
from durable_bench.peers.processes import Worker, python_worker, worker
from durable_bench.peers.scenarios import ALL
from durable_bench.postgres_server import find_binaries, postgres_server

PINNED = {"dbos": "3.4.0"}


@dataclass(frozen=True, slots=True)
class Dbos:
    """A library: the worker itself is the application (`durable_bench.peers.workers.dbos_client`)."""

    versions: Mapping[str, str] = field(default_factory=dict)
    name: str = "dbos"
    durability: str = (
        f"{DURABILITY}: an add is a workflow of one transaction, whose start, step and end are commits of their own"
    )
    scenarios: frozenset[str] = ALL

    @property
    def packages(self) -> Mapping[str, str]:
        return chosen_versions(PINNED, self.versions)

    async def install(self, folder: Path) -> None:
        """From PyPI, with the driver it brings along. Raises NotAvailable, or NoPostgres."""
        find_binaries()
        await pip_install(folder, self.packages)

    @asynccontextmanager
    async def start(self, folder: Path, installed: Path) -> AsyncIterator[Worker]:
        """Raises NotAvailable."""
        with postgres_server(folder / "postgres") as url:
            words = python_worker("dbos_client", url, python=installed / "bin" / "python", installed=installed)
            async with worker(**words, folder=folder) as one:
                yield replace(one, servers=[one.process.pid, *postmaster(folder / "postgres")])
