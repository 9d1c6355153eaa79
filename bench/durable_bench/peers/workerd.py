"""workerd, the runtime of Cloudflare Workers: a Durable Object on SQLite, called over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from durable_bench.peers.http import DRIVER, http_driver, placed
from durable_bench.peers.installing import chosen_versions, npm_install
from durable_bench.peers.peer import NotAvailable
from durable_bench.peers.processes import Worker, free_port, server, until_listening
from durable_bench.peers.scenarios import ALL

PINNED = {"workerd": "1.20261117.1", **DRIVER}


@dataclass(frozen=True, slots=True)
class Workerd:
    """One process, as `workerd serve` runs it."""

    versions: Mapping[str, str] = field(default_factory=dict)
    name: str = "workerd"
    durability: str = (
        "SQLite storage on local disk; the output gate holds the reply until the commit is synced; defaults"
    )
    scenarios: frozenset[str] = ALL

    @property
    def packages(self) -> Mapping[str, str]:
        return chosen_versions(PINNED, self.versions)

    async def install(self, folder: Path) -> None:
        """From npm."""
        _binary(await npm_install(folder, self.packages))

    @asynccontextmanager
    async def start(self, folder: Path, installed: Path) -> AsyncIterator[Worker]:
        """Raises NotAvailable."""
        placed("workerd_counter.js", installed)
        config, storage = placed("workerd.capnp", installed), folder / "storage"
        storage.mkdir(exist_ok=True)
        address, directory = f"http=127.0.0.1:{(port := free_port())}", f"storage={storage}"
        serve: list[str | Path] = [_binary(installed / "node_modules"), "serve", config]
        async with server([*serve, "--socket-addr", address, "--directory-path", directory], folder) as process:
            await until_listening(process, port, folder / "server.log")
            add, read = {"method": "POST", "path": "/{id}"}, {"method": "GET", "path": "/{id}"}
            async with http_driver(installed, folder, port, add, read, [process.pid]) as driver:
                yield driver


def _binary(modules: Path) -> Path:
    """The package of this platform: npm chooses it, and its name says which."""
    for found in modules.glob("@cloudflare/workerd-*/bin/workerd"):
        return found
    raise NotAvailable("npm has no workerd for this platform")
