"""The worker of durable-engine itself: its awaiting, typed, public interface. Argument: the URL of the server."""

from __future__ import annotations

import sys

import uvloop

from durable_bench.objects import Counter
from durable_bench.peers.workers.closed_loop import serve, take_stdout
from durable_engine import Engine


class Counters:
    """References are made once for each id, as programs do that keep them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def add(self, object_id: str, /) -> int:
        return await self._engine.at(Counter, object_id).increment()

    async def read(self, object_id: str, /) -> int:
        return await self._engine.at(Counter, object_id).get()


async def main(url: str, results: int) -> None:
    """Until the harness closes the pipe."""
    async with Engine.connect(url) as engine:
        await serve(Counters(engine), results)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], take_stdout()))
