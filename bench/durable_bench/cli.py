"""`durable-engine bench`: the command. The engine's command line finds it by its entry point, and imports this module
to show it; so whatever is heavy is imported when it runs.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from durable_engine.extras import require
from durable_engine.output import Failure, Output

if TYPE_CHECKING:
    from durable_bench.results import Results

TABLE_COLUMNS = 130
"""What the tables need; on a narrower screen their lines wrap rather than lose digits."""
STORES = ("sqlite", "postgres")


class Numbers(click.ParamType):  # type: ignore[type-arg] # generic since click 8.5
    """Numbers above 0, separated by commas."""

    name = "numbers"

    def __init__(self, kind: type[int] | type[float]) -> None:
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Read what was typed."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(map(self._kind, str(value).split(",")))
        except ValueError:
            numbers = ()
        if not numbers or min(numbers) <= 0:
            what = "whole numbers" if self._kind is int else "numbers"
            self.fail(f"{value!r} must be {what} above 0, separated by commas", param, ctx)
        return numbers


class Words(click.ParamType):  # type: ignore[type-arg] # generic since click 8.5
    """Some of a few words, separated by commas."""

    name = "words"

    def __init__(self, known: tuple[str, ...]) -> None:
        self._known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Read what was typed."""
        words = value if isinstance(value, tuple) else tuple(str(value).split(","))
        for word in words:
            if word not in self._known:
                self.fail(f"there is no {word!r}; there are {', '.join(self._known)}", param, ctx)
        return words


@click.command()
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO...]")
@click.option("--list", "listing", is_flag=True, help="Say what there is to measure, and stop.")
@click.option(
    "--stores",
    type=Words(STORES),
    default=STORES,
    show_default=",".join(STORES),
    metavar="KIND,...",
    help="Stores, one after the other.",
)
@click.option(
    "--postgres", metavar="URL", help="An empty PostgreSQL database of yours; else a server is started for the run."
)
@click.option(
    "--repetitions",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    metavar="N",
    help="Of each scenario; figures are their medians.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="Of each repetition; the warm-up before takes half of it.",
)
@click.option(
    "--in-flight",
    type=Numbers(int),
    metavar="N,...",
    help="Callers at once, several for a sweep; else as each scenario says.",
)
@click.option(
    "--rate",
    "rates",
    type=Numbers(float),
    metavar="N,...",
    help="Open loop: so many calls a second on a schedule, several for a sweep.",
)
@click.option(
    "--arrivals",
    type=click.Choice(["constant", "poisson"]),
    default="constant",
    show_default=True,
    help="Of an open loop: evenly, or at random.",
)
@click.option(
    "--shards",
    type=Numbers(int),
    default=(1,),
    show_default="1",
    metavar="N,...",
    help="Shard processes, several for a sweep.",
)
@click.option(
    "--clients",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Client processes that share the load; 1 is this one.",
)
@click.option("--objects", type=click.IntRange(1), metavar="N", help="Objects of each scenario; else as each one says.")
@click.option(
    "--alarms", type=click.IntRange(1), default=10_000, show_default=True, metavar="N", help="Alarms that are set."
)
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Of all random choices.")
@click.option("--bind", metavar="URL", help="Address of the server; else a unix socket.")
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the stores rest, whose disk is measured; else a temporary folder.",
)
@click.option(
    "--json",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where the results go; else bench-results/<time>.json.",
)
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Measure nothing, and show the results that are in this file.",
)
@click.option(
    "--baseline",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Compare with the results in this file.",
)
@click.option(
    "--charts", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Draw charts into this folder."
)
@click.option(
    "--chart-format", type=click.Choice(["svg", "png"]), default="svg", show_default=True, help="Of the charts."
)
@click.pass_obj
def bench(output: Output, /, scenarios: tuple[str, ...], listing: bool, **options: Any) -> None:
    """Measure the engine on this machine: throughput, latency, alarms and memory.

    SCENARIO is the name of a scenario or of a group of them, `core` when none is given; --list shows what there is.
    Each commit is on disk before its reply, and after each scenario its objects must show all that was acknowledged.
    """

    output.as_json = False  # --json names a file here: what is told meanwhile, and an error, is for people
    require("bench")
    from durable_bench.errors import BenchError

    try:
        if listing:
            _list()
        else:
            _measure(output, scenarios, **options)
    except BenchError as error:
        raise Failure(str(error), kind=type(error).__name__) from None


def _list() -> None:
    from durable_bench.scenarios import GROUPS, titles

    for name, title in titles().items():
        click.echo(f"{name:16} {title}")
    click.echo("\nand the groups:\n")
    for name, members in GROUPS.items():
        click.echo(f"{name:16} {', '.join(members)}" if name != "all" else f"{name:16} everything")


def _measure(
    output: Output,
    scenarios: tuple[str, ...],
    *,
    source: Path | None,
    path: Path | None,
    baseline: Path | None,
    charts: Path | None,
    chart_format: str,
    **options: Any,
) -> None:
    from durable_bench import results as kept

    # Read and looked for before anything is measured, so that a mistake does not cost a run.
    if charts is not None:
        require("bench", "matplotlib")
    before = kept.read(baseline) if baseline is not None else None
    if source is not None:
        results = kept.read(source)
    else:
        results = _run(output, scenarios, options)
        path = path or Path("bench-results") / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}.json"
    _show(results, before)
    if path is not None:
        kept.write_json(path, results.document())
        output.note(f"written to {path}")
    if charts is not None:
        from durable_bench.charts import draw

        for chart in draw(results, charts, chart_format):
            output.note(f"drawn: {chart}")


def _run(output: Output, scenarios: tuple[str, ...], options: dict[str, Any]) -> Results:
    import uvloop

    from durable_bench.runner import Plan, Run
    from durable_bench.scenarios import resolved

    try:
        names = resolved(scenarios)
    except LookupError as error:
        raise click.UsageError(str(error.args[0])) from None
    given = {name: value for name, value in options.items() if value is not None}
    return uvloop.run(Run(Plan(names, **given), output.note).run())


def _show(results: Results, before: Results | None) -> None:
    from rich.console import Console

    from durable_bench.report import tables

    console = Console()
    console.width = max(console.width, TABLE_COLUMNS)
    for table in tables(results, before):
        console.print(table)
        console.print()
