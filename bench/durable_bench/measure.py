"""One scenario on one store: warm up, repeat, check the objects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from durable_bench.clients import Callers, Here, Load, clients
from durable_bench.results import Measurement, Repetition
from durable_bench.workloads import BaseWorkload
from durable_engine import Engine

WARM_UP: float = 0.5
"""Of a repetition's time."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a workload is measured."""

    store: str
    """Its kind, for the tables."""
    shards: int
    """0: in this process."""
    directory: Path
    url: str | None = None
    """Of the server; None when embedded."""


async def measure(
    workload: BaseWorkload, engine: Engine, place: Place, loads: Sequence[Load], *, repetitions: int, clients: int = 1
) -> list[Measurement]:
    """Each load in turn, with a check after each. Raises LostUpdate, and what the calls raise."""
    measured = []
    clients = clients if place.url else 1  # objects in this process can be called from here only
    await workload.prepare(engine)
    shards = [shard.pid for shard in (await engine.statistics()).shards] if place.url else []
    async with _callers(workload, place, shards, clients) as callers:
        for load in loads:
            await callers.run(replace(load, seconds=load.seconds * WARM_UP))
            samples = [await callers.run(load) for _ in range(repetitions)]
            verified = await workload.verify()
            measured.append(
                Measurement(
                    scenario=workload.name,
                    title=workload.title,
                    store=place.store,
                    shards=place.shards,
                    clients=clients,
                    in_flight=load.in_flight,
                    rate=load.rate,
                    objects=workload.objects,
                    verified=verified,
                    repetitions=[Repetition.of(sample) for sample in samples],
                    floor=_floor(workload, place, load),
                )
            )
    return measured


@asynccontextmanager
async def _callers(workload: BaseWorkload, place: Place, shards: Sequence[int], count: int) -> AsyncIterator[Callers]:
    if count == 1 or place.url is None:
        yield Here(workload, shards)
        return
    async with clients(workload, place.url, place.directory, count=count, shards=shards) as elsewhere:
        yield elsewhere


def _floor(workload: BaseWorkload, place: Place, load: Load) -> int | None:
    """What is asked of one shard under the scenario's own load."""
    own = place.shards <= 1 and load.in_flight == workload.in_flight
    return workload.floors.get(place.store) if own else None
