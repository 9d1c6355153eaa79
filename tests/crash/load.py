"""Clients at work while something goes wrong, and the count of what they were told."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from types import TracebackType

from durable_engine import Engine
from durable_engine.errors import DurableError
from tests.support.eventually import eventually

OBJECTS = tuple(f"object-{number}" for number in range(40))
CALLERS_PER_OBJECT = 2


class Load:
    """Increments of many counters from a thread, until the `with` block ends.

    Each caller goes on after an error: what failed is counted by outcome, what succeeded by object.
    """

    def __init__(self, endpoint: str, *, exactly_once: bool) -> None:
        self.acknowledged: Counter[str] = Counter()
        """Increments answered with success, by object."""
        self.unknown: Counter[str] = Counter()
        """Increments that may have happened, by object."""
        self.errors: list[DurableError] = []
        self._endpoint = endpoint
        self._exactly_once = exactly_once
        self._stop = False
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._crash: BaseException | None = None

    def __enter__(self) -> Load:
        self._thread.start()
        assert self._started.wait(30), "the load did not get going"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop = True
        self._thread.join()
        if self._crash is not None:
            raise self._crash

    @property
    def total(self) -> int:
        """All increments that were answered so far."""
        return sum(self.acknowledged.values())

    async def _run(self) -> None:
        try:
            async with Engine.connect(self._endpoint, exactly_once=self._exactly_once) as engine:
                callers = [self._call(engine, name) for name in OBJECTS for _ in range(CALLERS_PER_OBJECT)]
                await asyncio.gather(*callers)
        except BaseException as error:
            self._crash = error
        finally:
            self._started.set()

    async def _call(self, engine: Engine, name: str) -> None:
        while not self._stop:
            try:
                await engine.call_by_name("Counter", name, "increment", [], {}, timeout=20)
            except DurableError as error:
                self.errors.append(error)
                if error.outcome != "not_applied":
                    self.unknown[name] += 1
            else:
                self.acknowledged[name] += 1
                self._started.set()


def advance(load: Load, by: int) -> None:
    """Until so many more increments were acknowledged."""
    goal = load.total + by
    eventually(lambda: load.total >= goal, timeout=60, state=lambda: f"{load.total} of {goal}; {load.errors[-3:]}")


def counts(endpoint: str) -> dict[str, int]:
    """What the objects say themselves."""

    async def read() -> dict[str, int]:
        async with Engine.connect(endpoint) as engine:
            values = await asyncio.gather(
                *(engine.call_by_name("Counter", name, "get", [], {}, timeout=20) for name in OBJECTS)
            )
            return dict(zip(OBJECTS, values, strict=True))

    return asyncio.run(read())


def assert_nothing_lost(load: Load, found: dict[str, int]) -> None:
    """Each object counts what was acknowledged, and at most what may have happened besides."""
    for name in OBJECTS:
        least = load.acknowledged[name]
        assert least <= found[name] <= least + load.unknown[name], name


def assert_exact(load: Load, found: dict[str, int]) -> None:
    """With exactly-once calls and no errors: each object counts what was acknowledged, no more, no less."""
    assert load.errors == [], [str(error) for error in load.errors[:3]]
    assert found == {name: load.acknowledged[name] for name in OBJECTS}
