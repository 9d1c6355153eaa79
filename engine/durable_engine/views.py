"""What an engine tells of itself: one frozen tree, the same for programs, the command line and metrics."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import msgspec

from durable_shards.statistics import ShardStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardView:
    """One shard at one moment."""

    shard: int
    pid: int
    state: str
    endpoint: str
    partitions: tuple[int, int]
    """Half-open range."""
    epoch: int
    seq: int = 0
    """Number of its last commit that anybody was told of."""
    restarts: int = 0
    heartbeat_ms: float | None = None
    """Since its event loop last turned."""
    running: str | None = None
    """The object whose turn is running."""
    last_error: str | None = None
    statistics: ShardStatistics | None = None
    """None when the shard did not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStatistics:
    """What this client has seen since it was opened."""

    calls: int = 0
    replies: int = 0
    errors: int = 0
    refused: int = 0
    late: int = 0
    stale: int = 0
    malformed: int = 0
    in_flight: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatistics:
    """The whole tree."""

    server: str
    """Identity of the supervisor's incarnation; empty when embedded."""
    release: str
    client: ClientStatistics
    shards: tuple[ShardView, ...]
    parked: tuple[str, ...] = ()
    """Objects that are not run, because they killed their shard too often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmView:
    """An alarm of any object, as it is stored."""

    object_type: str
    object_id: str
    prefix: str
    name: str
    at: datetime
    """When it is to be fired, or tried again."""
    attempt: int
    """Firings that failed since it was armed."""
    payload: Any = None
    recurrence: str | None = None
    """Its rule in words; None: it fires once."""
    problem: str | None = None
    """What its last failed firing ended with."""
    orphaned: str | None = None
    """Why it cannot fire: "failed" too often, "unknown class" or "unknown alarm"; None: it will."""


_SHARD_FIELDS = {field.name for field in fields(ShardView)}
_ALARM_FIELDS = {field.name for field in fields(AlarmView)}


def shard_view(described: dict[str, Any]) -> ShardView:
    """From the map that a server answers with; what a newer server adds is left out."""
    known = {name: value for name, value in described.items() if name in _SHARD_FIELDS}
    view: ShardView = msgspec.convert(known, ShardView)
    return view


def alarm_view(listed: dict[str, Any]) -> AlarmView:
    """From the map that a shard answers with."""
    known = {name: value for name, value in listed.items() if name in _ALARM_FIELDS}
    view: AlarmView = msgspec.convert(known | {"object_type": listed["class"], "object_id": listed["id"]}, AlarmView)
    return view
