"""Driving a scenario and keeping the times: each caller's latency from its send to its reply."""

from __future__ import annotations

import asyncio
import statistics
import time
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import cycle
from math import ceil

from durable_bench.cpu import cpu_seconds
from durable_bench.objects import Counter
from durable_bench.scenarios import Scenario, get
from durable_engine import Engine

BUCKETS_PER_DOUBLING = 4
"""Resolution of the histogram: each bucket is 19 % wider than the one before."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles in milliseconds, exact: they are taken from all calls, not from the histogram."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    histogram: dict[str, int]
    """Upper bound of each bucket in milliseconds, to the calls in it."""

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Latency:
        ordered = sorted(seconds)
        return cls(
            p50_ms=_percentile(ordered, 0.5),
            p90_ms=_percentile(ordered, 0.9),
            p99_ms=_percentile(ordered, 0.99),
            p999_ms=_percentile(ordered, 0.999),
            max_ms=_percentile(ordered, 1.0),
            histogram=_histogram(ordered),
        )


@dataclass(frozen=True, slots=True)
class Repetition:
    calls: int
    seconds: float
    latency: Latency
    client_us: float
    """Processor time of the client for each call, in microseconds."""
    shards_us: float
    """The same of the shard processes, their threads included, but not of PostgreSQL."""

    @property
    def per_second(self) -> float:
        return self.calls / self.seconds


@dataclass(frozen=True, slots=True)
class Measurement:
    """All repetitions of one scenario on one store."""

    scenario: Scenario
    store: str
    in_flight: int
    repetitions: list[Repetition]
    verified_calls: int
    """Acknowledged increments, warm-up included, that were then found in the objects; 0 for reads."""

    @property
    def per_second(self) -> float:
        """Median over the repetitions."""
        return self.median(lambda repetition: repetition.per_second)

    @property
    def spread(self) -> float:
        """(fastest - slowest) / median: what part of a difference may be noise."""
        rates = [repetition.per_second for repetition in self.repetitions]
        return (max(rates) - min(rates)) / self.per_second

    def median(self, of: Callable[[Repetition], float]) -> float:
        """Median over the repetitions of any figure."""
        return statistics.median(map(of, self.repetitions))


class LostIncrement(AssertionError):
    """The objects do not add up to what was acknowledged, so the figures mean nothing."""


async def measure(
    engine: Engine, scenario: Scenario, store: str, *, in_flight: int, repetitions: int, seconds: float
) -> Measurement:
    """Warm up for half a repetition, measure `repetitions` times, and verify what was acknowledged."""
    counters = [engine.at(Counter, object_id) for object_id in scenario.ids()]
    before = await _total(counters)
    shards = [shard.pid for shard in (await engine.statistics()).shards]
    warm_up = await drive(counters, scenario, in_flight, seconds / 2, shards)
    measured = [await drive(counters, scenario, in_flight, seconds, shards) for _ in range(repetitions)]
    acknowledged = sum(repetition.calls for repetition in (warm_up, *measured)) if scenario.writes else 0
    found = await _total(counters) - before
    if found != acknowledged:
        raise LostIncrement(f"{scenario.name} on {store}: {acknowledged} acknowledged, {found} found")
    return Measurement(scenario, store, in_flight, measured, acknowledged)


async def drive(
    counters: list[Counter], scenario: Scenario, in_flight: int, seconds: float, shards: list[int]
) -> Repetition:
    """`in_flight` callers take turns over the objects until the time is over; `shards` are process ids."""
    waiting, operation, clock = cycle(counters), scenario.operation, time.perf_counter
    latencies = array("d")
    cpu_client, cpu_shards = time.process_time(), cpu_seconds(shards)
    begun = clock()
    end = begun + seconds

    async def caller() -> None:
        sent = clock()
        while sent < end:
            await operation(next(waiting))
            replied = clock()
            latencies.append(replied - sent)
            sent = replied

    async with asyncio.TaskGroup() as callers:
        for _ in range(in_flight):
            callers.create_task(caller())
    elapsed = clock() - begun
    calls = len(latencies)
    client_us = (time.process_time() - cpu_client) / calls * 1e6
    shards_us = (cpu_seconds(shards) - cpu_shards) / calls * 1e6
    return Repetition(calls, elapsed, Latency.of(latencies), client_us, shards_us)


async def _total(counters: list[Counter]) -> int:
    return sum(await asyncio.gather(*(get(counter) for counter in counters)))


def _percentile(ordered: list[float], rank: float) -> float:
    return ordered[max(0, ceil(rank * len(ordered)) - 1)] * 1e3


def _histogram(ordered: list[float]) -> dict[str, int]:
    """Buckets from 10 microseconds up, each a fixed factor wider."""
    buckets: dict[str, int] = {}
    factor, bound = 2 ** (1 / BUCKETS_PER_DOUBLING), 10e-6
    for value in ordered:
        while value > bound:
            bound *= factor
        label = f"{bound * 1e3:.3f}"
        buckets[label] = buckets.get(label, 0) + 1
    return buckets
