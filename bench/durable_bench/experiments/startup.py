"""Start-up: from the start of `durable-engine run` until it answers, against the number of stored objects.

The store is filled step by step, and after each step the server is started several times and asked at once for an
object of each shard. The clock begins with the start of the process, imports included, and ends with the first answer;
it is also read when every shard has answered. The objects that are asked for must be what was stored. A client that
waits for its server looks for it every 50 ms, so that differences below that mean nothing.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Final

from durable_bench import objects as bench_objects
from durable_bench.errors import LostUpdate, ServerStopped
from durable_bench.experiments.filling import count_of, fill, stored_id
from durable_bench.experiments.outcome import Curve, Note, Outcome, Picture, Sheet
from durable_bench.objects import Counter
from durable_bench.results import Figure
from durable_bench.stores import fresh_store, temporary_directory
from durable_engine import Engine
from durable_shards.spec import spec_of
from durable_storage.address import partition_of, partitions_of_shard

if TYPE_CHECKING:
    from durable_bench.runner import Plan

TITLE: Final = "time from start to the first answer, against stored objects"
SHARDS: Final = 8
SIZES: Final = (0, 1_000, 100_000, 1_000_000)
OBJECTS: Final = 100_000
"""The largest size, unless --objects says more."""
FLAT: Final = 1.5
"""The slowest median may be so many times the fastest one and still count as flat."""
GOAL_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Start:
    """One start, in seconds from the start of the process."""

    first: float
    """Until the first answer."""
    every: float
    """Until every shard had answered."""


async def run(plan: Plan, note: Note) -> list[Outcome]:
    """On each store of the plan. Raises BenchError."""
    outcomes = []
    shards = plan.shards[0] if tuple(plan.shards) != (1,) else SHARDS
    largest = plan.objects or OBJECTS
    sizes = [size for size in SIZES if size < largest] + [largest]
    for store in plan.stores:
        starts: dict[int, list[Start]] = {}
        with (
            temporary_directory(plan.directory) as directory,
            fresh_store(store, directory, plan.postgres) as url,
        ):
            for before, size in zip([0, *sizes], sizes, strict=False):
                note(f"{store}: start-up with {size:,} stored objects ...")
                await fill(url, range(before, size), shards)
                bind = plan.bind or f"ipc://{directory / 'server'}"
                starts[size] = [
                    await _start(url, directory, bind, shards, size) for _ in range(max(plan.repetitions, 1))
                ]
        outcomes.append(outcome(store, shards, starts))
    return outcomes


async def _start(url: str, directory: Path, bind: str, shards: int, stored: int) -> Start:
    log = directory / "server.log"
    options = ["--shards", str(shards), "--store", url, "--bind", bind]
    with log.open("wb") as output:
        begun = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "durable_engine",
            "run",
            bench_objects.__name__,
            *options,
            stdout=output,
            stderr=output,
        )
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await _answers(bind, shards, stored, begun)
        except TimeoutError:
            text = await asyncio.to_thread(log.read_text)
            raise ServerStopped(f"the server did not answer within {PATIENCE_SECONDS:g} s: {text}") from None
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _answers(bind: str, shards: int, stored: int, begun: float) -> Start:
    numbers = one_of_each_shard(shards, stored)
    async with Engine.connect(bind, call_timeout=PATIENCE_SECONDS, timeout=PATIENCE_SECONDS) as engine:
        first = 0.0
        asking = [asyncio.ensure_future(engine.at(Counter, stored_id(number)).get()) for number in numbers]
        for answered in asyncio.as_completed(asking):
            await answered
            first = first or time.perf_counter() - begun
        every = time.perf_counter() - begun
    for number, task in zip(numbers, asking, strict=True):
        expected = count_of(number) if number < stored else 0
        if task.result() != expected:
            raise LostUpdate(f"startup: {stored_id(number)} should be {expected} and is {task.result()}")
    return Start(first, every)


def one_of_each_shard(shards: int, stored: int) -> list[int]:
    """Numbers of objects, one for each shard: the latest of those that are stored, else such as are not."""
    found: dict[int, int] = {}
    candidates = chain(range(stored - 1, -1, -1), count(stored))
    while len(found) < shards:
        number = next(candidates)
        partition = partition_of("", spec_of(Counter).name, stored_id(number))
        shard = next(shard for shard in range(shards) if partition in partitions_of_shard(shard, shards))
        found.setdefault(shard, number)
    return [found[shard] for shard in range(shards)]


def outcome(store: str, shards: int, starts: dict[int, list[Start]]) -> Outcome:
    """The table, the curve, and whether it is flat."""
    firsts = {size: Figure([one.first for one in ones]) for size, ones in starts.items()}
    everys = {size: Figure([one.every for one in ones]) for size, ones in starts.items()}
    sheet = Sheet(
        f"seconds from the start of `durable-engine run --shards {shards}`",
        ["store", "stored objects", "first answer", "spread", "every shard has answered"],
        [
            [
                store,
                f"{size:,}",
                f"{first.median:.3f}",
                f"±{first.spread / 2:.0%}",
                f"{everys[size].median:.3f}",
            ]
            for size, first in firsts.items()
        ],
    )
    medians = [first.median for first in firsts.values()]
    ratio, last = max(medians) / min(medians), firsts[max(firsts)].median
    flat, holds = "flat" if ratio <= FLAT else "not flat", "holds" if last <= GOAL_SECONDS else "does not hold"
    findings = [
        f"the slowest size takes {ratio:.2f} times as long as the fastest: {flat}",
        f"with {max(firsts):,} objects the first answer comes after {last:.2f} s; {GOAL_SECONDS:g} s is asked: {holds}",
    ]
    xs = [float(max(size, 1)) for size in firsts]
    curves = [
        Curve.of("first answer", xs, list(firsts.values())),
        Curve.of("every shard has answered", xs, list(everys.values())),
    ]
    picture = Picture(
        f"startup-{store}", f"Start-up, {shards} shards, {store}", "stored objects", "seconds", curves, log_x=True
    )
    figures = {f"{size}.first": list(one.values) for size, one in firsts.items()}
    figures |= {f"{size}.every": list(one.values) for size, one in everys.items()}
    return Outcome("startup", store, [sheet], [picture], findings, figures)
