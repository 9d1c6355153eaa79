"""Peers that speak HTTP: the driver in JavaScript, and what is installed for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from durable_bench.peers.processes import Worker, worker

DRIVER = {"undici": "7.30.2"}
"""The HTTP client of the driver."""
SOURCES = Path(__file__).with_name("javascript")


def placed(source: str, installed: Path) -> Path:
    """One of our scripts beside the `node_modules` from which its imports come."""
    return Path(shutil.copy(SOURCES / source, installed / source))


@asynccontextmanager
async def http_driver(
    installed: Path,
    folder: Path,
    port: int,
    add: Mapping[str, str],
    read: Mapping[str, str],
    servers: Sequence[int],
) -> AsyncIterator[Worker]:
    """The driver for the time of the block; requests are described in `javascript/driver.mjs`."""
    peer = {"base": f"http://127.0.0.1:{port}", "add": add, "read": read}
    words: list[str | Path] = ["node", placed("driver.mjs", installed), json.dumps(peer)]
    async with worker(words, folder, servers=servers) as one:
        yield one
