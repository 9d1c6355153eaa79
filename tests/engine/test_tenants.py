"""Tenants with the same ids never meet: on every store, through the engine, the client, handlers and alarms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_engine import Client, Engine, InvalidArguments, TooLarge
from durable_storage.migrate import up
from durable_storage.urls import kind_of
from tests.engine.tenant_objects import Account

FAR = datetime(2100, 1, 1, tzinfo=UTC)
TENANTS = ["", "red", "Red", 'we"ird/../%2F é.']
"""The default one, two that differ in case, and one whose name asks for trouble."""
KINDS = [
    "memory",
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.postgres),
    pytest.param("sqlite, processes", marks=pytest.mark.processes),
    pytest.param("postgresql, processes", marks=[pytest.mark.postgres, pytest.mark.processes]),
]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, int]:
    """The URL of an empty store, and a number of shards."""
    name, _, where = request.param.partition(", ")
    shards = 2 if where else 0
    if name == "postgresql":
        return request.getfixturevalue("postgres_dsn"), shards
    return (f"sqlite:///{tmp_path}/data" if name == "sqlite" else "memory://"), shards


@asynccontextmanager
async def opened(kind: tuple[str, int], **options: Any) -> AsyncIterator[Engine]:
    """An engine on a store that has all tenants."""
    store, shards = kind
    if kind_of(store) == "postgresql":
        for prefix in TENANTS[1:]:
            await up(store, prefix=prefix)
    async with Engine(store, objects=[Account], shards=shards, **options) as engine:
        yield engine


@pytest.fixture
async def engine(kind: tuple[str, int]) -> AsyncIterator[Engine]:
    """One of each kind."""
    async with opened(kind) as engine:
        yield engine


async def eventually(look: Callable[[], Awaitable[Any]], expected: Any) -> None:
    """Until `look` gives what is expected."""
    async with asyncio.timeout(30):
        while await look() != expected:  # noqa: ASYNC110 - it may be in another process
            await asyncio.sleep(0.01)


async def fill(engine: Engine) -> None:
    """The same object in all tenants, each with its own note."""
    for prefix in TENANTS:
        await engine.at(Account, "same", prefix=prefix).note(f"of {prefix!r}")


async def test_states_never_meet(engine: Engine) -> None:
    """parity 28, 63, fault F8: what one tenant writes nobody else reads, in memory and after a reload."""
    await fill(engine)
    for prefix in TENANTS:
        expected = [f"of {prefix!r}"]
        assert await engine.at(Account, "same", prefix=prefix).read() == expected
        assert await engine.call(Account.read, "same", prefix=prefix) == expected
        assert await engine.call_by_name("Account", "same", "read", prefix=prefix) == expected
        assert await engine.state("Account", "same", prefix=prefix) == {"notes": expected}
        assert await engine.evict(Account, "same", prefix=prefix) is True
        assert await engine.where(Account, "same", prefix=prefix) is None
        await engine.wake(Account, "same", prefix=prefix)
        assert await engine.where(Account, "same", prefix=prefix) is not None
        assert await engine.at(Account, "same", prefix=prefix).read() == expected
    await engine.send(Account.note, "same", "sent", prefix="red")
    await eventually(engine.at(Account, "same", prefix="red").read, ["of 'red'", "sent"])
    assert await engine.at(Account, "same", prefix="Red").read() == ["of 'Red'"]


async def test_listings_and_deletes_never_meet(engine: Engine) -> None:
    """parity 61, 63, fault F8: each tenant sees its own ids; a removed object is there in all other tenants."""
    await fill(engine)
    await engine.at(Account, "only", prefix="red").note("x")
    for prefix in TENANTS:
        expected = ["only", "same"] if prefix == "red" else ["same"]
        assert await engine.objects(Account, prefix=prefix) == expected
    assert await engine.delete(Account, "same", prefix="red") is True
    assert await engine.delete(Account, "only") is False
    assert await engine.state(Account, "same", prefix="red") is None
    assert await engine.objects(Account, prefix="red") == ["only"]
    for prefix in TENANTS:
        if prefix != "red":
            assert await engine.at(Account, "same", prefix=prefix).read() == [f"of {prefix!r}"]


async def test_alarms_never_meet(engine: Engine) -> None:
    """parity 63, fault F8: set, listed, replaced, cancelled, fired: in the tenant that was named."""
    for minutes, prefix in enumerate(TENANTS):
        await engine.alarms(Account, "same", prefix=prefix).schedule("reminder", at=FAR + timedelta(minutes=minutes))
    for minutes, prefix in enumerate(TENANTS):
        (pending,) = await engine.alarms(Account, "same", prefix=prefix).pending()
        (listed,) = await engine.all_alarms(prefix=prefix)
        assert pending.at == listed.at == FAR + timedelta(minutes=minutes)
        assert (listed.prefix, listed.object_id) == (prefix, "same")
        assert await engine.all_alarms(prefix=prefix, orphaned=True) == []
    assert await engine.alarms(Account, "same", prefix="red").cancel_all() == 1
    assert await engine.alarms(Account, "same", prefix="Red").cancel("reminder") is True
    assert [len(await engine.all_alarms(prefix=prefix)) for prefix in TENANTS] == [1, 0, 0, 1]
    await engine.alarms(Account, "same").schedule("reminder", at=FAR, payload="told")
    await engine.alarms(Account, "same").fire("reminder")
    await eventually(engine.at(Account, "told").read, ["reminded by same", "reminded by same again"])
    assert [await engine.objects(Account, prefix=prefix) for prefix in TENANTS[1:]] == [[], [], []]


async def test_keys_never_meet(engine: Engine) -> None:
    """parity 63, fault F8: a key of one tenant is a new one in another, for another call at that."""
    for prefix in TENANTS:
        for _ in range(2):
            call = engine.call(Account.note, "same", f"of {prefix!r}", prefix=prefix, idempotency_key="key")
            assert await call == 1
    for prefix in TENANTS:
        assert await engine.at(Account, "same", prefix=prefix).read() == [f"of {prefix!r}"]


async def test_calls_of_objects_stay_in_their_tenant(engine: Engine) -> None:
    """parity 63, fault F8: out of handlers and alarms, awaited or one way, unless another tenant is named."""
    ways = ["at", "at name", "call", "call_by_name", "send"]
    for prefix in TENANTS[:2]:
        await engine.at(Account, "one", prefix=prefix).pass_on("two", prefix or "none")
        await engine.at(Account, "one", prefix=prefix).remind("three")
    for prefix in TENANTS[:2]:
        two, three = engine.at(Account, "two", prefix=prefix), engine.at(Account, "three", prefix=prefix)
        await eventually(two.read, [f"{prefix or 'none'} {way}" for way in ways])
        await eventually(three.read, ["reminded by one", "reminded by one again"])
    await engine.at(Account, "one", prefix="red").abroad("Red", "four", "from red")
    await engine.at(Account, "one", prefix="red").abroad("", "four", "from red, too")
    assert [await engine.state("Account", "four", prefix=prefix) for prefix in TENANTS[:3]] == [
        {"notes": ["from red, too"]}, None, {"notes": ["from red"]},
    ]  # fmt: skip


async def test_an_engine_of_a_tenant_names_it_nowhere(kind: tuple[str, int]) -> None:
    """parity 28: `prefix` of the engine is that of all its calls, unless a call says otherwise."""
    async with opened(kind, prefix="red") as engine:
        await engine.at(Account, "a").note("x")
        await engine.at(Account, "a", prefix="").note("default")
        await engine.alarms(Account, "a").schedule(Account.reminder, at=FAR)
        assert await engine.state("Account", "a") == {"notes": ["x"]}
        assert await engine.objects(Account) == ["a"]
        assert [alarm.prefix for alarm in await engine.all_alarms()] == ["red"]
        assert await engine.all_alarms(prefix="") == []
        assert await engine.delete(Account, "a") is True
        assert await engine.state("Account", "a", prefix="") == {"notes": ["default"]}
        if engine.url is not None:
            await asyncio.to_thread(use_a_client_of_red, engine.url)


def use_a_client_of_red(url: str) -> None:
    """The same with the blocking client."""
    with Client(url, prefix="red") as client:
        client.at(Account, "b").note("y")
        client.alarms(Account, "b").schedule("reminder", at=FAR)
        assert client.call(Account.read, "b") == ["y"]
        assert client.call(Account.read, "b", prefix="") == []
        assert (client.objects(Account), client.objects(Account, prefix="")) == (["b"], ["a"])
        assert [alarm.object_id for alarm in client.all_alarms()] == ["b"]
        assert (client.delete(Account, "b", prefix=""), client.delete(Account, "b")) == (False, True)


async def test_what_is_stored_is_there_again(kind: tuple[str, int]) -> None:
    """parity 63: state, alarms and keys of each tenant outlive the engine, on whatever number of shards."""
    if kind_of(kind[0]) == "memory":
        kind = (f"memory://{id(kind)}", 0)
    async with opened(kind) as engine:
        for prefix in TENANTS:
            await engine.call(Account.note, "same", f"of {prefix!r}", prefix=prefix, idempotency_key="key")
            await engine.alarms(Account, "same", prefix=prefix).schedule("reminder", at=FAR)
    again = kind if kind[1] == 0 else (kind[0], 3)
    async with opened(again) as engine:
        for prefix in TENANTS:
            assert await engine.at(Account, "same", prefix=prefix).read() == [f"of {prefix!r}"]
            assert [alarm.prefix for alarm in await engine.all_alarms(prefix=prefix)] == [prefix]
            retried = engine.call(Account.note, "same", f"of {prefix!r}", prefix=prefix, idempotency_key="key")
            assert await retried == 1


WRONG: list[tuple[Any, str]] = [
    ("a\0b", "prefix must not contain NUL"),
    ("\ud800", "prefix must be valid Unicode"),
    ("x" * 201, "more than the 200 allowed"),
    ("é" * 101, "more than the 200 allowed"),
    (5, "must be a str"),
    (b"red", "must be a str"),
]


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[3]], indirect=True)
@pytest.mark.parametrize(("wrong", "says"), WRONG)
async def test_a_prefix_that_can_be_none_is_refused_at_once(kind: tuple[str, int], wrong: Any, says: str) -> None:
    """parity 28: wherever one is given: nothing is sent."""
    with pytest.raises((InvalidArguments, TooLarge), match=says):
        Engine(kind[0], objects=[Account], prefix=wrong)
    async with opened(kind) as engine:
        ways: list[Callable[[], Any]] = [
            lambda: engine.at(Account, "a", prefix=wrong),
            lambda: engine.call(Account.read, "a", prefix=wrong),
            lambda: engine.call_by_name("Account", "a", "read", prefix=wrong),
            lambda: engine.send(Account.note, "a", "x", prefix=wrong),
            lambda: engine.alarms(Account, "a", prefix=wrong).pending(),
            lambda: engine.state(Account, "a", prefix=wrong),
            lambda: engine.wake(Account, "a", prefix=wrong),
            lambda: engine.evict(Account, "a", prefix=wrong),
            lambda: engine.where(Account, "a", prefix=wrong),
            lambda: engine.delete(Account, "a", prefix=wrong),
            lambda: engine.unpark(Account, "a", prefix=wrong),
            lambda: engine.objects(Account, prefix=wrong),
            lambda: engine.all_alarms(prefix=wrong),
            lambda: engine.at(Account, "a").abroad(wrong, "b", "x"),
        ]
        for way in ways[:-1] if isinstance(wrong, (int, bytes)) or wrong == "\ud800" else ways:
            with pytest.raises((InvalidArguments, TooLarge), match=says):
                await way()
