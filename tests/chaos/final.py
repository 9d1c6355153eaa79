"""What is known when a run is over, besides what the clients saw: the other half of what the checker gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple


class Row(NamedTuple):
    """An alarm at rest."""

    at: datetime
    token: int
    attempts: int
    is_parked: bool


class AtRest(NamedTuple):
    """An object in a store that nobody owns."""

    state: bytes
    """JSON text."""
    version: int
    alarms: dict[str, Row]


class Probe(NamedTuple):
    """How one client fared with one shard after the final heal."""

    client: int
    shard: int
    completed: int
    """Calls, of the five."""
    seconds: float
    """From the order to finish to the last of them."""


@dataclass
class Accounts:
    """I11. Every number is a sum over the clients, from their own counting."""

    calls: int = 0
    replies: int = 0
    errors: int = 0
    """Of all kinds, rejections and timeouts included."""
    engine_in_flight: int = 0
    """Calls that the engines of the clients still wait for, by their `statistics()`."""
    queues: dict[str, int] = field(default_factory=dict)
    """"shard 0 gated": what still waits in the shards, by their statistics."""
    leaks: list[str] = field(default_factory=list)
    """Processes, sockets, connections that should be gone, in words."""


@dataclass
class Final:
    """Everything at the end of a run; what is left empty is not checked."""

    store: dict[str, AtRest] = field(default_factory=dict)
    """Text of the address: the object in the stopped store."""
    memory: dict[str, bytes] | None = None
    """Text of the address: JSON of the state that the engine showed, when all was quiet."""
    probes: list[Probe] = field(default_factory=list)
    accounts: Accounts = field(default_factory=Accounts)
    faults: dict[str, int] = field(default_factory=dict)
    """Every kind of fault that was ordered: how often it really struck."""
    healed_at: float | None = None
    """Wall clock, of the last heal."""
    ended_at: float | None = None
    """Wall clock, when the engine was asked for its memory."""
    liveness_seconds: float = 10.0
    """T of I9: within it every probe is done, and no alarm that is due after the last heal is later."""
