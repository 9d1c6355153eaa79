"""What callers hear of a turn that failed."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Final

from durable_shards.errors import CallTimeout, HandlerFailed, Rejected, error_from_wire, error_to_wire
from durable_shards.suspended import UserExit
from durable_shards.wire import Call
from durable_storage.errors import DurableError

TEXT_CHARS_MAX: Final = 4_000
TRACEBACK_CHARS_MAX: Final = 16_000


def timed_out(call: Call) -> CallTimeout:
    """The error of a turn whose deadline passed while it ran; everything it did was undone."""
    return CallTimeout(
        f"{call.object_type}.{call.handler} did not end within its timeout; it was cancelled and undone",
        outcome="not_applied",
        retryable=True,
    )


def as_durable_error(error: BaseException) -> DurableError:
    """What the caller hears of whatever a handler raised. Never fails, and shares nothing with the object."""
    if isinstance(error, UserExit):
        error = error.raised
    if isinstance(error, Rejected) and error.fields:
        # Its fields may be parts of the state, and it waits at the gate while later turns run.
        return error_from_wire(error_to_wire(error))
    if isinstance(error, DurableError):
        return error  # a rejection, or what a called object answered and the handler let pass
    return HandlerFailed(
        remote_type=type(error).__qualname__,
        remote_message=_safely(lambda: str(error))[:TEXT_CHARS_MAX],
        traceback=_safely(lambda: "".join(traceback.format_exception(error, limit=-50)))[-TRACEBACK_CHARS_MAX:],
    )


def _safely(text: Callable[[], str]) -> str:
    """Exceptions of users may raise when they are asked for their text."""
    try:
        return text()
    except Exception as error:
        return f"<no text: {type(error).__name__}>"
