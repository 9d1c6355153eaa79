"""What a run showed, for people and for machines."""

from __future__ import annotations

import os
import platform
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from tests.chaos.run import Record

ROOT = Path(__file__).parent.parent.parent


def report(records: list[Record], command: str) -> dict[str, Any]:
    """All runs of one command, as plain values."""
    return {
        "command": command,
        "machine": machine(),
        "release": commit(),
        "runs": [of_run(record) for record in records],
    }


def of_run(record: Record) -> dict[str, Any]:
    """One store."""
    struck = Counter(strike.counts_for for strike in record.strikes if strike.counts_for)
    return {
        "store": record.store,
        "seed": record.seed,
        "shards": record.shards,
        "seconds": round(record.seconds, 1),
        "counts": dict(struck),
        "faults": dict(sorted(Counter(strike.kind for strike in record.strikes).items())),
        "operations": record.outcomes,
        "recoveries": {kind: spread(seconds) for kind, seconds in sorted(record.recoveries.items()) if seconds},
        "violations": [violation._asdict() for violation in record.violations],
    }


def spread(seconds: list[float]) -> dict[str, float]:
    """Count, median, 99th percentile and the longest; seconds are sorted."""
    at = [seconds[len(seconds) // 2], seconds[min(len(seconds) - 1, len(seconds) * 99 // 100)], seconds[-1]]
    return {"count": len(seconds), **dict(zip(("p50", "p99", "max"), (round(each, 3) for each in at), strict=True))}


def markdown(found: dict[str, Any]) -> str:
    """The same as tables."""
    lines = [f"`{found['command']}`", "", f"{found['machine']}; {found['release']}.", ""]
    runs = found["runs"]
    lines += table(["", *(run["store"] for run in runs), *(["together"] if len(runs) > 1 else [])], summary(runs))
    lines += ["", "Faults that struck:", ""]
    kinds = sorted({kind for run in runs for kind in run["faults"]})
    lines += table(
        ["fault", *(run["store"] for run in runs)], [[k, *(run["faults"].get(k, 0) for run in runs)] for k in kinds]
    )
    lines += ["", "Seconds from a fault until the clients of the shard were served again:", ""]
    rows = [
        [run["store"], kind, spread["count"], *(f"{spread[part]:.3f}" for part in ("p50", "p99", "max"))]
        for run in runs
        for kind, spread in run["recoveries"].items()
    ]
    lines += table(["store", "fault", "times", "p50", "p99", "max"], rows)
    for run in runs:
        for violation in run["violations"][:50]:
            lines += ["", f"**{violation['invariant']}** on {run['store']}, {violation['where']}: {violation['what']}"]
    return "\n".join(lines) + "\n"


COUNTED = {
    "kill -9 of shards": ("counts", "kills"),
    "SIGSTOP of shards": ("counts", "stops"),
    "PostgreSQL restarts": ("counts", "restarts"),
    "cut commits": ("counts", "cuts"),
    "operations acknowledged": ("operations", "ok"),
    "operations failed, not applied": ("operations", "not_applied"),
    "operations failed, applied": ("operations", "applied"),
    "operations of unknown outcome": ("operations", "unknown"),
}


def summary(runs: list[dict[str, Any]]) -> list[list[Any]]:
    """Rows of what was asked for; behind several stores, their sum."""
    rows: list[list[Any]] = [["seed", *(run["seed"] for run in runs)]]
    rows.append(["seconds", *with_sum([round(run["seconds"]) for run in runs])])
    for name, (part, key) in COUNTED.items():
        rows.append([name, *with_sum([run[part].get(key, 0) for run in runs])])
    rows.append(["violations", *with_sum([len(run["violations"]) for run in runs])])
    return rows


def with_sum(numbers: list[int]) -> list[str]:
    """As they are printed."""
    return [f"{number:,}" for number in (numbers if len(numbers) == 1 else [*numbers, sum(numbers)])]


def table(head: list[Any], rows: list[list[Any]]) -> list[str]:
    """Markdown."""
    rows = [[*row, *[""] * (len(head) - len(row))] for row in rows]
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines]


def machine() -> str:
    """Where it ran."""
    return f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def commit() -> str:
    """What was run."""
    words = ["git", "describe", "--always", "--dirty"]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return f"commit {result.stdout.strip() or 'unknown'}"
