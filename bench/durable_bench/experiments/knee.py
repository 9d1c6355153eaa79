"""The knee: how latency grows with the load that is offered.

A closed loop finds the highest throughput; then open loops offer from 10 % to 110 % of it, and latencies count from
when each call was to be sent. The knee is where Kleinrock's *power* is greatest ("Power and deterministic rules of
thumb for probabilistic problems in computer communications", ICC 1979): throughput divided by latency, the p99 here.
Below it more load costs little waiting, above it more waiting buys little load. A load that was not answered
at the rate at which it was offered is past it, whatever its latencies, and so is every load above that one.
"""

from __future__ import annotations

from itertools import cycle, takewhile
from typing import TYPE_CHECKING, Final

from durable_bench.experiments.outcome import Curve, Note, Outcome, Picture, Sheet
from durable_bench.experiments.stage import Stage, stage
from durable_bench.load import Sample, closed_loop, open_loop
from durable_bench.objects import Counter
from durable_bench.results import Figure

if TYPE_CHECKING:
    from durable_bench.runner import Plan

TITLE: Final = "latency against offered load, and its knee"
PARTS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)
OBJECTS: Final = 1_000
IN_FLIGHT: Final = 256
"""Of the closed loop that finds the highest throughput."""
KEPT_UP: Final = 0.97
"""Part of the offered rate that must have been answered."""


async def run(plan: Plan, note: Note) -> list[Outcome]:
    """On each store of the plan. Raises BenchError."""
    outcomes = []
    for store in plan.stores:
        async with stage(plan, store, shards=plan.shards[0]) as here:
            note(f"{store}: knee, {len(PARTS)} loads ...")
            highest, samples = await _samples(plan, here)
        outcomes.append(outcome(store, highest, samples))
    return outcomes


async def _samples(plan: Plan, here: Stage) -> tuple[float, dict[float, list[Sample]]]:
    """The highest throughput, and what each offered rate gave."""
    waiting = cycle([here.engine.at(Counter, f"knee-{number}") for number in range(plan.objects or OBJECTS)])
    in_flight = plan.in_flight[0] if plan.in_flight else IN_FLIGHT

    async def most() -> float:
        sample = await closed_loop(lambda: next(waiting).increment(), in_flight=in_flight, seconds=plan.seconds)
        return sample.per_second

    await most()
    highest = Figure([await most() for _ in range(plan.repetitions)]).median
    samples: dict[float, list[Sample]] = {highest * part: [] for part in PARTS}
    for repetition in range(plan.repetitions):
        for rate, ones in samples.items():
            ones.append(
                await open_loop(
                    lambda: next(waiting).increment(),
                    rate=rate,
                    seconds=plan.seconds,
                    arrivals="poisson",
                    seed=plan.seed + repetition,
                )
            )
    return highest, samples


def kept_up(rate: float, samples: list[Sample]) -> bool:
    """Whether the calls that were offered were answered at that rate."""
    return Figure([one.per_second for one in samples]).median >= KEPT_UP * rate


def knee_of(samples: dict[float, list[Sample]]) -> float | None:
    """The offered rate with the greatest power; None when not even the lowest was answered as fast as it came."""
    power = {
        rate: rate / _latency(ones, 99.0).median
        for rate, ones in takewhile(lambda one: kept_up(*one), sorted(samples.items()))
    }
    return max(power, key=lambda rate: power[rate], default=None)


def outcome(store: str, highest: float, samples: dict[float, list[Sample]]) -> Outcome:
    """The table, the curves, and the knee by name."""
    knee = knee_of(samples)
    sheet = Sheet(
        f"latency in ms against offered load; a closed loop reaches {highest:,.0f} calls/s",
        ["store", "offered", "calls/s", "answered/s", "p50", "p99", "spread", "generator late p99", ""],
        [],
        names=1,
    )
    for rate, ones in samples.items():
        p99 = _latency(ones, 99.0)
        sheet.rows.append(
            [
                store,
                f"{rate / highest:.0%}",
                f"{rate:,.0f}",
                f"{Figure([one.per_second for one in ones]).median:,.0f}",
                f"{_latency(ones, 50.0).median:.2f}",
                f"{p99.median:.2f}",
                f"±{p99.spread / 2:.0%}",
                f"{Figure([one.behind_ms for one in ones]).median:.2f}",
                "knee" if rate == knee else "" if kept_up(rate, ones) else "overload",
            ]
        )
    found = (
        f"the knee is at {knee:,.0f} calls/s, {knee / highest:.0%} of the closed loop's, with a p99 of "
        f"{_latency(samples[knee], 99.0).median:.2f} ms"
        if knee is not None
        else "there is no knee: no load was answered as fast as it was offered"
    )
    rates = list(samples)
    curves = [
        Curve.of(name, rates, [_latency(ones, percent) for ones in samples.values()])
        for name, percent in (("p50", 50.0), ("p99", 99.0))
    ]
    picture = Picture(
        f"knee-{store}",
        f"Latency against load, {store}",
        "calls offered per second",
        "latency in ms",
        curves,
        log_y=True,
    )
    figures = {f"{rate:.0f}.p99_ms": list(_latency(ones, 99.0).values) for rate, ones in samples.items()}
    return Outcome("knee", store, [sheet], [picture], [found], figures | {"highest": [highest]})


def _latency(samples: list[Sample], percent: float) -> Figure:
    return Figure([one.histogram.percentile_ms(percent) for one in samples])
