"""What a run says: a table for people, and JSON for the next run to be compared with."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from durable_bench.measure import Measurement
from durable_bench.memory import Weight

_p50 = attrgetter("latency.p50_ms")
_p99 = attrgetter("latency.p99_ms")
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


def document(measurements: list[Measurement], weights: list[Weight], settings: dict[str, Any]) -> dict[str, Any]:
    """Everything that a later run needs for a comparison."""
    return {
        "format": 1,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "settings": settings,
        "measurements": [_measurement(one) for one in measurements],
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
