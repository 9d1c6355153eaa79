"""Callers of every kind at work while shards are exchanged, each with numbers by which nothing can be lost unseen."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from durable_engine import Engine
from durable_storage.address import partition_of
from durable_storage.limits import PARTITIONS
from tests.support.eventually import eventually


def spread(object_type: str, count: int) -> list[str]:
    """Ids in `count` equal parts of the partitions: of objects of every shard."""

    def in_part(part: int) -> str:
        names = (f"{object_type.lower()}-{number}" for number in range(10_000))
        return next(name for name in names if partition_of("", object_type, name) * count // PARTITIONS == part)

    return [in_part(part) for part in range(count)]


JOURNALS = spread("Journal", 6)
COURIERS = spread("Courier", 12)
CLOCKS = spread("Clock", 3)
WRITERS = 12
"""Of each kind."""
PIPELINED = 3
"""Calls that a writer has under way on one object: their order is the order of their numbers."""
TIMEOUT_SECONDS = 60.0


class Work:
    """Writers with and without keys, couriers and alarms, in a thread, until the `with` block ends.

    A writer stops at its first error: what comes after it would prove nothing.
    """

    def __init__(self, endpoint: str) -> None:
        self.written: dict[str, int] = {}
        """The last number that each writer was acknowledged."""
        self.alarms: list[str] = []
        self.errors: list[str] = []
        self._endpoint = endpoint
        self._stop = False
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Work:
        self._thread.start()
        assert self._started.wait(60), "the work did not get going"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop = True
        self._thread.join()

    def go_on(self) -> None:
        """Until every writer has got on, and an alarm more was set."""
        before = dict(self.written)

        def moved() -> bool:
            stuck = [writer for writer, number in before.items() if self.written[writer] < number + 2 * PIPELINED]
            return not stuck or bool(self.errors)

        eventually(moved, timeout=90, state=lambda: f"{before}\n{self.written}\n{self.errors}")

    async def _run(self) -> None:
        keyed, plain = (Engine.connect(self._endpoint, exactly_once=once) for once in (True, False))
        try:
            async with keyed, plain:
                writers = [self._note(keyed, f"keyed-{number}") for number in range(WRITERS)]
                writers += [self._note(plain, f"plain-{number}") for number in range(WRITERS)]
                writers += [self._carry(plain, number, courier) for number, courier in enumerate(COURIERS)]
                await asyncio.gather(*writers, *(self._set(plain, clock) for clock in CLOCKS))
        except BaseException as error:
            self.errors.append(repr(error))
        finally:
            self._started.set()

    async def _note(self, engine: Engine, writer: str) -> None:
        journal = JOURNALS[int(writer.partition("-")[2]) % len(JOURNALS)]
        await self._write(writer, lambda number: call(engine, "Journal", journal, "note", writer, number))

    async def _carry(self, engine: Engine, which: int, courier: str) -> None:
        """To a journal of another part of the partitions."""
        journal = JOURNALS[(which // 2 + 1 + which % 2) % len(JOURNALS)]
        await self._write(courier, lambda number: call(engine, "Courier", courier, "carry", journal, courier, number))

    async def _write(self, writer: str, write: Callable[[int], Awaitable[Any]]) -> None:
        self.written[writer] = 0
        while not self._stop:
            first = self.written[writer] + 1
            numbers = range(first, first + PIPELINED)
            try:
                await asyncio.gather(*map(write, numbers))
            except Exception as error:
                self.errors.append(f"{writer} {first}: {error!r}")
                return
            self.written[writer] = numbers[-1]
            if len(self.written) == 3 * WRITERS and min(self.written.values()):
                self._started.set()

    async def _set(self, engine: Engine, clock: str) -> None:
        number = 0
        while not self._stop:
            number += 1
            name = f"{clock}:{number}"
            try:
                await call(engine, "Clock", clock, "set", name)
            except Exception as error:
                self.errors.append(f"alarm {name}: {error!r}")
                return
            self.alarms.append(name)
            await asyncio.sleep(0.01)  # a pace, and not a wait: alarms are names in a state, which is to stay small


def call(engine: Engine, object_type: str, object_id: str, handler: str, *args: Any) -> Awaitable[Any]:
    """With time enough for a busy machine."""
    return engine.call_by_name(object_type, object_id, handler, list(args), {}, timeout=TIMEOUT_SECONDS)


def assert_nothing_happened(work: Work, endpoint: str) -> None:
    """No call failed, none was lost, doubled or overtaken, and every alarm fired once."""
    assert work.errors == []
    journals, clocks = asyncio.run(_read(endpoint, set(work.alarms)))
    assert [wrong for journal in journals for wrong in journal["wrong"]] == []
    assert {writer: number for journal in journals for writer, number in journal["last"].items()} == work.written
    fired = {name: times for clock in clocks for name, times in clock["fired"].items()}
    assert fired == dict.fromkeys(work.alarms, 1)


async def _read(endpoint: str, alarms: set[str]) -> tuple[list[Any], list[Any]]:
    async with Engine.connect(endpoint) as engine:
        journals = [await engine.state("Journal", journal) for journal in JOURNALS]
        async with asyncio.timeout(60):
            while True:
                clocks = [await engine.state("Clock", clock) for clock in CLOCKS]
                if alarms <= {name for clock in clocks if clock is not None for name in clock["fired"]}:
                    return journals, clocks
                await asyncio.sleep(0.02)
