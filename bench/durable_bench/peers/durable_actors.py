"""durable-actors: classes in Python below a runtime in Rust, on its local server, the one that needs no cloud.

Each live object is three processes, some 100 MB, and starts in a third of a second. So there are 16 of them in place of
the thousand that others have, and none of the scenarios that touch ids for the first time.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from durable_bench.peers.installing import chosen_versions, generate, pip_install
from durable_bench.peers.processes import Worker, free_port, python_worker, server, until_listening, worker
from durable_bench.peers.workers.load import Load, Outcome

PINNED = {"durable-actors": "0.12.3", "durable-actors-runtime": "0.12.3"}
OBJECTS = 16
STARTING = 4
"""Objects that are started at once."""
START_SECONDS = 60.0
"""For all of them."""
_APPS = Path(__file__).parent / "apps"


@dataclass(frozen=True, slots=True)
class DurableActors:
    """`durable-actors dev`, without reloading; its other server needs storage and sandboxes of a cloud."""

    versions: Mapping[str, str] = field(default_factory=dict)
    name: str = "durable-actors"
    durability: str = (
        f"local server, defaults: state rests in SQLite and in files; {OBJECTS} ids in place of 1,000, since each"
        " object is three processes"
    )
    scenarios: frozenset[str] = frozenset({"spread", "hot", "reads", "alone"})

    @property
    def packages(self) -> Mapping[str, str]:
        return chosen_versions(PINNED, self.versions)

    async def install(self, folder: Path) -> None:
        """From PyPI, with its command line; the client is generated from the class. Raises NotAvailable."""
        cli = f"durable-actors[cli]=={self.packages['durable-actors']}"
        python = await pip_install(folder, self.packages, cli)
        app = folder / "app"
        (app / "src").mkdir(parents=True, exist_ok=True)
        shutil.copy(_APPS / "durable_actors_counter.py", app / "src" / "actors.py")
        program = python.parent / "durable-actors"
        words: list[str | Path] = [program, "generate", "src/actors.py", "--out-dir", "generated"]
        await generate(words, app, _APPS / "durable_actors_counter.py", app / "generated" / "async_actors.py")

    @asynccontextmanager
    async def start(self, folder: Path, installed: Path) -> AsyncIterator[FewObjects]:
        """Raises NotAvailable."""
        port = free_port()
        words: list[str | Path] = [
            *(installed / "bin" / "durable-actors", "dev", "--no-watch", "--port", str(port)),
            *("--project", installed / "app", "--data-dir", folder / "state", "--storage", "local"),
        ]
        async with server(words, folder) as process:
            await until_listening(process, port, folder / "server.log")
            client = python_worker(
                "durable_actors_client",
                f"http://127.0.0.1:{port}",
                python=installed / "bin" / "python",
                installed=installed,
                import_paths=[installed / "app"],
            )
            async with worker(**client, folder=folder, servers=[process.pid]) as one:
                # More that start at once are refused.
                await one.drive(Load("read", "spread-", OBJECTS, STARTING, START_SECONDS, once=True))
                yield FewObjects(one)


@dataclass(frozen=True, slots=True)
class FewObjects:
    """The same loads, on no more ids than there can be objects."""

    worker: Worker

    @property
    def servers(self) -> Sequence[int]:
        return self.worker.servers

    async def drive(self, load: Load) -> Outcome:
        """Raises NotAvailable."""
        return await self.worker.drive(replace(load, count=min(load.count, OBJECTS)))

    async def total(self, prefix: str, count: int) -> int:
        """Ids beyond those that there are were never called."""
        return await self.worker.total(prefix, min(count, OBJECTS))
