"""Virtual time: many event loops, one for each process that is played, stepped by one seeded scheduler.

The idea is FoundationDB's and TigerBeetle's: everything that is not deterministic (time, the wire, the store, the order
in which processes get to run) comes from one seed, so that a seed is a history. A process here is an event loop of
its own, so that it can be frozen (its loop is not stepped, time goes on) and killed (its loop is never stepped again:
no `finally` runs, as with kill -9). Nothing sleeps: when nobody has anything to do, time jumps to the next timer.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable
from contextvars import Context
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import count
from random import Random
from typing import Any

GRAIN_SECONDS = 1e-6
"""Timers are this late, so that a sum of floats that falls short by a bit is not armed again for ever."""
TRACE_LINES = 400
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)


class Violation(AssertionError):
    """A promise was broken. The text begins with the invariant's name."""


class Simulation:
    """Time, chance, and who runs next."""

    def __init__(self, seed: int, *, steps_max: int = 400_000) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now = 1000.0
        self.wall_offset = 0.0
        """How far the machines' wall clocks were set."""
        self.wall_latest = EPOCH
        """The latest that they showed before they were set back."""
        self.steps = 0
        self.violation: Violation | None = None
        self.over = False
        self.trace: deque[str] = deque(maxlen=TRACE_LINES)
        self.dump: Callable[[], str] = str
        """What a history that does not end looks like."""
        self._digest = blake2b(digest_size=8)
        self._steps_max = steps_max
        self._order = count()
        self._timers: list[tuple[float, int, ProcessLoop | None, Any]] = []
        self._awake: list[ProcessLoop] = []

    # What is told.

    def note(self, text: str) -> None:
        """One line of the history."""
        line = f"{self.now:12.6f} {text}"
        self.trace.append(line)
        self._digest.update(line.encode())

    def fail(self, text: str) -> None:
        """A promise is broken: the history ends here."""
        self.note(f"VIOLATION {text}")
        if self.violation is None:
            self.violation = Violation(text)

    @property
    def digest(self) -> str:
        """Of all lines so far: the same for the same seed."""
        return self._digest.copy().hexdigest()

    # Time.

    def wall(self) -> datetime:
        """What the wall clock shows."""
        return EPOCH + timedelta(seconds=self.now + self.wall_offset)

    def set_wall(self, offset: float) -> None:
        """Somebody sets the clocks."""
        self.wall_latest = max(self.wall_latest, self.wall())
        self.wall_offset = offset

    def later(self, seconds: float, function: Callable[..., None], *args: Any) -> None:
        """Call outside of all processes, when so much time has passed."""
        self.push(self.now + seconds, None, lambda: function(*args))

    def push(self, when: float, loop: ProcessLoop | None, what: Any) -> None:
        heapq.heappush(self._timers, (max(when, self.now), next(self._order), loop, what))

    def wake(self, loop: ProcessLoop) -> None:
        """A loop has something to do."""
        if not loop.listed and not loop.frozen and not loop.dead:
            loop.listed = True
            self._awake.append(loop)

    def run_until(self, reached: Callable[[], bool], seconds_max: float, what: str) -> None:
        """Let things happen. Raises Violation when `reached` is not within so much virtual time."""
        end = self.now + seconds_max
        while not reached():
            if self.violation is not None:
                raise self.violation
            if self.now > end or self.steps > self._steps_max:
                limit = f"{self.steps} steps" if self.steps > self._steps_max else f"{seconds_max:g} virtual seconds"
                self.fail(f"I9 liveness: {what} took more than {limit}\n{self.dump()}")
            else:
                self._step()
        if self.violation is not None:
            raise self.violation

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        self.push(end, None, lambda: None)
        self.run_until(lambda: self.now >= end, seconds + 1, "passing time")

    def _step(self) -> None:
        self.steps += 1
        awake = self._awake
        if awake:
            place = int(self.random.random() * len(awake))
            awake[place], awake[-1] = awake[-1], awake[place]
            loop = awake.pop()
            loop.listed = False
            loop.tick()
            if loop.ready:
                self.wake(loop)
            return
        when, _, owner, what = heapq.heappop(self._timers)
        if owner is None:
            self.now = when
            what()
        elif not what.cancelled() and not owner.dead:
            self.now = when
            owner.ready.append(what)
            self.wake(owner)


class ProcessLoop(asyncio.AbstractEventLoop):
    """The event loop of one process that is played."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        self.simulation = simulation
        self.name = name
        self.ready: deque[asyncio.Handle] = deque()
        self.listed = False
        self.frozen = False
        self.dead = False

    def tick(self) -> None:
        """One iteration: what is ready now, not what becomes ready meanwhile."""
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            for _ in range(len(self.ready)):
                if self.dead or self.frozen:
                    break
                handle = self.ready.popleft()
                if not handle._cancelled:  # type: ignore[attr-defined]
                    self.simulation.steps += 1
                    handle._run()
        finally:
            events._set_running_loop(before)

    def freeze(self) -> None:
        """SIGSTOP."""
        self.frozen = True

    def thaw(self) -> None:
        """SIGCONT."""
        self.frozen = False
        if self.ready:
            self.simulation.wake(self)

    def kill(self) -> None:
        """SIGKILL."""
        self.dead = True  # what was ready is kept until the end, for `bury` to find the coroutines in it

    def bury(self) -> None:
        """When the history is over: end what was left in the middle, so that no garbage collector does it later."""
        self.dead = True
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            for task in asyncio.all_tasks(self):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                for _ in range(20):
                    try:
                        task.get_coro().throw(GeneratorExit)  # type: ignore[union-attr]
                    except BaseException:
                        break
        finally:
            events._set_running_loop(before)

    # What asyncio asks of a loop.

    def time(self) -> float:
        return self.simulation.now

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        # A dead loop keeps it too: the step that killed its process goes on to its end, and `bury` needs what it began.
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        self.simulation.wake(self)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.simulation.now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        when = max(when, self.simulation.now) + GRAIN_SECONDS
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self.dead:
            self.simulation.push(when, self, handle)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is left in the heap, and passed over."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Somebody's exception that nobody caught: none is expected."""
        error = context.get("exception")
        if self.dead or self.simulation.over or "was never retrieved" in context["message"]:
            return
        if isinstance(error, Violation):
            self.simulation.fail(str(error))
        else:
            self.simulation.fail(f"I11 accounting: {self.name}: {context['message']}: {error!r}")


class ProcessClock:
    """The clock of the processes: implements `durable_shards.clock.Clock`."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def now(self) -> datetime:
        return self._simulation.wall()

    def monotonic(self) -> float:
        return self._simulation.now
