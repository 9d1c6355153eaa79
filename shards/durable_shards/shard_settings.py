"""How one shard behaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from durable_shards.alarm_settings import AlarmSettings
from durable_storage.limits import PARTITIONS


@dataclass(frozen=True, slots=True)
class ShardSettings:
    """How one shard behaves. Times in seconds."""

    shard: int = 0
    owned: range = range(PARTITIONS)
    strict_readonly: bool = False
    """Check that readonly handlers change nothing (dev and tests)."""
    gated_max: int = 100_000
    """Answers that may wait for commits; past it new calls are Overloaded."""
    memory_bytes_max: int = 1 << 30
    """Estimated memory of live and hibernated objects; above it the longest idle are forgotten."""
    key_retention: timedelta = timedelta(hours=24)
    """How long the result of a user's idempotency key is kept."""
    auto_key_retention: timedelta = timedelta(hours=1)
    """The same for keys that the client library makes itself: longer than any client goes on retrying."""
    alarms: AlarmSettings = field(default_factory=AlarmSettings)
    parked: frozenset[str] = field(default_factory=frozenset)
    """Objects (text of their addresses) that killed their shard too often and are not run."""
