"""Errors that begin where state rests.

A docstring is the default message: what happened to the state, and whether to retry.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Outcome = Literal["not_applied", "applied", "unknown"]


class DurableError(Exception):
    """Something went wrong in the engine."""

    default_retryable: ClassVar[bool] = False
    default_outcome: ClassVar[Outcome] = "not_applied"

    def __init__(
        self, message: str | None = None, *, retryable: bool | None = None, outcome: Outcome | None = None
    ) -> None:
        super().__init__(message or (type(self).__doc__ or type(self).__name__).partition("\n")[0])
        self.retryable: bool = self.default_retryable if retryable is None else retryable
        """Whether the same call may simply be made again."""
        self.outcome: Outcome = outcome or self.default_outcome
        """What became of the call's effect: "not_applied", "applied" or "unknown"."""

    @property
    def message(self) -> str:
        """The text without the class name."""
        return str(self.args[0])


class PersistenceFailed(DurableError):
    """The new state could not be stored; the object is back at its last committed state.

    Nothing of the turn is left. Retry when `retryable` is true; otherwise the state itself was refused.
    """


class StateUnreadable(DurableError):
    """The stored state no longer fits the class; the row was left alone.

    The message names the path. Deploy code that fits (or migrate the rows) and call again.
    """


class TooLarge(DurableError):
    """An id, argument, result, state or message is over its documented limit; nothing was run."""


class DataLossDetected(DurableError):
    """The store shows less than was acknowledged: a torn log, a stale replica or an old backup.

    Nothing is served from it until somebody accepts the loss. Do not retry.
    """


class Unavailable(DurableError, ConnectionError):
    """Nobody answers for this object at the moment; nothing is known to have run. Retry later."""

    default_retryable = True


class StoreUnavailable(Unavailable):
    """The store cannot be reached or has no space at the moment; nothing was applied. Retry later."""


class StoreInUse(DurableError):
    """Another supervisor owns this store; nothing was started. Stop it, or use --takeover."""


class SchemaMismatch(DurableError):
    """The store's schema is not the one this version needs; nothing was started or changed."""


class Fenced(DurableError):
    """This shard lost its ownership to another process: it may neither write nor answer any more."""
