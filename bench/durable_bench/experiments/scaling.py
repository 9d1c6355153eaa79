"""Scaling: the same load, spread over client processes, on 1, 2, 4 and 8 shards, and where the bottleneck goes.

Beside calls per second the table has the processor time that a call costs in the clients, the shards and the
database, and how busy the machine and the busiest shard were. The bottleneck is named from that: a machine whose
processors are all busy, a shard that takes a whole core, or else neither, and then calls wait for the disk or for each
other.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from durable_bench.clients import Load, clients
from durable_bench.cpu import cpu_seconds
from durable_bench.errors import LostUpdate
from durable_bench.experiments.outcome import Curve, Note, Outcome, Picture, Sheet
from durable_bench.experiments.processor import Cpu, postmaster_of
from durable_bench.experiments.stage import Stage, stage
from durable_bench.load import Sample
from durable_bench.results import Figure
from durable_bench.workloads import WORKLOADS, Share

if TYPE_CHECKING:
    from durable_bench.runner import Plan

TITLE: Final = "calls per second against shards, and where the bottleneck goes"
SHARDS: Final = (1, 2, 4, 8)
CLIENTS: Final = 2
WORKLOAD: Final = "spread"
BUSY: Final = 0.9
"""Of a core, or of the machine: as good as all of it."""
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Point:
    """One repetition on one number of shards."""

    sample: Sample
    shard_us: float
    """Processor time of all shards for each call, in microseconds."""
    database_us: float
    busiest_shard: float
    """Cores that the busiest shard process took."""
    machine: float
    """Part of all processors' time in which they were not idle, whoever kept them busy."""

    @property
    def bottleneck(self) -> str:
        """In words."""
        if self.machine >= BUSY:
            parts = {"clients": self.sample.client_us, "shards": self.shard_us, "database": self.database_us}
            return f"processors, most by the {max(parts, key=lambda name: parts[name])}"
        return "the busiest shard" if self.busiest_shard >= BUSY else "waiting: disk, locks, switches"


async def run(plan: Plan, note: Note) -> list[Outcome]:
    """On each store of the plan. Raises BenchError."""
    outcomes = []
    for store in plan.stores:
        points: dict[int, list[Point]] = {}
        for shards in SHARDS if tuple(plan.shards) == (1,) else plan.shards:
            note(f"{store}: scaling, {shards} shards ...")
            async with stage(plan, store, shards=shards) as here:
                points[shards] = await _points(plan, here)
        outcomes.append(outcome(store, _clients(plan), points))
    return outcomes


def _clients(plan: Plan) -> int:
    return plan.clients if plan.clients > 1 else CLIENTS


async def _points(plan: Plan, here: Stage) -> list[Point]:
    workload = WORKLOADS[WORKLOAD](Share(seed=plan.seed), plan.objects)
    await workload.prepare(here.engine)
    in_flight = plan.in_flight[0] if plan.in_flight else workload.in_flight
    load = Load(in_flight, None, plan.seconds)
    pids = await here.pids()
    database = Cpu(postgres=postmaster_of(here.directory))
    points = []
    async with clients(workload, here.url, here.directory, count=_clients(plan), shards=pids) as callers:
        await callers.run(Load(in_flight, None, plan.seconds / 2))
        for _ in range(plan.repetitions):
            before = [cpu_seconds([pid]) for pid in pids]
            theirs, busy, begun = database.seconds(), _busy_seconds(), time.perf_counter()
            sample = await callers.run(load)
            took = time.perf_counter() - begun
            each = [cpu_seconds([pid]) - earlier for pid, earlier in zip(pids, before, strict=True)]
            points.append(
                Point(
                    sample=sample,
                    shard_us=sum(each) / sample.calls * 1e6,
                    database_us=(database.seconds() - theirs) / sample.calls * 1e6,
                    busiest_shard=max(each) / took,
                    machine=(_busy_seconds() - busy) / took / (os.cpu_count() or 1),
                )
            )
    if await workload.verify() == 0:
        raise LostUpdate("scaling: nothing was acknowledged")
    return points


def _busy_seconds() -> float:
    """Of all processors since the machine was started."""
    words = Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    user, nice, system, _, _, irq, softirq, steal = map(int, words[:8])
    return (user + nice + system + irq + softirq + steal) / _TICKS_PER_SECOND


def outcome(store: str, count: int, points: dict[int, list[Point]]) -> Outcome:
    """The table and the curves."""
    sheet = Sheet(
        f"increments over 1,000 objects, {count} client processes; processor time in µs for each call",
        ["store", "shards", "calls/s", "spread", "p99 ms", "clients", "shards", "database", "busiest shard", "machine"],
        [],
    )
    rates: list[Figure] = []
    findings: list[str] = []
    figures: dict[str, list[float]] = {}
    for shards, ones in points.items():
        rate = Figure([one.sample.per_second for one in ones])
        rates.append(rate)
        sheet.rows.append(
            [
                store,
                str(shards),
                f"{rate.median:,.0f}",
                f"±{rate.spread / 2:.0%}",
                f"{Figure([one.sample.histogram.percentile_ms(99.0) for one in ones]).median:.2f}",
                f"{Figure([one.sample.client_us for one in ones]).median:.1f}",
                f"{Figure([one.shard_us for one in ones]).median:.1f}",
                f"{Figure([one.database_us for one in ones]).median:.1f}",
                f"{Figure([one.busiest_shard for one in ones]).median:.0%}",
                f"{Figure([one.machine for one in ones]).median:.0%}",
            ]
        )
        middle = sorted(ones, key=lambda one: one.sample.per_second)[len(ones) // 2]
        findings.append(f"{shards} shards: the bottleneck is {middle.bottleneck}")
        figures |= {
            f"{shards}.per_second": list(rate.values),
            f"{shards}.client_us": [one.sample.client_us for one in ones],
            f"{shards}.shard_us": [one.shard_us for one in ones],
            f"{shards}.database_us": [one.database_us for one in ones],
        }
    curve = Curve.of("calls per second", [float(shards) for shards in points], rates)
    picture = Picture(f"scaling-{store}", f"Scaling, {store}", "shards", "calls per second", [curve], log_x=True)
    return Outcome("scaling", store, [sheet], [picture], findings, figures)
