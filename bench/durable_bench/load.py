"""Load on a system, and the time each call took.

A *closed loop* is a fixed number of callers, each of which waits for its reply before it calls again: it finds the
highest throughput. But its callers wait while the system stalls, so that a stall of a second is seen by as many calls
as there are callers, and percentiles come out too good: Gil Tene's *coordinated omission*. An *open loop* sends on a
schedule that knows nothing of replies, as the users of a service do, and counts each call's latency from the moment
when it was to be sent.

The loops are told what to call and nothing of the engine, so that peers are driven by the same ones. Latencies go to an
array, and into a histogram when all is over: recording costs the loop nothing that could be seen.
"""

from __future__ import annotations

import asyncio
import random
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from durable_bench.cpu import cpu_seconds
from durable_bench.histogram import Histogram, merged
from durable_bench.pacer import Pacer, TimerPacer
from durable_engine import DurableError

Operation = Callable[[], Awaitable[Any]]
"""Begins the next call, whichever that is."""

BURST_MAX: Final = 256
"""An open loop that fell behind sends so many calls before it lets replies in."""
ARRIVALS: Final = ("constant", "poisson")


class Exhausted(Exception):
    """Raised by an operation: this repetition has nothing left to call."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one repetition saw."""

    calls: int
    """Acknowledged."""
    seconds: float
    """From the first send to the last reply."""
    histogram: Histogram
    """Of the acknowledged calls."""
    client_us: float
    """Processor time of this process for each call, in microseconds."""
    shards_us: float
    """The same of the processes that were named, their threads included."""
    errors: dict[str, int] = field(default_factory=dict)
    """Calls that failed, by the name of the error."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """The same calls, by what the error says of the state: not_applied, applied or unknown."""
    behind_ms: float = 0.0
    """Open loop: how late the generator itself sent, in milliseconds, p99. It is part of each latency."""
    behind_max_ms: float = 0.0

    @property
    def per_second(self) -> float:
        """Acknowledged calls in a second."""
        return self.calls / self.seconds if self.seconds else 0.0


def together(samples: Sequence[Sample]) -> Sample:
    """What several client processes saw at the same time, as one. `shards_us`, which they share, is left to others."""
    calls = sum(one.calls for one in samples)
    return Sample(
        calls=calls,
        seconds=max(one.seconds for one in samples),
        histogram=merged(one.histogram for one in samples),
        client_us=sum(one.client_us * one.calls for one in samples) / max(calls, 1),
        shards_us=0.0,
        errors=dict(sum((Counter(one.errors) for one in samples), Counter())),
        outcomes=dict(sum((Counter(one.outcomes) for one in samples), Counter())),
        behind_ms=max(one.behind_ms for one in samples),
        behind_max_ms=max(one.behind_max_ms for one in samples),
    )


class _Recorder:
    """Gathers one repetition."""

    def __init__(self, processes: Iterable[int], now: Callable[[], float]) -> None:
        self.now = now
        self.latencies = array("d")
        self._processes = tuple(processes)
        self._errors: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._client, self._shards = time.process_time(), cpu_seconds(self._processes)
        self.begun = now()

    def failed(self, error: Exception) -> None:
        self._errors[type(error).__name__] += 1
        self._outcomes[getattr(error, "outcome", "unknown")] += 1

    def sample(self, behind: Iterable[float] = ()) -> Sample:
        seconds = self.now() - self.begun
        # An error costs the processor as well, so it counts as a call here.
        calls = max(len(self.latencies) + self._errors.total(), 1)
        late = Histogram.of(behind)
        return Sample(
            calls=len(self.latencies),
            seconds=seconds,
            client_us=(time.process_time() - self._client) / calls * 1e6,
            shards_us=(cpu_seconds(self._processes) - self._shards) / calls * 1e6,
            histogram=Histogram.of(self.latencies),
            errors=dict(self._errors),
            outcomes=dict(self._outcomes),
            behind_ms=late.percentile_ms(99.0),
            behind_max_ms=late.percentile_ms(100.0),
        )


async def closed_loop(
    operation: Operation,
    *,
    in_flight: int,
    seconds: float,
    processes: Iterable[int] = (),
    tolerated: tuple[type[Exception], ...] = (DurableError,),
) -> Sample:
    """`in_flight` callers, each waiting for its reply, until `seconds` are over or the operation is exhausted.

    Errors of the kinds `tolerated` are counted; any other ends the run. `processes` are ids of those whose processor
    time is of interest.
    """
    now = time.perf_counter
    recorder = _Recorder(processes, now)
    latencies, end = recorder.latencies, recorder.begun + seconds

    async def caller() -> None:
        sent = now()
        while sent < end:
            try:
                await operation()
            except Exhausted:
                return
            except tolerated as error:
                recorder.failed(error)
                await asyncio.sleep(0)  # an error at once must not keep the others from their turn
                sent = now()
                continue
            replied = now()
            latencies.append(replied - sent)
            sent = replied

    async with asyncio.TaskGroup() as callers:
        for _ in range(in_flight):
            callers.create_task(caller())
    return recorder.sample()


async def open_loop(
    operation: Operation,
    *,
    rate: float,
    seconds: float,
    processes: Iterable[int] = (),
    arrivals: str = "constant",
    seed: int = 0,
    pacer: Pacer | None = None,
    tolerated: tuple[type[Exception], ...] = (DurableError,),
) -> Sample:
    """`rate` calls a second on a schedule, whatever becomes of them; then wait for all that are not answered yet.

    A latency counts from the moment when its call was to leave. `arrivals`: evenly ("constant"), or at random with
    exponential gaps ("poisson"), which `seed` makes the same each time.
    """
    if pacer is None:
        with TimerPacer() as real:
            return await _Open(operation, real, processes, tolerated).run(schedule(rate, seconds, arrivals, seed))
    return await _Open(operation, pacer, processes, tolerated).run(schedule(rate, seconds, arrivals, seed))


def schedule(rate: float, seconds: float, arrivals: str = "constant", seed: int = 0) -> Iterator[float]:
    """When calls are to leave, in seconds from the beginning."""
    if arrivals == "constant":
        yield from (number / rate for number in range(int(rate * seconds)))
        return
    if arrivals != "poisson":
        raise ValueError(f"arrivals are {' or '.join(ARRIVALS)}, not {arrivals!r}")
    gaps = random.Random(seed)
    moment = gaps.expovariate(rate)
    while moment < seconds:
        yield moment
        moment += gaps.expovariate(rate)


class _Open:
    """One run of an open loop."""

    def __init__(
        self, operation: Operation, pacer: Pacer, processes: Iterable[int], tolerated: tuple[type[Exception], ...]
    ) -> None:
        self._operation = operation
        self._pacer = pacer
        self._tolerated = tolerated
        self._recorder = _Recorder(processes, pacer.now)
        self._unanswered = 0
        self._all_answered = asyncio.Event()
        self._failure: BaseException | None = None
        self._over = False
        self._behind = array("d")

    async def run(self, offsets: Iterable[float]) -> Sample:
        burst = 0
        for offset in offsets:
            intended = self._recorder.begun + offset
            now = self._pacer.now()
            if now < intended:
                await self._pacer.until(intended)
                now, burst = self._pacer.now(), 0
            elif burst >= BURST_MAX:
                await asyncio.sleep(0)
                now, burst = self._pacer.now(), 0
            burst += 1
            self._behind.append(now - intended)
            if self._over or not self._send(intended):
                break
        while self._unanswered:
            self._all_answered.clear()
            await self._all_answered.wait()
        if self._failure is not None:
            raise self._failure
        return self._recorder.sample(self._behind)

    def _send(self, intended: float) -> bool:
        """Begin the next call; False when there is none."""
        try:
            answer = asyncio.ensure_future(self._operation())
        except Exhausted:
            return False
        except self._tolerated as error:
            self._recorder.failed(error)
            return True
        self._unanswered += 1
        answer.add_done_callback(lambda answered: self._on_answer(answered, intended))
        return True

    def _on_answer(self, answer: asyncio.Future[Any], intended: float) -> None:
        self._unanswered -= 1
        if not self._unanswered:
            self._all_answered.set()
        error = asyncio.CancelledError() if answer.cancelled() else answer.exception()
        if error is None:
            self._recorder.latencies.append(self._pacer.now() - intended)
        elif isinstance(error, self._tolerated):
            self._recorder.failed(error)
        else:
            self._over = True
            self._failure = None if isinstance(error, Exhausted) else error
