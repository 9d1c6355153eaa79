"""The seam between a shard and what makes its alarms fire, and what both sides know of firings that failed.

The rows in the store are the truth; a scheduler only calls `fire` when one is due, and whether it fires is decided in
its object's turn. The default is `durable_shards.deadline_scheduler`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from durable_shards.errors import CallTimeout, NotOwner, ObjectParked, Overloaded
from durable_shards.firing import Firing
from durable_shards.statistics import SchedulerStatistics
from durable_storage.address import Address
from durable_storage.errors import DurableError, PersistenceFailed, Unavailable
from durable_storage.store import AlarmRow, DueAlarm

HOLD_SECONDS: Final = 0.5
"""Before an alarm is offered again whose object could not be reached."""
PARKED_OBJECT_SECONDS: Final = 30.0
"""The same for an object that is parked."""
UNNOTED_SECONDS: Final = 5.0
"""The same when not even the alarm's failure could be written down."""

Fire = Callable[[DueAlarm, Firing], None]
Failed = Callable[[DueAlarm, str, Firing], None]


class Scheduler(Protocol):
    """Decides when an alarm's object is told. All methods are called on the shard's loop."""

    async def start(self, fire: Fire, failed: Failed) -> None:
        """Begin. `fire(alarm, peer)` tells the object; `failed(alarm, problem, peer)` puts a failure into its row.

        Raises what makes it impossible; the shard does not start then.
        """

    def armed(self, address: Address, rows: Sequence[AlarmRow]) -> None:
        """A commit armed these alarms of an object, or armed them anew."""

    def disarmed(self, address: Address, names: Sequence[str]) -> None:
        """A commit removed these, or parked them."""

    def statistics(self) -> SchedulerStatistics:
        """A snapshot."""

    def pause(self) -> None:
        """Begin no more firings: the shard drains."""

    async def close(self) -> None:
        """Let go of everything."""


def hold_seconds(error: DurableError, began: bool) -> float | None:
    """How long to hold back an alarm whose object could not be told; None when it was told, and failed."""
    if isinstance(error, ObjectParked):
        return PARKED_OBJECT_SECONDS
    is_undone_with_others = isinstance(error, PersistenceFailed) and (error.retryable or not began)
    is_unreached = isinstance(error, (Overloaded, NotOwner, Unavailable, CallTimeout)) and not began
    return HOLD_SECONDS if is_undone_with_others or is_unreached else None
