"""The seam between a shard and whatever schedules its alarms: any implementation of `Scheduler` will do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from durable_shards.firing import Firing
from durable_shards.schedulers import Failed, Fire
from durable_shards.shard import Shard
from durable_shards.statistics import SchedulerStatistics
from durable_shards.wire import Call
from durable_storage.address import Address
from durable_storage.errors import DurableError, StoreUnavailable
from durable_storage.store import AlarmRow, DueAlarm
from tests.shards.alarm_objects import Bell
from tests.shards.harness import Harness, claim, settle


class Waited(Firing):
    """A firing that is waited for."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def encode(self, call: Call, version: int, result: Any) -> Any:
        return result

    def put(self, call: Call, encoded: Any) -> None:
        self.ended.set_result(encoded)

    def fail(self, call: Call, error: DurableError) -> None:
        self.ended.set_exception(error)


class Noted:
    """A scheduler that notes what it is told, and fires when a test says so."""

    def __init__(self, _shard: Shard, refuses: DurableError | None = None) -> None:
        self.told: list[tuple[str, ...]] = []
        self.at: dict[str, Any] = {}
        self._refuses = refuses

    async def start(self, fire: Fire, failed: Failed) -> None:
        if self._refuses is not None:
            raise self._refuses
        self.fire, self.failed = fire, failed
        self.told.append(("start",))

    def armed(self, address: Address, rows: Sequence[AlarmRow]) -> None:
        self.at |= {row.name: row.at for row in rows}
        self.told.append(("armed", str(address), *(f"{row.name} {row.attempts}" for row in rows)))

    def disarmed(self, address: Address, names: Sequence[str]) -> None:
        self.told.append(("disarmed", str(address), *names))

    def statistics(self) -> SchedulerStatistics:
        return SchedulerStatistics(7, 0, 0, 0.0)

    def pause(self) -> None:
        self.told.append(("pause",))

    async def close(self) -> None:
        self.told.append(("close",))


def noted_of(harness: Harness) -> Noted:
    assert harness.shard.alarms is not None
    assert isinstance(harness.shard.alarms.scheduler, Noted)
    return harness.shard.alarms.scheduler


async def test_a_scheduler_hears_of_every_commit_and_fires_through_its_object() -> None:
    """parity 90: armed, armed anew, cancelled, fired, failed and parked: each is told once it is durable."""
    async with Harness([Bell], make_scheduler=Noted) as harness:
        scheduler = noted_of(harness)
        await harness.call(Bell, "a", "arm", ["ring", 10])
        await harness.call(Bell, "a", "arm", ["ring", 20])
        await harness.call(Bell, "a", "arm", ["chain", 30])
        await harness.call(Bell, "a", "disarm", ["chain"])
        assert await fired(scheduler, "ring") is True
        assert await harness.call(Bell, "a", "get") == ["ring"]
        assert harness.shard.statistics().alarms.armed == 7

        await harness.call(Bell, "a", "arm", ["tell", 0])
        for verdict in ("count", "park"):
            said = ["tell", scheduler.at["tell"].isoformat(), "it did not work", verdict]
            assert await harness.call(Bell, "a", "$alarm_failed", said) is True
        said = ["tell", (scheduler.at["tell"] + timedelta(1)).isoformat(), "of another arming", "park"]
        assert await harness.call(Bell, "a", "$alarm_failed", said) is False

    assert scheduler.told == [
        ("start",),
        ("armed", "Bell/a", "ring 0"),
        ("armed", "Bell/a", "ring 0"),
        ("armed", "Bell/a", "chain 0"),
        ("disarmed", "Bell/a", "chain"),
        ("disarmed", "Bell/a", "ring"),
        ("armed", "Bell/a", "tell 0"),
        ("armed", "Bell/a", "tell 1"),
        ("disarmed", "Bell/a", "tell"),
        ("close",),
    ]


async def fired(scheduler: Noted, name: str) -> Any:
    """The outcome of a firing."""
    peer = Waited()
    alarm = DueAlarm(Address("", "Bell", "a"), name, scheduler.at[name])
    asyncio.get_running_loop().call_soon(scheduler.fire, alarm, peer)
    return await peer.ended


async def test_a_draining_shard_pauses_its_scheduler() -> None:
    """parity 90: no more firings are begun while what runs is finished."""
    async with Harness([Bell], make_scheduler=Noted) as harness:
        await harness.shard.drain()
        await settle()

    assert noted_of(harness).told == [("start",), ("pause",), ("close",)]


async def test_a_scheduler_that_cannot_begin_keeps_its_shard_from_starting() -> None:
    """parity 90: with its own error, such as that its tables are missing."""
    harness = Harness([Bell], make_scheduler=lambda shard: Noted(shard, StoreUnavailable("no tables")))

    with pytest.raises(StoreUnavailable, match="no tables"):
        await harness.shard.start(claim())
    await harness.shard.close()
