"""A real server as tests see it: a supervisor process with its shards, started as an embedded engine starts its own."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from durable_engine.client import Client
from durable_engine.supervisor_config import SupervisorConfig
from tests.plants.plant import path_of_plants
from tests.support.eventually import eventually

ROOT = Path(__file__).parent.parent.parent
OBJECTS = ROOT / "tests" / "crash" / "crash_objects.py"
START_SECONDS = 30.0


class Server:
    """One supervisor process; `start` it, and again after it has ended."""

    def __init__(self, folder: Path, store: str, **settings: Any) -> None:
        self.settings = {
            "objects": (str(OBJECTS),),
            "store": store,
            "shards": 2,
            "bind": f"ipc://{folder}/engine.sock",
            "migrate": True,
            **settings,
        }
        self.endpoint = ""
        self.answer: dict[str, Any] = {}
        self._log = folder / f"server-{os.urandom(4).hex()}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **changes: Any) -> Server:
        """Start and wait until it serves; AssertionError with its log when it does not."""
        self.launch(**changes)
        assert self.answer.get("ready"), f"{self.answer}\n{self.log}"
        self.endpoint = self.answer["endpoint"]
        return self

    def launch(self, **changes: Any) -> dict[str, Any]:
        """Start and wait for its first words: `{"ready": ...}` or `{"error": ...}`."""
        config = SupervisorConfig(**{**self.settings, **changes})
        paths = [str(ROOT / part) for part in ("engine", "shards", "storage", "bench")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "durable_engine", "_supervise"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([*paths, *path_of_plants()])},
                # When whoever started the tests ends, Linux continues what stands stopped in their process group.
                start_new_session=True,
            )
        assert self._process.stdin is not None
        self._process.stdin.write(config.to_json() + b"\n")
        self._process.stdin.flush()
        self.answer = json.loads(self._first_line() or "{}")
        return self.answer

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What it and its shards wrote to stderr."""
        return self._log.read_text(errors="replace")

    def client(self, **options: Any) -> Client:
        """A blocking client."""
        return Client(self.endpoint, **options)

    def shards(self) -> list[dict[str, Any]]:
        """What `shards list` shows."""
        with self.client() as client:
            shards: list[dict[str, Any]] = client.request("shards")
            return shards

    def shard(self, number: int = 0) -> dict[str, Any]:
        """One line of it."""
        return self.shards()[number]

    def wait_until_up(self, *, restarts: int | None = None) -> list[dict[str, Any]]:
        """Until all shards serve, and the first has been restarted so often."""

        def look() -> list[dict[str, Any]] | None:
            shards = self.shards()
            up = all(shard["state"] == "up" for shard in shards)
            return shards if up and restarts in (None, sum(shard["restarts"] for shard in shards)) else None

        found = eventually(look, state=lambda: self.log)
        assert found is not None
        return found

    def wait_for_log(self, text: str) -> None:
        """Until a line with `text` was logged."""
        eventually(lambda: text in self.log, state=lambda: self.log)

    def descendants(self) -> list[int]:
        """The fork server and the shards."""
        children = children_of(self.pid)
        return children + [grandchild for child in children for grandchild in children_of(child)]

    def pids(self) -> list[int]:
        """Of all its processes; none when it has ended."""
        assert self._process is not None
        return [] if self._process.poll() is not None else [self.pid, *self.descendants()]

    def signal(self, number: int) -> None:
        """To the supervisor alone."""
        os.kill(self.pid, number)

    def close_pipe(self) -> None:
        """As if the embedding program were gone."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait(self) -> int:
        """Until it has ended; its exit code."""
        assert self._process is not None
        status = self._process.wait(timeout=START_SECONDS)
        self._close()
        return status

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def end(self) -> None:
        """Whatever it takes."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._close()

    def _close(self) -> None:
        assert self._process is not None
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _first_line(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        line, until = b"", time.monotonic() + START_SECONDS
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._process.stdout], [], [], max(until - time.monotonic(), 0))
            assert ready, f"no word from the server within {START_SECONDS} s:\n{self.log}"
            piece = os.read(self._process.stdout.fileno(), 65536)
            if not piece:
                break
            line += piece
        return line


def children_of(pid: int) -> list[int]:
    """Direct children that are no zombies."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [child for child in map(int, children) if is_alive(child)]


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
