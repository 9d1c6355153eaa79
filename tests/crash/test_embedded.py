"""Engines that own their shard processes, inside programs that have a life of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import zmq

from durable_engine import Engine
from tests.support.eventually import eventually
from tests.support.server import OBJECTS, ROOT, children_of, is_alive

pytestmark = pytest.mark.processes

PROGRAM = """
import asyncio, sys
from durable_engine import Engine

async def main():
    async with Engine(sys.argv[1], objects=[sys.argv[2]], shards=2) as engine:
        await engine.call_by_name("Counter", "c", "increment", [], {})
        print("ready", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def family_of(pid: int) -> list[int]:
    """All descendants."""
    return [member for child in children_of(pid) for member in (child, *family_of(child))]


def test_an_engine_starts_shards_in_a_program_with_threads(tmp_path: Path) -> None:
    """fault A16: nothing is forked from the program, so its threads and locks do no harm; closing leaves nothing."""
    lock, stop = threading.Lock(), threading.Event()
    holder = threading.Thread(target=lambda: (lock.acquire(), stop.wait()))
    holder.start()
    context = zmq.Context()
    busy = context.socket(zmq.PAIR)
    busy.bind(f"ipc://{tmp_path}/own.sock")

    async def use() -> tuple[int, list[int]]:
        async with Engine(f"sqlite:///{tmp_path}/store", objects=[str(OBJECTS)], shards=2) as engine:
            for _ in range(3):
                count = await engine.call_by_name("Counter", "c", "increment", [], {})
            return count, family_of(os.getpid())

    try:
        count, family = asyncio.run(use())
    finally:
        stop.set()
        holder.join()
        context.destroy()

    assert count == 3
    assert len(family) == 4
    assert not any(map(is_alive, family))


def test_nothing_is_left_of_a_killed_program(tmp_path: Path) -> None:
    """Supervisor, fork server and shards end with the program; its state is there for the next one."""
    store = f"sqlite:///{tmp_path}/store"
    paths = os.pathsep.join(str(ROOT / part) for part in ("engine", "shards", "storage"))
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, store, str(OBJECTS)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        family = family_of(program.pid)
        assert len(family) == 4

        program.send_signal(signal.SIGKILL)

        eventually(lambda: not any(map(is_alive, family)))

    async def read() -> int:
        async with Engine(store, objects=[str(OBJECTS)], shards=0) as engine:
            count: int = await engine.call_by_name("Counter", "c", "get", [], {})
            return count

    assert asyncio.run(read()) == 1


def test_what_handlers_print_never_blocks_a_shard(tmp_path: Path) -> None:
    """fault D15: more than any pipe holds goes to stderr, and the calls are answered."""
    module = tmp_path / "talkative.py"
    module.write_text(
        "from durable_engine import DurableObject, handler\n\n\n"
        "class Talker(DurableObject):\n"
        "    said: int = 0\n\n"
        "    @handler\n"
        "    def say(self, characters: int) -> int:\n"
        "        print('x' * characters, flush=True)\n"
        "        self.said += characters\n"
        "        return self.said\n"
    )

    async def use() -> int:
        async with Engine("memory://", objects=[str(module)], shards=1) as engine:
            said: int = await engine.call_by_name("Talker", "t", "say", [1_000_000], {})
            return said

    assert asyncio.run(use()) == 1_000_000
