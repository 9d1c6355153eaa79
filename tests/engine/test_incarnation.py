"""A shard's process from the outside, up to the moment in which it is dead and nobody was told yet."""

from __future__ import annotations

import asyncio
import os
import subprocess
from types import SimpleNamespace
from typing import Any

from durable_engine.incarnation import Incarnation
from durable_engine.watchdog import Watchdog
from durable_shards.board import BoardReader, Boards


async def test_a_process_that_is_dead_already_can_be_killed() -> None:
    """It was reaped, and the news of it are on their way: a server that stops in that moment stops in order."""
    board = BoardReader(Boards.of_shards(1).page(0))
    loop, code = asyncio.get_running_loop(), SimpleNamespace(fork=_ignore)
    incarnation = Incarnation(0, 1, code, 0, board, Watchdog(500, 3000), loop, _ignore)  # type: ignore[arg-type]
    incarnation.launch(SimpleNamespace(bind=""))  # type: ignore[arg-type]
    incarnation.forked(*dead_process())

    incarnation.kill()

    assert incarnation.runs
    assert incarnation.bury("dead") == ""


def dead_process() -> tuple[int, int]:
    """The ids of a process that was reaped: the number, and the descriptor that was opened before."""
    with subprocess.Popen(["true"]) as process:
        pidfd = os.pidfd_open(process.pid)
    return process.pid, pidfd


def _ignore(*_: Any, **__: Any) -> None:
    """Nothing is said, nothing is forked."""
