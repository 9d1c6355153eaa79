"""What the benchmarks call: the smallest object that changes, a read of it, and one that has an alarm."""

from __future__ import annotations

from datetime import UTC, datetime

from durable_engine import DurableObject, alarm, field, handler


class Counter(DurableObject, name="bench.Counter"):
    count: int = 0

    @handler
    def increment(self) -> int:
        self.count += 1
        return self.count

    @handler(readonly=True)
    def get(self) -> int:
        return self.count


class Reminder(DurableObject, name="bench.Reminder"):
    """Notes when its alarm was to fire, and when it did."""

    fired: list[list[str]] = field(default_factory=list)

    @handler
    def arm(self, at: datetime) -> None:
        self.alarms.schedule(Reminder.remind, at=at)

    @alarm
    def remind(self, at: datetime) -> None:
        self.fired.append([at.isoformat(), datetime.now(UTC).isoformat()])

    @handler(readonly=True)
    def tell(self) -> list[list[str]]:
        return self.fired
