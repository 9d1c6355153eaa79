"""What objects weigh in memory: each weighing has a shard process of its own, so that none inherits leftovers."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final

from durable_bench.errors import ClientFailed
from durable_bench.results import Weight

OBJECTS: Final = 100_000

MEMORY: Final = {
    "live": "resident memory of a small object, ready to run",
    "hibernated": "resident memory of a small object that sleeps",
}


async def weigh(name: str, directory: Path, *, objects: int, repetitions: int) -> Weight:
    """Weigh `objects` of them, `repetitions` times. Raises ClientFailed."""
    return Weight(
        name, objects, [await _weigh_once(name, objects, directory / f"{name}-{n}") for n in range(repetitions)]
    )


async def _weigh_once(name: str, objects: int, directory: Path) -> int:
    words = [sys.executable, "-m", "durable_bench.weigh", name, str(objects), str(directory)]
    process = await asyncio.create_subprocess_exec(*words, stdout=-1, stderr=-1)
    out, errors = await process.communicate()
    if process.returncode:
        raise ClientFailed(f"{' '.join(words[1:])} ended with {process.returncode}: {errors.decode(errors='replace')}")
    return int(out)
