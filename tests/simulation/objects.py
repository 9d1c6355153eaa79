"""The objects of the simulation, in two releases: every effect of a call leaves its token somewhere in the state."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

from durable_engine import DurableObject, Rejected, alarm, field, handler

IDLE = {"hibernate_after": timedelta(seconds=2), "shutdown_after": timedelta(seconds=5)}
NAMES = ("plain", "slow", "bad", "chain")
CHAINS = 3
"""An alarm that arms itself does so this often; each arming's token is that before it and a half."""


class _Thing(DurableObject, **IDLE):
    """Its own tokens stand in its log as they are, those that others sent to it as their negatives."""

    armed: dict[str, float] = field(default_factory=dict)
    """Alarm: token of its arming."""
    fired: list[list[Any]] = field(default_factory=list)
    """[alarm, token, armed for, fired at]."""
    dropped: list[float] = field(default_factory=list)
    """Tokens of armings that were cancelled or replaced."""
    left: int = 0
    right: int = 0
    loads: int = 0
    poisoned: bool = False

    def _log(self) -> list[int]:
        raise NotImplementedError

    def _append(self, token: int) -> list[int]:
        self._log().append(token)
        return self._log()

    def _tell(self, token: int, other: str) -> None:
        self.engine.send(getattr(First, class_of(other)).receive, other, token)

    @handler
    def append(self, token: int) -> list[int]:
        return self._append(token)

    @handler
    def receive(self, token: int) -> None:
        self._append(-token)

    @handler(readonly=True)
    def read(self) -> list[int]:
        return self._log()

    def _half_do(self, token: int, other: str) -> None:
        self._append(token)
        self._arm("plain", token, 1.0, 0)
        self._tell(token, other)
        self.left += 1

    @handler
    def poison(self, token: int, other: str) -> list[int]:
        self._tell(token, other)
        self.poisoned = True
        return self._append(token)

    @handler
    def tell(self, token: int, other: str) -> list[int]:
        self._tell(token, other)
        return self._append(token)

    # Alarms.

    def _arm(self, name: str, token: float, seconds: float, fails: int, **more: Any) -> None:
        when = more or {"after": timedelta(seconds=seconds)}
        self.alarms.schedule(name, payload={"token": token, "fails": fails}, **when)
        if name in self.armed:
            self.dropped.append(self.armed[name])
        self.armed[name] = token

    @handler
    def arm(self, token: int, name: str, seconds: float, fails: int) -> list[int]:
        self._arm(name, token, seconds, fails)
        return self._append(token)

    @handler
    def repeat(self, token: int, missed: Any, seconds: float) -> list[int]:
        self._arm(f"every_{missed}", token, 0.0, 0, every=timedelta(seconds=seconds), missed=missed)
        return self._append(token)

    @handler
    def cancel(self, token: int, name: str) -> list[int]:
        was_armed = self.alarms.cancel(name)
        assert was_armed is (name in self.armed), f"{name} is armed: {was_armed}, {self.armed}"
        if was_armed:
            self.dropped.append(self.armed.pop(name))
        return self._append(token)

    def _ring(self, name: str, payload: Any, at: datetime) -> None:
        assert self.armed.get(name) == payload["token"], f"{name} fires with {payload}, {self.armed}"
        self.fired.append([name, payload["token"], at.isoformat(), self.now().isoformat()])
        if not name.startswith("every_"):
            del self.armed[name]

    @alarm
    def plain(self, payload: Any, at: datetime) -> None:
        self._ring("plain", payload, at)

    @alarm
    def bad(self, payload: Any, attempt: int, at: datetime) -> None:
        self._ring("bad", payload, at)
        if attempt < payload["fails"]:
            self.left += 1
            raise RuntimeError("not yet")

    @alarm
    def chain(self, payload: Any, at: datetime) -> None:
        self._ring("chain", payload, at)
        token = payload["token"]
        if (token - int(token)) < 1 - 0.5**CHAINS:
            self._arm("chain", (token + int(token) + 1) / 2, 0.2, 0)

    def handle_alarm(self, name: str, payload: Any, at: datetime) -> None:
        self._ring(name, payload, at)


class _Waiting(_Thing):
    """Its turns are suspended now and then."""

    @handler
    async def append_slowly(self, token: int) -> list[int]:
        self._append(token)
        await asyncio.sleep(0.01)
        return self._log()

    @handler
    async def transfer(self, token: int, amount: int) -> list[int]:
        self.left -= amount
        await asyncio.sleep(0.005)
        self.right += amount
        return self._append(token)

    @handler
    async def reject(self, token: int, other: str) -> None:
        self._half_do(token, other)
        await asyncio.sleep(0)
        raise Rejected("on second thoughts")

    @handler
    async def ask(self, token: int, other: str) -> list[int]:
        self._append(token)
        await self.engine.call_by_name(class_of(other), other, "receive", [token])
        return self._log()

    @alarm
    async def slow(self, payload: Any, at: datetime) -> None:
        self._ring("slow", payload, at)
        await asyncio.sleep(0.02)


class _Prompt(_Thing):
    """The same without a coroutine, so that nothing but its own undoing takes back what a turn did before it failed."""

    @handler
    def append_slowly(self, token: int) -> list[int]:
        return self._append(token)

    @handler
    def transfer(self, token: int, amount: int) -> list[int]:
        self.left -= amount
        if amount % 4 == 0:
            raise Rejected("on second thoughts")
        self.right += amount
        return self._append(token)

    @handler
    def reject(self, token: int, other: str) -> None:
        self._half_do(token, other)
        raise Rejected("on second thoughts")

    @handler
    def ask(self, token: int, other: str) -> list[int]:
        self._tell(token, other)
        return self._append(token)

    @alarm
    def slow(self, payload: Any, at: datetime) -> None:
        self._ring("slow", payload, at)


class _Tokens:
    """How the log is called in the first release."""

    tokens: list[int]

    def _log(self) -> list[int]:
        return self.tokens


class First:
    """The classes as they were."""

    class Plain(_Tokens, _Waiting, name="Plain"):
        """Nothing more."""

        tokens: list[int] = field(default_factory=list)

    class Opening(_Tokens, _Waiting, name="Opening"):
        """Changes itself whenever it is loaded, and takes its time."""

        tokens: list[int] = field(default_factory=list)

        async def after_load(self) -> None:
            self.loads += 1
            await asyncio.sleep(0.001)

    class Prompt(_Tokens, _Prompt, name="Prompt"):
        """Never waits."""

        tokens: list[int] = field(default_factory=list)

    served = (Plain, Opening, Prompt)


class _Log:
    """How it is called in the second."""

    log: list[int]

    def _log(self) -> list[int]:
        return self.log

    @classmethod
    def migrate(cls, version: int, data: dict[str, Any]) -> dict[str, Any]:
        assert version == 1, f"migrated from version {version}"
        return {**data, "log": data.pop("tokens"), "since": 2}


class Second:
    """The next release: their logs have another name, and older rows are migrated."""

    class Plain(_Log, _Waiting, name="Plain", schema_version=2):
        """Nothing more."""

        log: list[int] = field(default_factory=list)
        since: int = 1

    class Opening(_Log, _Waiting, name="Opening", schema_version=2):
        """It loads at once now."""

        log: list[int] = field(default_factory=list)
        since: int = 1

        def after_load(self) -> None:
            self.loads += 1

    class Prompt(_Log, _Prompt, name="Prompt", schema_version=2):
        """Still never waits."""

        log: list[int] = field(default_factory=list)
        since: int = 1

    served = (Plain, Opening, Prompt)


RELEASES = {1: First, 2: Second}
EXPECTED_FAILURES = ("on second thoughts",)
OBJECTS = ("a", "b", "c", "d", "e", "f")


def class_of(name: str) -> str:
    """The stored name of the class of an object."""
    return {"c": "Prompt", "d": "Prompt", "e": "Opening", "f": "Opening"}.get(name, "Plain")


def log_of(state: dict[str, Any]) -> list[int]:
    """Of a stored state of either release."""
    log: list[int] = state["log"] if "log" in state else state.get("tokens", [])
    return log
