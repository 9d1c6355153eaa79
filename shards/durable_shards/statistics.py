"""What a shard tells of itself: one frozen tree, the same for the command line, metrics and tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from durable_storage.writer import WriterStatistics

if TYPE_CHECKING:
    from durable_shards.shard import Shard


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


def statistics_of(shard: Shard) -> ShardStatistics:
    """A snapshot of every moving part."""
    live, hibernated = shard.directory.counts()
    scheduler = shard.alarms.scheduler.statistics() if shard.alarms else SchedulerStatistics(0, 0, 0, 0.0)
    return ShardStatistics(
        shard=shard.settings.shard,
        epoch=shard.epoch,
        seq=shard.seq,
        live=live,
        hibernated=hibernated,
        turns=shard.turns.count,
        failures=shard.turns.failures,
        refusals=shard.gate.refusals,
        gated=shard.gate.waiting,
        loads=shard.loader.loads,
        loading=shard.loader.waiting(),
        hibernations=shard.idle.hibernated,
        evictions=shard.idle.evicted,
        lease_holds=shard.gate.lease.holds,
        one_way_errors=shard.gate.one_way_errors,
        memory_bytes=shard.idle.estimate(),
        writer=shard.writer.statistics(),
        alarms=scheduler,
        alarm_failures=shard.firings.failures,
        alarms_parked=shard.firings.parked,
    )
