"""Supervisors: how they start, stop, die, and give way to one another."""

from __future__ import annotations

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from durable_engine.errors import DurableError
from tests.crash.conftest import MakeServer
from tests.crash.load import Load, assert_nothing_lost, counts
from tests.support.eventually import eventually
from tests.support.server import Server, is_alive

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("bind", ["ipc", "tcp"])
def test_a_killed_supervisor_leaves_no_process_and_no_obstacle(make_server: MakeServer, bind: str) -> None:
    """parity 72, fault A10: its shards die with it, and the next one starts at once, on the same store and address."""
    first = make_server() if bind == "ipc" else make_server(bind=f"tcp://127.0.0.1:{free_port()}")
    first.start()
    with first.client() as client:
        client.call_by_name("Counter", "c", "increment", [], {})
    left_behind = first.descendants()
    assert len(left_behind) == 3

    first.signal(signal.SIGKILL)
    first.wait()

    eventually(lambda: not any(map(is_alive, left_behind)))
    second = make_server(bind=first.settings["bind"]).start()
    with second.client() as client:
        assert client.call_by_name("Counter", "c", "increment", [], {}) == 2


def test_sockets_of_a_killed_server_are_swept_by_the_next(make_server: MakeServer, tmp_path: Path) -> None:
    """Those of its shards as well, and nothing that another server at another address still uses."""
    other = make_server(f"sqlite:///{tmp_path}/other", bind=f"ipc://{tmp_path}/engine.sock.1.2.x").start()
    first = make_server().start()
    first.signal(signal.SIGKILL)
    first.wait()
    left = {path.name for path in tmp_path.glob("engine.sock*")}

    second = make_server().start()

    found = {path.name for path in tmp_path.glob("engine.sock*")}
    assert len(left) == len(found) == 6
    assert left & found == {"engine.sock", *(Path(each).name for each in endpoints_of(other))}
    with other.client() as client:
        assert client.call_by_name("Counter", "c", "increment", [], {}) == 1
    assert second.stop() == 0


def endpoints_of(server: Server) -> list[str]:
    """Where a server and its shards listen."""
    return [server.endpoint, *(shard["endpoint"] for shard in server.shards())]


def test_a_killed_supervisor_takes_stopped_shards_with_it(server: Server) -> None:
    """fault A10: a shard that could not run any code dies all the same."""
    shards = [shard["pid"] for shard in server.shards()]
    for pid in shards:
        os.kill(pid, signal.SIGSTOP)

    server.signal(signal.SIGKILL)
    server.wait()

    eventually(lambda: not any(map(is_alive, shards)))


def test_a_client_goes_on_with_the_next_supervisor(make_server: MakeServer, store: str) -> None:
    """fault E12: same address, another incarnation: the client finds its way, and nothing acknowledged is missing."""
    server = make_server(store).start()

    with Load(server.endpoint, exactly_once=True) as load:
        eventually(lambda: load.total > 300)
        server.signal(signal.SIGKILL)
        server.wait()
        server.start()
        goal = load.total + 300
        eventually(lambda: load.total > goal, state=lambda: load.errors[-3:])

    assert_nothing_lost(load, counts(server.endpoint))


def test_a_second_supervisor_is_refused(make_server: MakeServer, store: str, tmp_path: Path) -> None:
    """fault A11: it names the holder, starts nothing, and the first serves on."""
    first = make_server(store).start()
    second = make_server(store, bind=f"ipc://{tmp_path}/other.sock")

    error = second.launch()["error"]

    assert error["type"] == "StoreInUse"
    assert str(first.pid) in error["message"]
    assert socket.gethostname() in error["message"]
    assert "--takeover" in error["message"]
    assert second.wait() == 1
    with first.client() as client:
        assert client.call_by_name("Counter", "c", "increment", [], {}) == 1


def test_a_takeover_fences_the_first_supervisor(make_server: MakeServer, store: str) -> None:
    """fault A11: the first one stops with a clear message; the second serves at its address what was acknowledged."""
    first = make_server(store).start()
    with first.client() as client:
        client.call_by_name("Counter", "c", "increment", [], {})
    left_behind = first.descendants()

    second = make_server(store, takeover=True).start()

    assert first.wait() == 1
    assert "another supervisor took this store over" in first.log
    eventually(lambda: not any(map(is_alive, left_behind)))
    with second.client() as client:
        assert client.call_by_name("Counter", "c", "increment", [], {}) == 2


def test_a_takeover_under_load_loses_nothing(make_server: MakeServer, store: str) -> None:
    """parity 2: not one acknowledged increment is missing, whichever of the two acknowledged it."""
    first = make_server(store).start()

    with Load(first.endpoint, exactly_once=True) as load:
        eventually(lambda: load.total > 300)
        second = make_server(store, takeover=True).start()
        goal = load.total + 300
        eventually(lambda: load.total > goal, state=lambda: load.errors[-3:])

    assert first.wait() == 1
    assert_nothing_lost(load, counts(second.endpoint))


def test_sigterm_under_load_finishes_what_was_taken_in(make_server: MakeServer, store: str) -> None:
    """fault A13: exit code 0, no process left, every acknowledged increment there after the next start."""
    server = make_server(store).start()
    with Load(server.endpoint, exactly_once=True) as load:
        eventually(lambda: load.total > 300)
        left_behind = server.descendants()

        assert server.stop() == 0

        assert not any(map(is_alive, left_behind))
        server.start()
        goal = load.total + 300
        eventually(lambda: load.total > goal, state=lambda: load.errors[-3:])
    assert_nothing_lost(load, counts(server.endpoint))


def test_sigterm_waits_for_a_running_turn(server: Server) -> None:
    """fault A13: a call that is being served is served to its end, and answered."""
    with server.client(timeout=20) as client, ThreadPoolExecutor() as threads:
        call = threads.submit(client.call_by_name, "Counter", "slow", "increment_slowly", [0.7], {}, timeout=20)
        eventually(lambda: turns_of(server) > 0)

        assert server.stop() == 0

        assert call.result() == 1


def test_sigterm_lets_turns_call_other_objects(server: Server) -> None:
    """A turn that has yet to call another object finds it served, in whichever shard it is."""
    with server.client(timeout=20) as client, ThreadPoolExecutor() as threads:
        calls = [
            threads.submit(client.call_by_name, "Relay", f"r{number}", "pass_on_later", [f"c{number}", 0.7], {})
            for number in range(4)
        ]
        eventually(lambda: turns_of(server) >= 4)

        assert server.stop() == 0

        assert [call.result() for call in calls] == [1] * 4


def test_a_second_signal_ends_the_server_at_once(server: Server) -> None:
    """fault A13: a turn that would take a minute is not waited for."""
    with server.client() as client, ThreadPoolExecutor() as threads:
        call = threads.submit(client.call_by_name, "Counter", "slow", "increment_slowly", [60], {}, timeout=5)
        eventually(lambda: turns_of(server) > 0)
        server.signal(signal.SIGTERM)
        server.wait_for_log("once more to end now")

        server.signal(signal.SIGTERM)

        assert server.wait() == 0
        with pytest.raises(DurableError):
            call.result()


def test_a_turn_that_outlasts_the_drain_is_given_up(make_server: MakeServer) -> None:
    """fault A13: the drain time bounds the stop; the unfinished turn left no trace."""
    server = make_server(drain_timeout=0.3).start()
    with server.client() as client, ThreadPoolExecutor() as threads:
        call = threads.submit(client.call_by_name, "Counter", "slow", "increment_slowly", [60], {}, timeout=5)
        eventually(lambda: turns_of(server) > 0)

        assert server.stop() == 0

        with pytest.raises(DurableError):
            call.result()
    server.start()
    with server.client() as client:
        assert client.call_by_name("Counter", "slow", "get", [], {}) == 0


def test_a_server_ends_with_the_program_that_embeds_it(server: Server) -> None:
    """The end of its pipe is as good as SIGTERM."""
    left_behind = server.descendants()

    server.close_pipe()

    assert server.wait() == 0
    assert not any(map(is_alive, left_behind))


def test_a_shard_that_is_terminated_drains_and_comes_back(server: Server) -> None:
    """SIGTERM to a single shard loses nothing."""
    with server.client(timeout=20) as client:
        client.call_by_name("Counter", "c", "increment", [], {})
        for shard in server.shards():
            os.kill(shard["pid"], signal.SIGTERM)
        server.wait_until_up(restarts=2)

        assert client.call_by_name("Counter", "c", "increment", [], {}) == 2
    assert {shard["last_error"] for shard in server.shards()} == {"exit code 0"}


def turns_of(server: Server) -> int:
    """Turns that were begun in any shard."""
    with server.client() as client:
        shards = client.request("statistics")["shards"]
    return sum(shard["statistics"]["turns"] for shard in shards)


def free_port() -> int:
    """A TCP port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
