"""The outbox of jobs: the latest wish of each alarm, in batches, whatever the database does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from durable_engine.procrastinate_outbox import Outbox
from durable_storage.address import Address
from durable_storage.store import DueAlarm
from tests.support.jobs import until

AT = datetime(2031, 5, 1, tzinfo=UTC)


class Table:
    """What an outbox writes to: refuses while it is told to, and may hold a write under way."""

    def __init__(self) -> None:
        self.rows: dict[str, DueAlarm | None] = {}
        self.batches: list[int] = []
        self.refused = 0
        self.refuses = lambda _changes: False
        self.open = asyncio.Event()
        self.open.set()
        self.entered = asyncio.Event()

    async def write(self, changes: Mapping[str, DueAlarm | None]) -> None:
        self.entered.set()
        await self.open.wait()
        if self.refuses(changes):
            self.refused += 1
            raise ConnectionError("the database is away")
        self.batches.append(len(changes))
        self.rows.update(changes)


@asynccontextmanager
async def running(table: Table, **bounds: int) -> AsyncIterator[Outbox]:
    outbox = Outbox(table.write, **bounds)
    task = asyncio.create_task(outbox.run())
    yield outbox
    task.cancel()
    await asyncio.wait((task,))


def alarm(number: int = 0) -> DueAlarm:
    return DueAlarm(Address("", "Counter", "a"), "reset", AT + timedelta(seconds=number))


async def is_full(table: Table) -> bool:
    return len(table.rows) == 20


async def test_wishes_of_one_alarm_fold_into_the_latest() -> None:
    """An alarm armed a hundred times in one go is written once, as it was armed last."""
    table = Table()
    async with running(table) as outbox:
        for number in range(100):
            outbox.put("a", alarm(number))
        outbox.put("b", alarm())
        outbox.put("b", None)
        await outbox.emptied()

    assert table.rows == {"a": alarm(99), "b": None}
    assert table.batches == [2]


async def test_a_wish_that_comes_during_a_write_is_written_after_it() -> None:
    """What is being written is not what was wished for meanwhile."""
    table = Table()
    table.open.clear()
    async with running(table) as outbox:
        outbox.put("a", alarm(1))
        await table.entered.wait()
        outbox.put("a", None)
        table.open.set()
        await outbox.emptied()

    assert table.rows == {"a": None}
    assert table.batches == [1, 1]


async def test_an_outage_loses_nothing() -> None:
    """While the database is away wishes wait, and are written when it is back."""
    table = Table()
    table.refuses = lambda _changes: table.refused < 5
    async with running(table, batch_max=4) as outbox:
        for number in range(10):
            outbox.put(str(number), alarm(number))
        await outbox.emptied()

        assert outbox.failures == 5
    assert table.rows == {str(number): alarm(number) for number in range(10)}


async def test_what_the_database_refuses_holds_back_nothing_else() -> None:
    """One alarm that cannot be written stays behind alone; the others pass it in ever smaller batches."""
    table = Table()
    table.refuses = lambda changes: "bad" in changes
    async with running(table, batch_max=8) as outbox:
        outbox.put("bad", alarm())
        for number in range(20):
            outbox.put(str(number), alarm(number))
        await until(lambda: is_full(table))

        assert len(outbox) == 1
        assert "bad" in outbox
    assert "bad" not in table.rows


async def test_past_its_bound_new_alarms_are_left_to_the_sweep() -> None:
    """They are counted and dropped; those that wait already still take their latest wish."""
    table = Table()
    table.open.clear()
    async with running(table, waiting_max=2) as outbox:
        for name in ("a", "b", "c", "d"):
            outbox.put(name, alarm(1))
        outbox.put("a", alarm(2))

        assert (len(outbox), outbox.dropped) == (2, 2)
        table.open.set()
        await outbox.emptied()
    assert table.rows == {"a": alarm(2), "b": alarm(1)}
