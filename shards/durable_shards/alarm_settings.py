"""How alarms are fired, and what becomes of those that fail: one bundle from the settings down to the shard."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal, get_args

BACKOFF_SECONDS_MAX: Final = 300.0
QUEUE_CHARS_MAX: Final = 128

SchedulerName = Literal["deadline", "procrastinate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """For a scheduler that hands alarms out as jobs of a queue; every duration is in seconds. Raises ValueError."""

    app: str | None = None
    """Import path of the user's app, `module:app`; None: the scheduler's own."""
    queue: str = "durable_alarms"
    concurrency: int = 8
    """Alarms that a shard's own worker fires at a time; 0: it has none, and the user's workers fire them all."""
    claim_ttl: float = 60.0
    """How long an alarm may be in a worker's hands, unfinished, before it is given to another one."""

    def __post_init__(self) -> None:
        if not 0 < len(self.queue) <= QUEUE_CHARS_MAX:
            raise ValueError(f"procrastinate_queue must have 1 to {QUEUE_CHARS_MAX} characters, not {len(self.queue)}")
        if not 0 <= self.concurrency <= 1000:
            raise ValueError(f"procrastinate_concurrency must be between 0 and 1000, not {self.concurrency}")
        if not self.claim_ttl >= 1:
            raise ValueError(f"claim_ttl must be at least 1 s, not {self.claim_ttl:g} s")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmSettings:
    """Settings of alarms; every duration is in seconds. Raises ValueError for what cannot work."""

    poll: float = 30.0
    """Between sweeps for alarms that have come near."""
    attempts: int = 10
    """Firings that may fail before the alarm is parked."""
    backoff: float = 1.0
    """Before the second attempt; doubles with each, up to five minutes, and is spread by a quarter up and down."""
    scheduler: str = "deadline"
    """One of `SchedulerName`; another one than the default counts and spaces attempts by its own rules."""
    jobs: JobSettings = field(default_factory=JobSettings)

    def __post_init__(self) -> None:
        if not self.poll >= 0.1:
            raise ValueError(f"alarm_poll must be at least 0.1 s, not {self.poll:g} s")
        if not self.attempts >= 1:
            raise ValueError(f"alarm_attempts must be 1 or more, not {self.attempts}")
        if not self.backoff > 0:
            raise ValueError(f"alarm_backoff must be longer than nothing, not {self.backoff:g} s")
        if self.scheduler not in get_args(SchedulerName):
            known = " or ".join(get_args(SchedulerName))
            raise ValueError(f"scheduler must be {known}, not {self.scheduler!r}")

    def delay(self, attempts: int) -> timedelta:
        """How long to wait after so many failures."""
        seconds = min(self.backoff * 2.0 ** min(attempts - 1, 60), BACKOFF_SECONDS_MAX)
        return timedelta(seconds=seconds * random.uniform(0.75, 1.25))  # noqa: S311 - no secret
