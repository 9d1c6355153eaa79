"""What a run says to people: tables, and how it differs from another run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from rich.box import SIMPLE
from rich.table import Table

from durable_bench.compare import Change, compare
from durable_bench.experiments import sheets
from durable_bench.results import Figure, Measurement, Punctuality, Results, Weight


def tables(results: Results, baseline: Results | None = None) -> Iterator[Table | str]:
    """Those that have lines; of experiments what they have found as well."""
    if results.measurements:
        yield table(results.measurements)
    if any(one.rate is not None for one in results.measurements):
        yield table_of_generators(results.measurements)
    if results.alarms:
        yield table_of_alarms(results.alarms)
    if results.memory:
        yield table_of_weights(results.memory)
    yield from sheets.tables(results.experiments)
    if baseline is not None:
        yield table_of_changes(compare(results, baseline))


def table(measurements: Sequence[Measurement]) -> Table:
    """Medians over the repetitions. `cpu`: client and shards, for each call. `floor`: what is asked of two cores."""
    result = _table("acknowledged calls, each commit on disk before its reply")
    for column in ("scenario", "store"):
        result.add_column(column, no_wrap=True)
    many_shards = {one.shards for one in measurements} - {0, 1}
    many_clients = {one.clients for one in measurements} - {1}
    failed = any(one.errors for one in measurements)
    optional = (("shards", many_shards), ("clients", many_clients))
    columns = ("load", "calls/s", "spread", "p50 ms", "p99 ms", "p99.9 ms", "cpu µs", "floor")
    for column in (*(name for name, shown in optional if shown), *columns, *(["errors"] if failed else [])):
        result.add_column(column, justify="right", no_wrap=True)
    for one in measurements:
        rates = one.rates
        cells = [one.scenario, one.store]
        cells += [str(one.shards)] if many_shards else []
        cells += [str(one.clients)] if many_clients else []
        cells += [
            one.load,
            _red(f"{rates.median:,.0f}", if_=one.floor is not None and rates.median < one.floor),
            f"±{rates.spread / 2:.0%}",
            *(_milliseconds(one.latency(name).median) for name in ("p50_ms", "p99_ms", "p999_ms")),
            f"{_median(one, 'client_us'):.1f}+{_median(one, 'shards_us'):.1f}",
            "" if one.floor is None else f"{one.floor:,}",
        ]
        cells += [", ".join(f"{number} {name}" for name, number in one.errors.items())] if failed else []
        result.add_row(*cells)
    return result


def table_of_generators(measurements: Sequence[Measurement]) -> Table:
    """How late open loops sent by themselves: it is part of the latencies, and ought to be a small one."""
    result = _table("open loops: how far the generator itself fell behind")
    for column in ("scenario", "store"):
        result.add_column(column, no_wrap=True)
    for column in ("offered", "answered", "late p99 ms", "max"):
        result.add_column(column, justify="right", no_wrap=True)
    for one in measurements:
        if one.rate is not None:
            late, worst = _median(one, "behind_ms"), _median(one, "behind_max_ms")
            answered = f"{one.rates.median / one.rate:.0%}"
            result.add_row(one.scenario, one.store, one.load, answered, f"{late:.2f}", f"{worst:.2f}")
    return result


def table_of_alarms(measured: Sequence[Punctuality]) -> Table:
    """Medians over the repetitions. `late`: from due to fired; `calls/s` and `p99 ms`: what callers saw meanwhile."""
    result = _table("alarms fired, each with its effect on disk")
    for column in ("scenario", "store"):
        result.add_column(column, no_wrap=True)
    for column in ("alarms", "fired/s", "spread", "late p50 ms", "p99", "max", "calls/s", "p99 ms"):
        result.add_column(column, justify="right", no_wrap=True)
    for one in measured:
        late = one.lateness("p99_ms").median
        calls = [each.calls for each in one.rounds if each.calls is not None]
        rates = one.rates
        result.add_row(
            one.scenario,
            one.store,
            f"{one.alarms:,}",
            _red(f"{rates.median:,.0f}", if_=one.floor is not None and rates.median < one.floor),
            f"±{rates.spread / 2:.0%}",
            f"{one.lateness('p50_ms').median:.1f}",
            _red(f"{late:.1f}", if_=one.late_p99_ms_max is not None and late > one.late_p99_ms_max),
            f"{one.lateness('max_ms').median:.1f}",
            f"{Figure([each.per_second for each in calls]).median:,.0f}" if calls else "",
            f"{Figure([each.latency.p99_ms for each in calls]).median:.2f}" if calls else "",
        )
    return result


def table_of_weights(weights: Sequence[Weight]) -> Table:
    """Medians over the repetitions."""
    result = _table("resident memory of small objects")
    result.add_column("scenario", no_wrap=True)
    for column in ("objects", "bytes each", "spread", "MB in all"):
        result.add_column(column, justify="right", no_wrap=True)
    for one in weights:
        each = one.bytes_each
        megabytes = each.median * one.objects / 1e6
        result.add_row(
            one.scenario, f"{one.objects:,}", f"{each.median:,.0f}", f"±{each.spread / 2:.1%}", f"{megabytes:,.1f}"
        )
    return result


def table_of_changes(changes: Sequence[Change]) -> Table:
    """Ratios of medians, and whether they mean anything."""
    result = _table("compared with the baseline, medians" if changes else "nothing here was measured in the baseline")
    for column in ("scenario", "figure"):
        result.add_column(column, no_wrap=True)
    for column in ("before", "now", "ratio", ""):
        result.add_column(column, justify="right", no_wrap=True)
    colours = {"better": "green", "worse": "red"}
    for _, lines in itertools.groupby(changes, key=lambda change: change.what):
        for first, change in zip(itertools.chain([True], itertools.repeat(False)), lines, strict=False):
            colour = colours.get(change.verdict, "dim")
            result.add_row(
                change.what if first else "",
                change.figure,
                _number(change.before.median),
                _number(change.after.median),
                f"{change.ratio:.2f}",
                f"[{colour}]{change.verdict}[/]",
            )
    return result


def _median(one: Measurement, name: str) -> float:
    return one.figure(lambda each: float(getattr(each, name))).median


def _milliseconds(value: float) -> str:
    """Down to a microsecond, where that is what a call takes: a read of an object in this process."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else _milliseconds(value)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=SIMPLE, show_edge=False, pad_edge=False)


def _red(text: str, *, if_: bool) -> str:
    return f"[red]{text}[/]" if if_ else text
