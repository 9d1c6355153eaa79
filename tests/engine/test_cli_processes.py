"""The command line for real: a server in a process of its own, and commands that talk to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 30
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


def environment() -> dict[str, str]:
    """Ours, without settings of its own, with the packages importable."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DURABLE_")}
    path = os.pathsep.join(str(ROOT / folder) for folder in ("engine", "shards", "storage", "bench"))
    return clean | {"PYTHONPATH": path, "NO_COLOR": "1"}


def command(*words: str) -> list[str]:
    """`durable-engine words...` of this very source tree."""
    return [sys.executable, "-m", "durable_engine", *words]


@dataclass
class Running:
    """A `durable-engine run` or `dev`, and what it has said so far."""

    process: subprocess.Popen[str]
    folder: Path
    address: str = ""
    log: list[str] = field(default_factory=list)

    def hear(self, words: str) -> str:
        """Read its log up to a line with these words."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if words in line:
                return line
        pytest.fail(f"ended without saying {words!r}:\n{''.join(self.log)}")

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command that talks to this server."""
        return run(*words, folder=self.folder, DURABLE_CONNECT=self.address)

    def ask(self, *words: str) -> Any:
        """The JSON result of a command that is done."""
        result = self.cli(*words, "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it, and its exit code."""
        self.process.send_signal(number)
        _, rest = self.process.communicate(timeout=WAIT_SECONDS)
        self.log.append(rest)
        return self.process.returncode


def run(*words: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command(*words),
        cwd=folder,
        env=environment() | env,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=WAIT_SECONDS,
        check=False,
    )


def start(folder: Path, *words: str) -> Running:
    """Start a server in `folder`, on a port of the system's choice, and wait until it serves."""
    process = subprocess.Popen(
        command(*words, "--bind", "tcp://127.0.0.1:0"), cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True
    )
    running = Running(process, folder)
    running.address = running.hear(" at tcp://").split()[-1]
    return running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file of objects."""
    (tmp_path / "objects.py").write_text(OBJECTS)
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[Running]:
    """A server of two shards on SQLite."""
    running = start(folder, "run", "objects.py", "--shards", "2")
    yield running
    if running.process.poll() is None:
        running.stop()


def test_a_server_is_run_called_looked_at_and_stopped(server: Running) -> None:
    """The whole life of a counter, and of its server, from a shell."""
    assert server.ask("call", "shop.Counter", "c", "add", "5") == 5
    assert server.ask("call", "objects.py:Counter", "c", "add", "--kwarg", "amount=2") == 7
    assert server.ask("call", "shop.Counter", "d", "add") == 1
    assert server.ask("objects", "list", "shop.Counter") == ["c", "d"]
    assert server.ask("objects", "list", "shop.Counter", "--after", "c") == ["d"]
    assert server.ask("objects", "evict", "shop.Counter", "c") == {"evicted": True}
    shown = server.ask("objects", "show", "shop.Counter", "c")
    assert (shown["state"], shown["version"], shown["live"]) == ({"count": 7}, 2, False)
    assert server.ask("objects", "wake", "shop.Counter", "c") == {"awake": True}
    assert server.ask("objects", "show", "shop.Counter", "c")["live"] is True
    assert server.ask("objects", "delete", "shop.Counter", "c", "--yes") == {"deleted": True}
    assert server.ask("objects", "delete", "shop.Counter", "c", "--yes") == {"deleted": False}
    assert server.ask("objects", "unpark", "shop.Counter", "c") == {"unparked": False}
    assert server.ask("objects", "list", "shop.Counter") == ["d"]
    assert server.stop() == 0


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
    server.ask("call", "shop.Counter", "c", "add")
    found = server.ask("status")
    assert sum(shard["statistics"]["live"] for shard in found["shards"]) == 1
    text = server.cli("status").stdout
    assert "2 shards" in text


def test_state_survives_a_restart_on_another_number_of_shards(folder: Path) -> None:
    """What was acknowledged is there, wherever it now lives."""
    first = start(folder, "run", "objects.py", "--shards", "1")
    assert [first.ask("call", "shop.Counter", str(number), "add", str(number)) for number in range(4)] == [0, 1, 2, 3]
    assert first.stop() == 0
    second = start(folder, "run", "objects.py", "--shards", "3")
    assert [second.ask("call", "shop.Counter", str(number), "add", "0") for number in range(4)] == [0, 1, 2, 3]
    assert second.stop() == 0


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["call", "shop.Counter", "c", "take", "5"], "Rejected"),
        (["call", "shop.Counter", "c", "crash"], "HandlerFailed"),
        (["call", "shop.Counter", "c", "frobnicate"], "UnknownHandler"),
        (["call", "Toaster", "c", "add"], "UnknownClass"),
        (["call", "shop.Counter", "c", "add", "many"], "InvalidArguments"),
        (["objects", "list", "Toaster"], "UnknownClass"),
        (["objects", "show", "shop.Counter", "nobody"], "NotFound"),
    ],
)
def test_what_is_refused_is_exit_code_1_with_the_error_s_own_name(server: Running, words: list[str], kind: str) -> None:
    """In JSON on stderr; in text as one line."""
    result = server.cli(*words, "--json")
    assert (result.returncode, result.stdout) == (1, "")
    assert json.loads(result.stderr)["error"]["type"] == kind
    text = server.cli(*words)
    assert (text.returncode, text.stdout) == (1, "")
    assert text.stderr.startswith("error: ")
    assert "Traceback" not in text.stderr or kind == "HandlerFailed"


@pytest.mark.parametrize(
    "words",
    [["status"], ["call", "Counter", "c", "get"], ["shards", "list"], ["objects", "list", "Counter"]],
)
def test_a_server_that_is_not_there_is_exit_code_3(folder: Path, words: list[str]) -> None:
    """One line says where nobody answered, a hint how to start one."""
    result = run(*words, "--connect", f"ipc://{folder}/nobody", "--timeout", "300ms", folder=folder)
    assert (result.returncode, result.stdout) == (3, "")
    error, hint = result.stderr.splitlines()
    assert error.startswith("error: ")
    assert str(folder) in error
    assert hint.startswith("hint: start a server with")


def test_a_second_server_on_the_same_store_is_refused(server: Running) -> None:
    """It names the first one, and how to take over."""
    result = run("run", "objects.py", "--bind", "tcp://127.0.0.1:0", folder=server.folder)
    assert (result.returncode, result.stdout) == (1, "")
    assert str(server.process.pid) in result.stderr
    assert "--takeover" in result.stderr
    assert server.ask("call", "shop.Counter", "c", "add") == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["absent.py"], "absent.py"),
        (["no.such.module"], "no.such.module"),
        (["broken.py"], "broken.py"),
        (["empty.py"], "empty.py"),
        (["objects.py", "--store", "mysql://x"], "mysql"),
        (["objects.py", "--bind", "tcp://256.1.1.1:1"], "tcp://256.1.1.1:1"),
    ],
)
def test_a_server_that_cannot_start_says_why(folder: Path, words: list[str], says: str) -> None:
    """It ends with exit code 1 or 2, and nothing is left behind."""
    (folder / "broken.py").write_text("def (:\n")
    (folder / "empty.py").write_text("x = 1\n")
    result = run("run", *words, folder=folder)
    assert result.returncode in (1, 2), result.stderr
    assert says in result.stderr
    assert result.stdout == ""


def test_ctrl_c_drains_and_is_exit_code_130(server: Running) -> None:
    """Stopped by a person rather than by a program."""
    assert server.stop(signal.SIGINT) == 130


def test_dev_starts_anew_when_the_code_changes(folder: Path) -> None:
    """The state outlives the reload, and a mistake in the code waits for its correction."""
    dev = start(folder, "dev", "objects.py")
    assert dev.ask("call", "shop.Counter", "c", "add") == 1
    assert len(dev.ask("shards", "list")) == 1
    (folder / "objects.py").write_text(OBJECTS.replace("+= amount", "+= 10 * amount"))
    dev.hear("objects.py changed")
    dev.address = dev.hear(" at tcp://").split()[-1]
    assert dev.ask("call", "shop.Counter", "c", "add") == 11
    (folder / "objects.py").write_text("def (:\n")
    dev.hear("the server has ended")
    (folder / "objects.py").write_text(OBJECTS)
    dev.address = dev.hear(" at tcp://").split()[-1]
    assert dev.ask("call", "shop.Counter", "c", "add") == 12
    assert dev.stop() == 0
