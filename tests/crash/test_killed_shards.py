"""Shards that are killed: what was acknowledged stays, what runs goes on elsewhere or again."""

from __future__ import annotations

import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.crash.conftest import MakeServer
from tests.crash.load import Load, advance, assert_exact, assert_nothing_lost, counts
from tests.support.eventually import eventually
from tests.support.server import OBJECTS, Server, children_of, is_alive

pytestmark = pytest.mark.processes


def test_an_idle_shard_that_is_killed_comes_back_with_its_state(make_server: MakeServer, store: str) -> None:
    """parity 72, fault A1: a new process with a higher epoch serves its partitions; its neighbour notices nothing."""
    server = make_server(store).start()
    with server.client() as client:
        assert [client.call_by_name("Counter", str(n), "increment", [n], {}) for n in range(20)] == list(range(20))
        before = server.shards()

        os.kill(before[0]["pid"], signal.SIGKILL)

        after = server.wait_until_up(restarts=1)
        assert [client.call_by_name("Counter", str(n), "get", [], {}) for n in range(20)] == list(range(20))
    assert after[0]["pid"] != before[0]["pid"]
    assert after[0]["epoch"] > before[0]["epoch"]
    assert after[0]["last_error"] == "signal SIGKILL"
    assert (after[1]["pid"], after[1]["epoch"]) == (before[1]["pid"], before[1]["epoch"])


def test_kills_under_load_lose_and_double_nothing(make_server: MakeServer, store: str) -> None:
    """parity 50, 72, fault A4: with exactly-once calls clients see no error at all, and every count is exact."""
    server = make_server(store).start()
    chance = random.Random(20130101)

    with Load(server.endpoint, exactly_once=True) as load:
        for kill in range(6):
            advance(load, chance.randint(50, 800))
            os.kill(server.shard(chance.randrange(2))["pid"], signal.SIGKILL)
            server.wait_until_up(restarts=kill + 1)
        advance(load, 200)

    assert_exact(load, counts(server.endpoint))


def test_kills_under_load_without_keys_tell_the_truth(make_server: MakeServer) -> None:
    """fault A2, A3: calls without a key are never run twice; what is reported as not applied was not."""
    server = make_server().start()

    with Load(server.endpoint, exactly_once=False) as load:
        for kill in range(3):
            advance(load, 500)
            os.kill(server.shard(kill % 2)["pid"], signal.SIGKILL)
            server.wait_until_up(restarts=kill + 1)
        advance(load, 200)

    assert_nothing_lost(load, counts(server.endpoint))
    assert all(error.outcome == "unknown" or error.retryable for error in load.errors)


def test_all_shards_killed_at_once_all_come_back(make_server: MakeServer) -> None:
    """parity 72, fault A9: in whatever order, with nothing lost."""
    server = make_server(shards=4).start()

    with Load(server.endpoint, exactly_once=True) as load:
        advance(load, 300)
        for shard in server.shards():
            os.kill(shard["pid"], signal.SIGKILL)
        server.wait_until_up(restarts=4)
        advance(load, 300)

    assert_exact(load, counts(server.endpoint))


def test_the_fork_server_can_be_lost_too(server: Server) -> None:
    """It takes all shards with it, and another one brings them back."""
    with Load(server.endpoint, exactly_once=True) as load:
        advance(load, 300)
        [fork_server] = children_of(server.pid)
        shards = children_of(fork_server)
        os.kill(fork_server, signal.SIGKILL)
        eventually(lambda: not any(map(is_alive, shards)))
        server.wait_until_up()
        advance(load, 300)

    assert_exact(load, counts(server.endpoint))
    assert children_of(server.pid) != [fork_server]


def test_a_stopped_fork_server_is_replaced(make_server: MakeServer) -> None:
    """Otherwise nobody would restart a shard that dies."""
    server = make_server(stall_timeout=1.0).start()
    [fork_server] = children_of(server.pid)

    os.kill(fork_server, signal.SIGSTOP)

    eventually(lambda: not is_alive(fork_server))
    server.wait_until_up(restarts=2)
    os.kill(server.shard(0)["pid"], signal.SIGKILL)
    server.wait_until_up(restarts=3)


def test_objects_that_do_not_import_any_more_are_reported(make_server: MakeServer, tmp_path: Path) -> None:
    """fault A12: a fork server that starts anew on broken code shows the error; repaired code is picked up."""
    module = tmp_path / "fragile.py"
    module.write_text(OBJECTS.read_text())
    server = make_server(objects=(str(module),)).start()
    module.write_text("raise RuntimeError('half a deploy')\n")

    os.kill(children_of(server.pid)[0], signal.SIGKILL)

    def reported() -> bool:
        return all(
            shard["state"] == "failing" and "RuntimeError: half a deploy" in shard["last_error"]
            for shard in server.shards()
        )

    eventually(reported, state=lambda: server.log)
    assert f'File "{module}", line 1' in server.log
    module.write_text(OBJECTS.read_text())
    server.wait_until_up()
    with server.client() as client:
        assert client.call_by_name("Counter", "c", "increment", [], {}) == 1


def test_a_planned_restart_fails_no_call(make_server: MakeServer, store: str) -> None:
    """Shards are drained and restarted one by one under load; even without keys every call succeeds."""
    server = make_server(store).start()
    pids = [shard["pid"] for shard in server.shards()]

    with Load(server.endpoint, exactly_once=False) as load:
        for number in range(2):
            advance(load, 300)
            with server.client() as client:
                client.request("restart_shard", {"shard": number})
            eventually(lambda n=number: server.shard(n)["pid"] not in (0, pids[n]))  # type: ignore[misc]
            server.wait_until_up()
        advance(load, 300)

    assert_exact(load, counts(server.endpoint))


def test_a_planned_restart_fails_no_call_between_objects(server: Server) -> None:
    """Turns that call objects of the draining shard, be it their own, come to their end."""
    with server.client(timeout=20) as client, ThreadPoolExecutor() as threads:
        calls = [
            threads.submit(client.call_by_name, "Relay", f"r{number}", "pass_on_later", [f"c{number}", 0.7], {})
            for number in range(4)
        ]
        eventually(lambda: sum(shard["statistics"]["turns"] for shard in statistics_of(server)) >= 4)
        before = [shard["pid"] for shard in server.shards()]

        for shard in (0, 1):
            client.request("restart_shard", {"shard": shard})

        assert [call.result() for call in calls] == [1] * 4
        eventually(lambda: not {0, *before} & {shard["pid"] for shard in server.shards()})


def statistics_of(server: Server) -> list[dict[str, Any]]:
    """The shards with their counts."""
    with server.client() as client:
        shards: list[dict[str, Any]] = client.request("statistics")["shards"]
        return shards


def test_objects_reach_each_other_across_shards_that_die(server: Server) -> None:
    """A relay finds the counter it calls after either shard was killed."""
    with server.client(timeout=20) as client:
        for number in range(8):
            assert client.call_by_name("Relay", f"r{number}", "pass_on", [f"c{number}"], {}) == 1
        for shard in server.shards():
            os.kill(shard["pid"], signal.SIGKILL)
        server.wait_until_up(restarts=2)
        for number in range(8):
            assert client.call_by_name("Relay", f"r{number}", "pass_on", [f"c{number}"], {}) == 2
