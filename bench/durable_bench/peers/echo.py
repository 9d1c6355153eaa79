"""The driver's own limit, so that it can be told from that of a peer: a server that answers and does nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from durable_bench.peers.http import DRIVER, http_driver, placed
from durable_bench.peers.installing import chosen_versions, npm_install
from durable_bench.peers.processes import Worker, free_port, server, until_listening


@dataclass(frozen=True, slots=True)
class Echo:
    """Node's own HTTP server. It shares the machine with the driver, so that the driver alone could do more."""

    versions: Mapping[str, str] = field(default_factory=dict)
    name: str = "http-echo"
    durability: str = "none, it keeps nothing: what the HTTP driver can do with a server that does no work"
    scenarios: frozenset[str] = frozenset({"reads"})

    @property
    def packages(self) -> Mapping[str, str]:
        return chosen_versions(DRIVER, self.versions)

    async def install(self, folder: Path) -> None:
        """From npm."""
        await npm_install(folder, self.packages)

    @asynccontextmanager
    async def start(self, folder: Path, installed: Path) -> AsyncIterator[Worker]:
        """Raises NotAvailable."""
        port = free_port()
        async with server(["node", placed("echo.mjs", installed), str(port)], folder) as process:
            await until_listening(process, port, folder / "server.log")
            request = {"method": "GET", "path": "/{id}"}
            async with http_driver(installed, folder, port, request, request, [process.pid]) as driver:
                yield driver
