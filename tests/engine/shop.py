"""Objects that the tests of the front door use; shard processes import them too."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from durable_engine import DurableObject, Rejected, alarm, field, handler


class OutOfStock(Rejected):
    """There are not enough of these."""

    sku: str
    left: int


@dataclass
class Line:
    sku: str
    price: Decimal
    since: datetime | None = None


class Cart(DurableObject, call_timeout=timedelta(seconds=20)):
    """Things somebody wants to buy."""

    lines: list[Line] = field(default_factory=list)
    total: Decimal = Decimal(0)

    @handler
    def add(self, sku: str, price: Decimal, *, at: datetime | None = None) -> Line:
        """Put one in; the reply is its line."""
        line = Line(sku, price, at)
        self.lines.append(line)
        self.total += price
        return line

    @handler(readonly=True)
    def sum(self) -> Decimal:
        return self.total

    @handler
    def take(self, sku: str) -> None:
        self.lines.clear()
        raise OutOfStock(sku=sku, left=len(self.lines))

    @alarm
    def expire(self) -> None:
        self.lines.clear()


class Counter(DurableObject, name="shop.Counter", call_timeout=timedelta(seconds=20)):
    count: int = 0

    @handler
    def increment(self, amount: int = 1) -> int:
        self.count += amount
        return self.count

    @handler(readonly=True)
    def get(self) -> int:
        return self.count

    @handler
    def bug(self) -> None:
        self.count += 1000
        raise ZeroDivisionError("a bug")

    @handler
    def unsendable(self) -> object:
        self.count += 1000
        return object()

    @handler
    async def slow(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        self.count += 1
        return self.count

    @handler
    async def through(self, other: str, amount: int) -> int:
        return await self.engine.at(Counter, other).increment(amount)

    @handler
    async def cycle(self, other: str) -> int:
        return await self.engine.at(Counter, other).through(self.id, 1)

    @handler
    def process(self) -> int:
        return os.getpid()


class Twice(Counter, name="shop.Twice"):
    @handler
    def double(self) -> int:
        self.count *= 2
        return self.count


class Log(DurableObject, name="shop.Log"):
    items: list[int] = field(default_factory=list)

    @handler
    def append(self, item: int) -> int:
        self.items.append(item)
        return len(self.items)

    @handler(readonly=True)
    def all(self) -> list[int]:
        return self.items
