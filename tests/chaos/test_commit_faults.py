"""The fault proxy finds the commits of a real store, and whatever it does to one, the store applies it once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from durable_storage.postgres import PostgresStore
from durable_storage.store import Claim, Stored
from tests.contract.rigs import address, alarm, change, result
from tests.support.fault_proxy import FaultProxy
from tests.support.wire_faults import AtCommit, Fault

pytestmark = pytest.mark.postgres

CLAIM = Claim("shard-0", "test", 1, "ipc:///nowhere", 0, 1)
FAULTS = {
    "nothing of it passes": ("cut", 0.0),
    "half of it passes": ("cut", 0.5),
    "all but its answer": ("answer", 0.0),
    "late": ("late", 0.0),
    "twice": ("duplicate", 0.0),
    "delayed": ("delay", 0.0),
}


@pytest.fixture
async def store(postgres_dsn: str) -> AsyncIterator[tuple[PostgresStore, FaultProxy]]:
    """A store behind the proxy, opened and warm, and the proxy."""
    with FaultProxy(postgres_dsn) as proxy:
        store = PostgresStore(proxy.url)
        await store.open(CLAIM)
        await store.commit([change("a", b"0", 1, alarms_set=[alarm("v")], results=[result("zero")])])
        yield store, proxy
        await store.close()


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_commit_that_the_network_mistreats_is_applied_once(
    store: tuple[PostgresStore, FaultProxy], fault: str
) -> None:
    """fault B4: applied twice, its key would be refused; the next commit goes on from it."""
    opened, proxy = store
    action, part = FAULTS[fault]
    commits = proxy.faults.commits
    armed = proxy.arm(Fault(action, AtCommit(part=part), seconds=0.02))  # type: ignore[arg-type]

    assert await opened.commit([change("a", b"1", 2, alarms_set=[alarm("x")], results=[result("one")])]) == {}

    assert armed.fired.is_set()
    assert await opened.commit([change("a", b"2", 3, alarms_set=[alarm("y")], results=[result("two")])]) == {}
    assert await opened.load([address("a")]) == [Stored(b"2", 3, (alarm("v"), alarm("x"), alarm("y")))]
    assert opened.seq == 3
    assert (opened.epoch > 1) == (action != "delay")
    assert proxy.faults.struck == {f"{action} in commit": 1}
    assert proxy.faults.commits - commits in (2, 3)


async def test_the_nth_commit_is_counted_from_the_order(store: tuple[PostgresStore, FaultProxy]) -> None:
    """Earlier ones pass untouched."""
    opened, proxy = store
    armed = proxy.arm(Fault("answer", AtCommit(nth=2)))

    await opened.commit([change("a", b"1", 2)])
    assert (armed.fired.is_set(), opened.epoch) == (False, 1)
    await opened.commit([change("a", b"2", 3)])
    assert (armed.fired.is_set(), opened.epoch) == (True, 2)
