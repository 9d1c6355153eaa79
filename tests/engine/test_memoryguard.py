"""Which shards get a fresh process because theirs is full: with shards and processes that are only numbers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from durable_engine import memoryguard
from durable_engine.footprint import data_bytes
from durable_engine.memoryguard import guard_memory
from durable_storage.errors import DurableError

MB = 1 << 20
ADVICE = "raise --process-memory-mb"


class Shards:
    """What their processes take, and which of them are exchanged."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken_mb: dict[int, int] = {}
        self.exchanged: list[int] = []
        self.looks = 0
        self.stuck: set[int] = set()
        self.refused: set[int] = set()
        self.keepers: list[Any] = []
        monkeypatch.setattr(memoryguard, "LOOK_SECONDS", 0)
        monkeypatch.setattr(memoryguard, "data_bytes", self._look)
        monkeypatch.setattr(memoryguard, "renew", self._renew)

    def add(self, *, fresh_mb: int, taken_mb: int) -> None:
        shard = len(self.keepers)
        process = SimpleNamespace(pid=shard, fresh_bytes=fresh_mb * MB)
        self.taken_mb[shard] = taken_mb
        self.keepers.append(SimpleNamespace(shard=shard, state="up", processes=SimpleNamespace(current=process)))

    def _look(self, pid: int) -> int:
        self.looks += 1
        return self.taken_mb[pid] * MB

    async def _renew(self, keeper: Any, _: float) -> None:
        self.exchanged.append(keeper.shard)
        if keeper.shard in self.stuck:
            await asyncio.Event().wait()
        if keeper.shard in self.refused:
            raise DurableError("not now")
        process = keeper.processes.current
        keeper.processes.current = SimpleNamespace(pid=process.pid, fresh_bytes=process.fresh_bytes)
        self.taken_mb[keeper.shard] = process.fresh_bytes // MB

    @asynccontextmanager
    async def guarded(self) -> AsyncIterator[None]:
        guard = asyncio.ensure_future(guard_memory(self.keepers, 100 * MB, 10.0))
        try:
            yield
        finally:
            guard.cancel()
            await asyncio.wait([guard])
        assert guard.cancelled()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Go on looking until it is so."""
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110 - what it waits for is no event
                await asyncio.sleep(0)


@pytest.fixture
def shards(monkeypatch: pytest.MonkeyPatch) -> Shards:
    return Shards(monkeypatch)


async def test_a_process_that_has_grown_is_exchanged(shards: Shards) -> None:
    """Three quarters of what it may take, of which it has taken much since it was fresh."""
    shards.add(fresh_mb=40, taken_mb=75)
    async with shards.guarded():
        await shards.until(lambda: shards.looks > 2)
        assert shards.exchanged == []
        shards.taken_mb[0] = 76
        await shards.until(lambda: shards.exchanged == [0])
        await shards.until(lambda: shards.looks > 20)

    assert shards.exchanged == [0]


@pytest.mark.parametrize(("fresh_mb", "taken_mb"), [(76, 76), (80, 85), (70, 79), (95, 100)])
async def test_a_process_that_is_no_better_when_fresh_is_not_exchanged(
    shards: Shards, caplog: pytest.LogCaptureFixture, fresh_mb: int, taken_mb: int
) -> None:
    """The next would be as full. The log says so once for each process, with what helps."""
    shards.add(fresh_mb=fresh_mb, taken_mb=taken_mb)

    async with shards.guarded():
        await shards.until(lambda: shards.looks > 10)

    assert shards.exchanged == []
    assert caplog.text.count(ADVICE) == 1
    assert f"a fresh process takes {fresh_mb} of the 100 MB" in caplog.text


async def test_an_exchange_that_is_stuck_leaves_the_other_shards_guarded(shards: Shards) -> None:
    """Each shard is looked after on its own."""
    shards.add(fresh_mb=10, taken_mb=90)
    shards.add(fresh_mb=10, taken_mb=10)
    shards.stuck.add(0)

    async with shards.guarded():
        await shards.until(lambda: shards.exchanged == [0])
        shards.taken_mb[1] = 90
        await shards.until(lambda: shards.exchanged == [0, 1])


async def test_an_exchange_that_is_refused_is_tried_again(shards: Shards, caplog: pytest.LogCaptureFixture) -> None:
    """The shard may be on its way to another process for another reason."""
    shards.add(fresh_mb=10, taken_mb=90)
    shards.refused.add(0)

    async with shards.guarded():
        await shards.until(lambda: len(shards.exchanged) > 1)
        shards.refused.clear()
        await shards.until(lambda: shards.taken_mb[0] == 10)

    assert "shard 0 keeps its process for now: not now" in caplog.text


def test_what_a_process_takes_is_read_from_outside() -> None:
    """Its own memory, and nothing of one that is not there."""
    before = data_bytes(os.getpid())
    held = bytearray(64 * MB)

    assert data_bytes(os.getpid()) >= before + len(held)
    assert data_bytes(0) == 0
