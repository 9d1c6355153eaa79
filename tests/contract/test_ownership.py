"""Fences: whoever lost a shard can neither write nor confirm; whoever takes one over finds all that was promised."""

from __future__ import annotations

import pytest

from durable_storage.errors import DataLossDetected, Fenced, SchemaMismatch
from durable_storage.lease import Holder
from durable_storage.store import Stored
from tests.contract.rigs import MemoryRig, PostgresRig, Rig, address, alarm, change, result


async def test_each_owner_has_a_higher_epoch_and_goes_on_counting(rig: Rig) -> None:
    """Epochs and commits of a shard only grow."""
    seen = []
    for _ in range(3):
        store = await rig.open()
        seen.append((store.epoch, store.seq))
        await store.commit([change("a", b"1")])
        assert store.seq == seen[-1][1] + 1
        await store.close()
    assert seen == [(1, 0), (2, 1), (3, 2)]


async def test_a_zombies_commit_raises_fenced_and_writes_nothing(rig: Rig) -> None:
    """parity 2, 58: neither states nor alarms nor results, whatever the batch is made of."""
    zombie = await rig.open()
    await zombie.commit([change("a", b'"old"', alarms_set=[alarm("kept")])])
    owner = await rig.open()
    for batch in (
        [change("a", b'"zombie"', 2)],
        [change("a", delete=True)],
        [change("a", alarms_cleared=["kept"]), change("b", alarms_set=[alarm("zombie")])],
        [change("a", b'"zombie"', 2, results=[result("key")])],
    ):
        with pytest.raises(Fenced, match="shard-0 was taken over"):
            await zombie.commit(batch)
    assert await owner.load([address("a"), address("b")]) == [Stored(b'"old"', 1, (alarm("kept"),)), None]
    assert await owner.load_results([(address("a"), "key")]) == [None]
    assert owner.seq == 1


async def test_a_zombie_cannot_write_to_a_tenant_either(rig: Rig) -> None:
    """One that existed before the takeover, or one that it would begin."""
    for prefix in ("acme", "later"):
        await rig.add_tenant(prefix)
    zombie = await rig.open()
    await zombie.commit([change(address("a", prefix="acme"), b"1")])
    owner = await rig.open()
    for prefix in ("acme", "later"):
        with pytest.raises(Fenced):
            await zombie.commit([change(address("a", prefix=prefix), b"2", 2)])
    assert await owner.load([address("a", prefix="acme"), address("a", prefix="later")]) == [Stored(b"1", 1, ()), None]


async def test_confirming_tells_an_owner_from_a_zombie(rig: Rig) -> None:
    """And changes nothing."""
    zombie = await rig.open()
    await zombie.commit([change("a", b"1")])
    await zombie.confirm()
    owner = await rig.open()
    with pytest.raises(Fenced):
        await zombie.confirm()
    await owner.confirm()
    assert owner.seq == 1
    assert await owner.commit([change("a", b"2", 2)]) == {}


async def test_shards_do_not_fence_each_other(rig: Rig) -> None:
    """Each has a row of its own."""
    await rig.control(shards=2)
    first, second = await rig.open(0), await rig.open(1)
    await first.commit([change("a", b"1")])
    await second.commit([change("b", b"1")])
    await first.confirm()
    await second.confirm()


async def test_a_store_that_shows_less_than_was_acknowledged_is_refused(rig: Rig) -> None:
    """fault B9: and left alone: the owner before goes on."""
    store = await rig.open()
    await store.commit([change("a", b"1")])
    with pytest.raises(DataLossDetected, match=r"ends at commit 1, but commit 3 was acknowledged: 2 commits"):
        await rig.open(acknowledged_seq=3)
    assert await store.commit([change("a", b"2", 2)]) == {}


async def test_an_empty_store_in_place_of_a_full_one_is_refused(rig: Rig) -> None:
    """Somebody started on the wrong database, or on a fresh disk."""
    with pytest.raises(DataLossDetected):
        await rig.open(acknowledged_seq=1)


async def test_an_accepted_loss_is_not_reported_again(rig: Rig) -> None:
    """fault B9: the count goes on from where the others remember it."""
    store = await rig.open()
    await store.commit([change("a", b"1")])
    heir = await rig.open(acknowledged_seq=3, accept_data_loss=True)
    assert heir.seq == 3
    await heir.commit([change("a", b"2", 2)])
    assert (await rig.open(acknowledged_seq=4)).seq == 4


async def test_what_was_acknowledged_and_is_there_is_no_loss(rig: Rig) -> None:
    """More is fine: not every commit was answered."""
    store = await rig.open()
    await store.commit([change("a", b"1")])
    await store.commit([change("a", b"2", 2)])
    assert (await rig.open(acknowledged_seq=1)).seq == 2


async def test_a_shard_of_an_ended_term_cannot_become_owner(rig: Rig) -> None:
    """A supervisor that was replaced may still start shards before it hears of it."""
    control = await rig.control()
    me = Holder.of_this_process()
    old = await control.acquire(me, takeover=False)
    store = await rig.open(term=old)
    new = await control.acquire(me, takeover=True)
    with pytest.raises(Fenced, match="term"):
        await rig.open(term=old)
    with pytest.raises(Fenced):
        await store.commit([change("a", b"1")])
    heir = await rig.open(term=new)
    assert heir.epoch > store.epoch
    assert await heir.load([address("a")]) == [None]


async def test_a_store_of_another_number_of_shards_is_refused(rig: Rig) -> None:
    """fault F6: where rows are kept by shard; PostgreSQL keeps them by partition and does not mind."""
    rig.shards = 3
    if isinstance(rig, PostgresRig):
        await rig.open(2)
    else:
        with pytest.raises(SchemaMismatch, match="1 shards, not 3"):
            await rig.open(2)


async def test_a_change_of_the_number_of_shards_moves_every_row(rig: Rig) -> None:
    """fault F6: states, alarms and results of all tenants, forth and back."""
    await rig.add_tenant("acme")
    ids = [f"user-{i}" for i in range(40)]
    store = await rig.open()
    await store.commit(
        [
            change(address(each, prefix=prefix), each.encode(), 3, alarms_set=[alarm(each)], results=[result(each)])
            for prefix in ("", "acme")
            for each in ids
        ]
    )
    epoch, seq = store.epoch, store.seq
    await store.close()
    for shards in (5, 2, 1):
        await rig.control(shards=shards)
        stores = [await rig.open(shard) for shard in range(shards)]
        assert all(store.epoch > epoch for store in stores[:1])
        assert isinstance(rig, PostgresRig | MemoryRig) or all(store.seq >= seq for store in stores)
        for prefix in ("", "acme"):
            found = [each for store in stores for each in await store.list_ids(prefix, "Counter", None, 100)]
            assert sorted(found) == sorted(ids)
            for each in ids:
                where = address(each, prefix=prefix)
                shard = next(s for s in range(shards) if change(where).partition < (s + 1) * 1024 // shards)
                assert await stores[shard].load([where]) == [Stored(each.encode(), 3, (alarm(each),))]
                assert await stores[shard].load_results([(where, each)]) == [result(each)]
        for store in stores:
            await store.close()
