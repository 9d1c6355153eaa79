"""What the supervisor does about a shard that stands still."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from durable_engine.stalls import stalled
from durable_engine.watchdog import Verdict, is_stopped
from tests.support.eventually import eventually


@pytest.fixture
def pid() -> Iterator[int]:
    """A process that lives on."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process.pid
        process.kill()


class Shard:
    """One that stands still in a turn, as its keeper sees it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.shard = 0
        self.condemned = True
        self.reason = ""
        self.gone = asyncio.Event()
        self.asked = 0
        self.killed = False
        self.board: Any = SimpleNamespace(read=lambda: SimpleNamespace(running="Cart/a"), heartbeat_ms=lambda: 0)

    async def stack(self) -> str:
        self.asked += 1
        return "in spin"

    def kill(self) -> None:
        self.killed = True


async def test_a_stopped_shard_is_not_asked_for_its_stack(pid: int, caplog: pytest.LogCaptureFixture) -> None:
    """It would not answer, and its clients would wait so much longer; no object is to blame."""
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: is_stopped(pid))
    shard = Shard(pid)

    with caplog.at_level(logging.WARNING, "durable_engine.supervisor"):
        await stalled(shard, Verdict.WARN)  # type: ignore[arg-type]
        await stalled(shard, Verdict.KILL)  # type: ignore[arg-type]

    assert shard.asked == 0
    assert (shard.killed, shard.condemned) == (True, False)
    assert shard.reason.startswith("stopped by a signal for ")
    assert "shard 0 has been stopped by a signal for " in caplog.text


async def test_a_stuck_shard_leaves_its_stack_in_the_log(pid: int, caplog: pytest.LogCaptureFixture) -> None:
    """And what it was running, which the death is laid to."""
    shard = Shard(pid)

    with caplog.at_level(logging.WARNING, "durable_engine.supervisor"):
        await stalled(shard, Verdict.KILL)  # type: ignore[arg-type]

    assert (shard.killed, shard.condemned) == (True, True)
    assert "in spin" in caplog.text
    assert "in a turn of Cart/a" in shard.reason
