"""Objects that show what the tools for tests do to them."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

from durable_engine import DurableObject, Rejected, alarm, field, handler


class TooMuch(Rejected):
    """The counter does not go so far."""

    most: int


class Counter(DurableObject, hibernate_after=timedelta(minutes=5), shutdown_after=timedelta(hours=1)):
    count: int = 0
    fired_at: list[datetime] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    _loads: int = 0

    @handler
    def increment(self, amount: int = 1) -> int:
        self.count += amount
        if self.count > 100:
            raise TooMuch(most=100)
        return self.count

    @handler(readonly=True)
    def get(self) -> int:
        return self.count

    @handler(readonly=True)
    def liar(self) -> None:
        self.count += 1

    @handler
    def plan(self, name: str, seconds: float, payload: Any = None) -> None:
        self.alarms.schedule(name, after=timedelta(seconds=seconds), payload=payload)

    @handler
    def every(self, seconds: float) -> None:
        self.alarms.schedule(Counter.tick, every=timedelta(seconds=seconds))

    @alarm
    def reset(self) -> None:
        self.count = 0
        self.fired_at.append(self.now())

    @alarm
    def tick(self, at: datetime) -> None:
        self.count += 1
        self.fired_at.append(at)

    @alarm
    def again(self, payload: int = 0) -> None:
        """Arms itself so many times more."""
        self.count += 1
        if payload:
            self.alarms.schedule(Counter.again, after=timedelta(seconds=1), payload=payload - 1)

    @alarm
    def forever(self) -> None:
        self.count += 1
        self.alarms.schedule(Counter.forever, after=timedelta(0))

    @alarm
    def stumble(self, attempt: int) -> None:
        """Fails twice."""
        self.count += 1
        self.heard.append(str(attempt))
        if attempt < 2:
            raise RuntimeError(f"stumbled at attempt {attempt}")


class Listener(DurableObject):
    heard: list[str] = field(default_factory=list)

    @handler
    async def pass_on(self, amount: int) -> int:
        self.heard.append(f"asked for {amount}")
        return await self.engine.at(Counter, self.id).increment(amount)

    @handler
    def tell(self, amount: int) -> None:
        self.engine.send(Counter.increment, self.id, amount)

    @handler
    async def by_name(self) -> int:
        result: int = await self.engine.call_by_name("Counter", self.id, "increment", [1])
        return result

    @handler
    async def wait(self) -> str:
        """Changes the state and waits for what never comes."""
        self.heard.append("began")
        await asyncio.Event().wait()
        return "never"

    @handler
    def plan(self, name: str, seconds: float) -> None:
        self.alarms.schedule(name, after=timedelta(seconds=seconds))

    async def handle_alarm(self, name: str, payload: Any, attempt: int) -> None:
        self.heard.append(f"{name} {attempt} {payload}")
        if name == "hang":
            await asyncio.Event().wait()
