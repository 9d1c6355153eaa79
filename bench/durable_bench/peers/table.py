"""What a run says: tables for people, and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from durable_bench.machine import machine
from durable_bench.peers.catalogue import OURS
from durable_bench.peers.results import Key, Measured, PeerResult, Spread, per_second, ratios

COLUMNS = 150
"""What the tables need; on a narrower screen their lines wrap rather than lose digits."""


def p50_ms(one: Measured) -> float:
    """The median latency."""
    return one.outcome.percentile_ms(0.5)


def p99_ms(one: Measured) -> float:
    """The latency of the slowest of a hundred."""
    return one.outcome.percentile_ms(0.99)


def driver_share(one: Measured) -> float:
    """What part of one core the caller's process took: near 1 it is the caller that was measured."""
    return one.outcome.driver_cpu_seconds / one.outcome.seconds


def servers_us(one: Measured) -> float:
    """Processor time of the peer's processes for each call, in microseconds."""
    return one.servers_cpu_seconds / one.outcome.calls * 1e6


def table_of_rates(results: Sequence[PeerResult], keys: Sequence[Key]) -> Table:
    """Medians over the turns; ratios are the median of those turn by turn, with the lowest and the highest."""
    table = _table("acknowledged calls, each peer in its turn; xN: durable-engine answered N times as many")
    for column in ("scenario", "peer"):
        table.add_column(column, no_wrap=True)
    for column in ("callers", "calls/s", "spread", "p50 ms", "p99 ms", "errors", "driver", "server µs"):
        table.add_column(column, justify="right", no_wrap=True)
    ours = [result for result in results if result.name in OURS]
    for one in ours:
        table.add_column(f"x {one.name.removeprefix('durable-')}", justify="right", no_wrap=True)
    for key in keys:
        for result in results:
            rate = result.spread(key, per_second)
            if rate is not None:
                table.add_row(key.scenario, *_row(result, key, rate), *_ratios(ours, result, key))
        table.add_section()
    return table


def _row(result: PeerResult, key: Key, rate: Spread) -> list[str]:
    figures = [result.spread(key, of) for of in (p50_ms, p99_ms, driver_share, servers_us)]
    p50, p99, driver, servers = (0.0 if figure is None else figure.median for figure in figures)
    errors = sum(one.outcome.failed for one in result.series[key])
    return [
        result.name,
        str(key.callers),
        f"{rate.median:,.0f}",
        f"±{rate.half:.0%}",
        _digits(p50),
        _digits(p99),
        str(errors) if errors else "",
        f"{driver:.0%}",
        f"{servers:,.0f}",
    ]


def _ratios(ours: Sequence[PeerResult], result: PeerResult, key: Key) -> list[str]:
    cells = []
    for one in ours:
        ratio = None if one is result else ratios(one, result, key)
        cells.append(
            "" if ratio is None else f"{_digits(ratio.median)} ({_digits(ratio.lowest)}-{_digits(ratio.highest)})"
        )
    return cells


def _digits(value: float) -> str:
    """No more digits than mean something."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table_of_peers(results: Sequence[PeerResult]) -> Table:
    """What each peer promised, whether it was so, and why one is missing."""
    table = _table("what was acknowledged must be found, and come through the restarts between the turns")
    table.add_column("peer", no_wrap=True)
    table.add_column("verified adds", justify="right", no_wrap=True)
    table.add_column("lost", justify="right", no_wrap=True)
    table.add_column("twice", justify="right", no_wrap=True)
    table.add_column("durability, as set and as seen")
    for one in results:
        checks = [_escaped(str(check)) for check in (one.seen, one.killed) if check is not None]
        said = [one.durability, *checks, " ".join(f"{name} {version}" for name, version in one.packages.items())]
        if one.unavailable is not None:
            said.insert(0, f"[red]NOT MEASURED TO THE END: {_escaped(one.unavailable)}[/]")
        books = one.books
        table.add_row(
            one.name,
            f"{books.verified:,}" if books.found else "",
            _alarming(books.lost),
            _alarming(books.surplus),
            "\n".join(filter(None, said)),
        )
    return table


def _alarming(count: int) -> str:
    return f"[red]{count:,}[/]" if count else "0"


def _escaped(text: str) -> str:
    """What rich would take for markup, as it stands."""
    return text.replace("[", r"\[")


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=SIMPLE, show_edge=False, pad_edge=False)


def document(results: Sequence[PeerResult], keys: Sequence[Key], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, for a later look: every turn with its histogram."""
    return {
        "format": 1,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "settings": dict(settings),
        "peers": [_peer(one, results, keys) for one in results],
    }


def _peer(result: PeerResult, results: Sequence[PeerResult], keys: Sequence[Key]) -> dict[str, Any]:
    books = result.books
    return {
        "name": result.name,
        "durability": result.durability,
        "packages": dict(result.packages),
        "unavailable": result.unavailable,
        "verified_adds": books.verified,
        "lost_adds": books.lost,
        "surplus_adds": books.surplus,
        "seen": asdict(result.seen) if result.seen is not None else None,
        "killed": asdict(result.killed) if result.killed is not None else None,
        "scenarios": [_scenario(result, results, key) for key in keys if result.series.get(key)],
    }


def _scenario(result: PeerResult, results: Sequence[PeerResult], key: Key) -> dict[str, Any]:
    figures = {
        "calls_per_second": per_second,
        "p50_ms": p50_ms,
        "p99_ms": p99_ms,
        "driver_share": driver_share,
        "servers_us": servers_us,
    }
    spreads = {name: result.spread(key, of) for name, of in figures.items()}
    against = {one.name: ratios(one, result, key) for one in results if one.name in OURS and one is not result}
    return {
        "scenario": key.scenario,
        "callers": key.callers,
        **{name: asdict(spread) for name, spread in spreads.items() if spread is not None},
        "ratios": {name: asdict(ratio) for name, ratio in against.items() if ratio is not None},
        "turns": [asdict(one) for one in result.series[key]],
    }
