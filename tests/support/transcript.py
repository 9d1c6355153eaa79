"""Runs what a page shows: its files are written, its sessions are typed in, its outputs are compared.

A code block ```` ```python title="counter.py" ```` is a file, a block ```` ```console ```` is a session.
Lines that begin with `$ ` are commands, the lines below are what they print; a command that ends with `&`
stays in the background until the page is done. Process ids differ from run to run: a table of shards is compared by
its heading and its number of lines, and the ids in its PID column are translated in the commands that follow,
so that a literal `kill -9 4711` kills the right process. Times differ too: any may stand where a page shows one. The
usual address is replaced by a free one.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

COMMAND_SECONDS = 60
USUAL_ADDRESS = "tcp://127.0.0.1:7400"


@dataclass(frozen=True)
class Block:
    """A fenced code block."""

    language: str
    title: str
    text: str


@dataclass(frozen=True)
class Typed:
    """A command of a session, and the lines it shows."""

    command: str
    shown: list[str]


def blocks(page: str) -> list[Block]:
    """The fenced code blocks of a page, in order."""
    found = re.findall(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', page, re.MULTILINE | re.DOTALL)
    return [Block(*parts) for parts in found]


def typed(session: str) -> list[Typed]:
    """The commands of a console block with what each shows."""
    commands: list[Typed] = []
    for line in session.splitlines():
        if line.startswith("$ "):
            commands.append(Typed(line[2:], []))
        else:
            commands[-1].shown.append(line)
    return commands


def timeless(lines: list[str]) -> list[str]:
    """Lines with a word in the place of each time in UTC."""
    return [re.sub(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?\+00:00", "(a time)", line) for line in lines]


class Terminal:
    """Where a page's commands run: an empty folder, and a free port in place of the usual one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"tcp://127.0.0.1:{_free_port()}"
        self.commands_run: list[str] = []
        self._pids: dict[str, str] = {}
        self._background = ExitStack()
        scripts = Path(sys.executable).parent
        self._environment = os.environ | {
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "DURABLE_BIND": self.address,
            "DURABLE_CONNECT": self.address,
            "NO_COLOR": "1",
        }

    def follow(self, page: str) -> None:
        """Do all that the page shows, and check that it shows what happens."""
        for block in blocks(page):
            if block.title:
                (self.folder / block.title).write_text(block.text.replace(USUAL_ADDRESS, self.address))
            elif block.language == "console":
                for one in typed(block.text):
                    self.run(one)

    def run(self, one: Typed) -> None:
        """Type one command and compare what it prints."""
        command = " ".join(self._pids.get(word, word) for word in one.command.split(" "))
        self.commands_run.append(one.command)
        if command.endswith("&"):
            self._background.enter_context(self._running(command.removesuffix("&")))
            return
        completed = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        said = f"$ {command}\n{completed.stdout}{completed.stderr}\n{self._logs()}"
        assert completed.returncode == 0, said
        printed = completed.stdout.splitlines()
        if one.shown and one.shown[0].split()[:2] == ["SHARD", "PID"]:
            self._learn_pids(one.shown, printed)
        else:
            assert timeless(printed) == timeless(one.shown), said

    def close(self) -> None:
        """Stop what runs in the background."""
        self._background.close()

    def _learn_pids(self, shown: list[str], printed: list[str]) -> None:
        assert printed[0].split() == shown[0].split()
        assert len(printed) == len(shown)
        for there, here in zip(shown[1:], printed[1:], strict=True):
            self._pids[there.split()[1]] = here.split()[1]

    @contextmanager
    def _running(self, command: str) -> Iterator[None]:
        words = ["bash", "-c", f"exec {command}"]
        with (self.folder / "background.log").open("ab") as log:
            process = subprocess.Popen(words, cwd=self.folder, env=self._environment, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            assert process.wait(COMMAND_SECONDS) == 0, self._logs()

    def _logs(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))


@contextmanager
def terminal(folder: Path) -> Iterator[Terminal]:
    """A terminal whose background commands are stopped, and must have ended well, at the end of the block."""
    opened = Terminal(folder)
    try:
        yield opened
    finally:
        opened.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
