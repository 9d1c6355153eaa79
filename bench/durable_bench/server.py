"""The server that is measured: `durable-engine run`, as a process of its own."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from durable_bench.errors import ServerStopped
from durable_engine import Engine, Unavailable

START_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.5
"""How often to look whether the process is still there."""


@asynccontextmanager
async def served(objects: Sequence[str], store: str, directory: Path, *, shards: int, bind: str) -> AsyncIterator[None]:
    """A server of these modules and files, running for the time of the block. Raises ServerStopped."""
    log = directory / "server.log"
    options = ["--shards", str(shards), "--store", store, "--bind", bind, "--migrate"]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "durable_engine", "run", *objects, *options, stdout=output, stderr=output
        )
        try:
            await _until_it_answers(process, bind, log)
            yield
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _until_it_answers(process: Process, bind: str, log: Path) -> None:
    async with asyncio.timeout(START_SECONDS):
        while process.returncode is None:
            try:
                async with Engine.connect(bind, timeout=POLL_SECONDS) as engine:
                    await engine.statistics()
                    return
            except Unavailable:
                continue
    text = await asyncio.to_thread(log.read_text)
    raise ServerStopped(f"the server stopped with exit code {process.returncode}: {text}")
