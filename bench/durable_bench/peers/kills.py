"""Whether a peer keeps what it acknowledged when it is killed: with -9, all its processes, in the middle of adds.

That shows what a crash of a process loses, not what a loss of power would: what the kernel was given survives a kill.
What was synced is told by `durable_bench.peers.syncs`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from durable_bench.peers.peer import NotAvailable, Peer, Running
from durable_bench.peers.processes import Worker, family
from durable_bench.peers.results import Killed
from durable_bench.peers.workers.load import Load, Outcome

IDS = 64
CALLERS = 64
FEW_CALLERS = 4
FIRST_SECONDS = 10.0
"""For the first add of each id, before the load in which it is killed."""
SECONDS = 3.0
KILLED_AFTER_SECONDS = 1.5
LOOKS = 6
"""At the counts of a peer that refuses to read them at first: it may wait for the leases of the dead to run out."""
LOOK_AGAIN_SECONDS = 5.0
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
            found = await _found(running, outcome.ids_used)
    except Exception as error:
        return Killed(reason=f"it did not come back: {_said(error)}")
    return Killed(outcome.calls, outcome.failed, found)


async def _killed_under_load(running: Running) -> Outcome:
    # Objects that take a second to start would leave nothing to kill.
    first = await running.drive(Load("add", PREFIX, IDS, FEW_CALLERS, FIRST_SECONDS, once=True))
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
    outcome = await driving
    if not outcome.calls:
        raise NotAvailable("no add was acknowledged before it was killed")
    errors = dict(Counter(first.errors) + Counter(outcome.errors))
    return replace(outcome, calls=first.calls + outcome.calls, errors=errors, ids_used=IDS)


async def _found(running: Running, ids: int) -> int:
    for _ in range(LOOKS - 1):
        try:
            return await running.total(PREFIX, ids)
        except NotAvailable:
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
    return await running.total(PREFIX, ids)


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
