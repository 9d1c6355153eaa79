"""The client's part of a call: typed reference, future, frame, reply, and the caller that goes on.

Callers in a closed loop on the engine's own frontend, with a wire that answers every message at once. The clock stands
while the answer is being made.
"""

from __future__ import annotations

import asyncio
from itertools import cycle
from time import thread_time_ns

from durable_bench.experiments.bench_network import Wireless
from durable_bench.objects import Counter
from durable_engine.backend import Backend
from durable_engine.calling import Calling
from durable_engine.frontend import Frontend
from durable_shards import wire


class Caller(Calling):
    """References to objects behind any backend."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(None, False, None)
        self._attach(backend)


async def client_ns(ids: list[str], in_flight: int, messages: int) -> float:
    """Processor time of this thread for each call, in nanoseconds, over so many messages of `in_flight` calls."""
    answering = _Answering(messages)
    frontend = await Frontend.connect("ipc://supervisor", network=answering.network)
    try:
        caller = Caller(frontend)
        waiting = cycle([caller.at(Counter, object_id) for object_id in ids])

        async def call() -> None:
            while not answering.over:
                await next(waiting).increment()

        answering.begin()
        await asyncio.gather(*(call() for _ in range(in_flight)))
    finally:
        frontend.close()
    return answering.busy_ns / answering.calls


class _Answering:
    """The other end."""

    def __init__(self, messages: int) -> None:
        self.network = Wireless(self._on_sent)
        self.busy_ns = 0
        self.calls = 0
        self._left = messages
        self._since = 0
        self._loop = asyncio.get_running_loop()

    @property
    def over(self) -> bool:
        return self._left <= 0

    def begin(self) -> None:
        """The clock runs."""
        self._since = thread_time_ns()

    def _on_sent(self, message: bytes) -> None:
        self.busy_ns += thread_time_ns() - self._since
        calls, _ = wire.unpack_calls(message)
        self.calls += len(calls)
        self._left -= 1
        replies = [wire.encode_value((call.id, wire.OK, 7, 7)) for call in calls]
        self._loop.call_soon(self._deliver, wire.pack_replies(1, 1, replies))
        self._since = thread_time_ns()

    def _deliver(self, replies: bytes) -> None:
        self.network.deliver(replies)
