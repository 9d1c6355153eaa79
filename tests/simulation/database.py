"""The database in virtual time: a `MemoryWorld` behind connections that are slow, break, and deliver late.

A statement is executed when it arrives, whatever has become of the process that sent it; its answer finds that process
alive, frozen or dead. What a real store does about a connection that broke is done here as well: the epoch is bumped on
another connection, and only then is it known whether the statement was executed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Literal, TypeVar

from durable_storage import crashpoints
from durable_storage.address import Address
from durable_storage.batching import settle
from durable_storage.errors import StoreUnavailable
from durable_storage.memory import MemoryStore, MemoryWorld
from durable_storage.ownership import Ownership, fenced
from durable_storage.store import Change, Claim, DueAlarm, ResultRow, Served, Stored
from tests.simulation.clock import ProcessLoop, Simulation

Answer = TypeVar("Answer")
Fate = Literal["ok", "before", "after", "late", "hang"]
RETRY_SECONDS = 0.05
LATE_SECONDS_MIN = 0.0001
LATE_SECONDS_MAX = 3.0


class Broken(StoreUnavailable):
    """The connection broke before an answer came."""


class AuditedWorld(MemoryWorld):
    """Tells of each unit that was applied."""

    on_applied: Callable[[Claim, Ownership, Sequence[Change]], None]

    def apply(self, claim: Claim, owned: Ownership, changes: Sequence[Change]) -> bool:
        applied = super().apply(claim, owned, changes)
        if applied:
            self.on_applied(claim, owned, changes)
        return applied


class Database:
    """What all processes reach over connections of their own."""

    def __init__(self, simulation: Simulation, count_fault: Callable[[str], None]) -> None:
        self.simulation = simulation
        self.world = AuditedWorld(now=simulation.wall)
        self.slowest_seconds = 0.003
        self.trouble = 0.0
        """How often a connection breaks in a statement."""
        self.away_until = 0.0
        self.held_until = 0.0
        self.count_fault = count_fault

    def _fate(self, is_commit: bool) -> Fate:
        random = self.simulation.random
        if not self.trouble or random.random() >= self.trouble:
            return "ok"
        fate: Fate = random.choice(("before", "after", "late", "late", "hang")) if is_commit else "before"
        self.count_fault(f"{fate} in commit" if is_commit else "cut in query")
        return fate

    def delay(self) -> float:
        return 0.0001 + self.simulation.random.random() * self.slowest_seconds

    def _lateness(self) -> float:
        """As often next to the resolving of the outcome, which takes milliseconds, as long after it."""
        return LATE_SECONDS_MIN * (LATE_SECONDS_MAX / LATE_SECONDS_MIN) ** self.simulation.random.random()

    def ask(
        self, loop: ProcessLoop, execute: Callable[[], Answer], *, is_commit: bool = False
    ) -> asyncio.Future[Answer]:
        """Send a statement. The future fails with Broken when nobody knows whether it was executed."""
        simulation, random = self.simulation, self.simulation.random
        statement = _Statement(self, loop, execute)
        fate = self._fate(is_commit)
        at = simulation.now + self.delay()
        if is_commit and self.held_until > at:
            self.count_fault("store held")
            at = self.held_until
        if fate != "before":
            late = self._lateness() if fate == "late" else 0.0
            simulation.push(at + late, None, partial(statement.arrive, answers=fate == "ok"))
        if fate != "ok":
            pause = 0.3 + random.random() * 3 if fate == "hang" else self.delay()
            simulation.push(at + pause, None, statement.breaks)
        return statement.answer


class _Statement:
    """A statement on its way."""

    def __init__(self, database: Database, loop: ProcessLoop, execute: Callable[[], Any]) -> None:
        self._database = database
        self._loop = loop
        self._execute = execute
        self.answer: asyncio.Future[Any] = loop.create_future()

    def arrive(self, answers: bool) -> None:
        """It is executed, whether anybody waits for its answer or not."""
        database = self._database
        if database.simulation.now < database.away_until:
            database.count_fault("store away")
            if answers:
                self.breaks()
            return
        result, problem = None, None
        try:
            result = self._execute()
        except Exception as error:
            problem = error
        if answers:
            database.simulation.later(database.delay(), self._loop.call_soon, self._tell, result, problem)

    def breaks(self) -> None:
        """The connection breaks before the answer."""
        self._loop.call_soon(self._tell, None, Broken())

    def _tell(self, result: Any, problem: Exception | None) -> None:
        if self.answer.done():
            return
        if problem is None:
            self.answer.set_result(result)
        else:
            self.answer.set_exception(problem)


class SimulatedStore(MemoryStore):
    """A shard's hold on the database. Implements `durable_storage.store.Store`."""

    world: AuditedWorld

    def __init__(self, database: Database, loop: ProcessLoop) -> None:
        super().__init__(database.world)
        self._database = database
        self._loop = loop

    async def _query(self, coroutine: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        return await self._database.ask(self._loop, lambda: at_once(coroutine()))

    async def open(self, claim: Claim) -> None:
        await self._query(lambda: MemoryStore.open(self, claim))

    async def load(self, addresses: Sequence[Address]) -> list[Stored | None]:
        return await self._query(lambda: MemoryStore.load(self, addresses))

    async def load_results(self, keys: Sequence[tuple[Address, str]]) -> list[ResultRow | None]:
        return await self._query(lambda: MemoryStore.load_results(self, keys))

    async def confirm(self) -> None:
        await self._query(lambda: MemoryStore.confirm(self))

    async def due_alarms(self, served: Served, before: datetime, limit: int) -> list[DueAlarm]:
        return await self._query(lambda: MemoryStore.due_alarms(self, served, before, limit))

    async def commit(self, changes: Sequence[Change]) -> dict[int, Exception]:
        return await settle(changes, self._commit_unit)

    async def _commit_unit(self, changes: Sequence[Change]) -> None:
        claim = self._owner()
        while True:
            owned = Ownership(self._incarnation, self.epoch, self.seq)
            try:
                applied = await self._database.ask(
                    self._loop, lambda owned=owned: self.world.apply(claim, owned, changes), is_commit=True
                )
            except Broken:
                if await self._resolve_outcome(claim):
                    return
                continue
            if not applied:
                raise fenced(claim)
            self.seq += 1
            return

    async def _resolve_outcome(self, claim: Claim) -> bool:
        await crashpoints.stop_at("before_resolve", self)
        while True:
            try:
                bumped = await self._database.ask(self._loop, lambda: self.world.bump(claim, self._incarnation))
                break
            except Broken:
                await asyncio.sleep(RETRY_SECONDS)
        return self._was_applied(bumped)


def at_once(coroutine: Coroutine[Any, Any, Answer]) -> Answer:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: Answer = stop.value
        return result
    coroutine.close()
    raise AssertionError("the memory store waited for something")
