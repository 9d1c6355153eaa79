"""Shards that die at one exact moment: what their callers hear, and what has happened."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from durable_engine import Client
from durable_engine.errors import DurableError, Unavailable
from tests.crash import doomed_objects
from tests.crash.conftest import MakeServer
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from tests.support.server import Server, is_alive
from tests.support.wire_faults import AtCommit, Fault

pytestmark = pytest.mark.processes

EFFECTS = {"before_commit": 0, "after_commit": 1}
"""Crash point: how often a call that was killed there has happened."""
WRITERS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'WITH fence AS%'"


@pytest.fixture(autouse=True)
def _fates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "fates"
    folder.mkdir()
    monkeypatch.setenv(doomed_objects.FATES_VARIABLE, str(folder))


@pytest.fixture
def doomed(make_server: MakeServer, store: str) -> Iterator[tuple[Server, Client]]:
    """A server of one shard with the objects that end it, and a client of it."""
    server = make_server(store, objects=(doomed_objects.__file__,), shards=1).start()
    with server.client(timeout=20) as client:
        yield server, client


def call(client: Client, kind: str, handler: str, *args: Any, key: str | None = None, object_id: str = "d") -> Any:
    return client.call_by_name(kind, object_id, handler, list(args), {}, timeout=20, idempotency_key=key)


def in_flight(server: Server) -> int:
    """Rows that the first shard has sent and has no answer for."""
    with server.client() as client:
        found: int = client.request("statistics")["shards"][0]["statistics"]["writer"]["in_flight"]
    return found


def writers(url: str) -> list[int]:
    """The processes of the database that have worked on a batch last."""

    async def ask() -> list[int]:
        connection = await asyncpg.connect(url)
        try:
            found = await connection.fetch(WRITERS)
        finally:
            await connection.close()
        return [row["pid"] for row in found]

    return asyncio.run(ask())


def assert_killed(server: Server, times: int) -> None:
    [shard] = server.wait_until_up(restarts=times)
    assert shard["last_error"] == "signal SIGKILL"


@pytest.mark.parametrize("point", EFFECTS)
def test_a_call_with_a_key_takes_effect_once_wherever_its_shard_dies(doomed: tuple[Server, Client], point: str) -> None:
    """fault A2, A4: the client repeats it by itself, and whoever asks again hears the first result."""
    server, client = doomed

    assert call(client, "Doomed", "increment_and_die", point, key="k") == 1

    assert_killed(server, 1)
    assert call(client, "Doomed", "increment_and_die", point, key="k") == 1
    assert call(client, "Doomed", "get") == 1


@pytest.mark.parametrize("point", EFFECTS)
def test_a_call_without_a_key_is_never_repeated_wherever_its_shard_dies(
    doomed: tuple[Server, Client], point: str
) -> None:
    """fault A2, A4: its caller hears that nobody can say, and the state knows: all of it, or nothing."""
    server, client = doomed

    with pytest.raises(Unavailable) as caught:
        call(client, "Doomed", "increment_and_die", point)

    assert caught.value.outcome == "unknown"
    assert_killed(server, 1)
    assert call(client, "Doomed", "get") == EFFECTS[point]


def test_a_shard_that_dies_while_an_object_is_loaded_costs_its_caller_nothing(doomed: tuple[Server, Client]) -> None:
    """fault A5: what `after_load` did is undone with the process, and done anew by the next."""
    server, client = doomed

    assert call(client, "Waking", "get", key="k") == 1

    assert_killed(server, 1)
    assert call(client, "Waking", "get") == 1


def test_an_alarm_in_whose_method_the_shard_dies_fires_again(doomed: tuple[Server, Client]) -> None:
    """fault A5: it takes effect once."""
    server, client = doomed

    call(client, "Ringing", "begin", key="begin")

    eventually(lambda: call(client, "Ringing", "get") == 1, state=lambda: server.log)
    assert_killed(server, 1)
    assert call(client, "Ringing", "get") == 1
    assert client.alarms("Ringing", "d").pending() == []


@pytest.mark.postgres
@pytest.mark.parametrize("arrives", ["before its successor", "after its successor"])
def test_a_batch_that_is_on_its_way_when_its_shard_dies_is_settled_by_the_next(
    make_server: MakeServer, postgres_dsn: str, arrives: str
) -> None:
    """fault A3: either the repeated call hears the result that the batch has stored, or the batch is never applied."""
    with FaultProxy(postgres_dsn) as proxy:
        server = make_server(proxy.url, objects=(doomed_objects.__file__,), shards=1).start()
        with server.client(timeout=30) as client, ThreadPoolExecutor() as threads:
            assert call(client, "Doomed", "increment") == 1
            [writing] = writers(postgres_dsn)
            fault = proxy.arm(Fault("delay", AtCommit(), seconds=0.0 if arrives.startswith("before") else 3.0))
            repeated = threads.submit(call, client, "Doomed", "increment", key="k")
            assert fault.fired.wait(30)

            os.kill(server.shard(0)["pid"], signal.SIGKILL)

            assert repeated.result() == 2
            server.wait_until_up(restarts=1)
            eventually(lambda: writing not in writers(postgres_dsn), state=lambda: writers(postgres_dsn))
            assert call(client, "Doomed", "increment", key="k") == 2
            assert call(client, "Doomed", "increment") == 3


@pytest.mark.postgres
def test_a_zombie_whose_batch_arrives_after_the_takeover_has_written_and_said_nothing(
    make_server: MakeServer, postgres_dsn: str, tmp_path: Path
) -> None:
    """fault A7: the statement comes from an owner that is none any more, so the database applies nothing of it."""
    objects = (doomed_objects.__file__,)
    with FaultProxy(postgres_dsn) as proxy, ThreadPoolExecutor() as threads:
        first = make_server(proxy.url, objects=objects, shards=1, stall_timeout=600).start()
        with first.client(timeout=60) as client:
            assert call(client, "Doomed", "increment") == 1
            proxy.hold("up")
            waiting = threads.submit(call, client, "Doomed", "increment")
            eventually(lambda: in_flight(first) == 1, state=lambda: first.log)
            eventually(lambda: proxy.faults.struck["held"], state=lambda: first.log)
            zombies = [shard["pid"] for shard in first.shards()]
            frozen = [first.pid, *first.descendants()]
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)

            bind = f"ipc://{tmp_path}/second.sock"
            second = make_server(postgres_dsn, objects=objects, shards=1, bind=bind, takeover=True).start()
            with second.client(timeout=30) as other:
                assert call(other, "Doomed", "get") == 1
                proxy.release()
                for pid in frozen[:0:-1]:  # the shards find it out by themselves: nobody is there to kill them
                    os.kill(pid, signal.SIGCONT)
                first.wait_for_log("shard 0 stops")
                os.kill(first.pid, signal.SIGCONT)
                first.wait()
                assert not any(map(is_alive, zombies))

                assert call(other, "Doomed", "increment") == 2
        with pytest.raises(DurableError) as caught:  # at its deadline, or when its client is closed
            waiting.result(60)
    assert caught.value.outcome == "unknown"
