"""When a shard that died is started again: at once the first time, then ever later, until it stays up.

Only deaths in quick succession make it wait: every quarter of a second of service takes one of them off the record,
and a stable minute all. So a shard that cannot start soon waits five seconds between attempts, and one that is
killed every other second is back at once every time.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_DELAY_SECONDS = 0.05
DELAY_SECONDS_MAX = 5.0
STABLE_SECONDS = 60.0
"""A shard that stayed up this long starts with a clean record."""
FORGIVEN_SECONDS = 0.25
"""Of service, for which one death is taken off the record."""
FAILING_AFTER = 5
"""Deaths in a row from which on a shard is shown as failing."""


@dataclass(slots=True)
class Restarts:
    """The record of one shard."""

    total: int = 0
    """All restarts ever, for people."""
    in_a_row: int = 0
    _up_since: float | None = None

    def came_up(self, now: float) -> None:
        """The shard serves."""
        self._up_since = now

    def died(self, now: float) -> float:
        """The shard is gone unasked; seconds to wait before the next start."""
        up_seconds = now - self._up_since if self._up_since is not None else 0.0
        self.in_a_row = (
            0 if up_seconds >= STABLE_SECONDS else max(0, self.in_a_row - int(up_seconds / FORGIVEN_SECONDS))
        )
        self._up_since = None
        self.total += 1
        self.in_a_row += 1
        if self.in_a_row == 1:
            return 0.0
        return min(FIRST_DELAY_SECONDS * 2.0 ** min(self.in_a_row - 2, 30), DELAY_SECONDS_MAX)

    def forgive(self) -> None:
        """Somebody repaired what was wrong, or asked for the restart."""
        self.in_a_row = 0

    @property
    def failing(self) -> bool:
        """Whether the shard dies again and again."""
        return self.in_a_row >= FAILING_AFTER
