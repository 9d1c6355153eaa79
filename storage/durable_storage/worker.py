"""A thread of a store's own: jobs in through a queue, results out into the event loop.

A SQLite file's COMMIT blocks for an fsync, and SQLite wants one thread per connection at a time. This is an executor
with one thread and no locks of its own: half the cost of `run_in_executor` per job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_Job = tuple[Callable[..., Any], tuple[Any, ...], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


class Worker:
    """Runs one job after the other, in the order given."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        # A daemon, so that a program which forgot to close its engine can still end.
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, job: Callable[..., R], *args: Any) -> R:
        """The job's result. A caller that is cancelled does not stop the job."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._jobs.put((job, args, future, loop))
        return await future

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, args, future, loop = item
            try:
                result, error = job(*args), None
            except BaseException as raised:
                result, error = None, raised
            try:
                loop.call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:
                pass  # The loop is closed: nobody waits any more.
            # The thread sleeps in get() with these names bound otherwise, and keeps a whole batch alive.
            del item, job, args, future, loop, result, error

    async def close(self) -> None:
        """Finish the jobs that were given, then end the thread."""
        await self.run(lambda: None)
        self._jobs.put(None)
        self._thread.join()


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
