"""Objects that misbehave, wait, and cross one another: for the tests of what a shard makes of them."""

from __future__ import annotations

import asyncio
import contextvars
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from durable_engine import DurableError, DurableObject, Rejected, alarm, field, handler
from tests.shards.objects import Counter

gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
"""What handlers wait for; each test begins with all of them closed (conftest)."""
tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


class Mute(Exception):
    """An error without text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@dataclass
class Span:
    """An argument whose check raises something that no engine expects."""

    low: int

    def __post_init__(self) -> None:
        {}[self.low]


class WithLog(Rejected):
    """With a part of the state."""

    items: list[str]


class Probe(Counter, hibernate_after=timedelta(seconds=300), shutdown_after=None):
    """A counter with a dozen bad habits."""

    _scratch: dict[str, int] = field(default_factory=dict)

    @handler(readonly=True)
    def read_log(self) -> list[str]:
        return self.log

    @handler
    def peek_log(self) -> list[str]:
        return self.log

    @handler
    def replace_log(self, log: list[str]) -> None:
        self.log = log

    @handler
    def nameless(self) -> None:
        self.count += 1000
        raise Mute

    @handler
    async def nameless_later(self) -> None:
        await gates["a"].wait()
        raise Mute

    @handler
    async def exit_later(self) -> None:
        await asyncio.sleep(0)
        raise SystemExit(3)

    @handler
    def wordy(self) -> None:
        raise ValueError("x" * (17 << 20))

    @handler
    def within(self, span: Span) -> None: ...

    @handler
    def absorb(self, items: Any) -> int:
        items.append("own")
        self.log = list(items)
        return len(items)

    @handler
    async def ask(self, other: str) -> int:
        return int(await self.engine.at(Probe, other).increment())

    @handler
    async def count_and_ask(self, other: str) -> int:
        self.count += 1
        return int(await self.engine.at(Probe, other).increment())

    @handler
    async def ask_later(self, other: str) -> int:
        await gates["a"].wait()
        return int(await self.engine.at(Probe, other).increment())

    @handler
    def tell(self, other: str) -> None:
        self.engine.send(Probe.increment, other)

    @handler
    def tell_log(self, other: str) -> None:
        self.log.append("first")
        self.engine.send(Probe.replace_log, other, self.log)

    @handler
    def reject_with_log(self) -> None:
        raise WithLog(items=self.log)

    @handler
    def spoil_scratch(self) -> None:
        self._scratch["dirty"] = 1
        raise Rejected("no")

    @handler
    def scratch(self) -> int:
        return len(self._scratch)

    @handler
    def set_tenant(self) -> None:
        tenant.set("acme")

    @handler
    def get_tenant(self) -> str:
        return tenant.get()

    @handler
    async def wait(self, gate: str) -> int:
        self.count += 1
        await gates[gate].wait()
        return self.count

    @handler(readonly=True)
    async def read_later(self, gate: str) -> int:
        await gates[gate].wait()
        return self.count

    @handler
    async def leave_a_task(self) -> None:
        self._task = asyncio.create_task(self._later())

    async def _later(self) -> None:
        await gates["a"].wait()
        self.count = 99

    @handler
    async def stubborn(self) -> None:
        await in_spite_of_cancellation("a")
        self.alarms.schedule("ring", after=timedelta(seconds=60))
        self.engine.send(Probe.increment, "victim")

    @handler(readonly=True)
    def arm_on_the_sly(self) -> None:
        self.alarms.schedule("ring", after=timedelta(seconds=60))

    @alarm
    def ring(self) -> None: ...


class Sleepy(DurableObject):
    """Takes its time to load, and no notice of cancellation."""

    value: int = 0

    async def after_load(self) -> None:
        await in_spite_of_cancellation("load")

    @handler
    def get(self) -> int:
        return self.value

    @handler
    def bump(self) -> int:
        self.value += 1
        return self.value

    @handler
    def crash(self) -> None:
        self.value += 1000
        raise ZeroDivisionError


class Inward(DurableObject, reentrant=True):
    """Calls itself."""

    log: list[Any] = field(default_factory=list)

    def _me(self) -> Any:
        return self.engine.at(Inward, str(self.id))

    @handler
    async def outer(self, inner: str, fail: bool = False) -> list[Any]:
        self.log.append("outer")
        self.alarms.schedule("ring", after=timedelta(seconds=60))
        self.engine.send(Probe.increment, "victim")
        try:
            await getattr(self._me(), inner)()
        except DurableError:
            pass
        if fail:
            raise Rejected("outer")
        return self.log

    @handler
    async def unstorable(self) -> None:
        self.log.append(object())
        await self._me().ok()

    @handler
    async def both(self) -> None:
        await asyncio.gather(self._me().ok(), self._me().ok())

    @handler
    def ok(self) -> None:
        self.log.append("inner")

    @handler
    def bad(self) -> None:
        self.log.append("lost")
        raise Rejected("inner")

    @handler
    async def hold(self) -> None:
        self.log.append("hold")
        await gates["a"].wait()

    @handler
    async def hold_and_reject(self) -> None:
        self.log.append("hold")
        await gates["a"].wait()
        raise Rejected("inner")

    @handler
    async def arm(self) -> None:
        self.alarms.schedule("ring", after=timedelta(seconds=60))
        await gates["a"].wait()

    @handler
    async def stay(self) -> None:
        await gates["b"].wait()

    @handler
    def read(self) -> list[Any]:
        return self.log

    @alarm
    def ring(self) -> None: ...


async def in_spite_of_cancellation(gate: str) -> None:
    """Wait for a gate as a handler does that catches too much."""
    while not gates[gate].is_set():
        try:
            await gates[gate].wait()
        except asyncio.CancelledError:
            continue
