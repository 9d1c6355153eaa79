"""A client process: `python -m tests.chaos.client FOLDER ENDPOINT CLIENT SEED IN_FLIGHT`.

It reads one command a line from its standard input and answers each with a line of JSON. It ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

from durable_engine import Engine
from durable_engine.frontend import Frontend
from durable_storage.address import partition_of, partitions_of_shard
from tests.chaos.limits import is_exactly_once
from tests.chaos.records import Recorder
from tests.chaos.workload import Plan, Workload

CALLS_OF_A_PROBE = 5
CONNECT_SECONDS = 60.0


class Client:
    """The loop of one process."""

    def __init__(self, engine: Engine, record: Recorder, client: int, seed: int, in_flight: int) -> None:
        self._engine = engine
        self._record = record
        self._client = client
        self._in_flight = in_flight
        chance = random.Random(f"{seed}-{client}")
        self._workload = Workload(engine, record, client, chance, exactly_once=is_exactly_once(client))
        self._going = asyncio.Event()
        self._ended = False
        self._workers: list[asyncio.Task[None]] = []
        self._probed = 0

    async def serve(self) -> None:
        """Carry out commands until the input ends."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._in_flight)]
        try:
            while line := await reader.readline():
                command, *arguments = json.loads(line)
                do: Callable[..., Awaitable[Any]] = getattr(self, f"do_{command}")
                say(await do(*arguments))
        finally:
            self._record.flush()
            for worker in self._workers:
                worker.cancel()

    async def _work(self) -> None:
        try:
            while await self._going.wait() and not self._ended:
                await self._workload.step()
        except Exception as error:
            print(f"a worker ended: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)  # a client that works less than it says would hide what it was to find

    async def do_go(self) -> None:
        """Begin, or go on; answers after the next success."""
        before = self._workload.counts.acknowledged
        self._going.set()
        await self._until(lambda: self._workload.counts.acknowledged > before)

    async def do_pause(self) -> None:
        """Begin no operation; answers when none is in flight."""
        self._going.clear()
        await self._until(lambda: not self._workload.counts.in_flight)
        self._record.flush()

    async def do_work(self, operations: int) -> None:
        """Go on until so many more were acknowledged, and pause."""
        goal = self._workload.counts.acknowledged + operations
        self._going.set()
        await self._until(lambda: self._workload.counts.acknowledged >= goal)
        await self.do_pause()

    async def do_lanes(self) -> dict[str, list[int]]:
        """Which objects are in use."""
        return self._workload.generations

    async def do_follow(self, lanes: dict[str, list[int]]) -> None:
        """Use these."""
        self._workload.generations = lanes

    async def do_progress(self) -> dict[str, Any]:
        """The counts so far."""
        counts = self._workload.counts
        return {
            "calls": counts.calls,
            "replies": counts.replies,
            "errors": counts.errors,
            "in_flight": counts.in_flight,
            "acknowledged": counts.acknowledged,
            "unknown": counts.unknown,
            "kinds": dict(counts.kinds),
        }

    async def do_probe(self, calls: int = CALLS_OF_A_PROBE) -> list[tuple[int, int, float]]:
        """So many calls to each shard, one after the other: (shard, completed, seconds)."""
        return list(await asyncio.gather(*(self._probe(shard, calls) for shard in self._shards())))

    async def do_finish(self, seconds: float) -> list[tuple[int, int, float]]:
        """Begin nothing new, settle what is keyed, probe all shards, and write everything down."""
        self._workload.until = time.monotonic() + seconds
        self._ended = True
        self._going.set()
        probes = await self.do_probe()
        await asyncio.gather(*self._workers)
        self._record.flush()
        return probes

    async def do_counts(self) -> dict[str, int]:
        """What the engine of this client has counted by itself."""
        backend = self._engine._opened()
        assert isinstance(backend, Frontend)
        counts = backend.statistics()
        return {"calls": counts.calls, "errors": counts.errors, "in_flight": counts.in_flight}

    async def _until(self, is_so: Callable[[], bool]) -> None:
        """Looks after each operation."""
        while not is_so():
            self._workload.settled.clear()
            await self._workload.settled.wait()

    def _shards(self) -> list[int]:
        return self._engine._opened().shard_numbers

    async def _probe(self, shard: int, calls: int) -> tuple[int, int, float]:
        begun, completed = time.monotonic(), 0
        object_id = self._id_in(shard)
        while completed < calls and time.monotonic() < self._workload.until:
            keyed = not is_exactly_once(self._client)
            op = await self._workload.perform(Plan("Log", 0, "append"), object_id, keyed=keyed)
            if op.outcome == "ok":
                completed += 1
            else:
                await self._workload.breathe()
        return shard, completed, time.monotonic() - begun

    def _id_in(self, shard: int) -> str:
        """A log that nobody has used, in that shard."""
        partitions = partitions_of_shard(shard, len(self._shards()))
        while True:
            self._probed += 1
            object_id = f"probe-{self._client}-{self._probed}"
            if partition_of("", "Log", object_id) in partitions:
                return object_id


def say(answer: Any) -> None:
    """One line to whoever started this process."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def main() -> None:
    folder, endpoint, client, seed, in_flight = sys.argv[1:]
    record = Recorder(Path(folder), int(client))
    exactly_once = is_exactly_once(int(client))
    async with Engine.connect(endpoint, exactly_once=exactly_once, timeout=CONNECT_SECONDS) as engine:
        await Client(engine, record, int(client), int(seed), int(in_flight)).serve()
    record.close()


if __name__ == "__main__":
    uvloop.run(main())
