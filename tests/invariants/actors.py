"""The objects of the objects machine: each call brings a token, and every effect of the call leaves it somewhere."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from durable_engine import DurableObject, Rejected, alarm, field, handler

doors: list[asyncio.Event] = []
"""The last one is what lingering handlers wait for."""


class Actor(DurableObject, hibernate_after=timedelta(seconds=5), shutdown_after=timedelta(seconds=15)):
    """Remembers its own tokens as they are, and those that were sent to it as their negatives."""

    tokens: list[int] = field(default_factory=list)
    armed: list[str] = field(default_factory=list)
    loads: int = 0
    poisoned: bool = False

    def _ask(self, token: int, other: str) -> Any:
        return self.engine.at(KINDS[other], other).append(token)

    def _tell(self, token: int, other: str) -> None:
        self.engine.send(KINDS[other].receive, other, token)

    def _append(self, token: int) -> list[int]:
        self.tokens.append(token)
        return self.tokens

    def _arm(self, token: int) -> list[int]:
        name = name_of(token)
        self.alarms.schedule(name, after=timedelta(days=1000))
        self.armed = sorted({*self.armed, name})
        return self._append(token)

    @handler
    def append(self, token: int, other: str = "") -> list[int]:
        return self._append(token)

    @handler
    def receive(self, token: int) -> None:
        self.tokens.append(-token)

    @handler(readonly=True)
    def read(self) -> list[int]:
        return self.tokens

    @handler
    def poison(self, token: int, other: str) -> list[int]:
        self._tell(token, other)
        self.poisoned = True
        return self._append(token)

    @handler
    def reject(self, token: int, other: str) -> None:
        self._arm(token)
        self._tell(token, other)
        raise Rejected("on second thoughts")

    @handler
    async def ask(self, token: int, other: str) -> list[int]:
        self.tokens.append(token)
        await self._ask(token, other)
        return self.tokens

    @handler
    async def ask_and_reject(self, token: int, other: str) -> None:
        self.tokens.append(token)
        self._tell(token, other)
        await self._ask(token, other)
        raise Rejected("on second thoughts")

    @handler
    def tell(self, token: int, other: str) -> list[int]:
        self._tell(token, other)
        return self._append(token)

    @handler
    async def linger_and_tell(self, token: int, other: str) -> list[int]:
        self._tell(token, other)
        self.tokens.append(token)
        await doors[-1].wait()
        return self.tokens

    @handler
    async def stubborn(self, token: int, other: str) -> list[int]:
        door = doors[-1]
        while not door.is_set():
            try:
                await door.wait()
            except asyncio.CancelledError:
                continue
        self._arm(token)
        self._tell(token, other)
        return self.tokens

    @handler
    def arm(self, token: int, other: str) -> list[int]:
        return self._arm(token)

    @handler
    async def arm_slowly(self, token: int, other: str) -> list[int]:
        self.alarms.schedule(name_of(token), after=timedelta(days=1000))
        await asyncio.sleep(0)
        return self._arm(token)

    @handler
    def disarm(self, token: int, other: str) -> list[int]:
        name = name_of(token)
        assert self.alarms.cancel(name) is (name in self.armed)
        self.armed = [each for each in self.armed if each != name]
        return self._append(token)

    @alarm
    def even(self) -> None: ...

    @alarm
    def odd(self) -> None: ...


class Opening(Actor):
    """Changes itself whenever it is loaded."""

    def after_load(self) -> None:
        self.loads += 1


class OpeningSlowly(Actor):
    """The same, and takes its time."""

    async def after_load(self) -> None:
        self.loads += 1
        await asyncio.sleep(0)


KINDS: dict[str, type[Actor]] = {"a": Actor, "b": Actor, "c": Opening, "d": OpeningSlowly}
CALLS = (
    *("append", "poison", "reject", "ask", "ask_and_reject", "tell", "linger_and_tell", "stubborn"),
    *("arm", "arm_slowly", "disarm"),
)
TELLING = {"tell", "linger_and_tell", "stubborn", "poison"}


def name_of(token: int) -> str:
    """The alarm that a token is about."""
    return "odd" if token % 2 else "even"
