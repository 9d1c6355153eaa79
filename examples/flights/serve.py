"""A server for the example, as a process of its own: just what a shell script would do."""

from __future__ import annotations

import asyncio
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from durable_engine import Engine, Unavailable

OBJECTS = Path(__file__).with_name("objects.py")
PORT = 7400
START_SECONDS = 30.0
POLL_SECONDS = 0.5
"""How often to look whether the process is still there."""


@asynccontextmanager
async def serving(store: str, log: Path) -> AsyncIterator[str]:
    """Run `durable-engine run objects.py` for the time of the block; gives the address it listens at."""
    url = f"tcp://127.0.0.1:{_free_port()}"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = ["-m", "durable_engine", "run", str(OBJECTS), "--store", store, "--bind", url]
    with log.open("wb") as output:
        # In a session of its own, so that Ctrl-C is ours to hear and the server ends as we end it.
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdout=output, stderr=output, start_new_session=True
        )
        try:
            await _until_it_answers(process, url, log)
            yield url
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _until_it_answers(process: Process, url: str, log: Path) -> None:
    async with asyncio.timeout(START_SECONDS):
        while process.returncode is None:
            try:
                async with Engine.connect(url, timeout=POLL_SECONDS) as engine:
                    await engine.statistics()
                    return
            except Unavailable:
                continue
    raise SystemExit(f"the server stopped with exit code {process.returncode}, see {log}")


def _free_port() -> int:
    """The usual port, or any other when somebody listens there already."""
    for port in (PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SystemExit("no free port on 127.0.0.1")
