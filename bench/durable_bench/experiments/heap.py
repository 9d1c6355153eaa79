"""Memory: how much a shard process takes for live objects, and for very many that hibernate.

The weighing is that of the scenarios `live` and `hibernated`; beside the bytes of one object it says what the whole
process took at its worst, interpreter, libraries and the filling included, since that is what a machine has to have.
`python -m durable_bench.experiments.heap STATE OBJECTS DIRECTORY` is the process that is weighed.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import uvloop

from durable_bench.errors import ClientFailed
from durable_bench.experiments.outcome import Note, Outcome, Sheet
from durable_bench.results import Figure
from durable_bench.stores import temporary_directory
from durable_bench.weigh import weigh

if TYPE_CHECKING:
    from durable_bench.runner import Plan

TITLE: Final = "memory of a shard process with very many objects"
OBJECTS: Final = 100_000
"""Of each state, unless --objects says more."""
GOAL_OBJECTS: Final = 1_000_000
GOAL_BYTES: Final = 10**9
STATES: Final = ("live", "hibernated")


@dataclass(frozen=True, slots=True)
class Weighing:
    """One process."""

    grown_bytes: int
    """Of resident memory, by all objects together."""
    peak_bytes: int
    """Of the whole process."""


async def run(plan: Plan, note: Note) -> list[Outcome]:
    """Whatever the store. Raises BenchError."""
    objects = plan.objects or OBJECTS
    found: dict[str, list[Weighing]] = {}
    with temporary_directory(plan.directory) as directory:
        for state in STATES:
            note(f"memory: {objects:,} objects, {state} ...")
            found[state] = [
                await _weigh(state, objects, directory / f"{state}-{number}") for number in range(plan.repetitions)
            ]
    return [outcome(objects, found)]


async def _weigh(state: str, objects: int, directory: Path) -> Weighing:
    words = [sys.executable, "-m", __name__, state, str(objects), str(directory)]
    process = await asyncio.create_subprocess_exec(*words, stdout=-1, stderr=-1)
    out, errors = await process.communicate()
    if process.returncode:
        raise ClientFailed(f"{' '.join(words[1:])} ended with {process.returncode}: {errors.decode(errors='replace')}")
    return msgspec.json.decode(out, type=Weighing)


def outcome(objects: int, found: dict[str, list[Weighing]]) -> Outcome:
    """The table, and whether a million fit into a gigabyte."""
    sheet = Sheet(
        f"memory of a shard process with {objects:,} small objects",
        ["state", "bytes each", "spread", "MB grown", "MB at the worst, whole process"],
        [],
    )
    figures: dict[str, list[float]] = {}
    for state, weighings in found.items():
        each = Figure([one.grown_bytes / objects for one in weighings])
        peak = Figure([one.peak_bytes for one in weighings])
        sheet.rows.append(
            [
                state,
                f"{each.median:,.0f}",
                f"±{each.spread / 2:.1%}",
                f"{each.median * objects / 1e6:,.0f}",
                f"{peak.median / 1e6:,.0f}",
            ]
        )
        figures |= {f"{state}.bytes_each": list(each.values), f"{state}.peak_bytes": list(peak.values)}
    return Outcome("memory", "any", [sheet], [], [_finding(objects, found["hibernated"])], figures)


def _finding(objects: int, weighings: list[Weighing]) -> str:
    peak = Figure([one.peak_bytes for one in weighings]).median
    said = f"{objects:,} hibernated objects took {peak / 1e6:,.0f} MB at the worst"
    if objects < GOAL_OBJECTS:
        return f"{said}; --objects {GOAL_OBJECTS} asks for a million"
    return f"{said}; less than 1 GB is asked for: {'holds' if peak < GOAL_BYTES else 'does not hold'}"


async def _main(state: str, objects: int, directory: str) -> None:
    grown = await weigh(state, objects, directory)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kilobytes on Linux
    sys.stdout.buffer.write(msgspec.json.encode(Weighing(grown, peak)))


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
