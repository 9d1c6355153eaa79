"""An event loop in which time passes only when there is nothing else to do.

Under the real clock the load of the machine decides how many callbacks run before a timer does. A history that fails
would then not fail again when hypothesis replays it, and could not be made small.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class IdleTimeLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, with the time of its timers made of the waits that it would have made."""

    def __init__(self) -> None:
        self._jumps = _Jumps()
        super().__init__(self._jumps)

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._jumps.seconds


class _Jumps(selectors.SelectSelector):
    """Waits for nobody. Nothing but the loop's timers may wake it: no thread, no socket."""

    seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[Any] = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("what runs in this loop waits for something that can never happen")
            self.seconds += max(timeout, 0.0)
        return ready
