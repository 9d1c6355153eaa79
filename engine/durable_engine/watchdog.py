"""Judges by the heartbeats whether a shard's event loop still turns.

The heartbeat is written by the loop itself, not by a thread: a shard that sits in `while True` or in a
blocking call has a lively process and a dead loop, and it is the loop that its objects live in. The watchdog
first warns with a stack, then has the shard killed. It watches itself as well: when its own tick comes late
(a suspended machine, a starved supervisor), nobody's heartbeat can be judged, and the shards get a fresh
start.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

TICK_SECONDS = 0.1
_OWN_DELAY_MAX_MS = 1000


class Verdict(Enum):
    """What to do about a shard."""

    FINE = "fine"
    WARN = "warn"
    """Its loop is late: say so, once, with a stack."""
    KILL = "kill"


@dataclass(slots=True)
class Watchdog:
    """One shard's watchdog; `judge` is called about every TICK_SECONDS with the clock of the board."""

    stall_warning_ms: int
    stall_timeout_ms: int
    _warned: bool = False
    _looked_ms: int = field(default=0)
    _grace_until_ms: int = field(default=0)

    def judge(self, heartbeat_ms: int, now_ms: int) -> Verdict:
        """What the age of the heartbeat means."""
        if self._looked_ms and now_ms - self._looked_ms > _OWN_DELAY_MAX_MS:
            self._grace_until_ms = now_ms + self.stall_timeout_ms
        self._looked_ms = now_ms
        age_ms = now_ms - heartbeat_ms
        if age_ms < self.stall_warning_ms:
            self._warned = False
            return Verdict.FINE
        if age_ms >= self.stall_timeout_ms and now_ms >= self._grace_until_ms:
            return Verdict.KILL
        if self._warned:
            return Verdict.FINE
        self._warned = True
        return Verdict.WARN


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal (SIGSTOP, a debugger): then its loop is not to blame."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in ("T", "t")
