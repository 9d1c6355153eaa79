"""Persistent, single-instance Python objects addressed by (class, id).

from durable_engine import DurableObject, Engine, handler

class Counter(DurableObject):
    count: int = 0

    @handler
    def increment(self, amount: int = 1) -> int:
        self.count += amount
        return self.count

async with Engine("sqlite:///data", objects=[Counter], shards=0) as engine:
    print(await engine.at(Counter, "user-123").increment(5))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable_engine import events
    from durable_engine.client import Client
    from durable_engine.engine import Engine, default_engine
    from durable_engine.errors import (
        AccessDenied,
        CallTimeout,
        DataLossDetected,
        DefinitionError,
        DurableError,
        EngineClosed,
        Fenced,
        HandlerFailed,
        IdempotencyMismatch,
        InvalidArguments,
        ObjectParked,
        Overloaded,
        PersistenceFailed,
        ProtocolProblem,
        ReentrantCall,
        Rejected,
        SchemaMismatch,
        StateUnreadable,
        StoreInUse,
        StoreUnavailable,
        TooLarge,
        Unavailable,
        UnknownClass,
        UnknownHandler,
    )
    from durable_shards.alarms import PendingAlarm, alarm
    from durable_shards.fields import field
    from durable_shards.handler import handler
    from durable_shards.object import DurableObject
    from durable_shards.spec import describe

__all__ = [
    "AccessDenied",
    "CallTimeout",
    "Client",
    "DataLossDetected",
    "DefinitionError",
    "DurableError",
    "DurableObject",
    "Engine",
    "EngineClosed",
    "Fenced",
    "HandlerFailed",
    "IdempotencyMismatch",
    "InvalidArguments",
    "ObjectParked",
    "Overloaded",
    "PendingAlarm",
    "PersistenceFailed",
    "ProtocolProblem",
    "ReentrantCall",
    "Rejected",
    "SchemaMismatch",
    "StateUnreadable",
    "StoreInUse",
    "StoreUnavailable",
    "TooLarge",
    "Unavailable",
    "UnknownClass",
    "UnknownHandler",
    "alarm",
    "default_engine",
    "describe",
    "events",
    "field",
    "handler",
]

_HOMES = {
    "Client": "durable_engine.client",
    "DurableObject": "durable_shards.object",
    "Engine": "durable_engine.engine",
    "PendingAlarm": "durable_shards.alarms",
    "alarm": "durable_shards.alarms",
    "default_engine": "durable_engine.engine",
    "describe": "durable_shards.spec",
    "field": "durable_shards.fields",
    "handler": "durable_shards.handler",
}


def __getattr__(name: str) -> object:
    """Import a name when it is first used (PEP 562), so that a shell command need not wait for the whole engine."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "events":
        return import_module("durable_engine.events")  # which makes it an attribute of ours
    found = globals()[name] = getattr(import_module(_HOMES.get(name, "durable_engine.errors")), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
