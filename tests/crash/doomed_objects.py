"""Objects that take their shard down at a moment that a test chooses, once; or that end it in ways of their own."""

from __future__ import annotations

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

from durable_engine import DurableObject, alarm, handler
from durable_storage import crashpoints

taken: list[bytearray] = []
"""What leaks from `Nuisance.take`."""
FATES_VARIABLE = "DURABLE_DOOMED_FATES"
"""Environment variable with the folder that remembers what has happened once already, in whatever process."""


def is_first(what: str) -> bool:
    """Whether this was never asked before, in any process."""
    try:
        (Path(os.environ[FATES_VARIABLE]) / what).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def die_once(what: str) -> None:
    """Kill this process, unless that has been done for `what`."""
    if is_first(what):
        os.kill(os.getpid(), signal.SIGKILL)


class Doomed(DurableObject):
    """Counts, and orders the death of its shard."""

    count: int = 0

    @handler
    def increment(self) -> int:
        self.count += 1
        return self.count

    @handler
    def increment_and_die(self, point: str) -> int:
        if is_first(f"{self.id}-{point}"):
            crashpoints.arm(point)
        self.count += 1
        return self.count

    @handler
    def get(self) -> int:
        return self.count


class Waking(DurableObject):
    """Its shard dies while it is loaded."""

    loads: int = 0

    def after_load(self) -> None:
        self.loads += 1
        die_once(f"waking-{self.id}")

    @handler
    def get(self) -> int:
        return self.loads


class Ringing(DurableObject):
    """Its shard dies while its alarm is fired."""

    rings: int = 0

    @handler
    def begin(self) -> None:
        self.alarms.schedule(Ringing.ring, after=timedelta(0))

    @handler(readonly=True)
    def get(self) -> int:
        return self.rings

    @alarm
    def ring(self) -> None:
        self.rings += 1
        die_once(f"ringing-{self.id}")


class Nuisance(DurableObject):
    """Changes its state, and then does what no handler should."""

    count: int = 0

    @handler
    def get(self) -> int:
        return self.count

    @handler
    def meddle(self, folder: str) -> int:
        """With all that belongs to the whole process."""
        os.chdir(folder)
        os.environ.clear()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        sys.setrecursionlimit(500)
        sys.stdout = sys.stderr = None  # type: ignore[assignment]
        self.count += 1
        return self.count

    @handler
    def take(self, size: int) -> int:
        """So many bytes, and no way to give them back."""
        self.count += 1
        taken.append(bytearray(size))
        return self.count

    @handler
    def leave(self, how: str) -> None:
        self.count += 1
        if how == "os._exit":
            os._exit(3)
        os.kill(os.getpid(), signal.SIGABRT)
