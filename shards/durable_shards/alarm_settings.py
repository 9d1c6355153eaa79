"""How alarms are fired, and what becomes of those that fail: one bundle from the settings down to the shard."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

BACKOFF_SECONDS_MAX: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmSettings:
    """Settings of alarms; every duration is in seconds. Raises ValueError for what cannot work."""

    poll: float = 30.0
    """Between sweeps for alarms that have come near."""
    attempts: int = 10
    """Firings that may fail before the alarm is parked."""
    backoff: float = 1.0
    """Before the second attempt; doubles with each, up to five minutes, and is spread by a quarter up and down."""

    def __post_init__(self) -> None:
        if not self.poll >= 0.1:
            raise ValueError(f"alarm_poll must be at least 0.1 s, not {self.poll:g} s")
        if not self.attempts >= 1:
            raise ValueError(f"alarm_attempts must be 1 or more, not {self.attempts}")
        if not self.backoff > 0:
            raise ValueError(f"alarm_backoff must be longer than nothing, not {self.backoff:g} s")

    def delay(self, attempts: int) -> timedelta:
        """How long to wait after so many failures."""
        seconds = min(self.backoff * 2.0 ** min(attempts - 1, 60), BACKOFF_SECONDS_MAX)
        return timedelta(seconds=seconds * random.uniform(0.75, 1.25))  # noqa: S311 - no secret
