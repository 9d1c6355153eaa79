"""What the database refuses fails alone; the rest of its batch commits."""

from __future__ import annotations

import pytest

from durable_storage.errors import PersistenceFailed
from durable_storage.store import KeyExists, Stored
from tests.contract.rigs import Rig, address, alarm, change, result


@pytest.mark.parametrize("count", [1, 2, 3, 16, 100])
async def test_a_poisonous_state_fails_alone(rig: Rig, count: int) -> None:
    """fault B14: wherever in the batch it stands."""
    store = await rig.open()
    guilty = {0, count // 2, count - 1}
    batch = [change(str(i), rig.poison if i in guilty else b"%d" % i) for i in range(count)]
    refused = await store.commit(batch)
    assert set(refused) == guilty
    for error in refused.values():
        assert isinstance(error, PersistenceFailed)
        assert error.outcome == "not_applied"
        assert not error.retryable
    loaded = await store.load([address(str(i)) for i in range(count)])
    assert loaded == [None if i in guilty else Stored(b"%d" % i, 1, ()) for i in range(count)]


async def test_a_refused_change_leaves_no_part_of_itself(rig: Rig) -> None:
    """No alarm, no result, and what it would have deleted stays."""
    store = await rig.open()
    await store.commit([change("a", b"1", alarms_set=[alarm("kept")])])
    bad = change("a", rig.poison, 2, delete=True, alarms_set=[alarm("new")], results=[result("key")])
    assert set(await store.commit([bad, change("b", b"2")])) == {0}
    assert await store.load([address("a"), address("b")]) == [Stored(b"1", 1, (alarm("kept"),)), Stored(b"2", 1, ())]
    assert await store.load_results([(address("a"), "key")]) == [None]


async def test_a_key_that_exists_refuses_its_change(rig: Rig) -> None:
    """The first result stays, and nothing else of the change is stored."""
    store = await rig.open()
    await store.commit([change("a", b"1", results=[result("key", b"first")])])
    batch = [
        change("a", b"2", 2, alarms_set=[alarm("x")], results=[result("other"), result("key", b"second")]),
        change("b", b"3", results=[result("key", b"of b")]),
    ]
    refused = await store.commit(batch)
    assert {index: type(error) for index, error in refused.items()} == {0: KeyExists}
    assert await store.load([address("a"), address("b")]) == [Stored(b"1", 1, ()), Stored(b"3", 1, ())]
    keys = [(address("a"), "key"), (address("a"), "other"), (address("b"), "key")]
    assert await store.load_results(keys) == [result("key", b"first"), None, result("key", b"of b")]


async def test_a_key_twice_in_one_change_refuses_that_change(rig: Rig) -> None:
    """To PostgreSQL it is a row touched twice, which must not be told as a refused state."""
    store = await rig.open()
    batch = [
        change("a", b"1", results=[result("key", b"first"), result("key", b"second")]),
        change("b", rig.poison),
        change(address("c", prefix=""), b"1", results=[result("key")]),
    ]
    refused = await store.commit(batch)
    assert {index: type(error) for index, error in refused.items()} == {0: KeyExists, 1: PersistenceFailed}
    assert await store.list_ids("", "Counter", None, 10) == ["c"]
    assert await store.load_results([(address("a"), "key")]) == [None]


async def test_refusals_of_several_tenants_are_told_apart(rig: Rig) -> None:
    """fault B14: poison and used keys in each of them, and one tenant that does not get in the way of another."""
    await rig.add_tenant("acme")
    store = await rig.open()
    tenants = ["", "acme"]
    await store.commit([change(address("k", prefix=each), b"1", results=[result("key")]) for each in tenants])
    batch = []
    for number in range(20):
        at = address(str(number), prefix=tenants[number % 2])
        batch.append(change(at, rig.poison if number in {3, 4} else b"1", results=[result(f"of {number}")]))
    batch += [change(address("k", prefix=each), b"2", 2, results=[result("key")]) for each in tenants]
    refused = await store.commit(batch)
    kinds = {3: PersistenceFailed, 4: PersistenceFailed, 20: KeyExists, 21: KeyExists}
    assert {index: type(error) for index, error in refused.items()} == kinds
    for prefix in tenants:
        assert len(await store.list_ids(prefix, "Counter", None, 100)) == 10
    assert (await rig.open()).seq == store.seq


async def test_the_store_goes_on_after_refusals(rig: Rig) -> None:
    """Its count matches the database's."""
    store = await rig.open()
    await store.commit([change(str(i), rig.poison if i % 3 == 0 else b"1") for i in range(20)])
    assert await store.commit([change("later", b"1")]) == {}
    assert (await rig.open()).seq == store.seq
