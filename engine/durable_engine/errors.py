"""Every error that a user of the engine can meet. All are `DurableError`.

Each carries `.retryable` (the same call may simply be made again) and `.outcome`: what became of the call's effect,
"not_applied", "applied" or "unknown". The docstring of each says what happened to the state and whether to retry.
"""

from __future__ import annotations

from durable_shards.errors import (
    AccessDenied,
    CallTimeout,
    DefinitionError,
    EngineClosed,
    HandlerFailed,
    IdempotencyMismatch,
    InvalidArguments,
    ObjectParked,
    Overloaded,
    ProtocolProblem,
    ReentrantCall,
    Rejected,
    UnknownClass,
    UnknownHandler,
)
from durable_storage.errors import (
    DataLossDetected,
    DurableError,
    Fenced,
    Outcome,
    PersistenceFailed,
    SchemaMismatch,
    StateUnreadable,
    StoreInUse,
    StoreUnavailable,
    TooLarge,
    Unavailable,
)

__all__ = [
    "AccessDenied",
    "CallTimeout",
    "DataLossDetected",
    "DefinitionError",
    "DurableError",
    "EngineClosed",
    "Fenced",
    "HandlerFailed",
    "IdempotencyMismatch",
    "InvalidArguments",
    "ObjectParked",
    "Outcome",
    "Overloaded",
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
]
