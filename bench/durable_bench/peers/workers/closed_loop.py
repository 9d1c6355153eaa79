"""The loop of every worker in Python: loads come in on standard input, results go out on standard output, a line each.

A worker is a module with a `main` that connects to its peer and then awaits `serve(operations)`. What it prints besides
would be taken for a result, so that standard output is given to standard error before anything of the peer is imported.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, Protocol, runtime_checkable

from durable_bench.peers.workers.load import Load, Outcome, histogram_us

TOTAL_CALLERS = 64
"""Of the reading after a load, which is not measured."""
ERROR_PAUSE_SECONDS = 0.01
"""A caller whose call failed waits so long: a peer that refuses at once is not to be measured by that."""
ERROR_LETTERS_MAX = 160


class Operations(Protocol):
    """What a worker can do with its peer."""

    async def add(self, object_id: str, /) -> object:
        """Count up by one; returns when the peer says that it is done, raises when it failed."""

    async def read(self, object_id: str, /) -> int:
        """The count."""


@runtime_checkable
class Bulk(Protocol):
    """A worker that has a loop of its own in place of one call after the other."""

    async def drive(self, load: Load) -> Outcome: ...

    async def total(self, prefix: str, count: int) -> int: ...


def take_stdout() -> int:
    """Keep standard output for results, and let everything else that prints go to standard error; the descriptor."""
    results = os.dup(1)
    os.dup2(2, 1)
    return results


async def drive(operations: Operations, load: Load) -> Outcome:
    """Run a load to its end."""
    call: Callable[[str], Awaitable[object]] = operations.add if load.operation == "add" else operations.read
    ids = [load.id(number) for number in range(load.count)] if not load.once else []
    clock, latencies, errors = time.perf_counter, array("d"), Counter[str]()
    started = 0
    cpu, begun = time.process_time(), clock()
    end = begun + load.seconds

    async def caller() -> None:
        nonlocal started
        sent = clock()
        while sent < end and not (load.once and started >= load.count):
            object_id = load.id(started) if load.once else ids[started % load.count]
            started += 1
            try:
                await call(object_id)
            except Exception as error:
                errors[f"{type(error).__name__}: {error}"[:ERROR_LETTERS_MAX]] += 1
                await asyncio.sleep(ERROR_PAUSE_SECONDS)
                sent = clock()
            else:
                replied = clock()
                latencies.append(replied - sent)
                sent = replied

    await asyncio.gather(*(caller() for _ in range(load.callers)))
    elapsed, cpu = clock() - begun, time.process_time() - cpu
    return Outcome(len(latencies), elapsed, histogram_us(latencies), cpu, dict(errors), min(started, load.count))


async def total(operations: Operations, prefix: str, count: int) -> int:
    """The sum of all counts."""
    numbers = iter(range(count))

    async def reader() -> int:
        found = 0
        for number in numbers:
            found += await operations.read(f"{prefix}{number}")
        return found

    return sum(await asyncio.gather(*(reader() for _ in range(TOTAL_CALLERS))))


async def serve(worker: Operations | Bulk, results: int) -> None:
    """Answer the harness until it closes the pipe; the first line says that the worker is ready."""
    loop = asyncio.get_running_loop()
    _say(results, {"ready": True})
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            answer = await _answer(worker, json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        _say(results, answer)


async def _answer(worker: Operations | Bulk, asked: dict[str, Any]) -> dict[str, Any]:
    if asked["do"] == "drive":
        load = Load(**asked["load"])
        return asdict(await (worker.drive(load) if isinstance(worker, Bulk) else drive(worker, load)))
    prefix, count = asked["prefix"], asked["count"]
    found = await (worker.total(prefix, count) if isinstance(worker, Bulk) else total(worker, prefix, count))
    return {"total": found}


def _say(results: int, answer: dict[str, Any]) -> None:
    left = json.dumps(answer).encode() + b"\n"
    while left:
        left = left[os.write(results, left) :]
