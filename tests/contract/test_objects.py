"""States, versions, alarms, results, lists: what was committed is what is loaded."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from durable_storage import batching
from durable_storage.errors import StoreUnavailable
from durable_storage.limits import BATCH_ROWS_MAX
from durable_storage.store import AlarmRow, Stored
from tests.contract.rigs import NOW, TIMES, MemoryRig, PostgresRig, Rig, address, alarm, change, result

STATES = [
    b"{}",
    b"null",
    b'"\\u0000"',
    b'{"a":-0.0,"b":0.0,"c":1e308}',
    b'{"b":1,"a":2,"a":3}',
    b'{ "spaces" :  [1 , 2] }',
    '{"é":"日本 🎈 \u2028"}'.encode(),
    b'"\\ud800"',
    b"[" * 3000 + b"]" * 3000,
    b'"' + b"x" * 3_000_000 + b'"',
    b"18446744073709551616",
]
IDS = [
    " ",
    "a",
    "A",
    "a\nb\r\t",
    "50%",
    "a/b/../c",
    "'; DROP TABLE durable_objects; --",
    '"quoted"',
    "\\N",
    "{array,literal}",
    "emoji 🎈",
    "e\u0301",
    "\u00e9",
    "\u200f\U0010ffff",
    "\x01",
    "x" * 512,
    "é" * 256,
    "NULL",
]


async def test_what_was_never_stored_is_not_there_and_loading_creates_nothing(rig: Rig) -> None:
    """Loading is looking."""
    store = await rig.open()
    assert await store.load([address("never"), address("seen")]) == [None, None]
    assert await store.load([]) == []
    assert await store.list_ids("", "Counter", None, 10) == []
    assert store.seq == 0


@pytest.mark.parametrize("state", STATES, ids=lambda state: repr(state[:20]))
async def test_a_state_comes_back_byte_for_byte(rig: Rig, state: bytes) -> None:
    """parity 49: JSON is kept as text: nothing is reordered, normalised or refused."""
    store = await rig.open()
    assert await store.commit([change("a", state, 4)]) == {}
    assert await store.load([address("a")]) == [Stored(state, 4, ())]


async def test_an_id_is_any_text_and_stays_itself(rig: Rig) -> None:
    """parity 66, fault E1: nothing is normalised, trimmed, folded or interpreted."""
    store = await rig.open()
    await store.commit([change(each, b'{"i":%d}' % i) for i, each in enumerate(IDS)])
    assert await store.load([address(each) for each in IDS]) == [
        Stored(b'{"i":%d}' % i, 1, ()) for i in range(len(IDS))
    ]


async def test_ids_are_listed_in_the_order_of_their_bytes(rig: Rig) -> None:
    """fault E1: whatever the collation of the database."""
    store = await rig.open()
    await store.commit([change(each, b"{}") for each in IDS])
    expected = sorted(IDS, key=str.encode)
    assert await store.list_ids("", "Counter", None, 100) == expected
    pages: list[str] = []
    while page := await store.list_ids("", "Counter", pages[-1] if pages else None, 4):
        pages += page
    assert pages == expected


async def test_a_list_shows_one_class_of_one_tenant(rig: Rig) -> None:
    """And nothing of an object that has only alarms."""
    await rig.add_tenant("acme")
    store = await rig.open()
    await store.commit(
        [
            change("a", b"{}"),
            change(address("b", "Other"), b"{}"),
            change(address("c", prefix="acme"), b"{}"),
            change("d", alarms_set=[alarm("x")]),
        ]
    )
    assert await store.list_ids("", "Counter", None, 10) == ["a"]
    assert await store.list_ids("", "Other", None, 10) == ["b"]
    assert await store.list_ids("acme", "Counter", None, 10) == ["c"]


async def test_a_shard_lists_its_own_partitions(rig: Rig) -> None:
    """All shards together list everything once."""
    await rig.control(shards=3)
    stores = [await rig.open(shard) for shard in range(3)]
    ids = [f"user-{i}" for i in range(60)]
    for each in ids:
        one = change(each, b"{}")
        shard = next(shard for shard in range(3) if one.partition in range(shard * 1024 // 3, (shard + 1) * 1024 // 3))
        await stores[shard].commit([one])
    lists = [await store.list_ids("", "Counter", None, 100) for store in stores]
    assert all(lists)
    assert sorted(each for page in lists for each in page) == sorted(ids)


async def test_a_new_state_replaces_the_old_one(rig: Rig) -> None:
    """parity 58, 59: with its version."""
    store = await rig.open()
    for version in range(1, 4):
        await store.commit([change("a", b'{"v":%d}' % version, version)])
    assert await store.load([address("a")]) == [Stored(b'{"v":3}', 3, ())]
    assert store.seq == 3


async def test_objects_are_loaded_in_the_order_asked(rig: Rig) -> None:
    """Repeated ones too."""
    store = await rig.open()
    await store.commit([change(each, b'"%s"' % each.encode()) for each in "abc"])
    loaded = await store.load([address(each) for each in "cxabac"])
    assert [stored and stored.state for stored in loaded] == [b'"c"', None, b'"a"', b'"b"', b'"a"', b'"c"']


async def test_tenants_never_meet(rig: Rig) -> None:
    """parity 63, fault F8: neither states nor alarms nor results, in one batch."""
    await rig.add_tenant("acme")
    await rig.add_tenant('we"ird/../%2F é.')
    store = await rig.open()
    places = [address("a", prefix=prefix) for prefix in ("", "acme", 'we"ird/../%2F é.')]
    batch = [
        change(place, b"%d" % i, i + 1, alarms_set=[alarm(f"alarm-{i}")], results=[result("key", b"%d" % i)])
        for i, place in enumerate(places)
    ]
    assert await store.commit(batch) == {}
    loaded = await store.load(places)
    assert loaded == [Stored(b"%d" % i, i + 1, (alarm(f"alarm-{i}"),)) for i in range(3)]
    results = await store.load_results([(place, "key") for place in places])
    assert [row and row.result for row in results] == [b"0", b"1", b"2"]
    assert store.seq == 3


async def test_alarms_are_set_replaced_and_cleared_with_the_state(rig: Rig) -> None:
    """In the one commit."""
    store = await rig.open()
    await store.commit([change("a", b"1", 1, alarms_set=[alarm("x", 1, b'{"p":1}'), alarm("y", 2, attempts=3)])])
    await store.commit([change("a", b"2", 2, alarms_set=[alarm("x", 5)], alarms_cleared=["y", "never"])])
    assert await store.load([address("a")]) == [Stored(b"2", 2, (alarm("x", 5),))]


async def test_alarms_need_no_state(rig: Rig) -> None:
    """An object that was only armed has version 0 and no state."""
    store = await rig.open()
    await store.commit([change("a", alarms_set=[alarm("x", payload=b"null"), alarm("b")])])
    assert await store.load([address("a")]) == [Stored(None, 0, (alarm("b"), alarm("x", payload=b"null")))]
    await store.commit([change("a", alarms_cleared=["x", "b"])])
    assert await store.load([address("a")]) == [None]


async def test_the_time_of_an_alarm_is_exact_and_in_utc(rig: Rig) -> None:
    """To the microsecond, from the first year to the last."""
    store = await rig.open()
    await store.commit([change("a", alarms_set=[AlarmRow(str(i), at) for i, at in enumerate(TIMES)])])
    (stored,) = await store.load([address("a")])
    assert [row.at for row in stored.alarms] == TIMES


async def test_deleting_removes_state_and_alarms_but_no_results(rig: Rig) -> None:
    """parity 61: a retry of a call that was answered before is still recognised."""
    store = await rig.open()
    await store.commit([change("a", b"1", alarms_set=[alarm("x")], results=[result("key")]), change("b", b"2")])
    assert await store.commit([change("a", delete=True)]) == {}
    assert await store.load([address("a"), address("b")]) == [None, Stored(b"2", 1, ())]
    assert await store.load_results([(address("a"), "key")]) == [result("key")]


async def test_a_deletion_comes_before_the_rest_of_its_change(rig: Rig) -> None:
    """State and alarms of the same change are what remains."""
    store = await rig.open()
    await store.commit([change("a", b"1", 5, alarms_set=[alarm("old"), alarm("both", 1)])])
    await store.commit([change("a", b"2", 1, delete=True, alarms_set=[alarm("both", 2), alarm("new")])])
    assert await store.load([address("a")]) == [Stored(b"2", 1, (alarm("both", 2), alarm("new")))]
    await store.commit([change("a", delete=True, alarms_set=[alarm("new", 3)], alarms_cleared=["both"])])
    assert await store.load([address("a")]) == [Stored(None, 0, (alarm("new", 3),))]


async def test_deleting_what_is_not_there_is_no_error(rig: Rig) -> None:
    """It may have been deleted by the same call, made twice."""
    store = await rig.open()
    assert await store.commit([change("a", delete=True), change("b", alarms_cleared=["x"])]) == {}


async def test_results_are_found_by_object_and_key(rig: Rig) -> None:
    """Exactly as they were kept."""
    store = await rig.open()
    kept = result("key/1 🎈", bytes(range(256)), fingerprint=-(2**63))
    await store.commit([change("a", b"1", results=[kept, result("2", b"", fingerprint=2**63 - 1)])])
    wanted = [(address("a"), "2"), (address("b"), kept.key), (address("a"), kept.key), (address("a", "Other"), "2")]
    assert await store.load_results(wanted) == [result("2", b"", fingerprint=2**63 - 1), None, kept, None]


async def test_an_expired_result_is_forgotten_and_may_be_replaced(rig: Rig) -> None:
    """fault E9: whether or not it was purged."""
    store = await rig.open()
    await store.commit([change("a", b"1", results=[result("key", b"old", minutes=5)])])
    rig.time = NOW + timedelta(minutes=5)
    assert await store.load_results([(address("a"), "key")]) == [None]
    assert await store.commit([change("a", b"2", 2, results=[result("key", b"new")])]) == {}
    (row,) = await store.load_results([(address("a"), "key")])
    assert row.result == b"new"


async def test_expired_results_are_purged_a_bounded_number_at_a_time(rig: Rig) -> None:
    """In every tenant; the others stay."""
    await rig.add_tenant("acme")
    store = await rig.open()
    for prefix in ("", "acme"):
        rows = [result(str(i), minutes=i) for i in range(1, 7)]
        await store.commit([change(address("a", prefix=prefix), b"1", results=rows)])
    rig.time = NOW + timedelta(minutes=4)
    assert [await store.purge_results(5) for _ in range(3)] == [5, 3, 0]
    left = await store.load_results([(address("a"), str(i)) for i in range(1, 7)])
    assert [row is not None for row in left] == [False] * 4 + [True] * 2


async def test_everything_survives_a_new_owner(rig: Rig) -> None:
    """It finds what the last one committed."""
    store = await rig.open()
    await store.commit([change("a", b"1", 1, alarms_set=[alarm("x")], results=[result("key")])])
    await store.close()
    heir = await rig.open()
    assert await heir.load([address("a")]) == [Stored(b"1", 1, (alarm("x"),))]
    assert await heir.load_results([(address("a"), "key")]) == [result("key")]
    assert (heir.epoch, heir.seq) == (store.epoch + 1, 1)


async def test_a_batch_over_the_row_limit_is_cut(rig: Rig) -> None:
    """fault B15: into as few commits as hold it."""
    store = await rig.open()
    count = BATCH_ROWS_MAX + 10
    assert await store.commit([change(str(i), b"%d" % i) for i in range(count)]) == {}
    assert store.seq == 2
    loaded = await store.load([address(str(i)) for i in range(count)])
    assert [stored.state for stored in loaded] == [b"%d" % i for i in range(count)]


async def test_a_batch_over_the_byte_limit_is_cut(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """fault B15: a state that is over it alone travels alone."""
    monkeypatch.setattr(batching, "BATCH_BYTES_MAX", 1000)
    store = await rig.open()
    sizes = [400, 400, 400, 5000, 100]
    assert await store.commit([change(str(i), b"1" * size) for i, size in enumerate(sizes)]) == {}
    assert store.seq == 4
    loaded = await store.load([address(str(i)) for i in range(5)])
    assert [len(stored.state) for stored in loaded] == sizes


async def test_nothing_to_do_is_no_commit(rig: Rig) -> None:
    """An empty batch leaves no trace."""
    store = await rig.open()
    assert await store.commit([]) == {}
    assert store.seq == 0


async def test_closing_waits_for_the_commit_under_way(rig: Rig) -> None:
    """All of it, however many statements it takes."""
    await rig.add_tenant("acme")
    store = await rig.open()
    batch = [change(address(str(i), prefix=prefix), b"1") for prefix in ("", "acme") for i in range(200)]
    commit = asyncio.create_task(store.commit(batch))
    await asyncio.sleep(0)
    await store.close()
    assert await commit == {}
    heir = await rig.open()
    assert len(await heir.list_ids("acme", "Counter", None, 500)) == 200


async def test_a_closed_store_answers_nothing(bare_rig: Rig) -> None:
    """Nor does a read that was under way leave a connection behind."""
    await bare_rig.control()
    store = await bare_rig.open()
    under_way = asyncio.create_task(store.load([address("a")]))
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(under_way, return_exceptions=True)
    if not isinstance(bare_rig, MemoryRig):
        for call in (store.load([address("a")]), store.commit([change("a", b"1")]), store.confirm()):
            with pytest.raises(StoreUnavailable, match="closed"):
                await call
    await store.close()
    await bare_rig.close()


async def test_a_tenant_begins_with_its_first_write(rig: Rig) -> None:
    """Or, in PostgreSQL, with its migration; never with a read."""
    if isinstance(rig, PostgresRig):
        await rig.add_tenant("acme")
    store = await rig.open()
    assert await store.load([address("a", prefix="acme")]) == [None]
    assert await store.list_ids("acme", "Counter", None, 5) == []
    await store.commit([change(address("a", prefix="acme"), b"1")])
    assert await store.load([address("a", prefix="acme")]) == [Stored(b"1", 1, ())]
    assert await store.load([address("a")]) == [None]
