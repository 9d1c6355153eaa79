"""Who calls: this process, or several of their own, since one alone cannot keep two and more shards busy.

A client process (`python -m durable_bench.clients`) reads one JSON value a line from its standard input and answers
with one: first which workload it is to play and where, then loads, until the input ends.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import uvloop

from durable_bench.cpu import cpu_seconds
from durable_bench.errors import ClientFailed
from durable_bench.histogram import Histogram
from durable_bench.load import Sample, closed_loop, open_loop, together
from durable_bench.workloads import WORKLOADS, BaseWorkload, Ledger, Share
from durable_engine import Engine

LINE_BYTES_MAX: Final = 1 << 24


@dataclass(frozen=True, slots=True)
class Load:
    """How calls are made: a closed loop of `in_flight` callers, or an open one of `rate` calls a second."""

    in_flight: int | None
    rate: float | None
    seconds: float
    arrivals: str = "constant"
    seed: int = 0

    def part(self, number: int, parts: int) -> Load:
        """That of one of several clients."""
        in_flight = None if self.in_flight is None else len(range(number, self.in_flight, parts))
        return replace(
            self,
            in_flight=in_flight,
            rate=None if self.rate is None else self.rate / parts,
            seed=self.seed + number,
        )

    async def run(self, workload: BaseWorkload, processes: Iterable[int] = ()) -> Sample:
        """Call, and let the workload book it."""
        if self.rate is not None:
            sample = await open_loop(
                workload.operation,
                rate=self.rate,
                seconds=self.seconds,
                processes=processes,
                arrivals=self.arrivals,
                seed=self.seed,
            )
        else:
            sample = await closed_loop(
                workload.operation, in_flight=self.in_flight or 0, seconds=self.seconds, processes=processes
            )
        workload.settle(sample)
        return sample


class Callers(Protocol):
    """Those who make the calls of a workload."""

    async def run(self, load: Load) -> Sample:
        """One repetition, made ready before; what it changed is in the workload's ledger afterwards."""


class Here:
    """This process."""

    def __init__(self, workload: BaseWorkload, shards: Sequence[int]) -> None:
        self._workload = workload
        self._shards = shards

    async def run(self, load: Load) -> Sample:
        """Call from this event loop."""
        await self._workload.again()
        return await load.run(self._workload, self._shards)


class Elsewhere:
    """Processes of their own; made by `clients`."""

    def __init__(
        self, workload: BaseWorkload, processes: list[Process], logs: list[Path], shards: Sequence[int]
    ) -> None:
        self._workload = workload
        self._processes = processes
        self._logs = logs
        self._shards = shards

    async def run(self, load: Load) -> Sample:
        """All of them call at the same time, each its part."""
        count = len(self._processes)
        await self.ask([{"again": True}] * count)
        before = cpu_seconds(self._shards)
        answers = await self.ask([{"load": asdict(load.part(number, count))} for number in range(count)])
        shards = cpu_seconds(self._shards) - before
        self._workload.ledger = _ledgers(answers)
        sample = together([_sample(answer["sample"]) for answer in answers])
        return replace(sample, shards_us=shards / max(sample.calls + sum(sample.errors.values()), 1) * 1e6)

    async def ask(self, questions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """One question for each, all at once."""
        for process, question in zip(self._processes, questions, strict=True):
            assert process.stdin is not None
            process.stdin.write(msgspec.json.encode(question) + b"\n")
        return await asyncio.gather(*map(self._answer, self._processes, self._logs))

    async def _answer(self, process: Process, log: Path) -> dict[str, Any]:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            await process.wait()
            text = await asyncio.to_thread(log.read_text)
            raise ClientFailed(f"a client process ended with exit code {process.returncode}: {text}")
        answer: dict[str, Any] = msgspec.json.decode(line)
        return answer


@asynccontextmanager
async def clients(
    workload: BaseWorkload, url: str, directory: Path, *, count: int, shards: Sequence[int]
) -> AsyncIterator[Elsewhere]:
    """So many client processes of a prepared workload, for the time of the block. Raises ClientFailed."""
    logs = [directory / f"client-{number}.log" for number in range(count)]
    processes: list[Process] = []
    try:
        for log in logs:
            with log.open("wb") as output:
                command = (sys.executable, "-m", "durable_bench.clients")
                process = await asyncio.create_subprocess_exec(
                    *command, stdin=-1, stdout=-1, stderr=output, limit=LINE_BYTES_MAX
                )
            processes.append(process)
        elsewhere = Elsewhere(workload, processes, logs, shards)
        shares = (replace(workload.share, client=number, clients=count) for number in range(count))
        about = {"workload": workload.name, "url": url, "objects": workload.objects}
        await elsewhere.ask([about | {"share": asdict(share)} for share in shares])
        yield elsewhere
    finally:
        for process in processes:
            if process.stdin is not None:
                process.stdin.close()  # it ends by itself then
        await asyncio.gather(*(process.wait() for process in processes))


def _sample(answer: dict[str, Any]) -> Sample:
    return Sample(**answer | {"histogram": Histogram.decode(answer["histogram"])})


def _ledgers(answers: Iterable[dict[str, Any]]) -> Ledger:
    total = Ledger()
    for answer in answers:
        total.add(Ledger.read(answer["ledger"]))
    return total


async def play(lines: AsyncIterator[bytes]) -> None:
    """What a client process does."""
    about = msgspec.json.decode(await anext(lines))
    share = msgspec.convert(about["share"], Share)
    workload = WORKLOADS[about["workload"]](share, about["objects"])
    async with Engine.connect(about["url"], exactly_once=workload.exactly_once) as engine:
        await workload.attach(engine)
        _say({})
        async for line in lines:
            question = msgspec.json.decode(line)
            if "load" not in question:
                await workload.again()
                _say({})
                continue
            sample = await msgspec.convert(question["load"], Load).run(workload)
            kept = {name: getattr(sample, name) for name in Sample.__slots__}
            kept["histogram"] = sample.histogram.encode()
            _say({"sample": kept, "ledger": workload.ledger.written()})


async def _lines() -> AsyncIterator[bytes]:
    while line := await asyncio.to_thread(sys.stdin.buffer.readline):
        yield line


def _say(answer: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(play(_lines()))
