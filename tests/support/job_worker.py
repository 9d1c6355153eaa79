"""A user's procrastinate worker in a process of its own, and the gates at which it can be held up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.eventually import eventually
from tests.support.server import ROOT, START_SECONDS

GATES = ("before", "held", "after")


class JobWorker:
    """`procrastinate worker`, as it is typed; ends with its `with` block."""

    def __init__(self, folder: Path, connect: str, *, app: str = "tests.engine.alarm_app.app", stops: str = "") -> None:
        self._log = folder / f"worker-{os.urandom(4).hex()}.log"
        self._app = app
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("engine", "shards", "storage", ".")),
            "DURABLE_CONNECT": connect,
            "DURABLE_TEST_STOPS": stops,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it wrote."""
        return self._log.read_text(errors="replace")

    def __enter__(self) -> JobWorker:
        words = [sys.executable, "-m", "procrastinate", f"--app={self._app}", "worker", "--queues", "durable_alarms"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, env=self._environment)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGTERM)
        return self._process.wait(timeout=START_SECONDS)


def make_gates(folder: Path) -> Path:
    """A directory with all gates, closed."""
    directory = folder / "gates"
    directory.mkdir()
    for name in GATES:
        os.mkfifo(directory / name)
    return directory


@contextmanager
def reached(gate: Path, log: object = "") -> Iterator[None]:
    """While somebody stands at a gate; he may pass when the block ends."""

    def try_to_open() -> int:
        return os.open(gate, os.O_WRONLY | os.O_NONBLOCK)  # refused while nobody reads

    descriptor = eventually(try_to_open, state=lambda: log)
    try:
        yield
    finally:
        os.close(descriptor)
