"""The memory store's orderable failures behave as the real ones do: other tests build on them."""

from __future__ import annotations

import asyncio

import pytest

from durable_storage import crashpoints
from durable_storage.errors import Fenced, PersistenceFailed, StoreUnavailable
from durable_storage.memory import Fault, MemoryStore
from durable_storage.store import Stored
from tests.contract.rigs import MemoryRig, address, change, result


@pytest.fixture
async def rig() -> MemoryRig:
    """A world of its own."""
    return MemoryRig()


@pytest.mark.parametrize("fault", ["before", "after", "late"])
async def test_a_lost_connection_is_resolved_to_exactly_one_application(rig: MemoryRig, fault: Fault) -> None:
    """Whether the statement was executed, was not, or arrives later."""
    store = await rig.open()
    await store.commit([change("a", b"0", 1)])
    rig.world.fail_next(fault)
    assert await store.commit([change("a", b"1", 2, results=[result("key")])]) == {}
    assert rig.world.faults_fired == 1
    assert rig.world.late_statements_fenced == (fault == "late")
    assert (store.epoch, store.seq, rig.world.statements) == (2, 2, 2)
    assert await store.load([address("a")]) == [Stored(b"1", 2, ())]


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_a_process_may_die_before_it_knows_what_became_of_its_commit(rig: MemoryRig, fault: Fault) -> None:
    """Then its successor finds the commit whole, or nothing of it."""
    store = await rig.open()
    rig.world.fail_next(fault)
    struck = asyncio.Event()
    crash = crashpoints.arm("before_resolve", store=store, act=struck.set)
    dying = asyncio.ensure_future(store.commit([change("a", b"1")]))
    await asyncio.wait_for(struck.wait(), 10)
    successor = await rig.open()
    assert crash.fired
    assert not dying.done()
    assert await successor.load([address("a")]) == [Stored(b"1", 1, ()) if fault == "after" else None]
    dying.cancel()


async def test_faults_are_met_in_the_order_given(rig: MemoryRig) -> None:
    """One commit may meet several."""
    store = await rig.open()
    rig.world.fail_next("before", times=2)
    rig.world.fail_next("after")
    assert await store.commit([change("a", b"1")]) == {}
    assert (store.epoch, store.seq, rig.world.faults_fired) == (4, 1, 3)


async def test_an_ordered_error_refuses_the_whole_commit(rig: MemoryRig) -> None:
    """Once."""
    store = await rig.open()
    rig.world.fail_next(PersistenceFailed("no"))
    batch = [change("a", b"1"), change("b", b"1")]
    assert set(await store.commit(batch)) == {0, 1}
    assert await store.load([address("a"), address("b")]) == [None, None]
    assert await store.commit(batch) == {}


async def test_an_ordered_error_meets_the_next_load(rig: MemoryRig) -> None:
    """Once."""
    store = await rig.open()
    rig.world.fail_next_load(StoreUnavailable())
    with pytest.raises(StoreUnavailable):
        await store.load([address("a")])
    assert await store.load([address("a")]) == [None]


async def test_a_held_commit_stays_in_flight_until_released(rig: MemoryRig) -> None:
    """And is fenced, when its shard was taken over meanwhile."""
    store = await rig.open()
    rig.world.hold()
    first = asyncio.create_task(store.commit([change("a", b"1")]))
    await asyncio.sleep(0)
    assert rig.world.commits_held == 1
    assert await store.load([address("a")]) == [None]
    rig.world.release()
    assert await first == {}
    rig.world.hold()
    second = asyncio.create_task(store.commit([change("a", b"2", 2)]))
    await asyncio.sleep(0)
    await rig.open()
    rig.world.release()
    with pytest.raises(Fenced):
        await second
    assert rig.world.objects[address("a")].version == 1


async def test_a_store_that_is_away_is_waited_for(rig: MemoryRig) -> None:
    """By commits; everything else says so at once."""
    store = await rig.open()
    rig.world.go_away()
    commit = asyncio.create_task(store.commit([change("a", b"1")]))
    await asyncio.sleep(0)
    assert store.unavailable_since is not None
    with pytest.raises(StoreUnavailable):
        await store.load([address("a")])
    with pytest.raises(StoreUnavailable):
        await store.confirm()
    with pytest.raises(StoreUnavailable):
        await rig.open()
    rig.world.come_back()
    assert await commit == {}
    assert store.unavailable_since is None


async def test_a_volatile_store_knows_no_loss(rig: MemoryRig) -> None:
    """`memory://` promises nothing, so that a restarted shard begins anew."""
    store = MemoryStore(volatile=True)
    await store.open(rig.claim(acknowledged_seq=100))
    assert store.seq == 100
