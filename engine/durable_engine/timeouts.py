"""What a timeout may be, and which one holds when none is given."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

CALL_TIMEOUT_SECONDS: Final = 5.0
"""Of calls to classes that are known by name only; a class says its own (`call_timeout`)."""
TIMEOUT_SECONDS_MAX: Final = 86_400.0
"""A longer timeout counts as a day."""


def checked_timeout(timeout: float) -> float:
    """A timeout in seconds; more than a day counts as a day. Raises ValueError."""
    if not timeout > 0:
        raise ValueError(f"timeout must be above 0 seconds, not {timeout!r}")
    return float(min(timeout, TIMEOUT_SECONDS_MAX))


def in_seconds(timeout: float | timedelta | None) -> float | None:
    """A timeout as users give it, in seconds. Raises TypeError and ValueError."""
    if timeout is None:
        return None
    if isinstance(timeout, timedelta):
        return checked_timeout(timeout.total_seconds())
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be seconds or a timedelta, not {type(timeout).__name__}")
    return checked_timeout(timeout)


def plain_seconds(duration: float | timedelta) -> float:
    """A duration of a setting, in seconds."""
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
