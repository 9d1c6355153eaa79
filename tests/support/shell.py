"""The command line of this source tree as people use it: a server in a process of its own, and commands to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 30


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

    def end(self) -> None:
        """Whatever it takes; its shards end with it."""
        assert self.process.stderr is not None
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()


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
    try:
        running.address = running.hear(" at tcp://").split()[-1]
    except BaseException:
        running.end()
        raise
    return running
