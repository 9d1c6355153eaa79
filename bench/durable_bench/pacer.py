"""A clock to send by. It wakes within some 50 microseconds of a moment; the timers of event loops count milliseconds.

Calls of an open loop are to leave when they are due. Waiting for that in a busy loop would take a core from what is
measured, and on a small machine that is half of it. Linux has `timerfd` for this; Python has it since 3.13 only, hence
ctypes.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from types import TracebackType
from typing import Final, Protocol, Self

_CLOCK_MONOTONIC: Final = 1
_NON_BLOCKING: Final = os.O_NONBLOCK | os.O_CLOEXEC
_ABSOLUTE: Final = 1


class Pacer(Protocol):
    """Time, and waiting for it; tests have one that is moved by hand."""

    def now(self) -> float:
        """Seconds since whenever."""

    async def until(self, moment: float) -> None:
        """Return when `now()` has come to `moment`, which must lie ahead."""


class _TimeSpec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class _TimerSpec(ctypes.Structure):
    _fields_ = [("interval", _TimeSpec), ("value", _TimeSpec)]


class TimerPacer:
    """The real one, of the running event loop: `with TimerPacer() as pacer`. Linux."""

    now = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Future[None] | None = None
        self._timer = -1

    def __enter__(self) -> Self:
        self._timer = _checked(self._libc.timerfd_create(_CLOCK_MONOTONIC, _NON_BLOCKING))
        self._loop.add_reader(self._timer, self._woken)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.remove_reader(self._timer)
        os.close(self._timer)

    async def until(self, moment: float) -> None:
        """One wait at a time."""
        self._waiting = self._loop.create_future()
        seconds, part = divmod(moment, 1.0)
        spec = _TimerSpec(_TimeSpec(0, 0), _TimeSpec(int(seconds), int(part * 1e9)))
        _checked(self._libc.timerfd_settime(self._timer, _ABSOLUTE, ctypes.byref(spec), None))
        await self._waiting

    def _woken(self) -> None:
        os.read(self._timer, 8)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
