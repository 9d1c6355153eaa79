"""A server whose shards do what a test says: the real sockets, the real door, and no objects behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from durable_engine.frontend import Frontend
from durable_engine.reception import Reception
from durable_shards.errors import HandlerFailed, NotOwner
from durable_shards.server import ShardServer
from durable_shards.wire import Call, Peer, RoutingTable, ShardRoute
from durable_storage.errors import DurableError

WAIT_SECONDS = 20.0


class ScriptedShard:
    """Answers by the name of the handler: `echo` at once, `hold` when released, `fail` with an error."""

    def __init__(self, epoch: int = 1) -> None:
        self.epoch = epoch
        self.seq = 0
        self.on_release: Any = None
        self.refusing = False
        self.received: list[Call] = []
        self.held: list[Call] = []
        self.stirred = asyncio.Event()

    def receive(self, peer: Peer, calls: list[Call]) -> None:
        for call in calls:
            call.peer = peer
            self.received.append(call)
            if self.refusing:
                peer.fail(call, NotOwner())
            elif call.handler == "hold":
                self.held.append(call)
            elif call.handler == "fail":
                peer.fail(call, HandlerFailed(remote_type="ValueError", remote_message="no", traceback="..."))
            else:
                self.answer(call)
        self.stirred.set()

    def answer(self, call: Call) -> None:
        """As a turn that returned its first argument."""
        assert call.peer is not None
        self.seq += 1
        result = call.args[0] if call.args else call.kwargs
        call.peer.put(call, call.peer.encode(call, self.seq, result))

    def release(self) -> None:
        """Answer what is held."""
        held, self.held = self.held, []
        for call in held:
            self.answer(call)
        self.on_release()

    async def request(self, op: str, arguments: dict[str, Any]) -> Any:
        if op == "fail":
            raise DurableError("it does not please")
        if op == "break":
            raise RuntimeError("a bug")
        return {"op": op, **arguments}

    async def until(self, count: int) -> None:
        """Until so many calls have arrived, counted from the beginning."""
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.received) < count:
                self.stirred.clear()
                await self.stirred.wait()

    @property
    def handlers(self) -> list[Any]:
        """The first argument of each call that arrived, in order."""
        return [call.args[0] if call.args else None for call in self.received]


async def until(predicate: Callable[[], bool]) -> None:
    """Look again at every turn of the loop, until it is so."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not predicate():  # noqa: ASYNC110 - what is looked at has no event of its own
            await asyncio.sleep(0.001)


class ScriptedServer:
    """A door and shards that come and go as the test says."""

    def __init__(self, folder: Path, shards: int = 1) -> None:
        self.folder = folder
        self.url = f"ipc://{folder}/door"
        self.name = "first"
        self.version = 0
        self.acknowledged: list[dict[int, tuple[int, int]]] = []
        self.operations: dict[str, Any] = {"ping": self._ping}
        self.shards: list[ScriptedShard] = [ScriptedShard() for _ in range(shards)]
        self.servers: list[ShardServer | None] = [None] * shards
        self.states = ["up"] * shards
        self._incarnation = 0
        self._reception: Reception | None = None

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Open the door and start all shards."""
        loop = asyncio.get_running_loop()
        self._reception = Reception(
            loop,
            table=self.table,
            operations=self.operations,
            on_acknowledged=self.acknowledged.append,
        )
        self._reception.open(self.url)
        for number in range(len(self.shards)):
            self.start(number)
        self.announce()

    def close(self) -> None:
        """As if all processes were killed."""
        assert self._reception is not None
        self._reception.close()
        for number in range(len(self.shards)):
            self.kill(number)

    def start(self, number: int = 0) -> None:
        """A new incarnation of a shard's socket, not announced yet."""
        self._incarnation += 1
        endpoint = f"ipc://{self.folder}/shard-{number}-{self._incarnation}"
        self.servers[number] = ShardServer(self.shards[number], endpoint, asyncio.get_running_loop())
        self.states[number] = "up"

    def kill(self, number: int = 0) -> None:
        """Close a shard's socket without a word."""
        server, self.servers[number] = self.servers[number], None
        self.states[number] = "down"
        if server is not None:
            server.close()

    def replace(self, number: int = 0) -> ScriptedShard:
        """Kill a shard, and announce another with the next epoch in its place."""
        self.kill(number)
        self.shards[number] = ScriptedShard(self.shards[number].epoch + 1)
        self.start(number)
        self.announce()
        return self.shards[number]

    def announce(self) -> None:
        """Publish the routing table as it is now."""
        assert self._reception is not None
        self.version += 1
        self._reception.announce()

    def table(self) -> RoutingTable:
        count = len(self.shards)
        routes = []
        for number, server in enumerate(self.servers):
            partitions = (number * 1024 // count, (number + 1) * 1024 // count)
            endpoint = server.endpoint if server is not None else ""
            epoch = self.shards[number].epoch
            routes.append(ShardRoute(number, endpoint, epoch, partitions, self.states[number], self._incarnation))
        return RoutingTable(self.name, self.version, 1024, routes)

    async def _ping(self, _: dict[str, Any]) -> str:
        return "pong"


class Rig:
    """A scripted server and a frontend on it."""

    def __init__(self, folder: Path, shards: int = 1) -> None:
        self.server = ScriptedServer(folder, shards)
        self.frontend: Frontend

    async def __aenter__(self) -> Self:
        self.server.open()
        self.frontend = await Frontend.connect(self.server.url, WAIT_SECONDS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.frontend.close()
        self.server.close()

    @property
    def shard(self) -> ScriptedShard:
        return self.server.shards[0]

    def call(self, handler: str, *args: Any, object_id: str = "a", **options: Any) -> asyncio.Future[Any]:
        return self.frontend.call(
            "Counter", object_id, handler, list(args), None, **{"timeout": WAIT_SECONDS, **options}
        )
