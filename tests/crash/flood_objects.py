"""Objects with one alarm each, for floods of them."""

from __future__ import annotations

from durable_engine import DurableObject, alarm, handler


class Drop(DurableObject):
    """Counts how often its alarm fired."""

    fired: int = 0

    @handler(readonly=True)
    def get(self) -> int:
        return self.fired

    @handler
    def add(self, amount: int) -> int:
        self.fired += amount
        return self.fired

    @alarm
    def fall(self) -> None:
        self.fired += 1
