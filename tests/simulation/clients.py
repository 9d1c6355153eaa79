"""The clients: each has the engine's own frontend, and workers that call one after the other."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any

from durable_engine.frontend import Frontend
from durable_shards.wire import FLAG_AUTO_KEY, FLAG_FRESH
from durable_storage.errors import DurableError
from tests.simulation.model import Operation
from tests.simulation.objects import NAMES, OBJECTS, class_of
from tests.simulation.processes import DOOR, Process

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

HANDLERS = {
    "append": 6, "append_slowly": 2, "read": 6, "transfer": 2, "reject": 1, "poison": 1, "ask": 2, "tell": 2,
    "arm": 4, "cancel": 2, "repeat": 1, "$delete": 1,
}  # fmt: skip
MISSED = ("coalesce", "skip", "all")
ATTEMPTS = 4


class Client(Process):
    """A program that calls objects."""

    def __init__(self, cluster: Cluster, name: str, workers: int, weights: dict[str, int]) -> None:
        super().__init__(cluster, name)
        self.random = Random(cluster.simulation.random.random())
        self.frontend: Frontend | None = None
        self.stopping = False
        self.wanted: list[str] = []
        """Objects that have to answer in the end."""
        self.keyed: list[Operation] = []
        self._weights = weights
        self._workers = workers
        self._working: list[asyncio.Task[None]] = []
        self._connected = asyncio.Event()
        self.start(self._run)

    async def _run(self) -> None:
        while self.frontend is None:
            try:
                self.frontend = await Frontend.connect(DOOR, 5.0, network=self.network)
            except DurableError:
                await asyncio.sleep(0.05)
        self._connected.set()
        for _ in range(self._workers):
            self._working.append(self.loop.create_task(self._work()))

    async def _work(self) -> None:
        while not self.stopping:
            operation = self._choose()
            await self._attempts(operation, 1 if operation.key is None else self.random.randint(1, ATTEMPTS))
            await asyncio.sleep(self.random.expovariate(8.0))

    # What to do.

    def _choose(self) -> Operation:
        random, cluster = self.random, self.cluster
        if self.keyed and random.random() < 0.1:  # long after, and perhaps another client's
            return random.choice(random.choice(cluster.clients).keyed or self.keyed)
        handler = random.choices(list(self._weights), list(self._weights.values()))[0]
        if self._is_unaware() and random.random() < 0.7:
            handler = "read"  # of shards that may have been replaced
        name = random.choice(OBJECTS)
        token = cluster.next_token()
        keyed = handler in ("append", "append_slowly", "transfer", "ask", "tell", "arm") and random.random() < 0.5
        key = f"key-{token}" if keyed else None
        operation = Operation(self.name, name, handler, token, self._arguments(handler, token, name), key)
        if keyed:
            self.keyed.append(operation)
        return operation

    def _is_unaware(self) -> bool:
        """Whether it does not hear of a takeover. Then it asks often, so that a shard that wakes up has fresh calls."""
        wires = self.cluster.wires
        return wires.cut_off.get((self.loop, DOOR), 0.0) > self.cluster.simulation.now

    def _arguments(self, handler: str, token: int, name: str) -> list[Any]:
        random = self.random
        other = random.choice([each for each in OBJECTS if each != name])
        if handler == "repeat":
            return [token, random.choice(MISSED), round(0.3 + random.random(), 2)]
        if handler == "cancel":
            return [token, random.choice((*NAMES, *(f"every_{each}" for each in MISSED)))]
        if handler == "arm":
            return [token, random.choice(NAMES), round(random.random() * 4, 2), random.randrange(3)]
        if handler in ("reject", "poison", "ask", "tell"):
            return [token, other]
        if handler == "transfer":
            return [token, random.randrange(100)]
        return [] if handler in ("read", "$delete") else [token]

    # Doing it.

    async def _attempts(self, operation: Operation, attempts: int) -> None:
        for _ in range(attempts):
            seconds = 1.0 if self._is_unaware() else 0.5 + self.random.random() * 4
            if await self._attempt(operation, seconds):
                return
            await asyncio.sleep(self.random.random() * 0.5)
        if not operation.applied:
            self.cluster.model.given_up(operation)

    async def _attempt(self, operation: Operation, timeout: float) -> bool:
        model = self.cluster.model
        model.invoked(operation)
        flags = 0
        if operation.key is not None:  # as the real client does: a key is fresh once, and automatic for good
            flags |= FLAG_FRESH if operation.token % 2 and operation.attempts == 1 else 0
            flags |= FLAG_AUTO_KEY if operation.token % 4 == 1 else 0
        assert self.frontend is not None
        try:
            value = await self.frontend.call(
                class_of(operation.name), operation.name, operation.handler, operation.arguments, None,
                timeout=timeout, key=operation.key, flags=flags,
            )  # fmt: skip
        except DurableError as error:
            model.failed(operation, error)
            return False
        model.answered(operation, value)
        return True

    # The end.

    def finish(self, names: list[str], calls: int) -> None:
        """Stop working; then complete so many calls on each of these objects, and read it."""
        self.stopping = True
        self.wanted = list(names)
        self.loop.call_soon(lambda: self.loop.create_task(self._finish(calls)))

    async def _finish(self, calls: int) -> None:
        await self._connected.wait()
        await asyncio.gather(*self._working)
        while self.wanted:
            done = 0
            while done < calls:
                token = self.cluster.next_token()
                operation = Operation(self.name, self.wanted[0], "append", token, [token], f"key-{token}")
                done += await self._attempt(operation, 5.0)
            read = Operation(self.name, self.wanted[0], "read", 0, [], None)
            if await self._attempt(read, 5.0):
                self.wanted.pop(0)
