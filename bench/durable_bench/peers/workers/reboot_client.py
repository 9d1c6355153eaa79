"""The worker of Reboot: the generated client in Python, over gRPC. Argument: the URL of the application."""

from __future__ import annotations

import asyncio
import sys

from counter.v1.counter_rbt import Counter
from reboot.aio.external import ExternalContext

from durable_bench.peers.workers.closed_loop import serve, take_stdout


class Counters:
    """One context, and with it one channel, for all callers."""

    def __init__(self, url: str) -> None:
        self._context = ExternalContext(name="durable-bench", url=url)

    async def add(self, object_id: str, /) -> int:
        return int((await Counter.ref(object_id).add(self._context, amount=1)).count)

    async def read(self, object_id: str, /) -> int:
        return int((await Counter.ref(object_id).count(self._context)).count)


async def main(url: str, results: int) -> None:
    """Until the harness closes the pipe."""
    await serve(Counters(url), results)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], take_stdout()))
