"""Async handlers: the first step without a task, a task only for those that really wait.

Most async handlers never suspend. Their coroutine is driven by one `send(None)`, which costs a tenth of a task.
During that step `asyncio.current_task()` answers with a `TaskStandIn`, so that `asyncio.timeout` and
`TaskGroup` find what they need; when the coroutine does suspend, a real task takes over where it stands and the
stand-in passes cancellation on to it.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from types import coroutine
from typing import Any

from durable_shards.activation import SuspendedTurn
from durable_shards.board import Board

current_turn: ContextVar[SuspendedTurn | None] = ContextVar("durable_turn", default=None)
"""The turn whose async handler runs; outgoing calls take their chain, deadline and keys from it."""


class TaskStandIn:
    """What `asyncio.current_task()` gives during the first step of a turn."""

    __slots__ = ("__weakref__", "_cancel_message", "_cancelling", "begun", "real")

    def __init__(self) -> None:
        self.real: asyncio.Task[Any] | None = None
        self.begun = False
        """The real task has taken a step."""
        self._cancelling = 0
        self._cancel_message: Any = None

    def cancel(self, msg: Any = None) -> bool:
        if self.real is None:
            self._cancelling += 1
            self._cancel_message = msg
            return True
        if self.begun:
            return self.real.cancel(msg)
        # A task that is cancelled before its first step never runs its coroutine; ours is half way through.
        self.real.get_loop().call_soon(self.real.cancel, msg)
        return True

    def cancelling(self) -> int:
        return self._cancelling if self.real is None else self.real.cancelling()

    def uncancel(self) -> int:
        if self.real is not None:
            return self.real.uncancel()
        self._cancelling = max(0, self._cancelling - 1)
        return self._cancelling

    def done(self) -> bool:
        return self.real is not None and self.real.done()

    def cancelled(self) -> bool:
        return self.real is not None and self.real.cancelled()

    def get_name(self) -> str:
        return "durable turn" if self.real is None else self.real.get_name()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def get_coro(self) -> Any:
        return None if self.real is None else self.real.get_coro()

    def add_done_callback(self, callback: Callable[[Any], Any], **options: Any) -> None:
        if self.real is None:
            raise RuntimeError("the turn has not suspended yet; await something before watching its task")
        self.real.add_done_callback(callback, **options)

    def became(self, task: asyncio.Task[Any]) -> None:
        """The coroutine suspended; `task` goes on with it."""
        self.real = task
        if self._cancelling:
            self.cancel(self._cancel_message)


class UserExit(Exception):
    """SystemExit or KeyboardInterrupt raised by a handler: as they are, they would end the event loop."""

    def __init__(self, raised: BaseException) -> None:
        super().__init__(raised)
        self.raised = raised


def first_step(
    turn: SuspendedTurn, start: Callable[[], Any], loop: asyncio.AbstractEventLoop, board: Board
) -> tuple[bool, Any]:
    """Begin an async handler: (True, result) if it ended at once, or (False, None) with `turn.work` going on.

    Raises what the handler raises. Must be called outside any task. `start` makes the coroutine.
    """
    stand_in = TaskStandIn()
    token = current_turn.set(turn)
    _enter_task(loop, stand_in)  # type: ignore[arg-type]
    try:
        coro = start()
        awaited = coro.send(None)
    except StopIteration as stop:
        return True, stop.value
    else:
        turn.step_out()
        turn.work = loop.create_task(_go_on(coro, awaited, turn, stand_in, board))  # copies the context
        stand_in.became(turn.work)
        return False, None
    finally:
        _leave_task(loop, stand_in)  # type: ignore[arg-type]
        current_turn.reset(token)


async def _go_on(
    coro: Coroutine[Any, Any, Any], awaited: Any, turn: SuspendedTurn, stand_in: TaskStandIn, board: Board
) -> Any:
    stand_in.begun = True
    try:
        return await _resumed(coro, awaited, turn, board)
    except (SystemExit, KeyboardInterrupt) as raised:
        raise UserExit(raised) from raised


@coroutine
def _resumed(
    coro: Coroutine[Any, Any, Any], awaited: Any, turn: SuspendedTurn, board: Board
) -> Generator[Any, Any, Any]:
    """Yield on behalf of a coroutine that has already yielded `awaited`.

    Around each step the object's alarms and sends are put in place, and the watchdog's board says whose code runs.
    """
    while True:
        error: BaseException | None = None
        sent: Any = None
        try:
            sent = yield awaited
        except GeneratorExit:
            coro.close()
            raise
        except BaseException as raised:
            error = raised
        board.enter(turn.act.label)
        if not turn.abandoned:
            turn.step_in()
        try:
            awaited = coro.send(sent) if error is None else coro.throw(error)
        except StopIteration as stop:
            return stop.value
        finally:
            if not turn.abandoned:
                turn.step_out()
            board.leave()
