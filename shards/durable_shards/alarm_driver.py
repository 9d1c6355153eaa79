"""Between a shard and its scheduler of alarms: commits go one way, firings come back as calls of the shard's own.

A commit of a shard that lost its ownership is refused by the store, but by then an alarm's method has run, and what it
does to the world outside cannot be undone. So nothing is fired unless the ownership was confirmed a moment ago: a shard
that slept through a takeover, with its alarms overdue, asks first and learns that they are another's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from durable_shards.activation import Activation
from durable_shards.firing import Firing
from durable_shards.gate import Gate
from durable_shards.schedulers import Scheduler
from durable_shards.spec import ClassSpec
from durable_shards.wire import Call, Peer
from durable_storage.store import AlarmRow, DueAlarm


class AlarmDriver:
    """Tells the scheduler what was committed, and the objects what is due."""

    def __init__(
        self,
        scheduler: Scheduler,
        classes: Mapping[str, ClassSpec],
        gate: Gate,
        receive: Callable[[Peer, list[Call]], None],
    ) -> None:
        self.scheduler = scheduler
        self._gate = gate
        self._classes = classes
        self._receive = receive

    async def start(self) -> None:
        """Let the scheduler begin. Raises what keeps it from that."""
        await self.scheduler.start(self._fire, self._failed)

    def committed(self, act: Activation, before: Mapping[str, AlarmRow]) -> None:
        """An object's durable alarms are other ones than before. Rows that stayed are the same rows."""
        rows = act.durable[2]
        disarmed = [name for name in before if name not in rows or rows[name].is_parked]
        armed = [row for row in rows.values() if row is not before.get(row.name) and not row.is_parked]
        if disarmed:
            self.scheduler.disarmed(act.address, disarmed)
        if armed:
            self.scheduler.armed(act.address, armed)

    def _fire(self, alarm: DueAlarm, peer: Firing) -> None:
        if self._gate.holds_lease():
            self._call(alarm, peer, "$fire", [alarm.name, alarm.at])
        else:
            self._gate.lease.when_confirmed(partial(self._call, alarm, peer, "$fire", [alarm.name, alarm.at]))

    def _failed(self, alarm: DueAlarm, problem: str, peer: Firing) -> None:
        self._call(alarm, peer, "$alarm_failed", [alarm.name, alarm.at.isoformat(), problem, "retry"])

    def _call(self, alarm: DueAlarm, peer: Firing, handler: str, args: list[Any]) -> None:
        prefix, object_type, object_id = alarm.address
        spec = self._classes.get(object_type)
        seconds = spec.options.call_timeout if spec is not None else 1.0
        call = Call(0, object_type, object_id, handler, args, max(1, int(seconds * 1000)), prefix=prefix)
        self._receive(peer, [call])
