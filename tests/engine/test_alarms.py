"""Alarms from outside: `engine.alarms(Class, id)` and `engine.all_alarms()`, in this process and over sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from durable_engine import Client, DurableObject, Engine, HandlerFailed, InvalidArguments, UnknownClass, alarm
from durable_shards.alarm_settings import AlarmSettings
from tests.shards.alarm_objects import Bell, Catcher
from tests.support.eventually import eventually as eventually_blocking
from tests.support.server import Server

HOUR = timedelta(hours=1)
FAR = datetime(2100, 1, 1, tzinfo=UTC)
WAIT_SECONDS = 30
KINDS = [
    "embedded",
    pytest.param("processes", marks=pytest.mark.processes),
    pytest.param("connected", marks=pytest.mark.processes),
]
OBJECTS: list[type[Any] | str] = [Bell, Catcher]


class Tower(DurableObject):
    """Served nowhere; its alarm has the name of one of Bell's."""

    @alarm
    def ring(self) -> None: ...


@asynccontextmanager
async def opened(kind: str, store: str = "memory://", **options: Any) -> AsyncIterator[Engine]:
    """An engine whose alarms give up after their second failure."""
    shards = 0 if kind == "embedded" else 2
    settings = {"objects": OBJECTS, "alarm_attempts": 2, "alarm_backoff": 0.05, **options}
    async with Engine(store, shards=shards, **settings) as engine:
        if kind != "connected":
            yield engine
            return
        assert engine.url is not None
        async with Engine.connect(engine.url) as connected:
            yield connected


async def eventually(look: Callable[[], Awaitable[Any]]) -> Any:
    """The first true value of `look`."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not (found := await look()):  # noqa: ASYNC110 - it may be in another process
            await asyncio.sleep(0.01)
        return found


@pytest.fixture(params=KINDS)
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """One of each kind."""
    async with opened(request.param) as engine:
        yield engine


async def test_scheduling_wakes_nobody_and_replaces(engine: Engine) -> None:
    """parity 74, 75, 77, 81: many by name, soonest first; the object is not made by it, nor brought into memory."""
    alarms = engine.alarms(Bell, "a")
    await alarms.schedule(Bell.tell, at=FAR + HOUR, payload={"a": [1, None]})
    await alarms.schedule("ring", at=FAR + 2 * HOUR)
    await alarms.schedule("chain", at=FAR)
    await alarms.schedule(Bell.ring, at=FAR - HOUR)
    found = [tuple(each) for each in await alarms.pending()]
    assert found == [
        ("ring", FAR - HOUR, 0, None), ("chain", FAR, 0, None), ("tell", FAR + HOUR, 0, {"a": [1, None]}),
    ]  # fmt: skip
    assert await engine.state(Bell, "a") is None
    assert await engine.objects(Bell) == []
    assert await engine.alarms("Bell", "a").pending() == await alarms.pending()


async def test_cancelling(engine: Engine) -> None:
    """parity 79, 80: one that is not there is no error; all of one object, and of no other."""
    for object_id in "ab":
        for name in ("ring", "tell", "chain"):
            await engine.alarms(Bell, object_id).schedule(name, after=HOUR)
    alarms = engine.alarms(Bell, "a")
    assert [await alarms.cancel(Bell.ring), await alarms.cancel("ring"), await alarms.cancel("never was")] == [
        True, False, False,
    ]  # fmt: skip
    assert [await alarms.cancel_all(), await alarms.cancel_all()] == [2, 0]
    assert len(await engine.alarms(Bell, "b").pending()) == 3


async def test_what_is_due_fires(engine: Engine) -> None:
    """parity 76, 82: after no time at all, at a time that is past, after a moment."""
    await engine.alarms(Bell, "now").schedule(Bell.tell, after=timedelta(0), payload="now")
    await engine.alarms(Bell, "past").schedule(Bell.ring, at=datetime(2000, 1, 1, tzinfo=UTC))
    await engine.alarms(Bell, "soon").schedule(Bell.ring, after=timedelta(milliseconds=30))
    for object_id in ("now", "past", "soon"):
        assert len(await eventually(engine.at(Bell, object_id).get)) == 1
        assert await engine.alarms(Bell, object_id).pending() == []


async def test_repeating_alarms_go_on(engine: Engine) -> None:
    """parity 83: every so often from the first on, or by the calendar, until they are cancelled."""
    await engine.alarms(Bell, "a").schedule(Bell.ring, every=timedelta(milliseconds=100), after=timedelta(0))

    async def thrice() -> bool:
        return len(await engine.at(Bell, "a").get()) >= 3

    await eventually(thrice)
    assert await engine.alarms(Bell, "a").cancel(Bell.ring) is True
    await engine.alarms(Bell, "b").schedule(Bell.ring, cron="30 2 29 2 *", tz="Europe/Berlin")
    (leap_day,) = await engine.alarms(Bell, "b").pending()
    assert leap_day.at.strftime("%m-%d %H:%M %Z") == "02-29 01:30 UTC"
    (listed,) = await engine.all_alarms()
    assert listed.recurrence == "cron 30 2 29 2 * Europe/Berlin"


async def test_firing_by_hand(engine: Engine) -> None:
    """parity 108: now; once; a failure is the caller's to hear of, and leaves all as it was."""
    alarms = engine.alarms(Bell, "a")
    await alarms.schedule(Bell.ring, after=HOUR)
    await alarms.fire(Bell.ring)
    assert await engine.at(Bell, "a").get() == ["ring"]
    with pytest.raises(InvalidArguments, match="is not armed; nothing was run"):
        await alarms.fire("ring")
    await alarms.schedule("fail", at=FAR)
    with pytest.raises(HandlerFailed, match="attempt 0"):
        await alarms.fire("fail")
    assert [tuple(each) for each in await alarms.pending()] == [("fail", FAR, 0, None)]


async def test_giving_up_and_trying_again(engine: Engine) -> None:
    """parity 87: a parked alarm is pending no more, listed with its problem, and fires again after retry."""
    alarms = engine.alarms(Bell, "a")
    await alarms.schedule("fail", after=timedelta(0), payload=7)
    await engine.alarms(Bell, "b").schedule(Bell.ring, at=FAR)
    (orphan,) = await eventually(lambda: engine.all_alarms(orphaned=True))
    assert (orphan.object_type, orphan.object_id, orphan.name, orphan.payload) == ("Bell", "a", "fail", 7)
    assert (orphan.orphaned, orphan.attempt, orphan.problem.partition("\n")[0]) == (
        "failed", 2, "RuntimeError: attempt 1\\0\\ud800",
    )  # fmt: skip
    assert await alarms.pending() == []
    assert [(each.object_id, each.orphaned) for each in await engine.all_alarms()] == [("a", "failed"), ("b", None)]
    with pytest.raises(InvalidArguments, match="has no alarm 'other'"):
        await alarms.retry("other")
    assert await alarms.retry(Bell.fail) == 1
    assert (await eventually(lambda: engine.all_alarms(orphaned=True)))[0].attempt == 2
    assert await alarms.retry() == 1
    await alarms.schedule("fail", at=FAR)
    assert [each.name for each in await alarms.pending()] == ["fail"]
    assert await engine.all_alarms(orphaned=True) == []


async def test_all_alarms_come_in_pages_over_all_shards(engine: Engine) -> None:
    """parity 81: by class, id and name, whoever has them."""
    ids = [f"{number:02}" for number in range(20)] + ["é", "\U0001f600"]
    for object_id in ids:
        await engine.alarms(Bell, object_id).schedule(Bell.ring, at=FAR)
        await engine.alarms(Bell, object_id).schedule(Bell.chain, at=FAR)
    await engine.alarms(Catcher, "0").schedule("anything", at=FAR)
    expected = [("Bell", each, name) for each in sorted(ids) for name in ("chain", "ring")]
    expected.append(("Catcher", "0", "anything"))
    found, last = [], None
    while page := await engine.all_alarms(after=last, limit=7):
        assert len(page) == 7 or len(found) + len(page) == len(expected)
        found += [(each.object_type, each.object_id, each.name) for each in page]
        last = page[-1]
    assert found == expected
    for limit in (0, -1, 10_001, 1.5, True):
        with pytest.raises(InvalidArguments, match="limit must be 1 to 10000"):
            await engine.all_alarms(limit=limit)  # type: ignore[arg-type]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "say when"),
    ({"after": HOUR, "at": FAR}, "say when"),
    ({"after": -HOUR}, "must not be negative"),
    ({"after": 5}, "after must be a timedelta"),
    ({"after": float("nan")}, "after must be a timedelta"),
    ({"after": timedelta.max}, "outside of the years 1 to 9999"),
    ({"at": datetime(2100, 1, 1)}, "aware datetime"),
    ({"at": "2100-01-01T00:00:00Z"}, "aware datetime"),
    ({"at": datetime.max.replace(tzinfo=UTC), "every": 5}, "every must be a timedelta"),
    ({"every": timedelta(milliseconds=99)}, "at least 0.1 s"),
    ({"every": HOUR, "missed": "never"}, "missed must be one of"),
    ({"cron": "0 0 */31 * MON#5"}, "never fires"),
    ({"cron": "* * * * *", "after": HOUR}, "leave after and at out"),
    ({"cron": "* * * * *", "tz": "Nowhere"}, "no time zone"),
    ({"after": HOUR, "payload": b"bytes"}, "payload"),
    ({"after": HOUR, "payload": {"x": [object()]}}, "payload['x'][0]: expected plain JSON"),
    ({"after": HOUR, "payload": {1, 2}}, "payload: expected plain JSON"),
    ({"after": HOUR, "payload": 1 << 70}, "payload"),
    ({"after": HOUR, "payload": float("nan")}, "payload"),
]


async def test_what_cannot_be_is_refused(engine: Engine) -> None:
    """parity 76: negative, not a number, naive, absurd, never: a message that says what to write, and nothing armed."""
    alarms = engine.alarms(Bell, "a")
    for options, says in WRONG:
        with pytest.raises(InvalidArguments) as wrong:
            await alarms.schedule("ring", **options)
        assert says in str(wrong.value), options
    for name, says in (("rung", "its alarms are: ring"), ("", "must not be empty"), ("a\0", "NUL"), ("$x", "no alarm")):
        with pytest.raises(InvalidArguments) as wrong:
            await alarms.schedule(name, after=HOUR)
        assert says in str(wrong.value) or "Bell has no alarm" in str(wrong.value)
    with pytest.raises(InvalidArguments, match="Catcher has no alarm '_private'"):
        await engine.alarms(Catcher, "a").schedule("_private", after=HOUR)
    with pytest.raises(InvalidArguments, match="a method under @alarm or the name"):
        await alarms.schedule(Bell.get, after=HOUR)  # type: ignore[arg-type]
    for act in (partial(alarms.schedule, after=HOUR), alarms.cancel, alarms.fire, alarms.retry):
        with pytest.raises(InvalidArguments, match=r"<alarm Tower\.ring> is an alarm of another class than Bell"):
            await act(Tower.ring)
    with pytest.raises(UnknownClass):
        await engine.alarms("Nobody", "a").schedule("ring", after=HOUR)
    assert await engine.all_alarms() == []


@pytest.mark.processes
def test_the_blocking_client_has_the_same(tmp_path: Path) -> None:
    """parity 77, 79, 80, 81: every name of `engine.alarms`, without an event loop."""

    server = Server(
        tmp_path,
        "memory://",
        objects=("tests.shards.alarm_objects",),
        path=(str(Path(__file__).parents[2]),),
        alarms=AlarmSettings(attempts=2, backoff=0.05),
    )
    try:
        with Client(server.start().endpoint) as client:
            use_the_blocking_client(client)
    finally:
        server.end()


def use_the_blocking_client(client: Client) -> None:
    """Each name once."""
    alarms = client.alarms(Bell, "a")
    alarms.schedule(Bell.tell, after=timedelta(0), payload=1)
    eventually_blocking(lambda: client.at(Bell, "a").get())
    alarms.schedule(Bell.ring, at=FAR)
    assert [each.name for each in alarms.pending()] == ["ring"]
    alarms.fire("ring")
    alarms.schedule("fail", after=timedelta(0))
    (orphan,) = eventually_blocking(lambda: client.all_alarms(orphaned=True))
    assert orphan.name == "fail"
    assert alarms.retry() == 1
    assert alarms.cancel("ring") is False
    alarms.schedule("ring", every=HOUR, missed="all")
    assert [each.recurrence for each in client.all_alarms() if each.name == "ring"] == ["every 1:00:00, missed all"]
    assert alarms.cancel_all() >= 1


@pytest.mark.processes
async def test_alarms_outlive_the_engine(tmp_path: Path) -> None:
    """parity 72, 84: what was armed fires in the next one, and only there."""
    store = f"sqlite:///{tmp_path}/data"
    async with opened("embedded", store) as engine:
        await engine.alarms(Bell, "a").schedule(Bell.ring, at=FAR)
        await engine.alarms(Bell, "b").schedule(Bell.ring, after=timedelta(milliseconds=200))
    async with opened("processes", store) as engine:
        assert await eventually(engine.at(Bell, "b").get) == ["ring"]
        assert [each.object_id for each in await engine.all_alarms()] == ["a"]
