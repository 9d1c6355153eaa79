"""Fairness: what a hot object with a full mailbox does to the other objects of its shard.

A hundred quiet objects are called at a fixed rate on a schedule (an open loop), and their latencies are compared
between times in which nobody calls the hot object and times in which a crowd in a process of its own does; the two
alternate, so that what the machine does meanwhile strikes both. What is asked for is that the p99 of the quiet ones at
most doubles.

Three crowds:

- `writes`: as many callers as the mailbox holds, of a handler that changes something, each again once it is answered;
- `slow`: more callers than the mailbox holds, of an async handler that waits for something else, so that the mailbox is
  full all the time; those it has no place for are refused and try again;
- `elsewhere`: `writes`, but the hot object is in the other shard of the server. That is the measure of what the crowd
  takes from the machine: processors and disk are shared whatever a shard does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Final

from durable_bench.errors import LostUpdate
from durable_bench.experiments.hot_callers import HotCallers
from durable_bench.experiments.objects import Hot
from durable_bench.experiments.outcome import Curve, Note, Outcome, Picture, Sheet
from durable_bench.experiments.stage import Stage, ids_of_shard, stage
from durable_bench.histogram import Histogram, merged
from durable_bench.load import Sample, open_loop
from durable_bench.objects import Counter
from durable_bench.results import Figure
from durable_shards.spec import spec_of

if TYPE_CHECKING:
    from durable_bench.runner import Plan

TITLE: Final = "p99 of a shard's other objects while one of them is wanted by everybody"
QUIET: Final = 100
RATE: Final = 1_000.0
"""Calls of the quiet objects in a second."""
PAIRS_MIN: Final = 5
"""Of a calm and a loaded time."""
RATIO_MAX: Final = 2.0
SETTLE_SECONDS: Final = 0.2
"""After the crowd was told, before it is measured."""
MAILBOX: Final = spec_of(Hot).options.mailbox
PERCENTS: Final = (50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9)


@dataclass(frozen=True, slots=True)
class Variant:
    """A crowd."""

    name: str
    handler: str
    callers: int
    hot_shard: int
    """Of two; the quiet objects are in shard 0."""


VARIANTS: Final = (
    Variant("writes", "increment", MAILBOX, 0),
    Variant("slow", "increment_slowly", MAILBOX + MAILBOX // 10, 0),
    Variant("elsewhere", "increment", MAILBOX, 1),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """One calm and one loaded time, one after the other."""

    calm: Sample
    loaded: Sample
    hot_per_second: float
    refused: int

    @property
    def ratio(self) -> float:
        """Of the p99, loaded to calm."""
        return _p99(self.loaded) / _p99(self.calm)


async def run(plan: Plan, note: Note) -> list[Outcome]:
    """On each store of the plan. Raises BenchError."""
    outcomes = []
    for store in plan.stores:
        found: dict[str, list[Pair]] = {}
        async with stage(plan, store, shards=2) as here:
            for variant in VARIANTS:
                note(f"{store}: fairness, {variant.name} ...")
                found[variant.name] = await _alternate(plan, here, variant)
        outcomes.append(outcome(store, found))
    return outcomes


async def _alternate(plan: Plan, here: Stage, variant: Variant) -> list[Pair]:
    ids = ids_of_shard(spec_of(Counter).name, f"quiet-{variant.name}", QUIET, 0, here.shards)
    quiet = [here.engine.at(Counter, object_id) for object_id in ids]
    (hot,) = ids_of_shard(spec_of(Hot).name, f"hot-{variant.name}", 1, variant.hot_shard, here.shards)
    waiting = cycle(quiet)
    rate = plan.rates[0] if plan.rates else RATE

    async def time(seconds: float) -> Sample:
        return await open_loop(lambda: next(waiting).increment(), rate=rate, seconds=seconds, seed=plan.seed)

    samples = [await time(plan.seconds / 2)]  # a warm-up
    pairs = []
    callers = variant.callers * (plan.in_flight[0] if plan.in_flight else MAILBOX) // MAILBOX
    async with HotCallers.of(here.url, hot, variant.handler, callers) as crowd:
        for _ in range(max(plan.repetitions, PAIRS_MIN)):
            calm = await time(plan.seconds)
            await crowd.begin()
            begun = asyncio.get_running_loop().time()
            await asyncio.sleep(SETTLE_SECONDS)
            loaded = await time(plan.seconds)
            took = asyncio.get_running_loop().time() - begun
            counts = await crowd.pause()
            pairs.append(Pair(calm, loaded, counts["answered"] / took, counts["refused"]))
            samples += [calm, loaded]
    found = sum(await asyncio.gather(*(counter.get() for counter in quiet)))
    if found != sum(sample.calls for sample in samples):
        raise LostUpdate(f"fairness: {sum(sample.calls for sample in samples)} acknowledged, {found} found")
    return pairs


def outcome(store: str, found: dict[str, list[Pair]]) -> Outcome:
    """Tables and sentences of what the crowds did, by the names of the variants."""
    sheet = Sheet(
        "latency of quiet objects in ms, calm and while a crowd calls one hot object",
        [
            "crowd",
            "store",
            "p50 calm",
            "loaded",
            "p99 calm",
            "loaded",
            "ratio of p99",
            "from .. to",
            "hot calls/s",
            "refused",
        ],
        [],
        names=2,
    )
    curves: list[Curve] = []
    findings: list[str] = []
    figures: dict[str, list[float]] = {}
    for name, pairs in found.items():
        ratio = Figure([pair.ratio for pair in pairs])
        calm, loaded = (merged(_sides(pairs, side)) for side in ("calm", "loaded"))
        sheet.rows.append(
            [
                name,
                store,
                *(f"{each.percentile_ms(percent):.2f}" for percent in (50, 99) for each in (calm, loaded)),
                f"{ratio.median:.2f}",
                f"{min(ratio.values):.2f} .. {max(ratio.values):.2f}",
                f"{Figure([pair.hot_per_second for pair in pairs]).median:,.0f}",
                f"{sum(pair.refused for pair in pairs):,}",
            ]
        )
        curves += [_curve(f"{name}, {side}", calm if side == "calm" else loaded) for side in ("calm", "loaded")]
        figures |= _figures(name, pairs)
        findings.append(_finding(name, ratio))
    picture = Picture(
        f"fairness-{store}", f"Latency of quiet objects by percentile, {store}", "percentile", "latency in ms", curves
    )
    return Outcome("fairness", store, [sheet], [picture], findings, figures)


def _finding(name: str, ratio: Figure) -> str:
    if name == "elsewhere":
        return f"elsewhere: {ratio.median:.2f} is what the crowd takes from the machine, in whichever shard it calls"
    holds = "holds" if ratio.median <= RATIO_MAX else "does not hold"
    return (
        f"{name}: the p99 loaded is {ratio.median:.2f} times the calm one; at most {RATIO_MAX:g} is asked for: {holds}"
    )


def _figures(name: str, pairs: list[Pair]) -> dict[str, list[float]]:
    return {
        f"{name}.ratio": [pair.ratio for pair in pairs],
        f"{name}.calm_p99_ms": [_p99(pair.calm) for pair in pairs],
        f"{name}.loaded_p99_ms": [_p99(pair.loaded) for pair in pairs],
        f"{name}.hot_per_second": [pair.hot_per_second for pair in pairs],
        f"{name}.behind_ms": [pair.loaded.behind_ms for pair in pairs],
    }


def _sides(pairs: list[Pair], side: str) -> list[Histogram]:
    return [getattr(pair, side).histogram for pair in pairs]


def _curve(label: str, histogram: Histogram) -> Curve:
    ys = [histogram.percentile_ms(percent) for percent in PERCENTS]
    return Curve(label, list(PERCENTS), ys, ys, ys)


def _p99(sample: Sample) -> float:
    return sample.histogram.percentile_ms(99.0)
