"""What objects, clients and checker agree on."""

from __future__ import annotations

from typing import Final

ENTRIES_MAX: Final = 100
"""A journal takes no more calls then; what others sent it still finds room."""
ALARM_ENTRIES_MAX: Final = 60
"""A journal of alarms takes no more calls then; firings of what is armed still find room."""
ACCOUNTS: Final = 8
OPENING: Final = 100
"""What each account of a bank begins with."""
ALARM_ATTEMPTS: Final = 4
ALWAYS: Final = 1000
"""Failures of an alarm that never fires: it is parked."""


def is_exactly_once(client: int) -> bool:
    """Every other client leaves the keys to its engine."""
    return client % 2 == 1
