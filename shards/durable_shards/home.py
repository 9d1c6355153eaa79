"""What an object in memory needs of the shard around it, so that it need not know the shard."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from durable_storage.store import AlarmRow

if TYPE_CHECKING:
    from durable_shards.activation import Activation, PendingEntry
    from durable_shards.shard_events import Eviction, Fired
    from durable_shards.spec import ClassSpec, Options
    from durable_shards.wire import Call


class Home(Protocol):
    """Implemented by the table of the object's class."""

    spec: ClassSpec
    shard: int
    """The shard's number."""
    uncommitted_max: int
    """Answers of one object that may wait for commits; beyond it, calls are Overloaded."""

    def now(self) -> datetime:
        """Wall time."""

    def partition_of(self, object_id: str) -> int:
        """Of an object of this class."""

    def label_of(self, object_id: str) -> bytes:
        """What `Board.enter` takes for an object of this class."""

    def engine_for(self, act: Activation) -> Any:
        """What `self.engine` is inside the object's handlers."""

    def commit(self, entry: PendingEntry) -> None:
        """Put an entry into the gathering batch."""

    def release(self, outputs: list[tuple[Call, Any]], in_batch: int) -> None:
        """These outcomes are durable: they may leave, as far as they were there when their batch left."""

    def undo(self, entry: PendingEntry, error: Exception) -> None:
        """The store refused an entry."""

    def hibernate(self, act: Activation) -> None:
        """Keep no more than the bytes of a clean object."""

    def evict(self, act: Activation, reason: Eviction | None = "asked") -> None:
        """Forget a clean object; without a `reason`, one that could not be loaded."""

    def watch(self, act: Activation) -> None:
        """See to it that the object hibernates when it is idle for long."""

    def patience(self, object_id: str) -> float | None:
        """Seconds of idleness after which a live object does not stay as it is; None for never."""

    def options(self, object_id: str) -> Options:
        """How long an object may be idle: as its class says, unless it was woken with options of its own."""

    def set_options(self, act: Activation, options: Options) -> None:
        """Give a live object options of its own, for as long as it is in memory, asleep or not."""

    def alarms_committed(self, act: Activation, before: dict[str, AlarmRow], fired: Sequence[Fired]) -> None:
        """The object's durable alarms are other ones than before, and these were fired."""
