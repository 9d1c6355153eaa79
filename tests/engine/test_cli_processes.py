"""The command line for real: a server in a process of its own, and commands that talk to it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.shell import Running, run, start

pytestmark = pytest.mark.processes

OBJECTS = """\
from durable_engine import DurableObject, Rejected, handler


class Empty(Rejected):
    left: int


class Counter(DurableObject, name="shop.Counter"):
    count: int = 0

    @handler
    def add(self, amount: int = 1) -> int:
        self.count += amount
        return self.count

    @handler
    def take(self, amount: int) -> int:
        if amount > self.count:
            raise Empty("not that many", left=self.count)
        self.count -= amount
        return self.count

    @handler
    def crash(self) -> None:
        raise ZeroDivisionError("a bug")
"""
WATCHED = (
    OBJECTS
    + """

import os
from pathlib import Path

from durable_engine import events


def note(name, measurements, metadata):
    with Path(__file__).with_name("events.txt").open("a") as file:
        file.write(f"{os.getpid()} {metadata['shard']} {name}\\n")


def broken(name, measurements, metadata):
    raise RuntimeError("a bug of the handler")


events.attach(broken, "storage.save.stop")
events.attach(note, "shard.*", "storage.save.stop")
"""
)


Launch = Callable[..., Running]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file of objects."""
    (tmp_path / "objects.py").write_text(OBJECTS)
    return tmp_path


@pytest.fixture
def launch(folder: Path) -> Iterator[Launch]:
    """Starts servers in the folder; what a failed test leaves behind is ended."""
    launched: list[Running] = []

    def start_here(*words: str) -> Running:
        launched.append(start(folder, *words))
        return launched[-1]

    yield start_here
    for running in launched:
        running.end()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of two shards on SQLite, for all tests that leave it as it is."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "objects.py").write_text(OBJECTS)
    running = start(folder, "run", "objects.py", "--shards", "2")
    yield running
    assert running.stop() == 0


def test_objects_are_called_looked_at_and_deleted(server: Running) -> None:
    """The whole life of a counter, from a shell, in a tenant of its own."""

    def ask(*words: str) -> Any:
        return server.ask(*words, "--prefix", "life")

    assert ask("call", "shop.Counter", "c", "add", "5") == 5
    assert ask("call", "objects.py:Counter", "c", "add", "--kwarg", "amount=2") == 7
    assert ask("call", "shop.Counter", "d", "add") == 1
    assert ask("objects", "list", "shop.Counter") == ["c", "d"]
    assert ask("objects", "list", "shop.Counter", "--after", "c") == ["d"]
    assert ask("objects", "evict", "shop.Counter", "c") == {"evicted": True}
    shown = ask("objects", "show", "shop.Counter", "c")
    assert (shown["state"], shown["version"], shown["live"]) == ({"count": 7}, 2, False)
    assert ask("objects", "wake", "shop.Counter", "c") == {"awake": True}
    assert ask("objects", "show", "shop.Counter", "c")["live"] is True
    assert ask("objects", "delete", "shop.Counter", "c", "--yes") == {"deleted": True}
    assert ask("objects", "delete", "shop.Counter", "c", "--yes") == {"deleted": False}
    assert ask("objects", "unpark", "shop.Counter", "c") == {"unparked": False}
    assert ask("objects", "list", "shop.Counter") == ["d"]


def test_the_shards_of_a_server_are_a_list(server: Running) -> None:
    """Each with its process, its partitions and its epoch; text shows the same."""
    shards = server.ask("shards", "list")
    assert [shard["shard"] for shard in shards] == [0, 1]
    assert [shard["partitions"] for shard in shards] == [[0, 512], [512, 1024]]
    for shard in shards:
        os.kill(shard["pid"], 0)
        assert shard["state"] == "up"
        assert shard["epoch"] >= 1
        assert shard["endpoint"].startswith("tcp://127.0.0.1:")
    assert server.cli("shards", "list").stdout.count("tcp://") == 2


def test_status_counts(server: Running) -> None:
    """Text for people, a tree for programs."""
    server.ask("call", "shop.Counter", "status", "add")
    found = server.ask("status")
    assert sum(shard["statistics"]["live"] for shard in found["shards"]) >= 1
    assert "2 shards" in server.cli("status").stdout


def test_state_survives_a_restart_on_another_number_of_shards(launch: Launch) -> None:
    """parity 72, 93: what was acknowledged is there, wherever it now lives."""
    first = launch("run", "objects.py", "--shards", "1")
    assert [first.ask("call", "shop.Counter", name, "add", "3") for name in "ab"] == [3, 3]
    assert first.stop() == 0
    second = launch("run", "objects.py", "--shards", "3")
    assert [second.ask("call", "shop.Counter", name, "add", "4") for name in "ab"] == [7, 7]
    assert second.stop() == 0


@pytest.mark.parametrize(
    ("words", "kind", "line"),
    [
        (["call", "shop.Counter", "c", "take", "5"], "Rejected", "not that many"),
        (["call", "objects.py:Counter", "c", "take", "5"], "Rejected", 'Empty: not that many {"left":0}'),
        (["call", "shop.Counter", "c", "crash"], "HandlerFailed", "ZeroDivisionError: a bug"),
        (["call", "shop.Counter", "c", "frobnicate"], "UnknownHandler", "its handlers are: add, crash, take"),
        (["call", "Toaster", "c", "add"], "UnknownClass", "known are: shop.Counter"),
        (["call", "shop.Counter", "c", "add", "many"], "InvalidArguments", "expected int, got str"),
        (["call", "shop.Counter", "x" * 513, "add"], "TooLarge", "512"),
        (["objects", "list", "Toaster"], "UnknownClass", "known are: shop.Counter"),
        (["objects", "show", "shop.Counter", "nobody"], "NotFound", "there is no shop.Counter 'nobody'"),
    ],
)
def test_what_is_refused_is_exit_code_1_and_one_line(server: Running, words: list[str], kind: str, line: str) -> None:
    """As JSON the same, with the error's own name."""
    result = server.cli(*words)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert line in result.stderr.splitlines()[0]
    assert "Traceback" not in result.stderr
    result = server.cli(*words, "--json")
    assert (result.returncode, result.stdout) == (1, "")
    assert json.loads(result.stderr)["error"]["type"] == kind


def test_a_failed_handler_s_traceback_is_in_the_json(server: Running) -> None:
    """For whoever has to find the bug."""
    error = json.loads(server.cli("call", "shop.Counter", "c", "crash", "--json").stderr)["error"]
    assert error["remote_type"] == "ZeroDivisionError"
    assert "objects.py" in error["traceback"]


def test_a_server_that_is_not_there_is_exit_code_3(folder: Path) -> None:
    """One line says where nobody answered and how to start one."""
    result = run("status", "--connect", f"ipc://{folder}/nobody", "--timeout", "300ms", folder=folder)
    assert (result.returncode, result.stdout) == (3, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert f"{folder}/nobody" in line
    assert "durable-engine run" in line


def test_an_address_that_is_none_is_a_wrong_usage(folder: Path) -> None:
    """The message shows what an address looks like."""
    result = run("status", "--connect", "nonsense", folder=folder)
    assert (result.returncode, result.stdout) == (2, "")
    assert "expected tcp://HOST:PORT or ipc://PATH" in result.stderr


def test_a_second_server_on_the_same_store_is_refused(server: Running) -> None:
    """It names the first one, and how to take over."""
    result = run("run", "objects.py", "--bind", "tcp://127.0.0.1:0", folder=server.folder)
    assert (result.returncode, result.stdout) == (1, "")
    assert str(server.process.pid) in result.stderr
    assert "--takeover" in result.stderr
    assert server.ask("call", "shop.Counter", "second", "add") == 1


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["absent.py"], 1, "there is no file"),
        (["no.such.module"], 1, "there is no module 'no.such.module'"),
        (["broken.py"], 1, "SyntaxError: invalid syntax (broken.py, line 1)"),
        (["empty.py"], 1, "empty.py declares no DurableObject"),
        (["objects.py", "--store", "mysql://x"], 2, "no store is called 'mysql'"),
        (["objects.py", "--store", "postgresql://127.0.0.1:1/x"], 3, "PostgreSQL cannot be used"),
        (["objects.py", "--bind", "tcp://256.1.1.1:1"], 1, "bind a loopback address"),
    ],
)
def test_a_server_that_cannot_start_says_why_in_a_line(folder: Path, words: list[str], code: int, says: str) -> None:
    """The last line but a hint is the reason."""
    (folder / "broken.py").write_text("def (:\n")
    (folder / "empty.py").write_text("x = 1\n")
    result = run("run", *words, folder=folder)
    assert (result.returncode, result.stdout) == (code, "")
    assert [line for line in result.stderr.splitlines() if line.startswith("error: ") and says in line]
    assert "Traceback" not in result.stderr or "broken.py" in words


def test_handlers_of_events_are_attached_where_the_classes_are_declared(folder: Path, launch: Launch) -> None:
    """parity 111: they hear what happens in each shard process, and one that raises is only in the log."""
    (folder / "watched.py").write_text(WATCHED)
    server = launch("run", "watched.py", "--shards", "2")
    assert [server.ask("call", "shop.Counter", "c", "add") for _ in range(2)] == [1, 2]
    owner = server.ask("objects", "show", "shop.Counter", "c")["shard"]
    shards = {shard["shard"]: shard["pid"] for shard in server.ask("shards", "list")}
    assert server.stop() == 0
    heard = (folder / "events.txt").read_text().splitlines()
    for shard, pid in shards.items():
        saves = ["storage.save.stop"] * 2 if shard == owner else []
        expected = ["shard.started", *saves, "shard.drained", "shard.stopped"]
        assert [line for line in heard if line.startswith(f"{pid} ")] == [f"{pid} {shard} {name}" for name in expected]
    log = "".join(server.log)
    assert log.count("RuntimeError: a bug of the handler") == 1
    assert "broken" in log
    assert "was detached" in log


def test_ctrl_c_drains_and_is_exit_code_130(launch: Launch) -> None:
    """Stopped by a person rather than by a program."""
    server = launch("run", "objects.py", "--shards", "1")
    assert server.ask("call", "shop.Counter", "c", "add") == 1
    assert server.stop(signal.SIGINT) == 130


def save(path: Path, text: str) -> None:
    """As editors do: the new text is there at once, or not yet."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


def test_dev_starts_anew_when_the_code_changes(folder: Path, launch: Launch) -> None:
    """The state outlives the reload, and a mistake in the code waits for its correction."""
    dev = launch("dev", "objects.py")
    assert dev.ask("call", "shop.Counter", "c", "add") == 1
    assert len(dev.ask("shards", "list")) == 1
    save(folder / "objects.py", OBJECTS.replace("+= amount", "+= 10 * amount"))
    dev.hear("objects.py changed")
    dev.address = dev.hear(" at tcp://").split()[-1]
    assert dev.ask("call", "shop.Counter", "c", "add") == 11
    save(folder / "objects.py", "def (:\n")
    dev.hear("the server has ended")
    save(folder / "objects.py", OBJECTS)
    dev.address = dev.hear(" at tcp://").split()[-1]
    assert dev.ask("call", "shop.Counter", "c", "add") == 12
    assert dev.stop() == 0


def test_a_postgresql_database_is_migrated_only_when_asked(
    folder: Path, launch: Launch, postgres_empty_dsn: str
) -> None:
    """fault B11: without --migrate it names the command; with it the server serves, by settings of a file."""
    (folder / "durable.toml").write_text(f'objects = ["objects.py"]\nstore = "{postgres_empty_dsn}"\nshards = 2\n')
    refused = run("run", "--bind", "tcp://127.0.0.1:0", folder=folder)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "durable-engine migrate up --store" in refused.stderr
    server = launch("run", "--migrate")
    assert server.ask("call", "shop.Counter", "c", "add", "5", "--key", "once") == 5
    assert server.ask("call", "shop.Counter", "c", "add", "5", "--key", "once") == 5
    assert len(server.ask("shards", "list")) == 2
    assert server.stop() == 0
    assert json.loads(run("migrate", "status", "--json", folder=folder).stdout)["pending"] == []


def test_shards_are_exchanged_from_a_shell(launch: Launch, folder: Path) -> None:
    """Drained, killed, moved to new code: each time others serve the same objects, and what cannot be is refused."""
    server = launch("run", "objects.py", "--shards", "2")
    assert server.ask("call", "shop.Counter", "c", "add", "5") == 5
    first = [shard["pid"] for shard in server.ask("shards", "list")]

    drained = server.ask("shards", "drain", "1")
    assert (drained["shard"], drained["before"]) == (1, first[1])
    killed = server.ask("shards", "restart", "0", "--now")
    assert (killed["shard"], killed["before"]) == (0, first[0])
    second = [shard["pid"] for shard in server.ask("shards", "list")]
    assert second == [killed["after"], drained["after"]]
    unknown = server.cli("shards", "drain", "2")
    assert (unknown.returncode, unknown.stderr) == (1, "error: no shard 2: they are numbered 0 to 1\n")

    (folder / "objects.py").write_text("import nothing_of_that_name\n")
    refused = server.cli("reload")
    assert refused.returncode == 1
    assert "error: nothing was changed: the objects cannot be imported: ModuleNotFoundError" in refused.stderr
    assert 'objects.py", line 1' in refused.stderr
    (folder / "objects.py").write_text(OBJECTS.replace("self.count += amount", "self.count += 10 * amount"))
    told = server.ask("reload")
    assert [shard["before"] for shard in told["shards"]] == second
    assert [shard["after"] for shard in told["shards"]] == [shard["pid"] for shard in server.ask("shards", "list")]
    assert server.ask("call", "shop.Counter", "c", "add", "5") == 55
    assert server.stop() == 0


def test_an_object_is_parked_and_unparked_from_a_shell(server: Running) -> None:
    """Until then its calls are refused, and those of others are not."""
    tenant = ("--prefix", "parking")
    assert server.ask("objects", "park", "shop.Counter", "c", *tenant) == {"parked": True}
    assert server.ask("objects", "park", "shop.Counter", "c", *tenant) == {"parked": False}
    refused = server.cli("call", "shop.Counter", "c", "add", *tenant)
    assert (refused.returncode, "parking:shop.Counter/c is parked" in refused.stderr) == (1, True)
    assert server.ask("call", "shop.Counter", "d", "add", *tenant) == 1
    assert server.ask("objects", "unpark", "shop.Counter", "c", *tenant) == {"unparked": True}
    assert server.ask("call", "shop.Counter", "c", "add", *tenant) == 1
