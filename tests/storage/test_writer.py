"""The writer: one commit at a time, and nobody hears of another's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from durable_storage.address import Address
from durable_storage.store import Change, Store
from durable_storage.writer import Writer


class HeldStore:
    """A store whose commits end when the test says so."""

    def __init__(self) -> None:
        self.under_way: list[tuple[list[str], asyncio.Future[dict[int, Exception]]]] = []
        self.most = 0
        """Commits that were under way together, at most."""
        self.durable: list[str] = []

    async def commit(self, changes: Sequence[Change]) -> dict[int, Exception]:
        names = [change.address.object_id for change in changes]
        answer = asyncio.get_running_loop().create_future()
        self.under_way.append((names, answer))
        self.most = max(self.most, len(self.under_way))
        refused: dict[int, Exception] = await answer
        self.durable += [name for place, name in enumerate(names) if place not in refused]
        return refused

    async def end_one(self, refused: dict[int, Exception] | None = None) -> list[str]:
        """End the oldest commit, and let its outcome be worked off; what it was made of."""
        names, answer = self.under_way.pop(0)
        answer.set_result(refused or {})
        for _ in range(6):
            await asyncio.sleep(0)
        return names


class Noted:
    """An entry that notes what it hears, and whether that was true."""

    cancelled = False

    def __init__(self, name: str, store: HeldStore, heard: list[str]) -> None:
        self.name = name
        self._store = store
        self._heard = heard

    def change(self) -> Change:
        return Change(Address("", "Type", self.name), 0, state=b"{}", version=1)

    def committed(self) -> None:
        assert self.name in self._store.durable, f"{self.name} was acknowledged before it was durable"
        self._heard.append(self.name)

    def refused(self, error: Exception) -> None:
        self._heard.append(f"{self.name} refused")


class Stage:
    """A writer on a held store."""

    def __init__(self) -> None:
        self.store = HeldStore()
        self.heard: list[str] = []
        self.on_commit: Callable[[], None] = lambda: None
        self.writer = Writer(
            cast("Store", self.store), lambda: 0.0, lambda _: self.on_commit(), lambda: None, self._stop
        )

    @staticmethod
    def _stop(error: Exception) -> Any:
        pytest.fail(f"the writer gave up: {error}")

    def add(self, *names: str) -> None:
        for name in names:
            self.writer.add(Noted(name, self.store, self.heard))


async def settled() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


async def test_what_comes_while_a_commit_is_noted_starts_no_second_one() -> None:
    """A lease that is confirmed by a commit releases what was held, and that may write at once."""
    stage = Stage()
    stage.add("first")
    await settled()
    stage.add("gathered")

    def release_what_was_held() -> None:
        asyncio.get_running_loop().call_soon(stage.add, "a step later")
        stage.add("at the confirmation")
        stage.on_commit = lambda: None

    stage.on_commit = release_what_was_held
    assert await stage.store.end_one() == ["first"]
    while stage.store.under_way:
        await stage.store.end_one()
    assert stage.store.most == 1
    assert stage.heard == ["first", "gathered", "at the confirmation", "a step later"]
    assert stage.writer.statistics().in_flight == 0


async def test_entries_of_many_batches_hear_in_order_and_after_their_own_commit() -> None:
    """Each batch takes what came while the one before was under way."""
    stage = Stage()
    batches = []
    for number in range(5):
        stage.add(f"{number}a", f"{number}b")
        if number == 0:
            await settled()
        else:
            batches.append(await stage.store.end_one())
    batches.append(await stage.store.end_one())
    assert batches == [[f"{number}a", f"{number}b"] for number in range(5)]
    assert stage.heard == [name for batch in batches for name in batch]
    assert stage.store.most == 1


async def test_a_refusal_is_worked_off_before_the_next_batch_leaves() -> None:
    """Undoing changes what is gathering, so it must not be on its way by then."""
    stage = Stage()
    stage.add("good", "bad")
    await settled()
    stage.add("later")
    names, answer = stage.store.under_way.pop()
    answer.set_result({names.index("bad"): ValueError("refused")})
    await settled()
    assert stage.heard == ["good", "bad refused"]
    assert await stage.store.end_one() == ["later"]
    assert stage.heard[-1] == "later"


async def test_nobody_hears_of_a_commit_after_the_writer_was_abandoned() -> None:
    """As after a crash: what is durable may be found, but nobody is told."""
    stage = Stage()
    stage.add("first")
    await settled()
    stage.add("second")
    stage.on_commit = stage.writer.abandon
    await stage.store.end_one()
    assert stage.store.durable == ["first"]
    assert stage.heard == []
