"""Closed and open loops: who waits for whom, and from when latency counts."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from durable_bench.cpu import cpu_seconds
from durable_bench.histogram import Histogram
from durable_bench.load import Exhausted, Sample, closed_loop, open_loop, schedule, together
from durable_bench.pacer import TimerPacer
from durable_engine import CallTimeout, Overloaded


class HandPacer:
    """A clock that jumps to wherever somebody waits for, so that a schedule of seconds takes none."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    async def until(self, moment: float) -> None:
        for _ in range(4):  # who can go on does so before time does
            await asyncio.sleep(0)
        self.time = max(self.time, moment)


class Stalling:
    """A server that answers at once, but at one moment stands still for a time; it answers nothing meanwhile."""

    def __init__(self, pacer: HandPacer, at: float, seconds: float) -> None:
        self.pacer, self.at, self.seconds = pacer, pacer.time + at, seconds
        self.sent = 0

    async def __call__(self) -> None:
        self.sent += 1
        if self.at <= self.pacer.time < self.at + self.seconds:
            self.pacer.time = self.at + self.seconds  # nobody runs meanwhile, the generator neither


async def test_an_open_loop_counts_from_the_moment_when_a_call_was_to_leave() -> None:
    """100 calls a second meet a stall of one second: a hundred of them waited, half of them longer than half of it."""
    pacer = HandPacer()
    server = Stalling(pacer, at=2.0, seconds=1.0)

    sample = await open_loop(server, rate=100, seconds=10, pacer=pacer)

    assert sample.calls == server.sent == 1000
    assert sample.histogram.percentile_ms(89.9) < 1
    assert sample.histogram.percentile_ms(95.0) == pytest.approx(500, abs=15)
    assert sample.histogram.percentile_ms(100.0) == pytest.approx(1000, abs=15)
    assert sample.behind_max_ms == pytest.approx(1000, abs=15)


async def test_calls_that_are_slow_do_not_keep_an_open_loop_from_sending() -> None:
    """All leave on time though none is answered before the last one has left; then all answers are waited for."""
    pacer = HandPacer()
    answers: list[asyncio.Future[None]] = []

    def operation() -> asyncio.Future[None]:
        answers.append(asyncio.get_running_loop().create_future())
        if len(answers) == 50:
            for answer in answers:
                answer.set_result(None)
        return answers[-1]

    sample = await open_loop(operation, rate=50, seconds=1, pacer=pacer)

    assert sample.calls == 50
    assert sample.behind_max_ms == pytest.approx(0, abs=0.01)
    assert sample.histogram.percentile_ms(100) == pytest.approx(980, rel=0.01)


def test_random_arrivals_have_their_rate_and_their_seed() -> None:
    """About as many as asked for, the same ones each time, and others with another seed."""
    first, same, other = (list(schedule(1000, 10, "poisson", seed)) for seed in (1, 1, 2))

    assert len(first) == pytest.approx(10_000, rel=0.05)
    assert first == same != other
    assert first == sorted(first)
    assert list(schedule(4, 1)) == [0, 0.25, 0.5, 0.75]
    with pytest.raises(ValueError, match="constant or poisson"):
        next(schedule(1, 1, "daily"))


async def test_a_closed_loop_has_so_many_callers_and_no_more() -> None:
    """Each waits for its reply before it calls again."""
    under_way, seen = 0, set()

    async def operation() -> None:
        nonlocal under_way
        under_way += 1
        seen.add(under_way)
        await asyncio.sleep(0)
        under_way -= 1

    sample = await closed_loop(operation, in_flight=7, seconds=0.05)

    assert max(seen) == 7
    assert sample.calls == sample.histogram.count > 7
    assert sample.per_second == pytest.approx(sample.calls / sample.seconds)


def calls_of(*errors: type[Exception] | None) -> Iterator[Exception | None]:
    return iter([None if error is None else error() for error in errors])


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("is_open", [True, False])
async def test_errors_are_counted_and_are_no_calls(is_open: bool, at_once: bool) -> None:
    """By name and by outcome, whether the call is refused at once or fails later; Exhausted ends the repetition."""
    answers = calls_of(None, Overloaded, CallTimeout, None, Overloaded)

    def fail() -> None:
        error = next(answers, Exhausted())
        if error is not None:
            raise error

    async def late() -> None:
        await asyncio.sleep(0)
        fail()

    async def right() -> None:
        """An answer."""

    def operation() -> object:
        if at_once:
            fail()
            return right()
        return late()

    if is_open:
        sample = await open_loop(operation, rate=100, seconds=1, pacer=HandPacer())  # type: ignore[arg-type]
    else:
        sample = await closed_loop(operation, in_flight=1, seconds=30)  # type: ignore[arg-type]

    assert sample.calls == 2
    assert sample.errors == {"Overloaded": 2, "CallTimeout": 1}
    assert sample.outcomes == {"not_applied": 2, "unknown": 1}


@pytest.mark.parametrize("is_open", [True, False])
async def test_what_no_engine_raises_ends_the_run(is_open: bool) -> None:
    """A mistake in a workload is not counted away."""

    async def operation() -> None:
        raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError, allow_unwrapped=True):
        if is_open:
            await open_loop(operation, rate=1000, seconds=1, pacer=HandPacer())
        else:
            await closed_loop(operation, in_flight=1, seconds=1)


async def test_the_pacer_of_the_machine_never_wakes_too_early() -> None:
    """Steps far below the resolution of an event loop's timers, and calls sent by it."""
    with TimerPacer() as pacer:
        for step in (0.0001, 0.0003, 0.002):
            moment = pacer.now() + step
            await pacer.until(moment)
            assert pacer.now() >= moment

    async def operation() -> None:
        """Answers at once."""

    sample = await open_loop(operation, rate=2000, seconds=0.1, processes=[os.getpid()])
    assert sample.calls == 200
    assert sample.seconds >= 0.0995
    assert 0 < sample.behind_ms <= sample.behind_max_ms


def test_samples_of_clients_become_one() -> None:
    """Calls, errors and histograms add up; the processor time of a call is that of the average call."""
    one = Sample(100, 2.0, Histogram.of([0.001] * 100), 5.0, 0.0, {"Overloaded": 1}, {"not_applied": 1}, 1.0, 2.0)
    other = replace(one, calls=300, seconds=3.0, histogram=Histogram.of([0.002] * 300), client_us=9.0, behind_ms=4.0)
    both = together([one, other])

    assert (both.calls, both.seconds, both.client_us, both.behind_ms) == (400, 3.0, 8.0, 4.0)
    assert both.histogram.count == 400
    assert (both.errors, both.outcomes) == ({"Overloaded": 2}, {"not_applied": 2})


def test_processor_time_of_a_process_is_what_it_says_of_itself() -> None:
    """To the kernel's 10 ms, for user and system time together."""
    while time.process_time() < 0.1:
        pass

    assert cpu_seconds([os.getpid()]) == pytest.approx(time.process_time(), abs=0.05)
