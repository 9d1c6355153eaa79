"""A shard in a process of its own that says what objects weigh: `python -m durable_bench.weigh live 100000 DIRECTORY`.

It is the shard of a server without its sockets. The clock is moved by hand, so that objects hibernate when they are
told to, a thousand at a time: what a crowd of live ones had taken before would not all be given back.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from datetime import timedelta
from pathlib import Path

import uvloop

from durable_bench.objects import Counter
from durable_shards.clock import ManualClock
from durable_shards.peers import FuturePeer
from durable_shards.registry import Registry
from durable_shards.shard import Shard
from durable_shards.shard_settings import ShardSettings
from durable_shards.spec import spec_of
from durable_shards.wire import Call
from durable_storage.store import Claim
from durable_storage.urls import open_control, open_store

STATES = ("live", "hibernated")
PORTION = 1_000
WARM_UP = 5_000
"""Objects that are there before the first weighing: by then caches and pools have their size."""
IDLE_SECONDS = 600.0
TIMEOUT_MS = 60_000
_MEMORY_BYTES_MAX = 1 << 40
_STORED_NAME = spec_of(Counter).name


async def weigh(state: str, objects: int, directory: str) -> int:
    """By how many bytes of resident memory a shard grows with so many objects."""
    url = f"sqlite:///{directory}"
    control, clock = open_control(url), ManualClock()
    await control.prepare(shards=1, migrate=None)
    settings = ShardSettings(memory_bytes_max=_MEMORY_BYTES_MAX)
    shard = Shard(Registry.load([Counter]), open_store(url), settings, clock=clock)
    await shard.start(Claim("shard-0", "bench", os.getpid(), "", 0, 1))
    try:
        await _fill(shard, clock, range(WARM_UP), state)
        before = resident_bytes()
        await _fill(shard, clock, range(WARM_UP, WARM_UP + objects), state)
        grown = resident_bytes() - before
        there = dict(zip(STATES, shard.directory.counts(), strict=True))
    finally:
        await shard.close()
        await control.close()
    if there[state] != WARM_UP + objects:
        raise AssertionError(f"{WARM_UP + objects} objects should be {state}, but there are {there}")
    return grown


def resident_bytes() -> int:
    """Of this process, without what waits for the garbage collector; Linux."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _fill(shard: Shard, clock: ManualClock, numbers: range, state: str) -> None:
    for first in range(numbers.start, numbers.stop, PORTION):
        await _create(shard, range(first, min(first + PORTION, numbers.stop)))
        if state == "hibernated":
            clock.advance(timedelta(seconds=IDLE_SECONDS))
            shard.idle.sweep()


async def _create(shard: Shard, numbers: range) -> None:
    """Count each of these objects up once, in one message."""
    loop = asyncio.get_running_loop()
    answers = [loop.create_future() for _ in numbers]
    for number, answer in zip(numbers, answers, strict=True):
        call = Call(number, _STORED_NAME, f"object-{number}", "increment", [], TIMEOUT_MS)
        loop.call_soon(shard.receive, FuturePeer(answer), [call])
    await asyncio.gather(*answers)


if __name__ == "__main__":
    print(uvloop.run(weigh(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
