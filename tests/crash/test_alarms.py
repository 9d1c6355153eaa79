"""A storm of alarms while processes are killed: none lost, no effect twice, none early."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from durable_engine import Client
from durable_shards.deadline_scheduler import STREAK_FREE, STREAK_SECONDS_MAX
from tests.crash.conftest import MakeServer
from tests.crash.storm import (
    IDS,
    OBJECTS,
    Arming,
    Found,
    Planned,
    Runs,
    at_rest,
    check_agreement,
    check_conservation,
    plan,
)
from tests.crash.storm_objects import RUNS_VARIABLE
from tests.support.eventually import eventually
from tests.support.postgres import PostgresServer
from tests.support.server import Server, is_alive

pytestmark = pytest.mark.processes

SHARD_KILLS = 11
SUPERVISOR_KILLS = 2
DEADLY_ALARMS = 12
"""For each of two stores: fifty kills in all."""

MakeStorm = Callable[..., Server]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Where the servers' alarm methods leave a line each time they run."""
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path / "runs"))
    return Runs(tmp_path / "runs")


@pytest.fixture
def chance() -> random.Random:
    """Its seed is printed, so that a failure shows it."""
    seed = int.from_bytes(os.urandom(4))
    print(f"seed of the storm: {seed}")
    return random.Random(seed)


@pytest.fixture
def make_storm(make_server: MakeServer, runs: Runs) -> MakeStorm:
    """Servers of two shards for the objects of the storm."""

    def make(store: str, **settings: Any) -> Server:
        return make_server(store, objects=(str(OBJECTS),), **settings)

    return make


def everything_fires(server: Server, alarms: list[Planned]) -> None:
    """Until of the alarms those alone are left that are far; the repeating ones are stopped."""
    far = {(each.object_id, each.name) for each in alarms if each.is_far}
    with server.client(timeout=20) as client:
        for object_id in IDS:  # it may be said twice, so that a kill in between does no harm
            eventually(lambda id_=object_id: client.call_by_name("Storm", id_, "stop", [], {}) is None)

        def left() -> set[tuple[str, str]]:
            return {(each.object_id, each.name) for each in client.all_alarms(limit=10_000)}

        eventually(lambda: left() == far, timeout=60, state=lambda: f"{left() ^ far}\n{server.log[-3000:]}")


def in_memory(client: Client) -> dict[str, tuple[Any, list[str]]]:
    """What the objects say of themselves: state and armed alarms."""
    return {
        object_id: (
            client.state("Storm", object_id),
            [(each.name, each.at) for each in client.alarms("Storm", object_id).pending()],
        )
        for object_id in IDS
    }


def check_end(server: Server, alarms: list[Planned]) -> Found:
    """Everything fires; memory, state and rows tell one story; nothing is lost, doubled, or early."""
    everything_fires(server, alarms)
    with server.client(timeout=20) as client:
        remembered = in_memory(client)
    assert server.stop() == 0
    found = at_rest(str(server.settings["store"]))
    stored = {
        object_id: (state, sorted(((row.name, row.at) for row in rows.values()), key=lambda row: (row[1], row[0])))
        for object_id, (state, rows) in found.items()
    }
    assert stored == remembered
    check_agreement(found)
    check_conservation(found, alarms)
    return found


def is_gone(pid: int) -> bool:
    """Whether a process has ended."""
    return not is_alive(pid)


def kill_a_shard(server: Server, number: int) -> None:
    """And wait until its successor serves."""

    def kill() -> int:
        pid: int = server.shard(number)["pid"]
        assert is_alive(pid), "it is being restarted"
        os.kill(pid, signal.SIGKILL)
        return pid

    killed = eventually(kill, state=lambda: server.log[-3000:])
    eventually(partial(is_gone, killed))

    def is_back() -> bool:
        shard = server.shard(number)
        return shard["state"] == "up" and shard["pid"] != killed

    eventually(is_back, state=lambda: server.log[-3000:])


def kill_the_supervisor(server: Server) -> None:
    """Everything is down then: what rests in the store must agree; then start anew."""
    family = server.descendants()
    server.signal(signal.SIGKILL)
    assert server.wait() == -signal.SIGKILL
    eventually(lambda: not any(map(is_alive, family)))
    check_agreement(at_rest(str(server.settings["store"])))
    server.start()


def test_a_storm_of_alarms_survives_fifty_kills(
    make_storm: MakeStorm, store: str, runs: Runs, chance: random.Random
) -> None:
    """fault C7: parity 72, 84, 85: of 1,000 alarms none is lost, doubled or early, whichever process is killed."""
    server = make_storm(store).start()
    alarms = plan(chance, seconds=12, deadly=DEADLY_ALARMS)
    kills = ["shard"] * SHARD_KILLS + ["supervisor"] * SUPERVISOR_KILLS
    chance.shuffle(kills)
    with Arming(server, alarms):
        for kill in kills:
            runs.advance(chance.randint(1, 50))
            if kill == "supervisor":
                kill_the_supervisor(server)
            else:
                kill_a_shard(server, chance.randrange(2))

    found = check_end(server, alarms)
    effects = [mark for state, _ in found.values() for mark in state["fired"]]
    assert runs.deaths == DEADLY_ALARMS
    assert len({pid for *_, pid in effects}) > len(kills) / 3, "hardly any shard lived to fire anything"
    assert len(runs) > len(effects), "no kill met a firing before its commit"
    print(f"{len(kills)} + {runs.deaths} kills, {len(effects)} effects, {len(runs) - len(effects)} firings undone")


def test_two_supervisors_fire_each_alarm_once(
    make_storm: MakeStorm, store: str, runs: Runs, chance: random.Random
) -> None:
    """parity 92: one takes the store over from the other in the middle of the storm; each effect is there once."""
    first = make_storm(store).start()
    alarms = plan(chance, seconds=4)
    with Arming(first, alarms):
        runs.advance(chance.randint(50, 200))
        fired_by_first = len(runs)

        second = make_storm(store, takeover=True).start()

        assert first.wait() == 1
        assert "another supervisor took this store over" in first.log

    found = check_end(second, alarms)
    effects = [mark for state, _ in found.values() for mark in state["fired"]]
    assert len({pid for *_, pid in effects}) == 4, "all four shards have fired"
    assert len(effects) > fired_by_first / 2


def test_a_stopped_shard_that_wakes_after_the_takeover_fires_nothing(
    make_storm: MakeStorm, store: str, runs: Runs, tmp_path: Path
) -> None:
    """parity 92, fault A6: its alarms are due in its memory, and it is no owner any more: no method runs."""
    first = make_storm(store, stall_timeout=600).start()
    zombies = [shard["pid"] for shard in first.shards()]
    frozen = [first.pid, *first.descendants()]
    now = datetime.now(UTC)
    alarms = [Planned(IDS[number % 60], f"n{number}", f"t{number}", now + timedelta(seconds=2)) for number in range(60)]
    with Arming(first, alarms):
        pass
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    assert len(runs) == 0

    second = make_storm(store, bind=f"ipc://{tmp_path}/other.sock", takeover=True).start()
    eventually(lambda: len(runs) == len(alarms), state=lambda: second.log)
    for pid in zombies:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: not any(map(is_alive, zombies)), state=lambda: first.log)

    found = check_end(second, alarms)
    assert "shard 0 stops" in first.log
    assert "shard 1 stops" in first.log
    assert not {*zombies} & {pid for state, _ in found.values() for *_, pid in state["fired"]}
    assert [runs.of(pid) for pid in zombies] == [0, 0]


def test_a_crash_of_postgresql_in_the_middle_of_a_storm_loses_nothing(
    make_storm: MakeStorm, postgres_server: PostgresServer, runs: Runs, chance: random.Random
) -> None:
    """fault B1, B2: parity 45, 84: alarms wait while the database is away, and none is fired twice when it is back."""
    server = make_storm(postgres_server.url).start()
    pids = {shard["pid"] for shard in server.shards()}
    alarms = plan(chance, seconds=6)
    with Arming(server, alarms):
        for _ in range(3):
            runs.advance(chance.randint(20, 150))
            crashed = postgres_server.pid
            postgres_server.stop("immediate")
            eventually(partial(is_gone, crashed))  # its pid file goes a moment earlier
            postgres_server.start()

    found = check_end(server, alarms)
    assert {pid for state, _ in found.values() for *_, pid in state["fired"]} == pids, "no shard had to be restarted"


def test_an_alarm_that_arms_itself_at_once_for_ever_leaves_the_shard_to_others(
    make_storm: MakeStorm, store: str, runs: Runs
) -> None:
    """parity 83: after its first rounds it is paced, while calls to it and to others in its shard are answered."""
    server = make_storm(store, shards=1).start()
    with server.client(timeout=20) as client:
        client.call_by_name("Spinner", "wild", "begin", [], {}, timeout=20)
        runs.advance(STREAK_FREE + 10)  # now it is slowed down for good
        begun, before, turns = time.monotonic(), len(runs), turns_of(server)

        counted = [client.call_by_name("Spinner", f"calm-{n % 10}", "count", [], {}, timeout=20) for n in range(500)]
        runs.advance(20)

        rounds, turns, seconds = len(runs) - before, turns_of(server) - turns, time.monotonic() - begun
        assert counted == [n // 10 + 1 for n in range(500)]
        assert rounds <= seconds / STREAK_SECONDS_MAX + 1, f"{rounds} rounds in {seconds:.2f} s"
        assert turns <= 500 + rounds + 2, "it kept the shard busy in some other way"
        assert client.call_by_name("Spinner", "wild", "get", [], {}, timeout=20) >= before
    assert "failed" not in server.log


def turns_of(server: Server) -> int:
    """Turns of all shards since they started."""
    with server.client() as client:
        return sum(shard.statistics.turns for shard in client.statistics().shards)
