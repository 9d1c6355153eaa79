"""Restate: one node of restate-server, and a Virtual Object of its TypeScript SDK, called over the HTTP ingress."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from durable_bench.peers.http import DRIVER, http_driver, placed
from durable_bench.peers.installing import chosen_versions, npm_install
from durable_bench.peers.peer import NotAvailable
from durable_bench.peers.processes import READY_SECONDS, Worker, free_port, server, tail, until_listening
from durable_bench.peers.scenarios import ALL

PINNED = {"@restatedev/restate-server": "1.7.12", "@restatedev/restate-sdk": "1.17.2", **DRIVER}
POLL_SECONDS = 0.2
_HANDLERS = {"NODE_ENV": "production", "RESTATE_LOGGING": "WARN"}
"""Of the process with the handlers, which would write two lines for each call otherwise."""


@dataclass(frozen=True, slots=True)
class Restate:
    """As a single node comes: 24 partitions, its log synced before a call is acknowledged."""

    versions: Mapping[str, str] = field(default_factory=dict)
    name: str = "restate"
    durability: str = "one node, defaults: each step of a call is appended to the log, which is synced before the reply"
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
        node, ingress, admin, service = (free_port() for _ in range(4))
        words: list[str | Path] = [
            _binary(installed / "node_modules"),
            "--base-dir",
            folder / "data",
            "--node-name",
            "bench",
        ]
        counter: list[str | Path] = ["node", placed("restate_counter.mjs", installed), str(service)]
        async with (
            server(words, folder, env=_settings(node, ingress, admin)) as process,
            server(counter, folder, log="service.log", env=_HANDLERS) as handlers,
        ):
            await until_listening(handlers, service, folder / "service.log")
            await until_listening(process, admin, folder / "server.log")
            await _register(admin, service, folder / "server.log")
            await until_listening(process, ingress, folder / "server.log")
            add, read = ({"method": "POST", "path": f"/counter/{{id}}/{handler}"} for handler in ("add", "read"))
            servers = [process.pid, handlers.pid]
            async with http_driver(installed, folder, ingress, add, read, servers) as driver:
                yield driver


def _settings(node: int, ingress: int, admin: int) -> dict[str, str]:
    """Addresses, and no more: durability and sizes are as they come."""
    return {
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
        "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{node}",
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        "RESTATE_LOG_FILTER": "warn",
        "RESTATE_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
    }


async def _register(admin: int, service: int, log: Path) -> None:
    """Tell the server where the handlers are, as soon as it listens to that. Raises NotAvailable."""
    asked = {"uri": f"http://127.0.0.1:{service}", "force": True}
    request = urllib.request.Request(
        f"http://127.0.0.1:{admin}/deployments",
        json.dumps(asked).encode(),
        {"content-type": "application/json"},
    )
    said = ""
    for _ in range(round(READY_SECONDS / POLL_SECONDS)):
        try:
            await asyncio.to_thread(_post, request)
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
        except OSError as error:
            said = str(error)
        else:
            return
        await asyncio.sleep(POLL_SECONDS)
    raise NotAvailable(f"it does not take the handlers: {said} {tail(log)}")


def _post(request: urllib.request.Request) -> None:
    with urllib.request.urlopen(request, timeout=READY_SECONDS) as response:
        response.read()


def _binary(modules: Path) -> Path:
    """The package of this platform: npm chooses it, and its name says which."""
    for found in modules.glob("@restatedev/restate-server-*/bin/restate-server"):
        return found
    raise NotAvailable("npm has no restate-server for this platform")
