"""Objects whose alarms the tests of firing play with."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

from durable_engine import DurableObject, Rejected, alarm, field, handler

GATES: dict[str, asyncio.Event] = {}


class Bell(DurableObject):
    """Notes what rings."""

    rung: list[str] = field(default_factory=list)
    _noise: int = 0

    @handler
    def arm(self, name: str, seconds: float = 0.0, payload: Any = None) -> None:
        self.alarms.schedule(name, after=timedelta(seconds=seconds), payload=payload)

    @handler
    def arm_and_fail(self, name: str) -> None:
        self.alarms.schedule(name, after=timedelta(0))
        self.rung.append("never")
        raise Rejected("no")

    @handler
    def repeat(self, name: str, seconds: float, missed: Any = "coalesce") -> None:
        self.alarms.schedule(name, every=timedelta(seconds=seconds), missed=missed)

    @handler
    def daily(self, cron: str, tz: str) -> None:
        self.alarms.schedule(Bell.ring, cron=cron, tz=tz)

    @handler
    def disarm(self, name: str) -> bool:
        return self.alarms.cancel(name)

    @handler(readonly=True)
    def get(self) -> list[str]:
        return self.rung

    @alarm
    def ring(self) -> None:
        self.rung.append("ring")

    @alarm
    def tell(self, payload: Any, attempt: int, at: datetime) -> None:
        self.rung.append(f"{payload} {attempt} {at:%H:%M:%S}")

    @alarm
    def chain(self) -> None:
        self.rung.append("chain")
        if len(self.rung) < 5:
            self.alarms.schedule(Bell.chain, after=timedelta(seconds=10))

    @alarm
    def spin(self) -> None:
        self.rung.append("spin")
        self.alarms.schedule(Bell.spin, after=timedelta(0))

    @alarm
    def ping(self) -> None:
        self.rung.append("ping")
        self.alarms.schedule(Bell.pong, after=timedelta(0))

    @alarm
    def pong(self) -> None:
        self.rung.append("pong")
        self.alarms.schedule(Bell.ping, after=timedelta(0))

    @alarm
    def look(self) -> None:
        self.rung.append(",".join(each.name for each in self.alarms.pending()))

    @alarm
    def fail(self, attempt: int) -> None:
        self.rung.append("never")
        self.alarms.schedule(Bell.ring, after=timedelta(0))
        raise RuntimeError(f"attempt {attempt}\0\ud800")

    @alarm
    def fail_twice(self, attempt: int) -> None:
        if attempt < 2:
            raise RuntimeError("not yet")
        self.rung.append(f"done at {attempt}")

    @alarm
    async def wait(self) -> None:
        await GATES["wait"].wait()
        self.rung.append("waited")


class Catcher(DurableObject):
    """Takes alarms of any name."""

    caught: list[str] = field(default_factory=list)

    def handle_alarm(self, name: str) -> None:
        self.caught.append(name)

    @handler
    def arm(self, name: str) -> None:
        self.alarms.schedule(name, after=timedelta(0))

    @handler(readonly=True)
    def get(self) -> list[str]:
        return self.caught


class Slowcoach(DurableObject, call_timeout=timedelta(hours=1)):
    """Takes alarms of any name, and waits in each."""

    caught: list[str] = field(default_factory=list)

    async def handle_alarm(self, name: str) -> None:
        await GATES["slow"].wait()
        self.caught.append(name)

    @handler
    def arm(self, name: str, seconds: float) -> None:
        self.alarms.schedule(name, after=timedelta(seconds=seconds))

    @handler
    def disarm(self, name: str) -> bool:
        return self.alarms.cancel(name)

    @handler(readonly=True)
    def get(self) -> list[str]:
        return self.caught


class Opened(DurableObject):
    """Arms its alarm when it is loaded."""

    opened: int = 0
    rung: int = 0

    def after_load(self) -> None:
        if not self.opened:
            self.opened += 1
            self.alarms.schedule(Opened.ring, after=timedelta(minutes=1))

    @handler(readonly=True)
    def get(self) -> int:
        return self.rung

    @alarm
    def ring(self) -> None:
        self.rung += 1


class Nested(DurableObject, reentrant=True):
    """While its alarm fires it calls itself, which arms the same alarm anew."""

    rung: int = 0

    @handler
    def arm(self, seconds: float) -> None:
        self.alarms.schedule(Nested.ring, after=timedelta(seconds=seconds))

    @alarm
    async def ring(self) -> None:
        self.rung += 1
        if self.rung == 1:
            await self.engine.at(Nested, self.id).arm(60)

    @handler(readonly=True)
    def get(self) -> int:
        return self.rung
