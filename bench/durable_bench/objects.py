"""What the benchmarks call: the smallest object that changes, and a read of it."""

from __future__ import annotations

from durable_engine import DurableObject, handler


class Counter(DurableObject, name="bench.Counter"):
    count: int = 0

    @handler
    def increment(self) -> int:
        self.count += 1
        return self.count

    @handler(readonly=True)
    def get(self) -> int:
        return self.count
