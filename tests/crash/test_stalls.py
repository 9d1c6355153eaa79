"""Shards that stand still: stopped by a signal, or held up by a handler."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from durable_engine import Client
from durable_engine.errors import DurableError
from tests.crash.conftest import MakeServer
from tests.support.eventually import eventually
from tests.support.server import Server, is_alive

pytestmark = pytest.mark.processes


def test_a_shard_stopped_for_too_long_is_replaced(make_server: MakeServer, store: str) -> None:
    """It is killed, its successor answers for it, and no object is blamed."""
    server = make_server(store, stall_timeout=1.0).start()
    with server.client(timeout=20) as client:
        for number in range(10):
            client.call_by_name("Counter", str(number), "increment", [], {})
        stopped = server.shard(0)["pid"]

        os.kill(stopped, signal.SIGSTOP)

        server.wait_until_up(restarts=1)
        assert not is_alive(stopped)
        assert [client.call_by_name("Counter", str(n), "increment", [], {}) for n in range(10)] == [2] * 10
    assert "stopped by a signal" in server.shard(0)["last_error"]
    assert "strike" not in server.log


def test_a_shard_stopped_for_a_moment_goes_on(server: Server) -> None:
    """fault A8: a call made meanwhile is only late: same process, same epoch, no error."""
    with server.client(timeout=20) as client, ThreadPoolExecutor() as threads:
        before = server.shard(0)
        os.kill(before["pid"], signal.SIGSTOP)
        calls = [threads.submit(client.call_by_name, "Counter", str(n), "increment", [], {}) for n in range(10)]
        eventually(lambda: server.shard(0)["heartbeat_ms"] > 300)

        os.kill(before["pid"], signal.SIGCONT)

        assert [call.result() for call in calls] == [1] * 10
    after = server.shard(0)
    assert (after["pid"], after["epoch"], after["restarts"]) == (before["pid"], before["epoch"], 0)


def test_a_handler_that_never_returns_is_dumped_killed_and_struck(make_server: MakeServer) -> None:
    """fault D4: the log shows where it was stuck; its neighbours are back at once with their state."""
    server = make_server(shards=1, stall_timeout=1.0).start()
    with server.client(timeout=20) as client:
        client.call_by_name("Counter", "neighbour", "increment", [], {})
        with pytest.raises(DurableError) as caught:
            client.call_by_name("Bomb", "b", "spin", [], {})

        assert client.call_by_name("Counter", "neighbour", "increment", [], {}) == 2
    assert caught.value.outcome == "unknown"
    assert "event loop stuck" in server.shard(0)["last_error"]
    assert "in a turn of Bomb/b" in server.log
    assert "in spin" in server.log
    assert "strike 1 against Bomb/b" in server.log


def test_a_handler_that_blocks_for_a_while_is_warned_of(make_server: MakeServer) -> None:
    """fault D5: the warning carries the stack; the shard lives on."""
    server = make_server(shards=1, stall_warning=0.2, stall_timeout=20.0).start()
    with server.client(timeout=20) as client:
        client.call_by_name("Bomb", "sleeper", "block", [1.0], {})

    server.wait_for_log("in block")
    assert "has been busy for" in server.log
    assert "in a turn of Bomb/sleeper" in server.log
    assert server.shard(0)["restarts"] == 0


def explode(client: Client, object_id: str, how: str, times: int) -> list[DurableError]:
    """Call a deadly handler so often; the errors."""
    errors = []
    for _ in range(times):
        with pytest.raises(DurableError) as caught:
            client.call_by_name("Bomb", object_id, how, [], {}, timeout=20)
        errors.append(caught.value)
    return errors


def test_an_object_that_kills_its_shard_again_and_again_is_parked(make_server: MakeServer, store: str) -> None:
    """fault A17, A18: the fourth call is refused and nothing is run; others are served, bombs of other ids too."""
    server = make_server(store, shards=1).start()
    with server.client(timeout=20) as client:
        errors = explode(client, "b", "leave", 4)

        assert [type(error).__name__ for error in errors] == ["Unavailable"] * 3 + ["ObjectParked"]
        assert [error.outcome for error in errors] == ["unknown"] * 3 + ["not_applied"]
        assert client.call_by_name("Bomb", "other", "defuse", [], {}) is True
        assert client.request("statistics")["parked"] == ["Bomb/b"]
    assert server.shard(0)["restarts"] == 3
    assert "Bomb/b is parked" in server.log


def test_a_parked_object_is_served_again_when_unparked(make_server: MakeServer) -> None:
    """fault A18: unparking wipes its record; another restart of the shard does not park it anew."""
    server = make_server(shards=1).start()
    with server.client(timeout=20) as client:
        explode(client, "b", "leave", 3)
        eventually(lambda: client.request("statistics")["parked"] == ["Bomb/b"], state=lambda: server.log)

        assert client.request("unpark", {"address": "Bomb/b"}) is True

        assert client.call_by_name("Bomb", "b", "defuse", [], {}) is True
        os.kill(server.shard(0)["pid"], signal.SIGKILL)
        server.wait_until_up(restarts=4)
        assert client.call_by_name("Bomb", "b", "defuse", [], {}) is True
        assert client.request("unpark", {"address": "Bomb/b"}) is False


def test_a_parked_object_is_found_by_its_class_id_and_tenant(make_server: MakeServer) -> None:
    """Whatever characters they are of; it can be called at once."""
    server = make_server(shards=1, strikes_max=1).start()
    with server.client(timeout=20, prefix="eu:1/2%") as client:
        explode(client, "b/c:d", "leave", 1)
        eventually(lambda: client.statistics().parked == ("eu%3A1%2F2%25:Bomb/b/c:d",), state=lambda: server.log)

        assert client.unpark("Bomb", "b/c:d") is True

        assert client.call_by_name("Bomb", "b/c:d", "defuse", [], {}) is True
        assert client.unpark("Bomb", "b/c:d") is False


def test_a_crash_in_c_code_leaves_its_stack(make_server: MakeServer) -> None:
    """fault A17: a segmentation fault is a strike, and the log shows the handler."""
    server = make_server(shards=1).start()
    with server.client(timeout=20) as client:
        explode(client, "segfault", "crash", 1)

    server.wait_until_up(restarts=1)
    assert "signal SIGSEGV" in server.shard(0)["last_error"]
    assert "in crash" in server.log
    assert "strike 1 against Bomb/segfault" in server.log


def test_a_bystander_of_a_kill_is_not_struck(make_server: MakeServer) -> None:
    """Whoever's turn runs while an operator kills the shard is not to blame."""
    server = make_server(shards=1, stall_timeout=20.0).start()
    with server.client(timeout=20) as client, ThreadPoolExecutor() as threads:
        call = threads.submit(client.call_by_name, "Bomb", "busy", "block", [30.0], {})
        pid = server.shard(0)["pid"]
        eventually(lambda: server.shard(0)["running"] == "Bomb/busy")

        os.kill(pid, signal.SIGKILL)

        with pytest.raises(DurableError):
            call.result()
    server.wait_until_up(restarts=1)
    assert "strike" not in server.log
