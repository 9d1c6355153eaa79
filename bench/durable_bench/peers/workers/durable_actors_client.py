"""The worker of durable-actors: the generated async client, over HTTP. Argument: the URL of the control plane."""

from __future__ import annotations

import asyncio
import sys

from durable_actors import AsyncClient
from generated import async_actors

from durable_bench.peers.workers.closed_loop import serve, take_stdout


class Counters:
    """One client, and with it one pool of connections, for all callers."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def add(self, object_id: str, /) -> int:
        return int(await async_actors.Counter.get(object_id, self._client).add(1))

    async def read(self, object_id: str, /) -> int:
        return int(await async_actors.Counter.get(object_id, self._client).read())


async def main(url: str, results: int) -> None:
    """Until the harness closes the pipe."""
    async with AsyncClient(url) as client:
        await serve(Counters(client), results)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], take_stdout()))
