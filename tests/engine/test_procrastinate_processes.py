"""Alarms as jobs where processes die: servers, shards and procrastinate's own workers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from procrastinate import RetryStrategy

from durable_engine import Engine
from durable_engine.procrastinate_task import install_alarms
from durable_engine.scheduling import alarm_settings
from tests.engine.alarm_app import Bell
from tests.support.eventually import eventually
from tests.support.job_worker import JobWorker, make_gates, reached
from tests.support.jobs import execute, jobs_in, new_app, opened_app, until
from tests.support.server import ROOT, Server

pytestmark = pytest.mark.processes

CLAIM_SECONDS = 2.0
WORKER: Any = {"install_signal_handlers": False, "concurrency": 4, "fetch_job_polling_interval": 0.1}
DEFAULT_APP = "durable_engine.procrastinate_app.app"
MakeServer = Callable[..., Server]


@pytest.fixture
def url(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with the tables of both; the processes of the test find it."""

    async def prepare() -> None:
        async with opened_app(postgres_dsn):
            pass

    asyncio.run(prepare())
    monkeypatch.setenv("DURABLE_TEST_JOBS", postgres_dsn)
    monkeypatch.setenv("DURABLE_STORE", postgres_dsn)
    return postgres_dsn


@pytest.fixture
def gates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The gates of `tests.engine.alarm_app`."""
    directory = make_gates(tmp_path)
    monkeypatch.setenv("DURABLE_TEST_GATES", str(directory))
    return directory


@pytest.fixture
def make_server(url: str, tmp_path: Path) -> Iterator[MakeServer]:
    """Makes servers that leave alarms to workers of the test, unless told otherwise."""
    made: list[Server] = []

    def make(shards: int = 2, **alarms: Any) -> Server:
        options = {"procrastinate_app": "tests.engine.alarm_app:app", "procrastinate_concurrency": 0} | alarms
        settings = alarm_settings(scheduler="procrastinate", alarm_poll=0.2, claim_ttl=CLAIM_SECONDS, **options)
        objects = {"objects": ("tests.engine.alarm_app",), "path": (str(ROOT),)}
        made.append(Server(tmp_path, url, shards=shards, alarms=settings, **objects))
        return made[-1].start()

    yield make
    for server in made:
        server.end()


def arm(server: Server, name: str, object_id: str = "a", seconds: float = 0) -> None:
    with server.client() as client:
        client.at(Bell, object_id).arm(name, seconds)


def rings(server: Server, object_id: str = "a") -> int:
    with server.client() as client:
        return int(client.at(Bell, object_id).get()["rings"])


def jobs(url: str, **wanted: Any) -> list[dict[str, Any]]:
    return asyncio.run(jobs_in(url, **wanted))


def test_a_users_worker_fires_what_a_server_armed(make_server: MakeServer, url: str, tmp_path: Path) -> None:
    """parity 91: any object of any shard, through the server's address; the worker ends when it is told to."""
    server = make_server()
    for number in range(8):
        arm(server, "ring", str(number))
    assert [job["status"] for job in eventually(lambda: jobs(url) if len(jobs(url)) == 8 else [])] == ["todo"] * 8

    with JobWorker(tmp_path, server.endpoint) as worker:
        eventually(lambda: sum(rings(server, str(number)) for number in range(8)) == 8, state=lambda: worker.log)
        eventually(lambda: len(jobs(url, status="succeeded")) == 8, state=lambda: worker.log)
        assert worker.stop() == 0


def test_the_default_app_is_run_by_procrastinates_own_commands(
    make_server: MakeServer, url: str, tmp_path: Path
) -> None:
    """What the error about missing tables says makes them; a worker of the same app fires alarms."""
    asyncio.run(execute(url, "DROP TABLE procrastinate_jobs CASCADE"))
    asyncio.run(execute(url, "DROP SCHEMA public CASCADE"))
    asyncio.run(execute(url, "CREATE SCHEMA public"))
    words = [sys.executable, "-m", "procrastinate", f"--app={DEFAULT_APP}", "schema", "--apply"]
    path = os.pathsep.join(str(ROOT / part) for part in ("engine", "shards", "storage"))
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": path})
    server = make_server(procrastinate_app=None)
    arm(server, "ring")

    with JobWorker(tmp_path, server.endpoint, app=DEFAULT_APP) as worker:
        eventually(lambda: rings(server) == 1, state=lambda: worker.log)


async def test_a_worker_inside_of_the_users_program_fires_alarms(url: str) -> None:
    """parity 91: `app.run_worker_async` of an app on which `install_alarms` was called."""
    options = {"scheduler": "procrastinate", "procrastinate_concurrency": 0, "alarm_poll": 0.2}
    async with Engine(url, objects=["tests.engine.alarm_app"], shards=2, **options) as engine:
        app = new_app(url)
        alarms = install_alarms(app, connect=engine.url, retry=RetryStrategy(max_attempts=2))
        async with app.open_async():
            worker = asyncio.create_task(app.run_worker_async(**WORKER))
            for number in range(6):
                await engine.at(Bell, str(number)).arm("flaky", 0)

            async def all_rang() -> bool:
                said = [await engine.at(Bell, str(number)).get() for number in range(6)]
                return [each["attempts"] for each in said] == [[2]] * 6

            await until(all_rang)
            worker.cancel()
            await asyncio.wait((worker,))
            await alarms.close()


def test_alarms_outlive_a_restart_of_the_server(make_server: MakeServer, url: str) -> None:
    """Armed, stopped, started: the shards' own workers fire what became due meanwhile, once."""
    server = make_server(procrastinate_concurrency=4)
    for number in range(6):
        arm(server, "ring", str(number), seconds=86_400)
    eventually(lambda: len(jobs(url)) == 6)
    assert server.stop() == 0
    at = "now() + interval '100 ms'"
    asyncio.run(execute(url, f"UPDATE durable_alarms SET scheduled_at = {at}"))

    server.start()

    eventually(lambda: sum(rings(server, str(number)) for number in range(6)) >= 6, state=lambda: server.log)
    eventually(lambda: not jobs(url), state=lambda: server.log)
    assert [rings(server, str(number)) for number in range(6)] == [1] * 6


def test_a_worker_killed_before_it_fired_is_replaced(
    make_server: MakeServer, url: str, tmp_path: Path, gates: Path
) -> None:
    """parity 85: after `claim_ttl` its job is handed to another worker; the alarm has its effect once."""
    server = make_server()
    arm(server, "ring")
    with JobWorker(tmp_path, server.endpoint, stops="before") as first, reached(gates / "before", first.log):
        first.kill()
    assert [job["status"] for job in jobs(url)] == ["doing"]
    assert rings(server) == 0

    with JobWorker(tmp_path, server.endpoint) as second:
        eventually(lambda: rings(server), state=lambda: f"{server.log}{second.log}")
        [job] = eventually(lambda: jobs(url, status="succeeded"), state=lambda: second.log)

    assert rings(server) == 1
    assert job["attempts"] == 2  # that of the killed worker counts


@pytest.mark.parametrize("gate", ["held", "after"])
def test_a_worker_killed_while_or_after_it_fired_does_no_harm(
    make_server: MakeServer, url: str, tmp_path: Path, gates: Path, gate: str
) -> None:
    """parity 85: what it had begun is finished without it, once; its job is given up after `claim_ttl`."""
    server = make_server()
    arm(server, "held" if gate == "held" else "ring")
    with JobWorker(tmp_path, server.endpoint, stops=gate) as worker, reached(gates / gate, worker.log):
        worker.kill()
    eventually(lambda: rings(server), state=lambda: server.log)

    with JobWorker(tmp_path, server.endpoint) as second:
        [job] = eventually(lambda: jobs(url, status="failed"), state=lambda: f"{server.log}{second.log}")

    assert rings(server) == 1
    assert [each["id"] for each in jobs(url)] == [job["id"]]


def test_a_shard_killed_between_commit_and_job_loses_no_alarm(make_server: MakeServer, url: str) -> None:
    """parity 91: what was committed and never became a job is found by the sweep of the next process, and fires."""
    server = make_server(procrastinate_app=None, procrastinate_concurrency=2)
    pid = server.shard(0)["pid"]
    victims = [number for number in map(str, range(20)) if shard_of(server, number) == 0]

    async def crash() -> None:
        connection = await asyncpg.connect(url)
        async with connection.transaction():
            await connection.execute("LOCK TABLE procrastinate_jobs IN ACCESS EXCLUSIVE MODE")
            for number in victims:
                await asyncio.to_thread(arm, server, "ring", number)
            os.kill(pid, signal.SIGKILL)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'durable-engine procrastinate'"
            )
        await connection.close()

    asyncio.run(crash())
    server.wait_until_up(restarts=1)

    eventually(lambda: all(rings(server, number) for number in victims), state=lambda: server.log)
    assert len(victims) > 3
    assert [rings(server, number) for number in victims] == [1] * len(victims)


def shard_of(server: Server, object_id: str) -> int | None:
    with server.client() as client:
        client.wake(Bell, object_id)
        return client.where(Bell, object_id)


def test_a_shard_killed_while_it_fires_fires_again(make_server: MakeServer, url: str, gates: Path) -> None:
    """parity 85: the turn died with the shard, and so with its own worker; another one is given the alarm."""
    server = make_server(shards=1, procrastinate_concurrency=2)
    arm(server, "held")
    with reached(gates / "held", server.log):
        os.kill(server.shard()["pid"], signal.SIGKILL)
        server.wait_until_up(restarts=1)

    with reached(gates / "held", server.log):
        pass  # by the firing that another worker began

    eventually(lambda: rings(server), state=lambda: server.log)
    eventually(lambda: not jobs(url, status="doing"), state=lambda: server.log)
    assert rings(server) == 1
