"""What a run says: a table for people, and JSON for the next run to be compared with."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from durable_bench.alarms import FLOORS, LATE_MS_MAX, Punctuality
from durable_bench.measure import Measurement
from durable_bench.memory import Weight

_p50 = attrgetter("latency.p50_ms")
_p99 = attrgetter("latency.p99_ms")
_late_p50 = attrgetter("lateness.p50_ms")
_late_p99 = attrgetter("lateness.p99_ms")
_late_max = attrgetter("lateness.max_ms")
_of_round = attrgetter("seconds")
_client_us = attrgetter("client_us")
_shards_us = attrgetter("shards_us")

LIBRARIES = ("durable-engine", "pyzmq", "msgspec", "orjson", "uvloop", "asyncpg", "apsw")


def table(measurements: list[Measurement]) -> Table:
    """Medians over the repetitions. `cpu`: client and shards, for each call. `floor`: what is asked of two cores."""
    result = _table("acknowledged calls, each commit on disk before its reply")
    for column in ("scenario", "store"):
        result.add_column(column, no_wrap=True)
    for column in ("callers", "calls/s", "spread", "p50 ms", "p99 ms", "cpu µs", "floor"):
        result.add_column(column, justify="right", no_wrap=True)
    for one in measurements:
        floor = one.scenario.floors.get(one.store)
        below = floor is not None and one.per_second < floor
        result.add_row(
            one.scenario.name,
            one.store,
            str(one.in_flight),
            f"[red]{one.per_second:,.0f}[/]" if below else f"{one.per_second:,.0f}",
            f"±{one.spread / 2:.0%}",
            f"{one.median(_p50):.2f}",
            f"{one.median(_p99):.2f}",
            f"{one.median(_client_us):.1f}+{one.median(_shards_us):.1f}",
            "" if floor is None else f"{floor:,}",
        )
    return result


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=SIMPLE, show_edge=False, pad_edge=False)


def table_of_alarms(measured: list[Punctuality]) -> Table:
    """Medians over the repetitions. `late`: from due to fired; `calls/s` and `p99 ms`: what callers saw meanwhile."""
    result = _table("alarms fired, each with its effect on disk")
    for column in ("scenario", "store"):
        result.add_column(column, no_wrap=True)
    for column in ("alarms", "fired/s", "spread", "late p50 ms", "p99", "max", "calls/s", "p99 ms"):
        result.add_column(column, justify="right", no_wrap=True)
    for one in measured:
        late, late_max = one.median(_late_p99), LATE_MS_MAX.get(one.name)
        calls = [each.calls for each in one.rounds if each.calls is not None]
        result.add_row(
            one.name,
            one.store,
            f"{one.alarms:,}",
            _red(f"{one.per_second:,.0f}", if_=one.per_second < FLOORS.get(one.name, 0)),
            f"±{one.spread(_of_round) / 2:.0%}",
            f"{one.median(_late_p50):.1f}",
            _red(f"{late:.1f}", if_=late_max is not None and late > late_max),
            f"{one.median(_late_max):.1f}",
            f"{median(each.per_second for each in calls):,.0f}" if calls else "",
            f"{median(map(_p99, calls)):.2f}" if calls else "",
        )
    return result


def _red(text: str, *, if_: bool) -> str:
    return f"[red]{text}[/]" if if_ else text


def table_of_weights(weights: list[Weight]) -> Table:
    """Medians over the repetitions."""
    result = _table("resident memory of small objects")
    result.add_column("scenario", no_wrap=True)
    for column in ("objects", "bytes each", "spread", "MB in all"):
        result.add_column(column, justify="right", no_wrap=True)
    for one in weights:
        megabytes = one.bytes_each * one.objects / 1e6
        result.add_row(
            one.name, f"{one.objects:,}", f"{one.bytes_each:,.0f}", f"±{one.spread / 2:.1%}", f"{megabytes:,.1f}"
        )
    return result


def document(
    measurements: list[Measurement],
    weights: list[Weight],
    settings: dict[str, Any],
    alarms: Sequence[Punctuality] = (),
) -> dict[str, Any]:
    """Everything that a later run needs for a comparison."""
    return {
        "format": 1,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "settings": settings,
        "measurements": [_measurement(one) for one in measurements],
        "alarms": [
            asdict(one) | {"fired_per_second": round(one.per_second), "late_p99_ms": one.median(_late_p99)}
            for one in alarms
        ],
        "memory": [
            asdict(one) | {"bytes_each": round(one.bytes_each, 1), "spread": round(one.spread, 4)} for one in weights
        ],
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """One file a run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def machine() -> dict[str, Any]:
    """Where it ran."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": sys.version.split()[0],
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _measurement(one: Measurement) -> dict[str, Any]:
    return {
        "scenario": one.scenario.name,
        "title": one.scenario.title,
        "store": one.store,
        "objects": one.scenario.objects,
        "in_flight": one.in_flight,
        "calls_per_second": round(one.per_second),
        "spread": round(one.spread, 4),
        "floor": one.scenario.floors.get(one.store),
        "p50_ms": one.median(_p50),
        "p99_ms": one.median(_p99),
        "client_us": one.median(_client_us),
        "shards_us": one.median(_shards_us),
        "verified_calls": one.verified_calls,
        "repetitions": [asdict(each) | {"per_second": each.per_second} for each in one.repetitions],
    }
