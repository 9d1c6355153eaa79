"""What operators do, and what goes wrong while they do it; see `faults` for what a fault is."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING

from durable_engine.errors import DurableError
from tests.chaos.rig import RECOVERY_SECONDS
from tests.support.eventually import eventually
from tests.support.server import is_alive

if TYPE_CHECKING:
    from tests.chaos.nemesis import Nemesis

_MOMENT_SECONDS = 0.05
"""Enough to ask for something, and not to wait for it."""


def planned_restart(nemesis: Nemesis, chance: random.Random) -> None:
    """A shard is drained and gives way to another process."""
    rig, shard = nemesis.rig, chance.randrange(nemesis.rig.shards)
    pid = rig.process(shard)
    nemesis.note("planned restart", "", shard, replaces=True)
    rig.ask("restart_shard", {"shard": shard})
    rig.until_replaced(shard, pid)
    rig.until_served(shard)


def kill_while_draining(nemesis: Nemesis, chance: random.Random) -> None:
    """... and is killed before it has finished."""
    rig, shard = nemesis.rig, chance.randrange(nemesis.rig.shards)
    pid = rig.process(shard)
    _ask_only(nemesis, "restart_shard", {"shard": shard})
    nemesis.kill(shard, pid, kind="kill in a planned restart")
    rig.until_replaced(shard, pid)
    rig.until_served(shard)


def reload(nemesis: Nemesis, chance: random.Random) -> None:
    """All shards move to the code that is on disk, one by one."""
    rig = nemesis.rig
    before = rig.processes()
    rig.ask("reload")
    nemesis.note("reload")
    status = eventually(lambda: _ended(nemesis), timeout=RECOVERY_SECONDS, state=lambda: rig.server.log[-3000:])
    assert status == "done", status
    rig.until_settled()
    assert not set(before.values()) & set(rig.processes().values())
    rig.until_served()


def kill_while_reloading(nemesis: Nemesis, chance: random.Random) -> None:
    """... and one is killed on the way, before or after it has moved."""
    rig, shard = nemesis.rig, chance.randrange(nemesis.rig.shards)
    rig.ask("reload")
    nemesis.note("reload")
    time.sleep(chance.uniform(0, 1.5))  # wherever that is
    nemesis.strike("kill in a reload", rig.process(shard), signal.SIGKILL, "kills", replaces=True)
    eventually(lambda: _ended(nemesis), timeout=RECOVERY_SECONDS, state=lambda: rig.server.log[-3000:])
    rig.until_served()


def _ended(nemesis: Nemesis) -> str | None:
    status = nemesis.rig.client.request("reload_status")
    return status["state"] if status["state"] in ("done", "refused", "failed") else None


def stop_and_start(nemesis: Nemesis, chance: random.Random) -> None:
    """SIGTERM: the server finishes what it has taken in, and another one begins."""
    server = nemesis.rig.server
    left_behind = server.descendants()
    nemesis.strike("SIGTERM of the server", server.pid, signal.SIGTERM, replaces=False)
    assert server.wait() == 0
    assert not any(map(is_alive, left_behind))
    server.start()
    nemesis.rig.until_served()


def kill_while_stopping(nemesis: Nemesis, chance: random.Random) -> None:
    """... and is killed before it has finished, a shard of it or all of it."""
    rig, server = nemesis.rig, nemesis.rig.server
    shards = rig.processes()
    nemesis.strike("SIGTERM of the server", server.pid, signal.SIGTERM, replaces=False)
    pid = chance.choice([server.pid, *shards.values()])
    try:
        nemesis.strike("kill in a stop", pid, signal.SIGKILL, replaces=False)
    except ProcessLookupError:
        pass  # it was quicker
    server.wait()
    eventually(lambda: not any(map(is_alive, shards.values())), timeout=RECOVERY_SECONDS)
    server.start()
    rig.until_served()


def _ask_only(nemesis: Nemesis, op: str, arguments: dict[str, object]) -> None:
    try:
        nemesis.rig.client.request(op, arguments, timeout=_MOMENT_SECONDS)
    except DurableError:
        pass
