"""`dev`: one shard that starts anew whenever its code changes.

The parent is a small watcher that never imports the user's code; the server is a child of it, started the way
an embedded engine starts its own, and drained before the next one begins.
Looking at the modification times of a package four times a second costs nothing that anybody could feel, and
needs no library.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

import click

from durable_engine.output import EXIT_DONE, EXIT_INTERRUPTED, Output
from durable_engine.settings import Command, setting

if TYPE_CHECKING:
    from durable_engine.supervisor_config import SupervisorConfig

LOOK_SECONDS: Final = 0.25
_SKIPPED: Final = {"__pycache__", "node_modules", "site-packages"}

Snapshot = dict[str, tuple[int, int]]


@click.command(cls=Command)
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@setting("store")
@setting("bind")
@setting("log_level")
@click.pass_obj
def dev(output: Output, file: Path, store: str, bind: str, log_level: str) -> None:
    """Serve the classes of FILE from one shard, and again whenever the code beside it changes.

    Handlers that are declared readonly are checked to be so. The state survives a reload; with --store memory://
    every reload begins anew.
    """
    from durable_engine.supervisor_config import SupervisorConfig

    config = SupervisorConfig(
        objects=(str(file.resolve()),),
        store=store,
        shards=1,
        bind=bind,
        log_level=log_level.upper(),
        path=(str(Path.cwd()),),
        strict_readonly=True,
    )
    sys.exit(Reloader(config, code_root(file), output).run())


class Reloader:
    """Keeps one server process running on the newest code."""

    def __init__(self, config: SupervisorConfig, root: Path, output: Output) -> None:
        self._config = config
        self._root = root
        self._output = output
        self._stopped_by: int | None = None

    def run(self) -> int:
        """Serve until SIGINT or SIGTERM; the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        self._output.note(f"watching {self._root}")
        while self._stopped_by is None:
            # Taken first, so that a change while the server starts is not missed.
            before = snapshot(self._root)
            with Server(self._config) as server:
                changed = self._until_changed(server, before)
            if changed:
                self._output.note(f"{', '.join(changed)} changed: starting anew")
        return EXIT_INTERRUPTED if self._stopped_by == signal.SIGINT else EXIT_DONE

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._stopped_by = number

    def _until_changed(self, server: Server, before: Snapshot) -> list[str]:
        """The names of the files that changed; empty when a signal ended the wait."""
        told = False
        while self._stopped_by is None:
            if server.ended(LOOK_SECONDS) and not told:
                told = True
                self._output.note(f"the server has ended: {server.last_words()}")
                self._output.note("it starts anew with the next change of the code")
            after = snapshot(self._root)
            if after != before:
                return sorted({Path(name).name for name, _ in after.items() ^ before.items()})
        return []


class Server:
    """One run of the server. It ends with the `with` block, and with this process, however that ends."""

    def __init__(self, config: SupervisorConfig) -> None:
        # A process group of its own: Ctrl-C reaches us alone, and we say once what it means.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "durable_engine", "_supervise"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
            # Compiled files are told apart by size and whole seconds: too coarse for somebody who saves often.
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert self._process.stdin is not None
        self._stdin = self._process.stdin
        with suppress(BrokenPipeError):
            self._stdin.write(config.to_json() + b"\n")
            self._stdin.flush()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BrokenPipeError):
            self._stdin.close()  # the server takes that as the request to drain and end
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def ended(self, seconds: float) -> bool:
        """Wait for up to `seconds`; whether the server has ended by itself."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        time.sleep(seconds)
        return True

    def last_words(self) -> str:
        """Why it has ended."""
        import json

        assert self._process.stdout is not None
        for line in self._process.stdout.read().splitlines():
            answer = json.loads(line)
            if "error" in answer:
                return str(answer["error"]["message"])
        return f"exit status {self._process.returncode}"


def code_root(file: Path) -> Path:
    """The folder whose code FILE may import: that of its topmost package, else its own."""
    root = file.resolve().parent
    while (root / "__init__.py").exists() and (root.parent / "__init__.py").exists():
        root = root.parent
    return root


def snapshot(root: Path) -> Snapshot:
    """Modification time and size of every Python file below `root`, virtual environments left out."""
    return {entry.path: (status.st_mtime_ns, status.st_size) for entry, status in _code_below(root)}


def _code_below(folder: Path | str) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name in _SKIPPED:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if not os.path.exists(os.path.join(entry.path, "pyvenv.cfg")):  # noqa: PTH110, PTH118 - a hot loop
                        yield from _code_below(entry.path)
                elif entry.name.endswith(".py"):
                    yield entry, entry.stat()
    except OSError:  # removed while we looked: the next look sees it
        return
