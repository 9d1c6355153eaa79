"""The output gate where it is hard: what leaves is what was meant, and nothing leaves that may not."""

from __future__ import annotations

import asyncio

import pytest

from durable_engine import DurableError, PersistenceFailed
from durable_storage.errors import Fenced
from durable_storage.store import Change
from tests.shards.hard_objects import Probe, WithLog, gates
from tests.shards.harness import Harness, answered, settle


def is_poison(change: Change) -> bool:
    return change.state is not None and b"-666" in change.state


async def test_a_turn_that_lost_its_ground_calls_nobody() -> None:
    """A suspended turn whose beginnings the store refused may not reach out any more."""
    async with Harness([Probe]) as h:
        h.world.refuse(is_poison)
        await asyncio.gather(h.call(Probe, "a", "get"), h.call(Probe, "b", "get"))
        h.world.hold()
        poison = h.call(Probe, "a", "poison")
        telling = h.call(Probe, "a", "ask_later", ["b"])
        await settle()
        h.world.release()
        with pytest.raises(PersistenceFailed):
            await answered(poison)
        gates["a"].set()
        with pytest.raises(PersistenceFailed):
            await answered(telling)
        assert await h.call(Probe, "b", "get") == 0


async def test_a_send_carries_what_it_was_given() -> None:
    """fault D2: what a later turn does to a list that was sent along is not sent."""
    async with Harness([Probe]) as h:
        await asyncio.gather(h.call(Probe, "a", "get"), h.call(Probe, "b", "get"))
        h.world.hold()
        h.call(Probe, "a", "tell_log", ["b"])
        await settle()
        h.call(Probe, "a", "note", ["second"])
        await settle()
        h.world.release()
        await settle(40)
        assert await h.call(Probe, "b", "read_log") == ["first"]


async def test_a_rejection_carries_what_it_was_given() -> None:
    """fault D2: an error that waits for a commit tells the state as it was, not as later turns have made it."""
    async with Harness([Probe]) as h:
        await h.call(Probe, "a", "note", ["durable"])
        h.world.hold()
        h.call(Probe, "a", "increment")
        rejected = h.call(Probe, "a", "reject_with_log")
        await settle()
        h.call(Probe, "a", "note", ["later"])
        await settle()
        h.world.release()
        with pytest.raises(WithLog) as refused:
            await answered(rejected)
        assert refused.value.items == ["durable"]


async def test_the_fields_of_a_rejection_are_not_the_state() -> None:
    """fault D2: a caller in the same process gets copies: what it does to them happens to nobody's object."""
    async with Harness([Probe]) as h:
        await h.call(Probe, "a", "note", ["durable"])
        with pytest.raises(WithLog) as refused:
            await h.call(Probe, "a", "reject_with_log")
        refused.value.items.append("from outside")
        assert await h.call(Probe, "a", "read_log") == ["durable"]


async def test_a_stopped_shard_says_nothing_more() -> None:
    """Once the ownership is lost not even a suspended read answers, whatever time its lease had left."""
    async with Harness([Probe]) as h:
        await h.call(Probe, "a", "increment")
        reading = h.call(Probe, "a", "read_later", ["a"])
        await settle()
        h.shard.stop(Fenced("somebody else owns this"))
        gates["a"].set()
        await settle()
        assert not reading.done()


async def test_a_task_that_outlives_its_turn_changes_nothing_that_others_read() -> None:
    """fault D2, D11: what is told is what is stored."""
    async with Harness([Probe]) as h:
        await h.call(Probe, "a", "leave_a_task")
        gates["a"].set()
        await settle()
        told = await h.call(Probe, "a", "get")
        stored = await h.call(Probe, "a", "$state")
        assert told == (stored["state"]["count"] if stored else 0) == 0


async def test_answers_that_wait_for_the_lease_leave_before_a_drain_ends() -> None:
    """Draining waits until the store has confirmed the ownership, and the reader hears."""
    async with Harness([Probe]) as h:
        await h.call(Probe, "a", "increment")
        h.store.confirm = gates["confirmed"].wait  # type: ignore[method-assign,assignment]
        await h.pass_time(10)
        read = h.call(Probe, "a", "get", timeout=60)
        await settle()
        draining = asyncio.ensure_future(h.shard.drain())
        await settle()
        assert not draining.done()
        gates["confirmed"].set()
        await answered(draining)
        assert await read == 1


async def test_a_drain_ends_when_the_last_object_cannot_be_loaded() -> None:
    """The caller hears why, and there is nothing left to wait for."""
    async with Harness([Probe]) as h:

        async def load(addresses: object) -> list[None]:
            await gates["load"].wait()
            raise DurableError("damaged")

        h.store.load = load  # type: ignore[method-assign,assignment]
        call = h.call(Probe, "a", "get")
        await settle()
        draining = asyncio.ensure_future(h.shard.drain())
        await settle()
        gates["load"].set()
        with pytest.raises(DurableError, match="damaged"):
            await answered(call)
        await answered(draining)


async def test_closing_starts_no_handlers() -> None:
    """Calls that wait behind a cancelled turn are not run, and no task is left behind."""
    h = Harness([Probe])
    await h.__aenter__()
    h.call(Probe, "a", "wait", ["a"]).add_done_callback(lambda done: done.exception())
    await settle()
    waiting = h.call(Probe, "a", "wait", ["b"])
    await settle()
    before = asyncio.all_tasks()
    await h.shard.close()
    await settle()
    assert asyncio.all_tasks() <= before
    assert not waiting.done()
    assert "b" not in gates
