"""What the faults happen to: a server of several shards, its store, the network between them, and clients at work.

Clients find the server at one address for ever, a symbolic link to the socket of whichever supervisor serves: one that
is taken over while it is stopped cannot free its own. Shards are found by the names of their processes, so that
nothing that a fault holds up is needed to strike another one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg

from durable_engine.client import Client
from durable_engine.errors import DurableError
from durable_storage.address import partition_of, partitions_of_shard
from tests.chaos import witness
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from tests.support.postgres import PostgresServer, find_binaries
from tests.support.server import Server

RECOVERY_SECONDS = 60.0
"""For everything to be served again after the last heal, on the slowest machine."""
_COMM = "durable-shard-"


class Rig:
    """One store of its own and whoever serves it; used as a context manager."""

    def __init__(self, folder: Path, kind: str, shards: int, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.kind = kind
        self.shards = shards
        self.url = f"ipc://{folder}/engine.sock"
        self.store = f"sqlite:///{folder}/store"
        self.postgres: PostgresServer | None = None
        self.proxy: FaultProxy | None = None
        self.servers: list[Server] = []
        """All supervisors that ever were; the last one serves."""
        self._settings = {**settings, "objects": (*settings["objects"], str(Path(witness.__file__)))}
        self._client: Client | None = None
        self.witnesses = [id_in_shard("Witness", shard, shards) for shard in range(shards)]

    def __enter__(self) -> Rig:
        try:
            if self.kind == "postgresql":
                self.postgres = PostgresServer(memory_folder(self.folder), find_binaries()).start()
                self.store = self.postgres.url
                self.proxy = FaultProxy(self.store).__enter__()
            self.add_server()
            self._client = Client(self.url, timeout=RECOVERY_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()
        for server in self.servers:
            server.end()
        if self.proxy is not None:
            self.proxy.__exit__()
        if self.postgres is not None:
            self.postgres.stop()  # orderly, or its segments of shared memory stay
            self.postgres.remove()

    # The server.

    @property
    def server(self) -> Server:
        """The one that serves."""
        return self.servers[-1]

    def add_server(self, *, takeover: bool = False) -> Server:
        """Another supervisor, at an address of its own, that the clients' address leads to."""
        socket = self.folder / f"engine-{len(self.servers)}.sock"
        store = self.proxy.url if self.proxy is not None else self.store
        server = Server(
            self.folder, store, **self._settings, shards=self.shards, bind=f"ipc://{socket}", takeover=takeover
        )
        try:
            server.start()
        except BaseException:
            server.end()
            raise
        self.servers.append(server)
        link = self.folder / "next.sock"
        link.symlink_to(socket)
        link.rename(self.folder / "engine.sock")
        return server

    def processes(self) -> dict[int, int]:
        """Shard: process id, of those that run. While a shard gives way to another process there are two of it."""
        return dict(self._all_processes())

    def _all_processes(self) -> list[tuple[int, int]]:
        names = [(comm_of(pid), pid) for pid in self.server.descendants()]
        return [(int(name.removeprefix(_COMM)), pid) for name, pid in names if name.startswith(_COMM)]

    def until_settled(self) -> None:
        """Until each shard has one process."""

        def look() -> bool:
            return sorted(shard for shard, _ in self._all_processes()) == [*range(self.shards)]

        eventually(look, timeout=RECOVERY_SECONDS, state=lambda: f"{self._all_processes()}\n{self.server.log[-3000:]}")

    def process(self, shard: int) -> int:
        """The process id of a shard, waited for."""
        return eventually(lambda: self.processes()[shard], timeout=RECOVERY_SECONDS, state=lambda: self.server.log)

    def until_replaced(self, shard: int, pid: int) -> None:
        """Until that process of a shard is gone."""

        def look() -> bool:
            return self.processes().get(shard, pid) != pid

        eventually(look, timeout=RECOVERY_SECONDS, state=lambda: self.server.log[-5000:])

    def heal(self) -> None:
        """Undo what a fault that failed has left."""
        for server in self.servers:
            for pid in server.pids():
                os.kill(pid, signal.SIGCONT)
        if self.proxy is not None:
            self.proxy.release()
            self.proxy.delay(0.0)
        if self.postgres is not None and not self.postgres.is_running:
            self.postgres.start()

    # Clients.

    @property
    def client(self) -> Client:
        """One that no fault is meant for."""
        assert self._client is not None
        return self._client

    def until_served(self, *shards: int) -> None:
        """Until each shard, or each of these, has made something durable; that is what liveness means here."""
        for shard in shards or range(self.shards):
            eventually(
                lambda shard=shard: self.client.call_by_name("Witness", self.witnesses[shard], "probe", timeout=2.0),  # type: ignore[misc]
                timeout=RECOVERY_SECONDS,
                state=lambda shard=shard: f"shard {shard} does not serve:\n{self.server.log[-5000:]}",  # type: ignore[misc]
            )

    def somebody(self, object_type: str, shard: int, number: int = 0) -> str:
        """An id of a class in a shard, another one for each number."""
        return id_in_shard(object_type, shard, self.shards, f"v{number}-")

    def ask(self, op: str, arguments: dict[str, Any] | None = None) -> Any:
        """A question to the supervisor, asked until it is answered."""

        def look() -> tuple[Any]:
            return (self.client.request(op, arguments, timeout=RECOVERY_SECONDS / 2),)

        return eventually(look, timeout=RECOVERY_SECONDS, state=lambda: self.server.log[-5000:])[0]

    def call(self, object_type: str, object_id: str, handler: str, *args: Any, timeout: float = 5.0) -> Any:
        """A call; what it returned or the error it raised."""
        try:
            return self.client.call_by_name(object_type, object_id, handler, list(args), timeout=timeout)
        except DurableError as error:
            return error

    def probe(self, shard: int, number: int = 0) -> None:
        """Give a shard something to load, if the number is new, and to commit."""
        self.call("Witness", self.somebody("Witness", shard, number), "probe", timeout=0.5)

    # The store.

    def sql(self, statement: str, *args: Any) -> list[Any]:
        """Ask PostgreSQL past the proxy."""

        async def run() -> list[Any]:
            connection = await asyncpg.connect(self.store, timeout=RECOVERY_SECONDS)
            try:
                rows: list[Any] = await connection.fetch(statement, *args)
                return rows
            finally:
                await connection.close()

        return asyncio.run(run())


def memory_folder(otherwise: Path) -> Path:
    """For PostgreSQL, which writes all its files down when it comes back from a crash: in memory that is quick.

    Nothing is lost by it that a crash of processes could show: what they wrote stays written.
    """
    shared = Path("/dev/shm")
    return (shared if os.access(shared, os.W_OK) else otherwise) / f"chaos-{os.urandom(4).hex()}"


def ids(object_type: str, shard: int, shards: int, prefix: str) -> Iterator[str]:
    """Ids of a class that fall into a shard."""
    ours = partitions_of_shard(shard, shards)
    number = 0
    while True:
        object_id = f"{prefix}{number}"
        if partition_of("", object_type, object_id) in ours:
            yield object_id
        number += 1


def id_in_shard(object_type: str, shard: int, shards: int, prefix: str = "probe-") -> str:
    """The first such id."""
    return next(ids(object_type, shard, shards, prefix))


def holds_lock(pid: int) -> bool:
    """Whether a process has locked some file for itself alone, as SQLite does while it commits."""
    locks = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return any(words[3] == "WRITE" and words[4] == str(pid) for words in locks if words[1] == "POSIX")


def comm_of(pid: int) -> str:
    """The name of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def resident_bytes(pid: int) -> int:
    """Memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def now() -> float:
    """The clock of histories."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)
