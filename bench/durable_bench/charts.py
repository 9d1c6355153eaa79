"""Charts of a run by matplotlib: throughput, latency by percentile, and both against load, rate and shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, NullLocator

from durable_bench.experiments import pictures
from durable_bench.results import Measurement, Results

T = TypeVar("T")

FORMATS: Final = ("svg", "png")
AXES: Final = {"in_flight": "calls in flight", "shards": "shards", "rate": "calls offered per second"}
LATENCIES: Final = {"p50_ms": "p50", "p99_ms": "p99", "p999_ms": "p99.9"}
STYLES: Final = ("-", "--", ":")
PERCENTS: Final = (50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99)
# The same run gives the same bytes, so that a chart under version control changes only with its figures.
_STEADY: Final[Any] = {"svg.hashsalt": "durable-bench", "svg.fonttype": "none"}


def draw(results: Results, folder: Path, kind: str = "svg") -> list[Path]:
    """Write all charts that the results are enough for; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with mpl.rc_context(_STEADY):
        for name, canvas in _charts(results):
            layout = canvas.get_layout_engine()
            assert isinstance(layout, ConstrainedLayoutEngine)
            layout.set(rect=(0, 0.03, 1, 0.97))  # room for the line below
            canvas.text(0.995, 0.005, _place(results), ha="right", va="bottom", fontsize=6, color="gray")
            path = folder / f"{name}.{kind}"
            canvas.savefig(path, metadata={"Date": None} if kind == "svg" else {}, dpi=150)
            written.append(path)
    return written


def _charts(results: Results) -> Iterable[tuple[str, Canvas]]:
    measured = results.measurements
    yield from pictures.charts(results.experiments)
    points = _first_of_each(measured)
    if points:
        yield "throughput", _throughput(points)
    for store in _distinct(one.store for one in points):
        yield f"latency-{store}", _percentiles([one for one in points if one.store == store], store)
    for scenario in _distinct(one.scenario for one in measured):
        ours = [one for one in measured if one.scenario == scenario]
        for name, title in AXES.items():
            chosen = [one for one in ours if (one.rate is None) == (name != "rate")]
            if len({getattr(one, name) for one in chosen}) > 1:
                yield f"{scenario}-{name.replace('_', '-')}", _against(scenario, name, title, chosen)


def _throughput(points: Sequence[Measurement]) -> Canvas:
    canvas = Canvas(figsize=(max(5.0, 0.8 * len(points)), 4.0), layout="constrained")
    axes = canvas.subplots()
    stores = _distinct(one.store for one in points)
    scenarios = _distinct(one.scenario for one in points)
    width = 0.8 / len(stores)
    for number, store in enumerate(stores):
        ours = [one for one in points if one.store == store]
        medians = [one.rates.median for one in ours]
        places = [scenarios.index(one.scenario) + (number - (len(stores) - 1) / 2) * width for one in ours]
        bars = axes.bar(places, medians, width, label=store, yerr=_reach(ours), capsize=3)
        axes.bar_label(bars, [f"{median:,.0f}" for median in medians], padding=3, fontsize=6)
    axes.set_xticks(range(len(scenarios)), scenarios, rotation=30 if len(scenarios) > 5 else 0)
    axes.set_ylabel("acknowledged calls per second")
    axes.set_title("Throughput: median, slowest and fastest repetition")
    _finish(axes)
    return canvas


def _percentiles(points: Sequence[Measurement], store: str) -> Canvas:
    canvas = Canvas(figsize=(7.5, 4.5), layout="constrained")
    axes = canvas.subplots()
    for number, one in enumerate(points):
        histogram = one.histogram
        # Percentiles that fewer than ten calls lie beyond would be those of single calls.
        percents = [percent for percent in PERCENTS if histogram.count * (100 - percent) / 100 >= 10]
        axes.plot(
            [1 / (1 - percent / 100) for percent in percents],
            [histogram.percentile_ms(percent) for percent in percents],
            STYLES[number // 10 % len(STYLES)],
            color=f"C{number % 10}",
            marker=".",
            label=f"{one.scenario} ({one.load})",
        )
    axes.set_xscale("log")
    shown = (50.0, 90.0, 99.0, 99.9, 99.99)
    axes.set_xticks([1 / (1 - percent / 100) for percent in shown], [f"{percent:g} %" for percent in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("part of the calls")
    axes.set_ylabel("latency in ms")
    axes.set_title(f"Latency by percentile, {store}, all repetitions")
    _logarithmic(axes)
    _finish(axes, legend=False)
    canvas.legend(loc="outside right upper", fontsize=7, frameon=False)
    return canvas


def _against(scenario: str, axis: str, title: str, points: Sequence[Measurement]) -> Canvas:
    """Throughput above, latencies below, a line for each store and whatever else tells the points apart."""
    canvas = Canvas(figsize=(6.5, 6.0), layout="constrained")
    rates, latencies = canvas.subplots(2, 1, sharex=True)
    x: Callable[[Measurement], float] = attrgetter(axis)
    others: Callable[[Measurement], tuple[Any, ...]] = attrgetter("store", *(name for name in AXES if name != axis))
    for number, key in enumerate(_distinct(map(others, points))):
        line = sorted((one for one in points if others(one) == key), key=x)
        colour, places = f"C{number % 10}", [x(one) for one in line]
        rates.errorbar(
            places,
            [one.rates.median for one in line],
            yerr=_reach(line),
            marker=".",
            capsize=3,
            color=colour,
            label=_label(line[0], axis, points),
        )
        for (name, _), style in zip(LATENCIES.items(), STYLES, strict=True):
            medians = [one.latency(name).median for one in line]
            latencies.plot(places, medians, style, marker=".", color=colour)
    rates.set_ylabel("acknowledged calls per second")
    rates.set_title(f"{scenario}: {points[0].title}", fontsize=10)
    latencies.set_ylabel("latency in ms")
    latencies.set_xlabel(title)
    rates.set_xscale("log", base=2)
    ticks = sorted({x(one) for one in points})
    latencies.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
    latencies.xaxis.set_minor_locator(NullLocator())
    # The colours are those of the chart above: what is to be told here is which line is which percentile.
    for percentile, style in zip(LATENCIES.values(), STYLES, strict=True):
        latencies.plot([], [], style, color="gray", label=percentile)
    _logarithmic(latencies)
    _finish(rates)
    _finish(latencies)
    return canvas


def _reach(points: Sequence[Measurement]) -> list[list[float]]:
    """How far the slowest and the fastest repetition are from the median."""
    down = [one.rates.median - min(one.rates.values) for one in points]
    return [down, [max(one.rates.values) - one.rates.median for one in points]]


def _logarithmic(axes: Axes) -> None:
    """Milliseconds as plain numbers, three in each decade."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def _label(one: Measurement, axis: str, points: Sequence[Measurement]) -> str:
    """Its store, and whatever else is not the same for all points."""
    told = [one.store]
    for name, title in AXES.items():
        if name != axis and len({getattr(point, name) for point in points}) > 1:
            told.append(f"{title}: {getattr(one, name):,g}")
    return ", ".join(told)


def _finish(axes: Axes, *, legend: bool = True) -> None:
    axes.grid(visible=True, axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if legend:
        axes.legend(fontsize=7, frameon=False)
    if axes.get_yscale() == "linear":
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _first_of_each(measured: Sequence[Measurement]) -> list[Measurement]:
    """Of a sweep the point with the highest throughput stands for the scenario on its store."""
    best: dict[tuple[str, str], Measurement] = {}
    for one in measured:
        known = best.get((one.scenario, one.store))
        if known is None or one.rates.median > known.rates.median:
            best[one.scenario, one.store] = one
    return list(best.values())


def _distinct(values: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(values))


def _place(results: Results) -> str:
    about = results.machine
    return f"{about.get('processor')}, {about.get('cores')} cores, Python {about.get('python')}, {results.at}"
