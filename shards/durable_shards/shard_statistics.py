"""Gathers what a shard tells of itself from its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_shards.statistics import SchedulerStatistics, ShardStatistics

if TYPE_CHECKING:
    from durable_shards.shard import Shard


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
