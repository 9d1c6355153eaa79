"""What most experiments need: a fresh store, a server on it, and a client of that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from durable_bench import objects as bench_objects
from durable_bench.experiments import objects as own_objects
from durable_bench.server import served
from durable_bench.stores import fresh_store, temporary_directory
from durable_engine import Engine
from durable_storage.address import partition_of, partitions_of_shard

if TYPE_CHECKING:
    from durable_bench.runner import Plan

MODULES: Final = (bench_objects.__name__, own_objects.__name__)
TIMEOUT_SECONDS: Final = 60.0
"""Of a call: longer than any queue that an overload builds up, so that latencies are measured and not cut off."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A running server."""

    engine: Engine
    store: str
    shards: int
    url: str
    """Of the server."""
    directory: Path

    async def pids(self) -> list[int]:
        """Of the shard processes, by shard."""
        return [shard.pid for shard in (await self.engine.statistics()).shards]


@asynccontextmanager
async def stage(plan: Plan, store: str, shards: int, modules: Sequence[str] = MODULES) -> AsyncIterator[Stage]:
    """For the time of the block. Raises BenchError."""
    with (
        temporary_directory(plan.directory) as directory,
        fresh_store(store, directory, plan.postgres) as store_url,
    ):
        url = plan.bind or f"ipc://{directory / 'server'}"
        async with (
            served(list(modules), store_url, directory, shards=shards, bind=url),
            Engine.connect(url, call_timeout=TIMEOUT_SECONDS) as engine,
        ):
            yield Stage(engine, store, shards, url, directory)


def ids_of_shard(object_type: str, beginning: str, count: int, shard: int, shards: int) -> list[str]:
    """So many ids of objects that all belong to one of the shards of a server."""
    ours = partitions_of_shard(shard, shards)
    found: list[str] = []
    number = 0
    while len(found) < count:
        object_id = f"{beginning}-{number}"
        if partition_of("", object_type, object_id) in ours:
            found.append(object_id)
        number += 1
    return found
