"""Servers that cannot start, and shards that may not: a clear error, and nothing half done."""

from __future__ import annotations

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from durable_engine.errors import DurableError
from durable_shards import wire
from tests.crash.conftest import MakeServer
from tests.support.eventually import eventually
from tests.support.server import Server
from tests.support.wire_client import WireClient

pytestmark = pytest.mark.processes


def test_objects_that_do_not_import_are_told_with_their_traceback(make_server: MakeServer, tmp_path: Path) -> None:
    """Exit code 1; no store was made."""
    module = tmp_path / "broken.py"
    module.write_text("import durable_engine\n\nTAX = 1 / 0\n")
    server = make_server(objects=(str(module),))

    error = server.launch()["error"]

    assert "the objects cannot be imported: ZeroDivisionError" in error["message"]
    assert server.wait() == 1
    assert f'File "{module}", line 3' in server.log
    assert not (tmp_path / "store").exists()


def test_objects_that_end_the_interpreter_do_not_start(make_server: MakeServer, tmp_path: Path) -> None:
    """`sys.exit` at import is an error like any other."""
    module = tmp_path / "leaving.py"
    module.write_text("raise SystemExit(0)\n")
    server = make_server(objects=(str(module),))

    assert "the objects cannot be imported" in server.launch()["error"]["message"]
    assert server.wait() == 1


def test_an_import_that_never_ends_can_be_stopped(make_server: MakeServer, tmp_path: Path) -> None:
    """By SIGTERM, as a server that runs; nothing was started, so there is nothing to drain."""
    module = tmp_path / "endless.py"
    module.write_text("import os, time\nopen(__file__ + '.begun', 'w').close()\ntime.sleep(600)\n")
    server = make_server(objects=(str(module),))
    with ThreadPoolExecutor() as threads:
        launching = threads.submit(server.launch)
        eventually((tmp_path / "endless.py.begun").exists)

        assert server.stop() == 0

        assert launching.result(20) == {}


def test_modules_that_are_not_there_are_named(make_server: MakeServer) -> None:
    """A mistyped name is an error before anything is started."""
    server = make_server(objects=("no_such_module_anywhere",))

    assert "no_such_module_anywhere" in server.launch()["error"]["message"]
    assert server.wait() == 1


def test_a_database_that_is_not_there_is_an_error(make_server: MakeServer) -> None:
    """Typed and retryable, with exit code 1."""
    server = make_server("postgresql://nobody@127.0.0.1:1/nothing")

    error = server.launch()["error"]

    assert (error["type"], error["retryable"]) == ("StoreUnavailable", True)
    assert server.wait() == 1


def test_a_store_in_the_place_of_a_file_is_an_error(make_server: MakeServer, tmp_path: Path) -> None:
    """Nothing is overwritten."""
    (tmp_path / "file").write_text("mine")
    server = make_server(f"sqlite:///{tmp_path}/file")

    assert "error" in server.launch()
    assert server.wait() == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_an_unknown_kind_of_store_is_an_error(make_server: MakeServer) -> None:
    """The message shows what can be written instead."""
    server = make_server("mysql://localhost/shop")

    assert "sqlite:///directory" in server.launch()["error"]["message"]
    assert server.wait() == 1


def test_a_port_in_use_is_an_error(make_server: MakeServer) -> None:
    """fault E12: it says so, and what to do; the store is free again afterwards."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = make_server(bind=f"tcp://127.0.0.1:{taken.getsockname()[1]}")

        error = server.launch()["error"]

        assert "another process listens there" in error["message"]
        assert server.wait() == 1
    assert "error" not in make_server().launch()


def test_an_ipc_path_in_use_is_not_stolen(make_server: MakeServer, server: Server, tmp_path: Path) -> None:
    """fault E12: ZeroMQ would take it away from its owner."""
    other = make_server(f"sqlite:///{tmp_path}/another-store")

    assert "another process listens there" in other.launch()["error"]["message"]
    assert other.wait() == 1
    assert server.shard(0)["state"] == "up"


def test_a_stale_ipc_file_is_replaced(make_server: MakeServer, tmp_path: Path) -> None:
    """fault E12: what a dead server left is no obstacle."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "engine.sock"))

    assert make_server().start().shard(0)["state"] == "up"


def test_settings_that_make_no_sense_are_an_error(make_server: MakeServer) -> None:
    """An address is checked before anything is bound."""
    server = make_server(bind="tcp://nowhere")

    assert "expected tcp://HOST:PORT" in server.launch()["error"]["message"]
    assert server.wait() == 1


def restarted(shard: dict[str, Any]) -> dict[str, Any] | None:
    """What became of a shard that was ended, once it is known."""
    return shard if shard["restarts"] and shard["state"] in ("up", "failing") else None


def test_a_store_that_lost_commits_is_refused_until_the_loss_is_accepted(make_server: MakeServer, store: str) -> None:
    """fault B9: a client knows of more commits than the store has: its shard refuses to serve, the others go on."""
    server = make_server(store).start()
    names = {shard: name_in(server, shard) for shard in (0, 1)}
    with server.client(timeout=2) as client:
        client.call_by_name("Counter", names[0], "increment", [], {})
        seq = server.shard(0)["seq"]

        with WireClient(server.endpoint) as witness:
            witness.send(wire.pack(wire.HELLO, wire.Hello(acknowledged={0: (1, seq + 52)})))
            judged = eventually(lambda: restarted(server.shard(0)), state=lambda: server.log)

        assert judged["state"] == "failing", "a store that has less than a client was told is served"
        assert "DataLossDetected" in judged["last_error"]
        assert client.call_by_name("Counter", names[1], "increment", [], {}, timeout=10) == 1
        with pytest.raises(DurableError) as caught:
            client.call_by_name("Counter", names[0], "get", [], {})
        assert caught.value.outcome == "not_applied"

        client.request("accept_data_loss", {"shard": 0})
        assert client.call_by_name("Counter", names[0], "increment", [], {}, timeout=10) == 2
        accepted = server.shard(0)
        os.kill(accepted["pid"], signal.SIGKILL)
        server.wait_until_up(restarts=accepted["restarts"] + 1)
        assert client.call_by_name("Counter", names[0], "increment", [], {}, timeout=10) == 3


def test_a_loss_can_be_accepted_at_the_start(make_server: MakeServer, tmp_path: Path) -> None:
    """fault B9, B13: a lost file keeps its shard down, until a server is started with the option that is named."""
    server = make_server(f"sqlite:///{tmp_path}/store").start()
    name = name_in(server, 0, "acme")
    with server.client(timeout=10, prefix="acme") as client:
        client.call_by_name("Counter", name, "increment", [], {})
    with server.client(timeout=10) as client:  # a commit beside it, which notes how far the other file was
        client.call_by_name("Counter", name_in(server, 0), "increment", [], {})
    server.stop()
    [lost] = tmp_path.glob("store/*/tenants/*/shard-000.sqlite3")
    for path in lost.parent.glob(f"{lost.name}*"):
        path.unlink()

    server.start()
    eventually(lambda: server.shard(0)["state"] == "failing", state=lambda: server.log)
    assert "accept the loss with --accept-data-loss" in server.shard(0)["last_error"]
    server.stop()

    server.start(accept_data_loss=True)
    with server.client(timeout=10, prefix="acme") as client:
        assert client.call_by_name("Counter", name, "increment", [], {}) == 1


def test_a_shard_that_does_not_exist_cannot_be_restarted(server: Server) -> None:
    """The numbers that do exist are named."""
    with server.client() as client, pytest.raises(DurableError, match="numbered 0 to 1"):
        client.request("restart_shard", {"shard": 7})


def test_nonsense_at_the_public_address_is_answered_and_harmless(server: Server) -> None:
    """fault E3: malformed, foreign and misdirected messages are counted; the server serves on."""
    with WireClient(server.endpoint) as stranger:
        for message in (b"", b"\x01", b"\x09\x01", b"\x01\x01\xc1", wire.pack_calls([]), b"\x01\x63\x90"):
            stranger.send(message)
            assert wire.kind_of(stranger.receive()) == wire.ERROR
    with server.client() as client:
        assert client.request("statistics")["reception"]["malformed"] == 6
        with pytest.raises(DurableError, match="unknown request"):
            client.request("no_such_operation")


def name_in(server: Server, shard: int, prefix: str = "") -> str:
    """An id of Counter that lives in a shard."""
    from durable_storage.address import partition_of

    first, end = server.shard(shard)["partitions"]
    return next(str(n) for n in range(10_000) if first <= partition_of(prefix, "Counter", str(n)) < end)
