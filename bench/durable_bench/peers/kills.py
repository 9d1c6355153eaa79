"""Whether a peer keeps what it acknowledged when it is killed: with -9, all its processes, in the middle of adds.

That shows what a crash of a process loses, not what a loss of power would: what the kernel was given survives a kill.
What was synced is told by `durable_bench.peers.syncs`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from durable_bench.peers.peer import NotAvailable, Peer, Running
from durable_bench.peers.processes import Worker, family
from durable_bench.peers.results import Killed
from durable_bench.peers.workers.load import Load, Outcome

IDS = 64
CALLERS = 64
SECONDS = 3.0
KILLED_AFTER_SECONDS = 1.5
PREFIX = "killed-"


async def kill(peer: Peer, folder: Path, installed: Path) -> Killed:
    """Start the peer, kill it under load, start it again, and ask for all counts; its folder may hold other ids."""
    outcome: Outcome | Exception | None = None
    try:
        async with peer.start(folder, installed) as running:
            try:
                outcome = await _killed_under_load(running)
            except Exception as error:
                outcome = error
    except Exception as error:
        # Closing what was killed may fail in any way, and that is no news.
        outcome = outcome or error
    if not isinstance(outcome, Outcome):
        return Killed(reason=_said(outcome))
    try:
        async with peer.start(folder, installed) as running:
            found = await running.total(PREFIX, outcome.ids_used)
    except Exception as error:
        return Killed(reason=f"it did not come back: {_said(error)}")
    return Killed(outcome.calls, outcome.failed, found)


async def _killed_under_load(running: Running) -> Outcome:
    driving = asyncio.create_task(running.drive(Load("add", PREFIX, IDS, CALLERS, SECONDS)))
    done, _ = await asyncio.wait([driving], timeout=KILLED_AFTER_SECONDS)
    if not done:
        victims = _victims(running)
        for pid in victims:
            _kill(pid)
        if not victims:
            driving.cancel()
            await asyncio.wait([driving])
            raise NotAvailable("its store is in the process that makes the calls")
    return await driving


def _victims(running: Running) -> Sequence[int]:
    """Parents first, so that none starts a child anew; not the process that makes the calls, which must count on."""
    caller = running.process.pid if isinstance(running, Worker) else None
    return [pid for pid in dict.fromkeys(family(pid for pid in running.servers if pid != caller)) if pid != caller]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        # A child that went with its parent.
        pass


def _said(error: Exception | None) -> str:
    return str(error) if isinstance(error, NotAvailable) else f"{type(error).__name__}: {error}"
