"""PostgreSQL that crashes, stalls, loses connections or falls behind, while clients go on calling a running server."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from typing import Any

import asyncpg
import pytest

from durable_engine import Engine
from durable_engine.errors import DurableError
from tests.crash.conftest import MakeServer
from tests.crash.load import Load, advance, assert_exact, assert_nothing_lost, counts
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from tests.support.postgres import PostgresServer
from tests.support.server import Server
from tests.support.wire_faults import AtCommit, Fault

pytestmark = [pytest.mark.processes, pytest.mark.postgres]


@pytest.fixture
def chance() -> random.Random:
    """Its seed is printed, so that a failure shows it."""
    seed = int.from_bytes(os.urandom(4))
    print(f"seed: {seed}")
    return random.Random(seed)


def incarnations(server: Server) -> list[tuple[int, int]]:
    """The shards' processes, and how often they were restarted."""
    return [(shard["pid"], shard["restarts"]) for shard in server.shards()]


def end_connections(url: str, chance: random.Random) -> int:
    """Terminate one connection of a shard by chance; how many there were to choose from."""

    async def end() -> int:
        admin = await asyncpg.connect(url)
        try:
            query = """SELECT pid FROM pg_stat_activity
                WHERE application_name LIKE 'durable-engine shard-%' AND datname = current_database()"""
            pids = [row[0] for row in await admin.fetch(query)]
            if pids:
                assert await admin.fetchval("SELECT pg_terminate_backend($1)", chance.choice(pids))
            return len(pids)
        finally:
            await admin.close()

    return asyncio.run(end())


def test_a_database_that_crashes_again_and_again_is_waited_for(
    make_server: MakeServer, postgres_server: PostgresServer
) -> None:
    """fault B1: five crashes under load: every call ends well and counts once, and no shard is restarted for it."""
    server = make_server(postgres_server.url).start()
    shards = incarnations(server)
    with Load(server.endpoint, exactly_once=True) as load:
        for _ in range(5):
            advance(load, 100)
            postgres_server.stop("immediate")
            eventually(lambda: "PostgreSQL does not answer" in server.log, state=lambda: server.log)
            postgres_server.start()
        advance(load, 100)

    assert_exact(load, counts(server.endpoint))
    assert incarnations(server) == shards
    assert server.log.count("PostgreSQL does not answer") >= 5


def test_connections_that_are_terminated_at_random_are_not_missed(
    make_server: MakeServer, postgres_dsn: str, chance: random.Random
) -> None:
    """fault B3: commits are settled and sent again, reads repeated; no call fails, none counts twice."""
    server = make_server(postgres_dsn).start()
    shards = incarnations(server)
    ended = 0
    with Load(server.endpoint, exactly_once=True) as load:
        while ended < 25:
            advance(load, chance.randint(1, 60))
            ended += bool(end_connections(postgres_dsn, chance))
        advance(load, 100)

    assert_exact(load, counts(server.endpoint))
    assert incarnations(server) == shards


def test_commits_that_are_cut_at_random_count_once(
    make_server: MakeServer, postgres_dsn: str, chance: random.Random
) -> None:
    """fault B4: before, in and after the batch, under load: each is settled, and no call is told a wrong one."""
    with FaultProxy(postgres_dsn) as proxy:
        server = make_server(proxy.url).start()
        shards, epochs = incarnations(server), [shard["epoch"] for shard in server.shards()]
        with Load(server.endpoint, exactly_once=True) as load:
            for number in range(24):
                action = ("cut", "answer", "late", "duplicate")[number % 4]
                place = AtCommit(nth=chance.randint(1, 5), part=chance.random())
                fault = proxy.arm(Fault(action, place, seconds=0.01))  # type: ignore[arg-type]
                assert fault.fired.wait(60), server.log
            advance(load, 100)

        assert_exact(load, counts(server.endpoint))
        assert incarnations(server) == shards
        assert sum(proxy.faults.struck.values()) == 24
        eventually(lambda: sum(shard["epoch"] for shard in server.shards()) >= sum(epochs) + 24)  # told with a beat
        server.stop()


def test_a_network_that_swallows_everything_is_given_up_by_a_deadline(
    make_server: MakeServer, postgres_dsn: str
) -> None:
    """fault B5: no reset ever comes; seconds later the shards try other connections, and settle what was in doubt."""
    with FaultProxy(postgres_dsn) as proxy:
        server = make_server(proxy.url).start()
        shards = incarnations(server)
        with Load(server.endpoint, exactly_once=True) as load:
            advance(load, 100)
            proxy.hold()
            eventually(lambda: server.log.count("PostgreSQL does not answer") == 2, state=lambda: server.log)
            assert proxy.faults.struck["held"] > 0
            proxy.release()
            advance(load, 100)

        assert_nothing_lost(load, counts(server.endpoint))
        assert incarnations(server) == shards
        server.stop()


def test_a_slow_database_makes_larger_batches(make_server: MakeServer, postgres_dsn: str) -> None:
    """fault B6: a commit takes a fifth of a second, so that it carries many calls; who cannot wait so long is told."""
    with FaultProxy(postgres_dsn) as proxy:
        server = make_server(proxy.url).start()
        proxy.delay(0.1)
        with Load(server.endpoint, exactly_once=False) as load:
            advance(load, 80)
            before, acknowledged = written(server), load.total
            advance(load, 400)
            after, acknowledged = written(server), load.total - acknowledged
            with server.client() as client, pytest.raises(DurableError) as caught:
                client.call_by_name("Counter", "object-0", "increment", [], {}, timeout=0.05)
        batches, rows = (b - a for a, b in zip(before, after, strict=True))
        assert proxy.faults.struck["slow"] > 0
        assert rows >= 8 * batches, f"{rows} rows in {batches} commits"
        assert acknowledged >= 8 * batches
        assert caught.value.outcome == "unknown"
        assert load.errors == []
        proxy.delay(0)
        server.stop()


def written(server: Server) -> tuple[int, int]:
    """Commits and rows of all shards."""
    with server.client() as client:
        writers = [shard.statistics.writer for shard in client.statistics().shards]
    return sum(each.batches for each in writers), sum(each.rows for each in writers)


def test_what_is_asked_of_a_server_without_its_database_leaves_nothing_behind(
    make_server: MakeServer, postgres_server: PostgresServer
) -> None:
    """fault B2: thousands of calls give up; none is lost track of, and afterwards nothing of them is in memory."""
    server = make_server(postgres_server.url).start()
    with Load(server.endpoint, exactly_once=True) as load:
        advance(load, 100)
    known = load.acknowledged.copy()
    postgres_server.stop("immediate")

    outcomes = asyncio.run(call_in_vain(server.endpoint, calls=6000))
    postgres_server.start()

    print(outcomes)
    assert sum(outcomes.values()) == 6000
    assert all(retryable or outcome == "unknown" for _, outcome, retryable in outcomes), outcomes
    for shard in eventually(lambda: idle_shards(server), state=lambda: server.log):
        assert shard.restarts == 0
    found = counts(server.endpoint)
    assert all(found[name] >= known[name] for name in found)


async def call_in_vain(endpoint: str, calls: int) -> Counter[tuple[str, str, bool]]:
    """Call objects that are in memory and objects that are not, many at once; how each call ended."""
    outcomes: Counter[tuple[str, str, bool]] = Counter()

    async def call(engine: Engine, number: int) -> None:
        name = f"object-{number % 40}" if number % 2 else f"new-{number}"
        try:
            await engine.call_by_name("Counter", name, "increment", [], {}, timeout=1.0)
        except DurableError as error:
            outcomes[type(error).__name__, error.outcome, error.retryable] += 1
        else:
            outcomes["none", "applied", False] += 1

    async with Engine.connect(endpoint) as engine:
        for begin in range(0, calls, 2000):
            await asyncio.gather(*(call(engine, number) for number in range(begin, begin + 2000)))
    return outcomes


def idle_shards(server: Server) -> list[Any]:
    """All shards, once nothing waits in any of them."""
    with server.client() as client:
        shards = client.statistics().shards
    waiting = [(each.statistics.gated, each.statistics.loading, each.statistics.writer.waiting) for each in shards]
    return list(shards) if waiting == [(0, 0, 0)] * len(shards) else []
