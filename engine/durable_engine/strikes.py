"""Which objects kill or block their shards, and when they are taken out of service.

A handler that ends the process (`os._exit`, a crash in C code) or never gives the loop back takes all
objects of its shard with it. The shard comes back; if the same object does it again and again, it is parked:
calls to it are refused with `ObjectParked` until somebody unparks it, and its neighbours live in peace.
"""

from __future__ import annotations

import signal
from collections import deque

from durable_shards.control import EXIT_DRAINED, EXIT_FAILED, EXIT_FENCED

PARKED_CHARACTERS_MAX = 20_000
"""All addresses together, so that they fit into one control message; beyond it the longest parked is tried again."""

_ORDERLY_EXITS = frozenset((EXIT_DRAINED, EXIT_FAILED, EXIT_FENCED))
_FROM_OUTSIDE = frozenset((signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))


class Strikes:
    """Counts strikes per object; `strikes_max` within `window_seconds` park it."""

    def __init__(self, strikes_max: int, window_seconds: float) -> None:
        self._strikes_max = strikes_max
        self._window_seconds = window_seconds
        self._struck: dict[str, deque[float]] = {}
        self._parked: dict[str, None] = {}
        """In the order in which they were parked."""

    def strike(self, address: str, now: float) -> bool:
        """Count one; whether this one parked the object."""
        times = self._struck.setdefault(address, deque())
        times.append(now)
        while times[0] <= now - self._window_seconds:
            times.popleft()
        if len(times) < self._strikes_max or address in self._parked:
            return False
        return self.park(address)

    def park(self, address: str) -> bool:
        """Take the object out of service; whether it was in service."""
        if address in self._parked:
            return False
        self._parked[address] = None
        while sum(map(len, self._parked)) > PARKED_CHARACTERS_MAX:
            self.unpark(next(iter(self._parked)))
        return True

    def count(self, address: str) -> int:
        """Strikes against an object."""
        return len(self._struck.get(address, ()))

    def unpark(self, address: str) -> None:
        """Serve the object again, with a clean record."""
        self._parked.pop(address, None)
        self._struck.pop(address, None)

    @property
    def parked(self) -> tuple[str, ...]:
        """The parked objects, sorted."""
        return tuple(sorted(self._parked))


def is_strike(status: int, *, killed_by_watchdog: bool) -> bool:
    """Whether a death, as `os.waitstatus_to_exitcode` puts it, is laid at the door of the running object.

    A SIGKILL that is not the watchdog's own came from an operator or from the kernel: whoever was running
    then is a bystander.
    """
    if killed_by_watchdog:
        return True
    if status < 0:
        return -status not in _FROM_OUTSIDE
    return status not in _ORDERLY_EXITS


def describe_exit(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"exit code {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
