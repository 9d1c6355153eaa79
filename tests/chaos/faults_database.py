"""Faults of PostgreSQL and of the network to it; see `faults` for what a fault is."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from tests.support.postgres import PostgresServer
from tests.support.wire_faults import Action, AtByte, AtCommit, Fault

if TYPE_CHECKING:
    from tests.chaos.nemesis import Nemesis

FIRE_SECONDS = 60.0
DEADLINE_SECONDS = 10.0
"""After which a store gives up a connection that does not answer."""
_BACKENDS = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'durable-engine%'"


def _postgres(nemesis: Nemesis) -> PostgresServer:
    assert nemesis.rig.postgres is not None
    return nemesis.rig.postgres


def _proxy(nemesis: Nemesis) -> FaultProxy:
    assert nemesis.rig.proxy is not None
    return nemesis.rig.proxy


def postgres_restart(nemesis: Nemesis, chance: random.Random) -> None:
    """PostgreSQL crashes, is away for a moment, and comes back."""
    server = _postgres(nemesis)
    server.stop("immediate")
    nemesis.note("stop of PostgreSQL", "restarts")
    time.sleep(chance.choice((0.0, 0.0, 0.3, 1.0)))
    server.start()
    nemesis.note("start of PostgreSQL", "", *range(nemesis.rig.shards))
    nemesis.rig.until_served()


def postgres_restart_and_kill(nemesis: Nemesis, chance: random.Random) -> None:
    """... and a shard dies while it is away, or is stopped and goes on when it is back."""
    server, shard = _postgres(nemesis), chance.randrange(nemesis.rig.shards)
    server.stop("immediate")
    nemesis.note("stop of PostgreSQL", "restarts")
    if chance.random() < 0.5:
        pid = nemesis.kill(shard, kind="kill without PostgreSQL")
        nemesis.rig.until_replaced(shard, pid)
        server.start()
    else:
        pid = nemesis.stop(shard, kind="pause without PostgreSQL")
        server.start()
        nemesis.go_on(pid)
    nemesis.rig.until_served()


def terminate_backends(nemesis: Nemesis, chance: random.Random) -> None:
    """pg_terminate_backend on some connections."""
    rig = nemesis.rig

    def ended() -> int:
        found = sorted(row[0] for row in rig.sql(_BACKENDS))
        some = chance.sample(found, chance.randint(1, len(found)))
        return sum(rig.sql("SELECT pg_terminate_backend($1)", pid)[0][0] for pid in some)

    for _ in range(eventually(ended, timeout=FIRE_SECONDS)):
        nemesis.note("terminated backend")
    rig.until_served()


def cut_in_commit(nemesis: Nemesis, chance: random.Random) -> None:
    """The connection breaks when some of a commit has passed."""
    _in_commit(nemesis, chance, "cut")


def lose_answer_of_commit(nemesis: Nemesis, chance: random.Random) -> None:
    """All of it has passed, and the connection breaks before the answer."""
    _in_commit(nemesis, chance, "answer")


def late_commit(nemesis: Nemesis, chance: random.Random) -> None:
    """The connection breaks, and the commit arrives afterwards."""
    _in_commit(nemesis, chance, "late")


def duplicate_commit(nemesis: Nemesis, chance: random.Random) -> None:
    """It arrives twice."""
    _in_commit(nemesis, chance, "duplicate")


def delay_commit(nemesis: Nemesis, chance: random.Random) -> None:
    """It arrives, and is answered, late."""
    _in_commit(nemesis, chance, "delay")


def _in_commit(nemesis: Nemesis, chance: random.Random, action: Action) -> None:
    nth = 0
    armed = []
    for _ in range(chance.randint(1, 3)):
        nth += chance.randint(1, 10)
        fault = Fault(action, AtCommit(nth, chance.random()), seconds=chance.choice((0.0, 0.002, 0.01, 0.1, 0.5)))
        armed.append(_proxy(nemesis).arm(fault))
    for fault in armed:
        _until_fired(nemesis, fault)
        nemesis.note(f"{action} in commit", "" if action == "delay" else "cuts")
    nemesis.rig.until_served()


def _until_fired(nemesis: Nemesis, fault: Fault) -> None:
    until = time.monotonic() + FIRE_SECONDS
    while not fault.fired.wait(0.05):
        assert time.monotonic() < until, f"{fault} did not strike:\n{nemesis.rig.server.log[-3000:]}"
        for shard in range(nemesis.rig.shards):
            nemesis.rig.probe(shard)


def strike_anywhere(nemesis: Nemesis, chance: random.Random) -> None:
    """A connection breaks at some byte, in the middle of whatever passes there, or what follows is late."""
    action: Action = chance.choice(("cut", "cut", "late", "delay"))
    place = AtByte(chance.choice(("up", "down")), chance.randrange(20_000))
    fault = Fault(action, place, seconds=chance.uniform(0.0, 0.2))
    _until_fired(nemesis, _proxy(nemesis).arm(fault))
    nemesis.note(f"{action} anywhere")
    nemesis.rig.until_served()


def cut_everything(nemesis: Nemesis, chance: random.Random) -> None:
    """All connections break at once."""
    for _ in range(_proxy(nemesis).cut()):
        nemesis.note("cut at once")
    nemesis.rig.until_served()


def black_hole(nemesis: Nemesis, chance: random.Random) -> None:
    """Nothing passes any more, in either direction, and nobody is told."""
    _hold(nemesis, chance.uniform(0.2, 2.5))


def black_hole_one_way(nemesis: Nemesis, chance: random.Random) -> None:
    """Statements arrive and their answers do not, or the other way round."""
    _hold(nemesis, chance.uniform(0.2, 2.5), chance.choice(("up", "down")))


def black_hole_past_deadline(nemesis: Nemesis, chance: random.Random) -> None:
    """... until the store has given up its connections, and the statements arrive after all."""
    _hold(nemesis, DEADLINE_SECONDS + chance.uniform(0.5, 3.0), *chance.choice(((), ("up",), ("down",))))


def _hold(nemesis: Nemesis, seconds: float, *directions: str) -> None:
    proxy = _proxy(nemesis)
    before = proxy.faults.struck["held"]
    proxy.hold(*directions)  # type: ignore[arg-type]
    try:
        time.sleep(seconds)
        eventually(lambda: proxy.faults.struck["held"] > before, timeout=FIRE_SECONDS)
    finally:
        proxy.release()
    nemesis.note("black hole")
    nemesis.rig.until_served()


def slow_network(nemesis: Nemesis, chance: random.Random) -> None:
    """Everything takes longer, in either direction, and batches grow."""
    proxy = _proxy(nemesis)
    before = proxy.faults.struck["slow"]
    proxy.delay(chance.uniform(0.005, 0.1))
    try:
        nemesis.work.advance(chance.randint(20, 200))
    finally:
        proxy.delay(0.0)
    assert proxy.faults.struck["slow"] > before
    nemesis.note("slow network")
    nemesis.rig.until_served()
