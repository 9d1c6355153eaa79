"""What objects weigh in memory: each weighing has a shard process of its own, so that none inherits leftovers."""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

OBJECTS = 100_000


@dataclass(frozen=True, slots=True)
class Weight:
    """All weighings of objects in one state."""

    name: str
    objects: int
    grown_bytes: Sequence[int]
    """By how much resident memory grew, each time."""

    @property
    def bytes_each(self) -> float:
        """Median over the weighings."""
        return statistics.median(self.grown_bytes) / self.objects

    @property
    def spread(self) -> float:
        """(heaviest - lightest) / median."""
        return (max(self.grown_bytes) - min(self.grown_bytes)) / statistics.median(self.grown_bytes)


MEMORY = {
    "live": "resident memory of a small object, ready to run",
    "hibernated": "resident memory of a small object that sleeps",
}


async def weigh(name: str, directory: Path, *, objects: int, repetitions: int) -> Weight:
    """Weigh `objects` of them, `repetitions` times. Raises RuntimeError when a process fails."""
    grown = [await _weigh_once(name, objects, directory / f"{name}-{number}") for number in range(repetitions)]
    return Weight(name, objects, grown)


async def _weigh_once(name: str, objects: int, directory: Path) -> int:
    words = [sys.executable, "-m", "durable_bench.weigh", name, str(objects), str(directory)]
    process = await asyncio.create_subprocess_exec(*words, stdout=-1, stderr=-1)
    out, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(words[1:])} ended with {process.returncode}:\n{errors.decode(errors='replace')}")
    return int(out)
