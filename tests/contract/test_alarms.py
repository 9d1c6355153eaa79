"""Alarms as they rest: all of their columns, what is due, and what nobody can fire."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import timedelta
from itertools import pairwise
from typing import Any

import apsw
import asyncpg

from durable_storage.address import partitions_of_shard
from durable_storage.store import AlarmRow, Change, DueAlarm, ListedAlarm, Served, Store
from tests.contract.rigs import NOW, TIMES, MemoryRig, PostgresRig, Rig, SqliteRig, address, alarm, change

SERVED = Served(("Anything",), (("Counter", "x"), ("Counter", "y")))
NOBODY = Served((), ())
FULL = AlarmRow(
    "é 🎈",
    NOW + timedelta(minutes=7),
    b'{"p":"\\u0000"}',
    3,
    '{"cron":"0 9 * * *","tz":"Europe/Berlin"}',
    NOW,
    "ValueError: 'x' is no number\n  at line 1",
    is_parked=True,
)
LATER = NOW + timedelta(hours=1)


def armed(where: str, *rows: AlarmRow, kind: str = "Counter", prefix: str = "") -> Change:
    """A change that only arms."""
    return change(address(where, kind, prefix), alarms_set=rows)


def names(alarms: list[DueAlarm]) -> list[str]:
    """Which ones they are, by object and name."""
    return [f"{due.address}.{due.name}" for due in alarms]


async def listed(store: Store, served: Served | None, prefix: str = "", limit: int = 3) -> list[ListedAlarm]:
    """All pages, one after the other."""
    found: list[ListedAlarm] = []
    after = None
    while page := await store.list_alarms(prefix, served, after, limit):
        found += page
        after = (*page[-1].address[1:], page[-1].row.name)
    return found


async def test_an_alarm_comes_back_with_all_that_was_stored(rig: Rig) -> None:
    """Loaded and listed, beside one that has nothing but its time."""
    store = await rig.open()
    bare = alarm("a")
    await store.commit([armed("a", FULL, bare), change("b", b"1", alarms_set=[FULL])])
    loaded = await store.load([address("a"), address("b")])
    assert [stored.alarms for stored in loaded] == [(bare, FULL), (FULL,)]
    assert [type(row.is_parked) for row in loaded[0].alarms] == [bool, bool]
    assert await listed(store, None) == [
        ListedAlarm(address("a"), bare),
        ListedAlarm(address("a"), FULL),
        ListedAlarm(address("b"), FULL),
    ]


async def test_arming_a_name_again_replaces_everything(rig: Rig) -> None:
    """Attempts, rule, problem, parking: nothing of the one before is left."""
    store = await rig.open()
    await store.commit([armed("a", FULL)])
    anew = AlarmRow(FULL.name, LATER)
    await store.commit([armed("a", anew)])
    (stored,) = await store.load([address("a")])
    assert stored.alarms == (anew,)
    await store.commit([armed("a", FULL)])
    (stored,) = await store.load([address("a")])
    assert stored.alarms == (FULL,)


async def claims(rig: Rig, statement: str = "SELECT claimed_at FROM durable_alarms") -> list[Any]:
    """Who claimed the alarms, as a scheduler of jobs writes it into the tables; or execute another statement."""
    if isinstance(rig, PostgresRig):
        connection = await asyncpg.connect(rig.url)
        rows: list[Any] = await connection.fetch(statement)
        await connection.close()
        return [row[0] for row in rows]
    assert isinstance(rig, SqliteRig)
    with closing(apsw.Connection(str(rig.directory / "g000001" / "shard-000.sqlite3"))) as file:
        return [row[0] for row in file.execute(statement)]


async def test_arming_a_name_again_takes_it_from_whoever_claimed_it(rig: Rig) -> None:
    """A job that was deferred for the alarm before is none for this one."""
    if isinstance(rig, MemoryRig):
        return  # It has nothing that could be claimed.
    store = await rig.open()
    await store.commit([armed("a", alarm("x"))])
    await claims(rig, "UPDATE durable_alarms SET claimed_at = scheduled_at")
    assert None not in await claims(rig)
    await store.commit([armed("a", alarm("x"))])
    assert await claims(rig) == [None]


async def test_all_times_of_an_alarm_are_exact(rig: Rig) -> None:
    """To the microsecond, from the first year to the last, listed and due as well."""
    store = await rig.open()
    await store.commit([armed("a", *(AlarmRow(str(i), at, tick=at) for i, at in enumerate(TIMES)))])
    (stored,) = await store.load([address("a")])
    assert [(row.at, row.tick) for row in stored.alarms] == [(at, at) for at in TIMES]
    assert [(each.row.at, each.row.tick) for each in await listed(store, None)] == [(at, at) for at in TIMES]
    due = await store.due_alarms(Served(("Counter",), ()), TIMES[-1], 10)
    assert [each.at for each in due] == TIMES[:-1]
    assert all(each.at.tzinfo for each in due)


async def test_due_is_what_comes_before_a_time_soonest_first(rig: Rig) -> None:
    """The time itself is not before it."""
    store = await rig.open()
    await store.commit([armed("a", alarm("y", 3), alarm("x", 1)), armed("b", alarm("x", 2)), armed("c", alarm("x", 4))])
    assert await store.due_alarms(SERVED, NOW + timedelta(minutes=3), 10) == [
        DueAlarm(address("a"), "x", NOW + timedelta(minutes=1)),
        DueAlarm(address("b"), "x", NOW + timedelta(minutes=2)),
    ]
    assert names(await store.due_alarms(SERVED, LATER, 10)) == [
        "Counter/a.x",
        "Counter/b.x",
        "Counter/a.y",
        "Counter/c.x",
    ]
    assert await store.due_alarms(SERVED, NOW, 10) == []


async def test_due_is_only_what_is_served_and_not_parked(rig: Rig) -> None:
    """By class and name, or by class alone; parking hides an alarm until it is armed anew."""
    store = await rig.open()
    await store.commit(
        [
            armed("a", alarm("x"), alarm("unknown"), alarm("y", is_parked=True, attempts=10)),
            armed("b", alarm("x"), kind="Gone"),
            armed("c", alarm("whatever"), alarm("parked", is_parked=True), kind="Anything"),
        ]
    )
    found = await store.due_alarms(SERVED, LATER, 10)
    assert sorted(names(found)) == ["Anything/c.whatever", "Counter/a.x"]
    assert await store.due_alarms(NOBODY, LATER, 10) == []
    await store.commit([armed("a", alarm("y", 1))])
    assert names(await store.due_alarms(SERVED, LATER, 10))[-1] == "Counter/a.y"


async def test_names_of_classes_and_alarms_are_any_text(rig: Rig) -> None:
    """Quotes, commas and what JSON or an array would escape."""
    store = await rig.open()
    odd = ['"', "a,b", "{x}", "\\", "é 🎈", "'; --", "NULL", "\x01"]
    await store.commit([armed("a", *(alarm(name) for name in odd), kind=kind) for kind in odd])
    pairs = tuple((kind, name) for kind in odd[1:] for name in odd[2:])
    found = await store.due_alarms(Served((odd[0],), pairs), LATER, 100)
    expected = {(odd[0], name) for name in odd} | set(pairs)
    assert sorted((each.address.object_type, each.name) for each in found) == sorted(expected)
    orphans = {(each.address.object_type, each.row.name) for each in await listed(store, Served((odd[0],), pairs))}
    assert orphans == {(kind, name) for kind in odd for name in odd} - expected


async def test_due_is_limited_to_the_soonest_of_all_tenants(rig: Rig) -> None:
    """However they are spread; each alarm names its tenant."""
    tenants = ["", "acme", 'we"ird/../%2F é.']
    for prefix in tenants[1:]:
        await rig.add_tenant(prefix)
    store = await rig.open()
    minutes = {"": [1, 4, 7, 9], "acme": [2, 3, 8], tenants[2]: [0, 5, 6]}
    for prefix, times in minutes.items():
        await store.commit([armed(f"{each}", alarm("x", each), prefix=prefix) for each in times])
    expected = sorted((each, prefix) for prefix, times in minutes.items() for each in times)
    for limit in (1, 2, 5, 9, 100):
        found = await store.due_alarms(SERVED, LATER, limit)
        assert found == [
            DueAlarm(address(f"{each}", prefix=prefix), "x", NOW + timedelta(minutes=each))
            for each, prefix in expected[:limit]
        ]


async def test_many_alarms_of_one_moment_are_met_page_by_page(rig: Rig) -> None:
    """What was fired is gone, so that the next page holds others."""
    store = await rig.open()
    await store.commit([armed(str(i), alarm("x")) for i in range(25)])
    met: list[DueAlarm] = []
    while page := await store.due_alarms(SERVED, LATER, 10):
        assert len(page) <= 10
        met += page
        await store.commit([change(each.address, alarms_cleared=["x"]) for each in page])
    assert sorted(int(each.address.object_id) for each in met) == list(range(25))


async def test_a_shard_finds_the_alarms_of_its_own_partitions(rig: Rig) -> None:
    """All shards together find each alarm once."""
    await rig.add_tenant("acme")
    await rig.control(shards=2)
    stores = [await rig.open(shard) for shard in range(2)]
    changes = [armed(f"user-{i}", alarm("x", i), prefix=prefix) for prefix in ("", "acme") for i in range(30)]
    for shard, store in enumerate(stores):
        ours = partitions_of_shard(shard, 2)
        await store.commit([each for each in changes if each.partition in ours])
    due = [await store.due_alarms(SERVED, LATER, 100) for store in stores]
    assert all(due)
    assert sorted(each.address for page in due for each in page) == sorted(each.address for each in changes)
    for prefix in ("", "acme"):
        shown = [each.address for store in stores for each in await listed(store, None, prefix)]
        assert sorted(shown) == sorted(each.address for each in changes if each.address.prefix == prefix)


async def test_alarms_are_listed_in_the_order_of_their_bytes(rig: Rig) -> None:
    """By class, id and name, whatever the size of the pages; one tenant at a time."""
    await rig.add_tenant("acme")
    store = await rig.open()
    texts = ["B", "a", "a\n", "e\u0301", "\u00e9", "\U0010ffff"]
    await store.commit([armed(each, *map(alarm, texts), kind=kind) for kind in texts for each in texts])
    await store.commit([armed("other", alarm("x"), prefix="acme")])
    expected = sorted(
        (kind.encode(), each.encode(), name.encode()) for kind in texts for each in texts for name in texts
    )
    for limit in (7, 1000):
        found = await listed(store, None, limit=limit)
        assert [tuple(map(str.encode, (*each.address[1:], each.row.name))) for each in found] == expected
    assert await listed(store, None, "acme") == [ListedAlarm(address("other", prefix="acme"), alarm("x"))]


async def test_orphaned_is_what_is_parked_or_served_by_nobody(rig: Rig) -> None:
    """With all that people want to know of it; the others are left out, however many lie between."""
    store = await rig.open()
    parked = alarm("x", 1, attempts=10, problem="ValueError: no", is_parked=True)
    await store.commit([armed(f"{i:03}", alarm("x"), alarm("y")) for i in range(50)])
    await store.commit(
        [
            armed("007", parked),
            armed("030", alarm("unknown")),
            armed("a", alarm("x", recurrence="{}", tick=NOW), kind="Gone"),
            armed("b", alarm("x"), alarm("z", is_parked=True), kind="Anything"),
        ]
    )
    orphans = [
        ListedAlarm(address("b", "Anything"), alarm("z", is_parked=True)),
        ListedAlarm(address("007"), parked),
        ListedAlarm(address("030"), alarm("unknown")),
        ListedAlarm(address("a", "Gone"), alarm("x", recurrence="{}", tick=NOW)),
    ]
    for limit in (1, 2, 100):
        assert await listed(store, SERVED, limit=limit) == orphans
    assert len(await listed(store, NOBODY, limit=100)) == len(await listed(store, None, limit=100)) == 104


async def test_what_is_deleted_or_disarmed_is_neither_due_nor_listed(rig: Rig) -> None:
    """Parked alarms too; a deletion that arms anew leaves the new one as it was given."""
    store = await rig.open()
    parked = alarm("x", is_parked=True, attempts=10, problem="no")
    await store.commit([armed("a", parked, alarm("y")), armed("b", parked, alarm("y")), armed("c", parked)])
    await store.commit(
        [
            change("a", delete=True),
            change("b", delete=True, alarms_set=[alarm("x", 2)]),
            change("c", alarms_cleared=["x"]),
        ]
    )
    assert names(await store.due_alarms(SERVED, LATER, 10)) == ["Counter/b.x"]
    assert await listed(store, None) == [ListedAlarm(address("b"), alarm("x", 2))]


async def test_where_nothing_was_stored_nothing_is_due(rig: Rig) -> None:
    """Nor listed; a tenant that was never written to is no error where tenants need no setting up."""
    await rig.add_tenant("acme")
    store = await rig.open()
    assert await store.due_alarms(SERVED, LATER, 10) == []
    assert await listed(store, None) == []
    assert await listed(store, SERVED, "acme") == []


async def test_alarms_are_looked_for_while_commits_go_on(rig: Rig) -> None:
    """Every alarm that stays armed is found by every look."""
    store = await rig.open()
    await store.commit([armed("stays", alarm("x"))])

    async def commits() -> None:
        for version in range(1, 20):
            await store.commit([change("a", b"%d" % version, version, alarms_set=[alarm("x", version)])])

    async def looks() -> list[list[DueAlarm]]:
        return [await store.due_alarms(SERVED, LATER, 10) for _ in range(20)]

    _, found = await asyncio.gather(commits(), looks())
    assert all(names(page)[0] == "Counter/stays.x" for page in found)
    times = [page[-1].at for page in found if len(page) == 2]
    assert all(before <= after for before, after in pairwise(times))


async def test_alarms_survive_a_new_owner(rig: Rig) -> None:
    """It finds what the last one armed, in every tenant."""
    await rig.add_tenant("acme")
    store = await rig.open()
    await store.commit([armed("a", FULL), armed("b", alarm("x"), prefix="acme")])
    await store.close()
    heir = await rig.open()
    assert await listed(heir, None) == [ListedAlarm(address("a"), FULL)]
    assert names(await heir.due_alarms(SERVED, LATER, 10)) == ["acme:Counter/b.x"]
