"""New code for running shards, and fresh processes for old code: nobody who calls notices."""

from __future__ import annotations

import asyncio
import os
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from durable_engine import Engine
from durable_engine.errors import DurableError
from durable_storage.address import partition_of
from tests.crash.conftest import MakeServer
from tests.crash.reload_load import JOURNALS, Work, assert_nothing_happened
from tests.crash.reload_objects import later_release
from tests.support.eventually import eventually
from tests.support.server import ROOT, Server, children_of, is_alive

pytestmark = pytest.mark.processes

TEXT = (ROOT / "tests" / "crash" / "reload_objects.py").read_text()
IN_SHARD_0 = next(f"held-{number}" for number in range(99) if partition_of("", "Journal", f"held-{number}") < 512)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """The file that the server serves; tests write newer releases over it."""
    path = tmp_path / "served.py"
    path.write_text(TEXT)
    return path


def reload(server: Server, **arguments: Any) -> dict[str, Any]:
    """Ask for it, and wait until it is over."""
    with server.client() as client:
        client.request("reload", arguments, timeout=30)
    return reloaded(server)


def reloaded(server: Server) -> dict[str, Any]:
    """The reload when it is over."""

    def look() -> dict[str, Any] | None:
        with server.client() as client:
            told = client.request("reload_status", timeout=30)
        return told if told is not None and told["state"] not in ("importing", "rolling") else None

    found = eventually(look, timeout=90, state=lambda: server.log)
    assert found is not None
    return found


def pids(server: Server) -> list[int]:
    return [shard["pid"] for shard in server.shards()]


def codes(server: Server) -> set[int]:
    """What the shards say of their code."""
    with server.client(call_timeout=30) as client:
        return {client.call_by_name("Journal", journal, "code") for journal in JOURNALS}


class Held:
    """A turn in shard 0 that keeps it from being drained, until `let_go`."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._folder = folder
        self._threads = ThreadPoolExecutor(1)
        self._client = server.client()
        self.result: Future[Any] = self._threads.submit(
            self._client.call_by_name, "Journal", IN_SHARD_0, "hold", [str(folder)], {}, timeout=90
        )
        eventually((folder / "running").exists, state=lambda: server.log)

    def let_go(self) -> None:
        (self._folder / "enough").touch()

    def close(self) -> None:
        self.let_go()
        self._threads.shutdown()
        self._client.close()


def reload_up_to_the_drain(server: Server, folder: Path) -> Held:
    """A reload that has ordered the new process of shard 0 and waits for the old one to drain."""
    held = Held(server, folder)
    with server.client() as client:
        client.request("reload", {}, timeout=30)
    eventually(lambda: server.shard(0)["state"] == "draining", timeout=60, state=lambda: server.log)
    return held


def test_reload_moves_every_shard_to_the_new_code(make_server: MakeServer, store: str, code: Path) -> None:
    """fault A15: under load of every kind no call fails, state is kept and migrated, and the new handler is there."""
    server = make_server(store, objects=(str(code),)).start()
    before, [old_fork_server] = pids(server), children_of(server.pid)

    with Work(server.endpoint) as work:
        work.go_on()
        code.write_text(later_release(TEXT))
        told = reload(server)
        work.go_on()

    assert (told["state"], told["problem"]) == ("done", "")
    after = pids(server)
    assert [(shard["before"], shard["after"]) for shard in told["shards"]] == list(zip(before, after, strict=True))
    assert not set(before) & set(after)
    assert_nothing_happened(work, server.endpoint)
    assert codes(server) == {2}
    with server.client() as client:
        totals = sum(client.call_by_name("Journal", journal, "tell_total") for journal in JOURNALS)
        assert totals == sum(work.written.values())
    eventually(lambda: not is_alive(old_fork_server) and not any(map(is_alive, before)), state=lambda: server.log)
    os.kill(after[0], signal.SIGKILL)
    server.wait_until_up(restarts=1)
    assert codes(server) == {2}


def test_every_shard_can_be_drained_under_load(make_server: MakeServer, store: str, code: Path) -> None:
    """fault A15: a fresh process takes over what the old one finished; no call fails, whatever its kind."""
    server = make_server(store, objects=(str(code),), shards=3).start()
    before = pids(server)

    with Work(server.endpoint) as work, server.client() as client:
        for shard in (0, 1, 2, 1):
            work.go_on()
            told = client.request("drain_shard", {"shard": shard}, timeout=60)
            assert told["before"] != told["after"] == server.shard(shard)["pid"]
        work.go_on()

    assert not set(before) & set(pids(server))
    assert_nothing_happened(work, server.endpoint)
    eventually(lambda: len(server.descendants()) == 4, state=server.descendants)


def test_code_that_cannot_serve_changes_nothing(make_server: MakeServer, code: Path) -> None:
    """Broken imports, missing classes, older schemas, processes that die: the old code serves on, and no call fails."""
    code.write_text(later_release(TEXT))
    server = make_server(objects=(str(code),)).start()
    before = pids(server)
    older = "'Journal' has schema version 1 in the new code and 2 in the old"
    refused = {
        "raise RuntimeError('half a deploy')\n": "the objects cannot be imported: RuntimeError: half a deploy",
        later_release(TEXT).replace("class Courier", "class Messenger"): "the new code has no class 'Courier'",
        TEXT: older,
    }
    dying = "import os\nos.register_at_fork(after_in_child=lambda: os._exit(3))\n"

    with Work(server.endpoint) as work:
        for text, problem in refused.items():
            code.write_text(text)
            told = reload(server)
            assert told["state"] == "refused"
            assert told["problem"].startswith(problem)
            assert ("half a deploy" in told["traceback"]) == ("half a deploy" in text)
        code.write_text(later_release(TEXT) + dying)
        told = reload(server)
        assert told["state"] == "failed"
        assert told["problem"].startswith("a new process of shard 0 did not start: exit code 3. The old one serves on")
        work.go_on()

    assert pids(server) == before
    assert_nothing_happened(work, server.endpoint)
    eventually(lambda: len(children_of(server.pid)) == 1, state=server.descendants)


def test_a_shard_that_does_not_come_up_ends_the_reload(make_server: MakeServer, code: Path) -> None:
    """It and those behind it stay on the old code, the one before it is on the new; the next reload moves all."""
    server = make_server(objects=(str(code),)).start()
    before = pids(server)
    second_dies = (
        "import os\nforks = []\n"
        "os.register_at_fork(before=lambda: forks.append(1), after_in_child=lambda: len(forks) > 1 and os._exit(3))\n"
    )

    with Work(server.endpoint) as work:
        code.write_text(later_release(TEXT) + second_dies)
        told = reload(server)
        assert (told["state"], told["shards"][1]["after"]) == ("failed", None)
        assert "1 of 2 shards run the new code, the others run the old one" in told["problem"]
        assert (pids(server)[0], pids(server)[1]) == (told["shards"][0]["after"], before[1])
        assert codes(server) == {1, 2}
        code.write_text(later_release(TEXT))
        assert reload(server)["state"] == "done"
        work.go_on()

    assert codes(server) == {2}
    assert_nothing_happened(work, server.endpoint)


def test_a_memory_store_is_not_emptied(make_server: MakeServer) -> None:
    """What it holds lives in the process that would be exchanged: refused, unless somebody says that it may be lost."""
    server = make_server("memory://").start()
    with server.client() as client:
        assert client.call_by_name("Counter", "c", "increment") == 1
        for op, arguments in (("reload", {}), ("drain_shard", {"shard": 0}), ("restart_shard", {"shard": 0})):
            with pytest.raises(DurableError, match="a memory store lives in its shard's process"):
                client.request(op, arguments)
        assert client.call_by_name("Counter", "c", "increment") == 2
        for shard in (0, 1):
            told = client.request("restart_shard", {"shard": shard, "now": True}, timeout=30)
            assert told["before"] != told["after"]
        assert client.call_by_name("Counter", "c", "increment", timeout=30) == 1


def test_one_reload_at_a_time_and_sighup_begins_one(make_server: MakeServer, code: Path, tmp_path: Path) -> None:
    """A second one is refused, and so is a drain of the shard that is on its way; the first goes on."""
    server = make_server(objects=(str(code),)).start()
    held = reload_up_to_the_drain(server, tmp_path)
    with server.client() as client:
        with pytest.raises(DurableError, match=r"a reload is under way, rolling since .*: this one was not begun"):
            client.request("reload")
        with pytest.raises(DurableError, match="shard 0 is draining: there is nothing to drain"):
            client.request("drain_shard", {"shard": 0})
        with pytest.raises(
            DurableError, match=r"shard 0 is being handed over .* already; nothing was changed\. Try again"
        ):
            client.request("restart_shard", {"shard": 0})
    held.close()
    assert held.result.result() == 1
    assert reloaded(server)["state"] == "done"
    code.write_text(later_release(TEXT))

    server.signal(signal.SIGHUP)

    server.wait_for_log("SIGHUP: reloading")
    assert reloaded(server)["state"] == "done"
    assert codes(server) == {2}


def test_a_kill_in_the_middle_of_a_drain_is_a_crash_like_any_other(
    make_server: MakeServer, code: Path, tmp_path: Path
) -> None:
    """fault A14: the process that stands by goes on from what is committed, and the reload with it."""
    server = make_server(objects=(str(code),)).start()
    before = pids(server)
    with server.client(exactly_once=True, call_timeout=60) as client:
        assert client.call_by_name("Journal", IN_SHARD_0, "note", ["w", 1]) == 1
        code.write_text(later_release(TEXT))
        held = reload_up_to_the_drain(server, tmp_path)

        os.kill(before[0], signal.SIGKILL)

        assert client.call_by_name("Journal", IN_SHARD_0, "note", ["w", 2]) == 2
        with pytest.raises(DurableError) as error:
            held.result.result()
        assert error.value.outcome == "unknown"
    held.close()
    assert reloaded(server)["state"] == "done"
    assert codes(server) == {2}


@pytest.mark.parametrize("victim", ["successor", "its fork server"])
def test_a_successor_that_dies_is_started_again_on_the_old_code(
    make_server: MakeServer, code: Path, tmp_path: Path, victim: str
) -> None:
    """fault A14: the shard that has drained for it goes back, no call fails, and the reload says that it stopped."""
    server = make_server(objects=(str(code),)).start()
    [old_fork_server] = children_of(server.pid)
    code.write_text(later_release(TEXT))

    with Work(server.endpoint) as work:
        held = reload_up_to_the_drain(server, tmp_path)
        [new_fork_server] = set(children_of(server.pid)) - {old_fork_server}
        [standby] = children_of(new_fork_server)
        os.kill(standby if victim == "successor" else new_fork_server, signal.SIGKILL)
        told = reloaded(server)
        held.close()
        assert held.result.result() == 1
        server.wait_until_up()
        work.go_on()

    assert told["state"] == "failed"
    reason = "signal SIGKILL" if victim == "successor" else "the fork server died"
    assert told["problem"].startswith(f"the new process of shard 0 did not come to serve: {reason}. 0 of 2 shards run")
    assert codes(server) == {1}
    assert_nothing_happened(work, server.endpoint)
    eventually(lambda: children_of(server.pid) == [old_fork_server], state=server.descendants)


def test_a_supervisor_that_is_killed_in_the_middle_leaves_nothing(
    make_server: MakeServer, code: Path, tmp_path: Path
) -> None:
    """fault A14: both generations of processes end with it, and the next server has what was acknowledged."""
    server = make_server(objects=(str(code),)).start()
    with server.client() as client:
        assert client.call_by_name("Journal", IN_SHARD_0, "note", ["w", 1]) == 1
    held = reload_up_to_the_drain(server, tmp_path)
    everything = server.descendants()
    assert len(everything) == 5

    server.end()

    eventually(lambda: not any(map(is_alive, everything)), state=lambda: everything)
    code.write_text(later_release(TEXT))
    server.start()
    with server.client() as client:
        assert client.call_by_name("Journal", IN_SHARD_0, "note", ["w", 2], timeout=30) == 2
    held.close()
    assert held.result.exception() is not None


def test_a_server_that_is_stopped_in_the_middle_finishes_what_it_has(
    make_server: MakeServer, code: Path, tmp_path: Path
) -> None:
    """fault A14: the turn that held the drain up is answered, no process is left, and the exit code is 0."""
    server = make_server(objects=(str(code),)).start()
    held = reload_up_to_the_drain(server, tmp_path)
    everything = server.descendants()

    server.signal(signal.SIGTERM)
    server.wait_for_log("SIGTERM: stopping")
    held.close()

    assert server.wait() == 0
    assert held.result.result() == 1
    assert not any(map(is_alive, everything))


def test_a_process_that_dies_while_its_successor_is_made_is_followed_by_it(make_server: MakeServer) -> None:
    """fault A14: and by no third one in between, so whoever was made later always serves later."""
    server = make_server(stall_timeout=60.0).start()
    [fork_server] = children_of(server.pid)
    before = server.shard(0)

    async def drain_and_kill() -> dict[str, Any]:
        async with Engine.connect(server.endpoint) as engine:
            os.kill(fork_server, signal.SIGSTOP)
            drained = asyncio.ensure_future(engine.request("drain_shard", {"shard": 0}, timeout=60))
            await asyncio.sleep(
                0
            )  # now it is asked, and the order for another process given before the ping is answered
            await engine.request("ping", timeout=60)
            os.kill(before["pid"], signal.SIGKILL)
            os.kill(fork_server, signal.SIGCONT)
            return dict(await drained)

    told = asyncio.run(drain_and_kill())

    after = server.shard(0)
    assert (told["before"], told["after"]) == (before["pid"], after["pid"])
    assert after["epoch"] == before["epoch"] + 1


def test_a_server_that_is_stopped_while_a_drain_waits_ends(make_server: MakeServer, code: Path, tmp_path: Path) -> None:
    """fault A14: a drain that waits for the process before the last to go makes no other one for a server that ends."""
    server = make_server(objects=(str(code),), stall_timeout=60.0).start()
    former = drain_and_stop_the_former(server)
    held = Held(server, tmp_path)

    async def stop_while_a_drain_waits() -> None:
        async with Engine.connect(server.endpoint) as engine:
            drained = asyncio.ensure_future(engine.request("drain_shard", {"shard": 0}, timeout=30))
            await asyncio.sleep(0)  # now it is asked, and begun before the ping is answered
            await engine.request("ping", timeout=30)
            assert not drained.done()
            server.signal(signal.SIGTERM)
            await asyncio.to_thread(server.wait_for_log, "SIGTERM: stopping")
            os.kill(former, signal.SIGCONT)
            with pytest.raises(DurableError, match="gets no new process: start the server again"):
                await drained

    asyncio.run(stop_while_a_drain_waits())
    held.close()

    assert server.wait() == 0
    assert held.result.result() == 1


def drain_and_stop_the_former(server: Server) -> int:
    """Drain shard 0, and stop the process that it had, which stays for half a second, by a signal; its pid."""

    def look() -> int | None:
        with server.client() as client:
            told = client.request("drain_shard", {"shard": 0}, timeout=60)
        os.kill(told["before"], signal.SIGSTOP)
        stopped_or_gone = eventually(lambda: state_of(told["before"]) in "TZX" and state_of(told["before"]))
        return told["before"] if stopped_or_gone == "T" else None

    former = eventually(look, timeout=90, state=lambda: server.log)
    assert former is not None
    return former


def state_of(pid: int) -> str:
    """As `ps` shows it; X when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"
