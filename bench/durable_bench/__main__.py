"""`python -m durable_bench [SCENARIO...]`: measure, show a table, write JSON."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from rich.console import Console

from durable_bench.alarms import ALARMS, COUNT, Punctuality, punctuality
from durable_bench.measure import Measurement, measure
from durable_bench.memory import MEMORY, OBJECTS, Weight, weigh
from durable_bench.report import document, table, table_of_alarms, table_of_weights, write_json
from durable_bench.scenarios import SCENARIOS, Scenario
from durable_bench.server import served
from durable_bench.stores import STORES, fresh_store, temporary_directory

NAMES = [*SCENARIOS, *ALARMS, *MEMORY]
TABLE_COLUMNS = 96
"""What the table needs; on a narrower screen its lines wrap rather than lose digits."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="durable-engine bench", description=__doc__)
    add = parser.add_argument
    add("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(NAMES)} (default: all)")
    add("--list", action="store_true", help="say what there is to measure, and stop")
    add("--stores", default=",".join(STORES), help="comma separated (default: %(default)s)")
    add("--postgres", metavar="URL", help="an empty database of yours (default: a server of our own)")
    add("--repetitions", type=int, default=3, help="of each scenario (default: %(default)s)")
    add("--seconds", type=float, default=3.0, help="of each repetition (default: %(default)s)")
    add("--in-flight", type=int, help="callers at once (default: as the scenario says)")
    add("--objects", type=int, default=OBJECTS, help="that are weighed (default: %(default)s)")
    add("--alarms", type=int, default=COUNT, help="that are set (default: %(default)s)")
    add("--shards", type=int, default=1, help="shard processes (default: %(default)s)")
    add("--bind", metavar="URL", help="address of the server (default: a unix socket)")
    add(
        "--directory",
        type=Path,
        help="where the stores rest; its disk is measured (default: a temporary folder)",
    )
    add("--json", type=Path, help="the file to write (default: bench-results/<time>.json)")
    options = parser.parse_args(arguments)
    options.scenarios = options.scenarios or NAMES
    options.stores = options.stores.split(",")
    for name in options.scenarios:
        if name not in NAMES:
            parser.error(f"there is no scenario {name!r}; there are {', '.join(NAMES)}")
    for kind in options.stores:
        if kind not in STORES:
            parser.error(f"there is no store {kind!r}; there are {', '.join(STORES)}")
    return options


async def measure_store(
    kind: str, options: argparse.Namespace, console: Console
) -> tuple[list[Measurement], list[Punctuality]]:
    """All scenarios on one server with one fresh store."""
    measurements, alarms = [], []
    with temporary_directory(options.directory) as directory:
        bind = options.bind or f"ipc://{directory / 'server'}"
        with fresh_store(kind, directory, options.postgres) as store:
            async with served(store, directory, shards=options.shards, bind=bind) as engine:
                for scenario in _chosen(options):
                    console.print(f"{kind}: {scenario.title} ...", highlight=False)
                    one = await measure(
                        engine,
                        scenario,
                        kind,
                        in_flight=options.in_flight or scenario.in_flight,
                        repetitions=options.repetitions,
                        seconds=options.seconds,
                    )
                    measurements.append(one)
                for name in (name for name in options.scenarios if name in ALARMS):
                    console.print(f"{kind}: {ALARMS[name]} ...", highlight=False)
                    alarms.append(
                        await punctuality(engine, name, kind, alarms=options.alarms, repetitions=options.repetitions)
                    )
    return measurements, alarms


async def weigh_objects(options: argparse.Namespace, console: Console) -> list[Weight]:
    """What objects take in memory, whatever store they rest in."""
    weights = []
    with temporary_directory(options.directory) as directory:
        for name in options.scenarios:
            if name in MEMORY:
                console.print(f"{name}: {MEMORY[name]} ...", highlight=False)
                one = await weigh(name, directory, objects=options.objects, repetitions=options.repetitions)
                weights.append(one)
    return weights


async def run(options: argparse.Namespace) -> int:
    """Measure, show, write."""
    console = Console(stderr=True)
    measurements: list[Measurement] = []
    alarms: list[Punctuality] = []
    for kind in options.stores if {*options.scenarios} - {*MEMORY} else ():
        measured, fired = await measure_store(kind, options, console)
        measurements += measured
        alarms += fired
    weights = await weigh_objects(options, console)
    page = Console(width=max(console.width, TABLE_COLUMNS))
    if measurements:
        page.print(table(measurements))
    if alarms:
        page.print(table_of_alarms(alarms))
    if weights:
        page.print(table_of_weights(weights))
    path = options.json or Path("bench-results") / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}.json"
    settings = {"repetitions": options.repetitions, "seconds": options.seconds, "shards": options.shards}
    write_json(path, document(measurements, weights, settings | {"bind": options.bind or "ipc"}, alarms))
    console.print(f"written to {path}", highlight=False)
    return 0


def _chosen(options: argparse.Namespace) -> list[Scenario]:
    return [SCENARIOS[name] for name in options.scenarios if name in SCENARIOS]


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 when everything was measured and verified."""
    options = parse(arguments)
    if options.list:
        for scenario in SCENARIOS.values():
            print(f"{scenario.name:10} {scenario.title}, {scenario.in_flight} in flight")
        for name, title in ALARMS.items():
            print(f"{name:10} {title}, {options.alarms:,} of them")
        for name, title in MEMORY.items():
            print(f"{name:10} {title}, {options.objects:,} of them")
        return 0
    return uvloop.run(run(options))


if __name__ == "__main__":
    sys.exit(main())
