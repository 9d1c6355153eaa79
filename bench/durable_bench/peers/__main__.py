"""`python -m durable_bench.peers [PEER...]`: durable-engine and others in one run, in turns."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from durable_bench.peers.catalogue import PEERS
from durable_bench.peers.installing import tools
from durable_bench.peers.scenarios import SCENARIOS
from durable_bench.peers.table import COLUMNS, document, table_of_peers, table_of_rates
from durable_bench.peers.turns import Plan, run
from durable_bench.results import write_json
from durable_bench.stores import temporary_directory


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m durable_bench.peers", description=__doc__)
    add = parser.add_argument
    add("peers", nargs="*", metavar="PEER", help=f"of {', '.join(PEERS)} (default: all)")
    add("--list", action="store_true", help="say which peers and scenarios there are, and stop")
    add("--scenarios", default=",".join(SCENARIOS), help="comma separated (default: %(default)s)")
    add("--callers", default="64", help="at once; several numbers, comma separated (default: %(default)s)")
    add("--seconds", type=float, default=2.0, help="of each load (default: %(default)s)")
    add("--repetitions", type=int, default=5, help="turns that each peer gets (default: %(default)s)")
    add("--no-watch", action="store_true", help="do not count the syncs of each peer with strace, after the turns")
    add(
        "--kill", action="store_true", help="at the end kill each with -9 under load, and look for what it acknowledged"
    )
    add("--cache", type=Path, default=Path(".bench-peers"), help="where peers are installed (default: %(default)s)")
    add(
        "--version",
        action="append",
        default=[],
        metavar="PACKAGE=VERSION",
        help="another version of a package that a peer consists of; may be repeated",
    )
    add("--directory", type=Path, help="where stores rest; its disk is measured (default: a temporary folder)")
    add("--json", type=Path, help="the file to write (default: bench-results/peers-<time>.json)")
    options = parser.parse_args(arguments)
    options.peers = options.peers or list(PEERS)
    options.scenarios = options.scenarios.split(",")
    for kind, names, known in (("peer", options.peers, PEERS), ("scenario", options.scenarios, SCENARIOS)):
        for name in names:
            if name not in known:
                parser.error(f"there is no {kind} {name!r}; there are {', '.join(known)}")
    try:
        options.callers = [int(number) for number in options.callers.split(",")]
        options.version = dict(_pair(one) for one in options.version)
    except ValueError as error:
        parser.error(f"{error}; numbers look like --callers 64,256 and versions like --version workerd=1.20261117.1")
    if min(*options.callers, options.repetitions, 1) < 1 or options.seconds <= 0:
        parser.error("callers, repetitions and seconds are more than 0")
    return options


def _pair(text: str) -> tuple[str, str]:
    name, equals, version = text.rpartition("=")
    if not (name and equals and version):
        raise ValueError(f"{text!r} is not PACKAGE=VERSION")
    return name, version


async def measure(options: argparse.Namespace) -> int:
    """Measure, show, write."""
    console = Console(stderr=True)
    plan = Plan(
        options.scenarios,
        options.callers,
        options.seconds,
        options.repetitions,
        watch=not options.no_watch,
        kill=options.kill,
    )
    peers = [PEERS[name](options.version) for name in options.peers]

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False)

    with temporary_directory(options.directory) as directory:
        results = await run(peers, plan, directory, options.cache.resolve(), say)
    page = Console(width=max(console.width, COLUMNS))
    page.print(table_of_rates(results, plan.keys()))
    page.print(table_of_peers(results))
    path = options.json or Path("bench-results") / f"peers-{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}.json"
    settings = {
        "tools": tools(),
        "seconds": plan.seconds,
        "repetitions": plan.repetitions,
        "callers": list(plan.callers),
    }
    write_json(path, document(results, plan.keys(), settings))
    console.print(f"written to {path}", highlight=False)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 unless the arguments are wrong: a peer that cannot run is told in the table."""
    options = parse(arguments)
    if options.list:
        for name, make in PEERS.items():
            print(f"{name:18} {make(options.version).durability}")
        for scenario in SCENARIOS.values():
            print(f"{scenario.name:18} {scenario.title}")
        return 0
    try:
        return asyncio.run(_until_told_to_stop(options))
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM


async def _until_told_to_stop(options: argparse.Namespace) -> int:
    """SIGTERM ends a run as Ctrl-C does: no server and no worker stays behind."""
    measuring = asyncio.ensure_future(measure(options))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, measuring.cancel)
    return await measuring


if __name__ == "__main__":
    sys.exit(main())
