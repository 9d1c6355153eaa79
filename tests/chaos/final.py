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
    """I11. Every number is a sum over the clients; from their own counting, unless it says otherwise."""

    calls: int = 0
    replies: int = 0
    errors: int = 0
    """Of all kinds, rejections and timeouts included."""
    engine_calls: int | None = None
    """The same as `calls`, counted by the engines of the clients; None: they were not asked."""
    engine_errors: int = 0
    """The same as `errors`, counted by them."""
    engine_in_flight: int = 0
    """Calls that they still wait for."""
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
    clients: int = 0
    shards: int = 0
    """Each client has to get through to each shard once all is healed."""
    acknowledged: dict[str, int] = field(default_factory=dict)
    """Every kind of client that was to work, by whose keys it uses: how many of its operations had success."""
    accounts: Accounts = field(default_factory=Accounts)
    faults: dict[str, int] = field(default_factory=dict)
    """Every fault that was ordered, by its name: how often it really struck."""
    storms: list[tuple[float, float]] = field(default_factory=list)
    """CLOCK_MONOTONIC, from and to: a one-way call can be lost though its shards live on, as when a store is away."""
    calm_since: float | None = None
    """CLOCK_MONOTONIC, when nothing was struck any more and all was served again; clients still worked for a while."""
    healed_at: float | None = None
    """Wall clock, of the last heal."""
    ended_at: float | None = None
    """Wall clock, when the engine was asked for its memory."""
    liveness_seconds: float = 10.0
    """T of I9: within it every probe is done, and no alarm that is due after the last heal is later."""
