"""Workers behind their pipe, what is installed, and the peers that need nothing but this project and PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
import select
import sys
import time
from pathlib import Path

import pytest

from durable_bench.peers import installing
from durable_bench.peers.__main__ import main
from durable_bench.peers.http import DRIVER, SOURCES
from durable_bench.peers.installing import chosen_versions, npm_install
from durable_bench.peers.peer import NotAvailable
from durable_bench.peers.processes import cpu_seconds, family, python_worker, server, until_listening, worker
from durable_bench.peers.workers.closed_loop import drive, total
from durable_bench.peers.workers.load import Load

ADDS = Load("add", "id-", 10, callers=4, seconds=0.05)
ONCE = Load("add", "id-", 10, callers=4, seconds=30.0, once=True)


class Counting:
    """A peer in this process that notes who was called."""

    def __init__(self, fails: bool = False) -> None:
        self.counts: dict[str, int] = {}
        self.fails = fails
        self.inside = self.most = 0

    async def add(self, object_id: str, /) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await asyncio.sleep(0)
        self.inside -= 1
        if self.fails:
            raise OSError("refused")
        self.counts[object_id] = self.counts.get(object_id, 0) + 1

    async def read(self, object_id: str, /) -> int:
        before = self.counts.get(object_id, 0)
        await asyncio.sleep(0)
        return before


async def test_the_loop_has_so_many_callers_and_takes_the_ids_in_turn() -> None:
    """No more calls at once than callers, each acknowledged one counted, no id ahead of another by more than a call."""
    peer = Counting()

    outcome = await drive(peer, ADDS)

    assert peer.most == ADDS.callers
    assert outcome.calls == sum(peer.counts.values()) == await total(peer, "id-", 10)
    assert sum(outcome.latency_us.values()) == outcome.calls
    assert max(peer.counts.values()) - min(peer.counts.values()) <= 1
    assert outcome.ids_used == 10


async def test_a_load_that_calls_each_id_once_ends_when_none_is_left() -> None:
    """Ten ids, ten calls, long before the time is over."""
    peer = Counting()

    outcome = await drive(peer, ONCE)

    assert peer.counts == {f"id-{number}": 1 for number in range(10)}
    assert (outcome.calls, outcome.ids_used) == (10, 10)


async def test_failed_calls_are_told_with_what_they_failed_with() -> None:
    """They are no calls, and have no latency."""
    outcome = await drive(Counting(fails=True), ONCE)

    assert outcome.calls == 0
    assert outcome.errors == {"OSError: refused": 10}
    assert outcome.latency_us == {}


PROGRAM = """
import json, sys
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked["do"] == "drive":
        assert asked["load"] == %r, asked
        print('{"calls": 3, "seconds": 1.5, "latency_us": {"1000": 2, "2000": 1}, "driver_cpu_seconds": 0.25,'
              ' "errors": {"HTTP 500: no": 1}, "ids_used": 4}', flush=True)
    elif asked["prefix"] == "id-":
        print('{"total": 3}', flush=True)
    elif asked["prefix"] == "wrong-":
        print('{"error": "no such counter"}', flush=True)
    else:
        sys.exit("a disk is full")
""" % {"operation": "add", "prefix": "id-", "count": 10, "callers": 4, "seconds": 0.05, "once": False}  # noqa: UP031


async def test_what_a_driver_says_becomes_an_outcome(tmp_path: Path) -> None:
    """As the driver in JavaScript writes it, whose keys are text."""
    async with worker([sys.executable, "-c", PROGRAM], tmp_path, servers=[1]) as driver:
        outcome = await driver.drive(ADDS)

        assert driver.servers == [1]
        assert (outcome.calls, outcome.failed, outcome.per_second) == (3, 1, 2.0)
        assert [outcome.percentile_ms(rank) for rank in (0.5, 0.99)] == [1.0, 2.0]
        assert await driver.total("id-", 10) == 3


async def test_a_worker_that_fails_says_why(tmp_path: Path) -> None:
    """An error by its message; a death by the end of its log."""
    async with worker([sys.executable, "-c", PROGRAM], tmp_path) as driver:
        with pytest.raises(NotAvailable, match="no such counter"):
            await driver.total("wrong-", 1)
        with pytest.raises(NotAvailable, match="a disk is full"):
            await driver.total("deadly-", 1)
        with pytest.raises(NotAvailable, match="a disk is full"):
            await driver.drive(ADDS)


async def test_a_server_that_ends_as_it_starts_is_told_with_its_log(tmp_path: Path) -> None:
    """In place of waiting for a port that will never open."""
    words = [sys.executable, "-c", "raise SystemExit('the address is taken')"]
    with pytest.raises(NotAvailable, match="the address is taken"):
        async with server(words, tmp_path) as process:
            await until_listening(process, 1, tmp_path / "server.log")


async def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Both of a server and of an installer."""
    with pytest.raises(NotAvailable, match="no-such-program cannot be run"):
        async with server(["/no-such-program"], tmp_path):
            raise AssertionError("it cannot start")


async def test_the_children_of_a_server_are_ended_with_it(tmp_path: Path) -> None:
    """What a server leaves behind is killed; its processor time is part of its own."""
    spinning = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass\n"
    program = (
        f"import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', {spinning!r}])\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\ntime.sleep(600)"
    )
    async with server([sys.executable, "-c", program], tmp_path) as process:
        log = tmp_path / "server.log"
        async with asyncio.timeout(30):
            while not log.read_text().endswith("\n"):  # noqa: ASYNC110 - what it waits for is in another process
                await asyncio.sleep(0.01)
        child = int(log.read_text())
        assert list(family([process.pid])) == [process.pid, child]
        assert cpu_seconds([process.pid]) >= 0.2
        ended = os.pidfd_open(child)

    assert select.select([ended], [], [], 30)[0] == [ended]
    os.close(ended)


def test_processor_time_of_a_process_is_what_it_says_of_itself() -> None:
    """To the kernel's 10 ms."""
    assert cpu_seconds([os.getpid()]) >= time.process_time() - 0.02


async def test_what_is_installed_is_not_installed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same versions are there; another one begins anew, and one that failed is not taken for installed."""
    ran: list[str] = []

    async def note(words: list[str], folder: Path) -> None:
        ran.append(json.loads((folder / "package.json").read_text())["dependencies"]["undici"])
        if ran[-1] == "0":
            raise NotAvailable("there is no version 0")

    monkeypatch.setattr(installing, "_run", note)
    monkeypatch.setattr(installing.shutil, "which", lambda program: program)
    folder = tmp_path / "peer"

    for version in ("1", "1", "2"):
        assert await npm_install(folder, {"undici": version}) == folder / "node_modules"
    for _ in range(2):
        with pytest.raises(NotAvailable, match="no version 0"):
            await npm_install(folder, {"undici": "0"})

    assert ran == ["1", "2", "0", "0"]


async def test_without_node_a_peer_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not available, which the run survives."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(NotAvailable, match=r"install Node\.js"):
        await npm_install(tmp_path / "peer", DRIVER)


def test_a_version_that_is_asked_for_takes_the_place_of_the_pinned_one() -> None:
    """Others stay."""
    assert chosen_versions({"a": "1", "b": "2"}, {"b": "3", "c": "4"}) == {"a": "1", "b": "3"}


def test_another_environment_sees_only_the_benchmarks(tmp_path: Path) -> None:
    """A link to this package, and none to its neighbours."""
    given = python_worker("engine_client", "tcp://nowhere", python=Path(sys.executable), installed=tmp_path)

    assert given["words"] == [Path(sys.executable), "-m", "durable_bench.peers.workers.engine_client", "tcp://nowhere"]
    [seen] = Path(given["env"]["PYTHONPATH"]).iterdir()
    assert (seen.name, (seen / "peers" / "workers" / "load.py").exists()) == ("durable_bench", True)


def test_the_scripts_in_javascript_stand_where_the_peers_look_for_them() -> None:
    """They are data of the package."""
    names = {path.name for path in SOURCES.iterdir()}

    assert {"driver.mjs", "echo.mjs", "restate_counter.mjs", "workerd.capnp", "workerd_counter.js"} <= names


@pytest.mark.processes
@pytest.mark.postgres
def test_the_engine_and_the_ceilings_run_and_lose_nothing(tmp_path: Path) -> None:
    """For real: every scenario that each has, with a restart between the turns."""
    names = ["durable-sqlite", "pgbench", "group-sqlite", "group-postgres"]
    path = tmp_path / "peers.json"
    short = ["--repetitions", "1", "--seconds", "0.1", "--callers", "8", "--cache", str(tmp_path / "cache")]

    assert main([*names, *short, "--scenarios", "cold,spread,alone,new", "--json", str(path)]) == 0

    peers = {peer["name"]: peer for peer in json.loads(path.read_text())["peers"]}
    assert {name: peer["unavailable"] for name, peer in peers.items()} == dict.fromkeys(names)
    for peer in peers.values():
        assert peer["verified_adds"] > 0
        assert (peer["lost_adds"], peer["surplus_adds"]) == (0, 0)
        assert {"spread", "alone", "new"} <= {one["scenario"] for one in peer["scenarios"]}
    assert "cold" in {one["scenario"] for one in peers["durable-sqlite"]["scenarios"]}
    assert all(one["calls_per_second"]["median"] > 0 for peer in peers.values() for one in peer["scenarios"])
