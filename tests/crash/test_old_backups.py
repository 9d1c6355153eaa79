"""Old copies of a database in the place of what a running server has: nothing is served from what is missing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from durable_engine import Client
from durable_engine.errors import DurableError
from durable_storage.address import partition_of
from tests.crash.conftest import MakeServer
from tests.support.eventually import eventually
from tests.support.postgres import PostgresServer
from tests.support.server import Server, children_of, is_alive

pytestmark = pytest.mark.processes


def names(server: Server) -> list[str]:
    """An id of Counter in each shard."""
    return [
        next(str(n) for n in range(10_000) if first <= partition_of("", "Counter", str(n)) < end)
        for first, end in (shard["partitions"] for shard in server.shards())
    ]


def increment(client: Client, name: str, times: int) -> int:
    """So many commits; what the last one answered."""
    for _ in range(times):
        count: int = client.call_by_name("Counter", name, "increment", [], {}, timeout=20)
    return count


def until_it_refuses(server: Server, shard: int) -> str:
    """The shard has noticed by itself, without being called; what it says."""
    eventually(lambda: server.shard(shard)["state"] == "failing", state=lambda: server.log[-4000:])
    assert "DataLossDetected" in server.shard(shard)["last_error"]
    return str(server.shard(shard)["last_error"])


def accept(server: Server, client: Client) -> None:
    """Somebody accepts the loss in both shards."""
    for shard in (0, 1):
        client.request("accept_data_loss", {"shard": shard})
    server.wait_until_up()


@pytest.mark.parametrize("age", ["of this server", "of an earlier server"])
@pytest.mark.postgres
def test_a_database_that_is_restored_under_a_running_server(
    make_server: MakeServer, postgres_server: PostgresServer, age: str
) -> None:
    """fault B9: each shard says how many commits are missing and serves none of it, until the loss is accepted."""
    server = make_server(postgres_server.url).start()
    first, second = names(server)
    with server.client() as client:
        increment(client, first, 3)
        increment(client, second, 5)
    if age == "of an earlier server":
        server.stop()
    postgres_server.stop()
    data, backup = postgres_server.directory / "data", postgres_server.directory / "backup"
    subprocess.run(["cp", "-a", data, backup], check=True)
    postgres_server.start()
    if age == "of an earlier server":
        server.start()
    with server.client() as client:
        assert increment(client, first, 7) == 10
        before = server.shards()
        postgres_server.stop("immediate")
        shutil.rmtree(data)
        backup.rename(data)
        postgres_server.start()

        assert "7 commits are missing" in until_it_refuses(server, 0)
        if age == "of this server":  # the other shard's row is as it left it
            assert increment(client, second, 1) == 6
        with pytest.raises(DurableError) as caught:
            client.call_by_name("Counter", first, "get", [], {}, timeout=1)
        assert caught.value.outcome == "not_applied"

        accept(server, client)
        assert increment(client, first, 1) == 4
        assert increment(client, second, 1) == 7 if age == "of this server" else 6
        assert all(new["epoch"] > old["epoch"] for new, old in zip(server.shards(), before, strict=True))
    assert server.stop() == 0


def test_sqlite_files_that_are_restored_under_a_running_server(make_server: MakeServer, tmp_path: Path) -> None:
    """fault B9, B13: what was written after that went nowhere; the server notices at once, not at its next start."""
    server = make_server(f"sqlite:///{tmp_path}/store").start()
    first, second = names(server)
    with server.client() as client:
        increment(client, first, 3)
        increment(client, second, 5)
        server.stop()
        shutil.copytree(tmp_path / "store", tmp_path / "backup")
        server.start()
        assert increment(client, first, 7) == 10
        assert increment(client, second, 7) == 12
        (tmp_path / "store").rename(tmp_path / "lost")
        (tmp_path / "backup").rename(tmp_path / "store")

        for shard in (0, 1):
            assert "commits are missing" in until_it_refuses(server, shard)
        accept(server, client)
        assert (increment(client, first, 1), increment(client, second, 1)) == (4, 6)
    assert server.stop() == 0


@pytest.mark.parametrize("damage", ["flipped bit", "torn", "deleted log"])
def test_a_damaged_log_is_found_by_what_the_supervisor_remembers(
    make_server: MakeServer, tmp_path: Path, damage: str
) -> None:
    """fault B13: SQLite finds its file in order; the shard that is started on it refuses, its neighbour goes on."""
    server = make_server(f"sqlite:///{tmp_path}/store").start()
    first, second = names(server)
    with server.client() as client:
        increment(client, first, 30)
        [log] = tmp_path.glob("store/g*/shard-000.sqlite3-wal")
        os.kill(fork_server := children_of(server.pid)[0], signal.SIGSTOP)  # nobody starts the next shard meanwhile
        try:
            os.kill(pid := server.shard(0)["pid"], signal.SIGKILL)
            eventually(lambda: not is_alive(pid))
            whole = log.read_bytes()
            content = bytearray(whole)
            content[len(content) // 2] ^= 1
            if damage == "deleted log":
                log.unlink()
            else:
                log.write_bytes(whole[:-100] if damage == "torn" else content)
        finally:
            os.kill(fork_server, signal.SIGCONT)

        assert "commits are missing" in until_it_refuses(server, 0)
        assert increment(client, second, 1) == 1
        accept(server, client)
        left = client.call_by_name("Counter", first, "get", [], {}, timeout=20)
        assert left < 30
        assert damage != "torn" or left == 29
    assert server.stop() == 0
