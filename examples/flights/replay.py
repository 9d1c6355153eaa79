"""Feed a day of real flights to a running server, and check every total against an independent count.

    durable-engine run examples/flights/objects.py      # in one terminal
    python -m examples.flights.replay                   # in another

or both at once, which is what `make run` does: `python -m examples.flights.replay --serve`.
The totals are checked as differences, so a store that has seen earlier replays may be fed again.
Exit code 0 when all totals agree, 1 when one does not.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from durable_engine import DurableError, Engine
from examples.flights.feed import difference, feed, read_totals
from examples.flights.serve import PORT, serving
from examples.flights.source import DAY, Flight, Row, Totals, count, read_rows

SHOWN = 5
TABLES = {
    "Carrier": ("flights", "cancelled", "delay_minutes", "air_minutes", "miles"),
    "Airport": ("departures", "arrivals", "cancelled", "departure_delay_minutes", "arrival_delay_minutes"),
}
"""Columns of the result tables; they rank from left to right."""


async def replay(engine: Engine, rows: list[Row], console: Console) -> tuple[Totals, float]:
    """Feed the flights under a progress bar; what the objects counted meanwhile, and the seconds it took."""
    addresses = count(rows)
    before = await read_totals(engine, addresses)
    started = time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("flights", total=len(rows))
        await feed(engine, map(Flight.from_row, rows), done=lambda: progress.advance(task))
    seconds = time.perf_counter() - started
    return difference(await read_totals(engine, addresses), before), seconds


def report(counted: Totals, expected: Totals, console: Console) -> bool:
    """Show the busiest objects and every mismatch; whether there was none."""
    for kind in TABLES:
        console.print(_table(kind, counted, expected))
    wrong = [address for address in expected if counted[address] != expected[address]]
    for kind, name in wrong:
        console.print(f"[red]MISMATCH[/] {kind} {name}")
        console.print(f"  engine: {dict(counted[kind, name])}")
        console.print(f"  file:   {dict(expected[kind, name])}")
    verdict = "[red]MISMATCH[/]" if wrong else "[green]OK[/]"
    right = len(expected) - len(wrong)
    console.print(f"{verdict}: {right} of {len(expected)} aircraft, airports and carriers agree with the file")
    return not wrong


def _table(kind: str, counted: Totals, expected: Totals) -> Table:
    columns = TABLES[kind]
    ranked = sorted(_names(kind, counted), key=lambda name: [-counted[kind, name][column] for column in columns])
    table = Table(title=f"{kind}s, the busiest {SHOWN} of {len(ranked)}")
    table.add_column("id")
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    table.add_column("file says")
    for name in ranked[:SHOWN]:
        values = counted[kind, name]
        same = values == expected[kind, name]
        table.add_row(name, *(f"{values[column]:,}" for column in columns), "the same" if same else "MISMATCH")
    return table


def _names(kind: str, totals: Totals) -> Iterable[str]:
    return (name for of, name in totals if of == kind)


async def run(options: argparse.Namespace, console: Console) -> bool:
    """Serve if asked to, replay, report, and say how to go on."""
    rows = read_rows(options.file)
    async with AsyncExitStack() as stack:
        server = serving(options.store, options.log) if options.serve else nullcontext(options.connect)
        url = await stack.enter_async_context(server)
        if options.serve:
            console.print(f"server at {url}, store {options.store}, log {options.log}", highlight=False)
        engine = await stack.enter_async_context(Engine.connect(url, exactly_once=True))
        counted, seconds = await replay(engine, rows, console)
        agrees = report(counted, count(rows), console)
        console.print(f"{len(rows)} flights in {seconds:.1f} s, exactly once, each commit on disk before its reply")
        print_hint(url, console)
        if options.serve and sys.stdin.isatty() and console.is_terminal:
            console.print("The server stays up until Ctrl-C.")
            await interrupted()
    return agrees


async def interrupted() -> None:
    """Wait for Ctrl-C, which is here no failure but the way to end."""
    pressed = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, pressed.set)
    await pressed.wait()


def print_hint(url: str, console: Console) -> None:
    """How to ask the server from another terminal."""
    command = Path(sys.executable).with_name("durable-engine")
    if command.is_relative_to(Path.cwd()):
        command = command.relative_to(Path.cwd())
    connect = "" if url.endswith(f":{PORT}") else f" --connect {url}"
    console.print(f"Ask it from another terminal:  {command} call Airport JFK totals{connect}", soft_wrap=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.flights.replay", description="Replay real flights.")
    add = parser.add_argument
    add(
        "--connect",
        default=f"tcp://127.0.0.1:{PORT}",
        metavar="URL",
        help="the server (default: %(default)s)",
    )
    add("--serve", action="store_true", help="start a server of our own for the time of the replay")
    add(
        "--store",
        default="sqlite:///durable-data/flights",
        metavar="URL",
        help="its store (default: %(default)s)",
    )
    add("--log", type=Path, default=Path("durable-data/flights.log"), help="its log (default: %(default)s)")
    add("--file", type=Path, default=DAY, help="flights, .csv or .csv.gz (default: 2013-01-01)")
    return parser.parse_args(arguments)


def main() -> int:
    """0 all totals agree, 1 they do not or something failed, 130 interrupted."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        # By an exception, so that our server is stopped on the way out.
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    console = Console()
    try:
        return 0 if asyncio.run(run(parse(), console)) else 1
    except KeyboardInterrupt:
        return 130
    except (DurableError, ExceptionGroup) as error:
        failures = error.exceptions if isinstance(error, ExceptionGroup) else (error,)
        console.print(f"[red]failed[/] {failures[0]!r}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
