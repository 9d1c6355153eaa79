"""Objects that the tests of the core play with."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from durable_engine import DurableObject, Rejected, alarm, field, handler


class Refused(Rejected):
    """No."""

    why: str


class Counter(DurableObject, hibernate_after=timedelta(seconds=10), shutdown_after=timedelta(seconds=60)):
    count: int = 0
    log: list[str] = field(default_factory=list)

    @handler
    def increment(self, amount: int = 1) -> int:
        self.count += amount
        return self.count

    @handler
    async def increment_async(self, amount: int = 1) -> int:
        self.count += amount
        return self.count

    @handler(readonly=True)
    def get(self) -> int:
        return self.count

    @handler
    def peek(self) -> int:
        return self.count

    @handler
    def reject(self, why: str) -> None:
        self.count += 1000
        self.log.append(why)
        raise Refused(why=why)

    @handler
    def reject_untouched(self, why: str) -> None:
        raise Refused(why=why)

    @handler
    def crash(self) -> None:
        self.count += 1000
        raise ZeroDivisionError("a bug")

    @handler
    def interrupt(self) -> None:
        self.count += 1000
        raise KeyboardInterrupt

    @handler
    def unsendable(self) -> object:
        self.count += 1000
        return object()

    @handler
    def poison(self) -> int:
        self.count = -666
        return self.count

    @handler
    def note(self, text: str) -> int:
        self.log.append(text)
        return len(self.log)

    @handler
    def unstorable(self) -> None:
        self.count = "many"  # type: ignore[assignment]


class Waiter(DurableObject, call_timeout=timedelta(seconds=1)):
    """Its handlers wait for an event that the test holds."""

    seen: int = 0

    @handler
    async def wait(self, gate: str) -> int:
        self.seen += 1
        await GATES[gate].wait()
        self.seen += 10
        return self.seen

    @handler
    async def stubborn(self, gate: str) -> int:
        self.seen += 1
        while not GATES[gate].is_set():
            try:
                await GATES[gate].wait()
            except asyncio.CancelledError:
                continue
        return self.seen

    @handler
    async def with_timeout(self) -> str:
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            return "timed out"
        return "never"

    @handler
    def get(self) -> int:
        return self.seen


GATES: dict[str, asyncio.Event] = {}


class Loaded(DurableObject):
    """Opens itself when it is loaded."""

    opened: int = 0
    _cache: dict[str, int] = field(default_factory=dict)

    def after_load(self) -> None:
        self.opened += 1
        self._cache["opened"] = self.opened

    @handler
    def get(self) -> tuple[int, int]:
        return self.opened, self._cache["opened"]

    @handler
    def spoil(self) -> None:
        self._cache["opened"] = -1
        self.opened = -1
        raise Refused(why="spoilt")


class LoadedLater(DurableObject):
    """The same, with an async `after_load` that waits."""

    opened: int = 0

    async def after_load(self) -> None:
        await GATES["load"].wait()
        self.opened += 1

    @handler
    def get(self) -> int:
        return self.opened


class BadStart(DurableObject):
    """Cannot be loaded."""

    value: int = 0

    def after_load(self) -> None:
        raise RuntimeError("not today")

    @handler
    def get(self) -> int:
        return self.value


class Node(DurableObject):
    """Calls its neighbours."""

    visits: int = 0

    @handler
    async def visit(self, path: list[str]) -> list[str]:
        self.visits += 1
        if not path:
            return [str(self.id)]
        rest: list[str] = await self.engine.at(Node, path[0]).visit(path[1:])
        return [str(self.id), *rest]

    @handler
    async def change_then_call(self, other: str) -> int:
        self.visits += 1
        return int(await self.engine.at(Node, other).bump())

    @handler
    def bump(self) -> int:
        self.visits += 1
        return self.visits

    @handler
    def tell(self, other: str, fail: bool) -> int:
        self.visits += 1
        self.engine.send(Node.bump, other)
        if fail:
            raise Refused(why="asked to")
        return self.visits

    @handler
    def get(self) -> int:
        return self.visits


class Friendly(DurableObject, reentrant=True):
    """Lets calls of its own chain in while it waits."""

    log: list[str] = field(default_factory=list)

    @handler
    async def outer(self, inner: str) -> list[str]:
        self.log.append("outer begins")
        await self.engine.at(Relay, "relay").relay(str(self.id), inner)
        self.log.append("outer ends")
        return self.log

    @handler
    async def outer_with_alarm(self, inner: str) -> None:
        self.alarms.schedule(Friendly.later, after=timedelta(hours=1))
        await self.engine.at(Relay, "relay").relay(str(self.id), inner)

    @alarm
    def later(self) -> None:
        self.log.append("later")

    @handler
    def inner(self) -> None:
        self.log.append("inner")

    @handler
    def failing_inner(self) -> None:
        self.log.append("lost")
        raise Refused(why="inner")

    @handler
    def get(self) -> list[str]:
        return self.log


class Relay(DurableObject):
    """Calls back."""

    relayed: int = 0

    @handler
    async def relay(self, back_to: str, handler_name: str) -> None:
        self.relayed += 1
        try:
            await getattr(self.engine.at(Friendly, back_to), handler_name)()
        except Refused:
            pass


class Sleeper(DurableObject):
    """Has alarms of any name."""

    note: str = ""

    @handler
    def arm(self, name: str) -> None:
        self.alarms.schedule(name, after=timedelta(hours=1))

    @handler
    def rearm_and_poison(self) -> None:
        self.note = "poison"
        self.alarms.cancel_all()
        self.alarms.schedule("second", after=timedelta(hours=2))

    @handler
    def armed(self) -> list[str]:
        return [pending.name for pending in self.alarms.pending()]

    def handle_alarm(self, name: str) -> None:
        self.note = name
