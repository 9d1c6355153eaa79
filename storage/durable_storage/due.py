"""What the stores share about looking for alarms: the soonest of several tenants, and where a list begins."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from operator import attrgetter
from typing import Final

from durable_storage.store import DueAlarm, Served

NOTHING_SERVED: Final = Served((), ())
"""All alarms are orphans of a process that serves none, so that one statement lists both."""
BEFORE_ALL: Final = ("", "", "")
"""Where a list begins: no part of an alarm's key is empty."""


class Soonest:
    """The `limit` soonest of all alarms that are due before a time: never more than that and one tenant's are held."""

    def __init__(self, before: datetime, limit: int) -> None:
        self.alarms: list[DueAlarm] = []
        """Soonest first."""
        self.before = before
        """Only an alarm that is due before this can still be one of them."""
        self.limit = limit

    def add(self, alarms: Iterable[DueAlarm]) -> None:
        """Take those of another tenant into account."""
        self.alarms = sorted([*self.alarms, *alarms], key=attrgetter("at"))[: self.limit]
        if len(self.alarms) == self.limit:
            self.before = self.alarms[-1].at
