"""What a shard tells of itself: one frozen tree, the same for the command line, metrics and tests."""

from __future__ import annotations

from dataclasses import dataclass

from durable_storage.writer import WriterStatistics


@dataclass(frozen=True, slots=True)
class SchedulerStatistics:
    """What a scheduler of alarms has in hand; counts since it started."""

    armed: int
    """Alarms in memory: those of the next minute or two."""
    in_flight: int
    fired: int
    late_seconds_max: float


@dataclass(frozen=True, slots=True)
class ShardStatistics:
    """A shard at one moment; counts since it started."""

    shard: int
    epoch: int
    seq: int
    live: int
    hibernated: int
    turns: int
    failures: int
    """Turns that ended with an error and were undone."""
    refusals: int
    """Calls that were answered with an error without being run, or whose commit was refused."""
    gated: int
    """Answers that wait for a commit."""
    loads: int
    loading: int
    hibernations: int
    evictions: int
    lease_holds: int
    """Answers that had to wait for the ownership to be confirmed."""
    one_way_errors: int
    memory_bytes: int
    """Estimate for all objects."""
    writer: WriterStatistics
    alarms: SchedulerStatistics
    alarm_failures: int
    """Firings that failed and were noted."""
    alarms_parked: int
    """Alarms that were given up, until somebody arms them again."""
