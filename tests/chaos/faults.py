"""The faults: each is done, seen to have struck, and over when everything that it touched serves again.

A fault is a function of the nemesis and of the randomness of its details; its name is that in the plan. It strikes by
`nemesis.strike`, which notes the moment for the report, and it returns only when the clients of its shards are served.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from durable_engine.watchdog import is_stopped
from tests.chaos.rig import holds_lock
from tests.chaos.slow_reader import pile_up
from tests.support.eventually import eventually
from tests.support.server import Server, children_of, is_alive

if TYPE_CHECKING:
    from tests.chaos.nemesis import Nemesis

STOPPED_SECONDS_MAX = 1.2
"""A pause from which nobody is to conclude anything: well below the watchdog's three seconds."""
UNTHINKABLE_BYTES = 1 << 46
"""More than an address space has, whatever the machine promises to whom."""
MEMORY_BYTES_MAX = 256 << 20
"""That a client who does not read may cost a shard."""


def kill(nemesis: Nemesis, chance: random.Random) -> None:
    """Kill -9 of one shard."""
    shard = chance.randrange(nemesis.rig.shards)
    pid = nemesis.kill(shard)
    nemesis.rig.until_replaced(shard, pid)
    nemesis.rig.until_served(shard)


def kill_all(nemesis: Nemesis, chance: random.Random) -> None:
    """Kill -9 of all shards at once."""
    pids = {shard: nemesis.rig.process(shard) for shard in range(nemesis.rig.shards)}
    for shard, pid in pids.items():
        nemesis.kill(shard, pid, kind="kill of all")
    for shard, pid in pids.items():
        nemesis.rig.until_replaced(shard, pid)
    nemesis.rig.until_served()


def kill_in_recovery(nemesis: Nemesis, chance: random.Random) -> None:
    """Kill -9, and again while it starts."""
    shard = chance.randrange(nemesis.rig.shards)
    for _ in range(chance.randint(2, 3)):
        pid = nemesis.kill(shard, kind="kill in recovery")
        nemesis.rig.until_replaced(shard, pid)
        nemesis.rig.process(shard)
        time.sleep(chance.uniform(0, 0.03))  # where in its start it is struck
    nemesis.rig.until_served(shard)


def crash_before_commit(nemesis: Nemesis, chance: random.Random) -> None:
    """A shard dies with a batch that it has not sent."""
    _crash(nemesis, chance, "before_commit", chance.randint(1, 20))


def crash_after_commit(nemesis: Nemesis, chance: random.Random) -> None:
    """A shard dies with a batch that is durable and of which nobody was told."""
    _crash(nemesis, chance, "after_commit", chance.randint(1, 20))


def crash_before_load(nemesis: Nemesis, chance: random.Random) -> None:
    """A shard dies while callers wait for objects to be read."""
    _crash(nemesis, chance, "before_load", 1)


def crash_before_fire(nemesis: Nemesis, chance: random.Random) -> None:
    """A shard dies with an alarm in hand that it has not fired."""
    _crash(nemesis, chance, "before_fire", chance.randint(1, 3))


def _crash(nemesis: Nemesis, chance: random.Random, point: str, nth: int) -> None:
    rig, shard = nemesis.rig, chance.randrange(nemesis.rig.shards)
    pid = rig.process(shard)
    for attempt in range(200):
        if attempt % 50 == 0:  # an order may be lost
            rig.call("Saboteur", rig.somebody("Saboteur", shard), "arm_crash", point, nth)
        rig.probe(shard, nemesis.number())  # something to load, and to commit
        if not is_alive(pid):
            break
    else:
        raise AssertionError(f"{point} was not reached:\n{rig.server.log[-3000:]}")
    nemesis.note(f"crash {point}", "kills")
    rig.until_served(shard)


def hang(nemesis: Nemesis, chance: random.Random) -> None:
    """SIGSTOP until the watchdog has had enough."""
    shard = chance.randrange(nemesis.rig.shards)
    pid = nemesis.stop(shard, kind="hang", replaces=True)
    nemesis.rig.until_replaced(shard, pid)
    nemesis.rig.until_served(shard)


def kill_while_another_hangs(nemesis: Nemesis, chance: random.Random) -> None:
    """One shard stopped for too long, and the others killed again and again meanwhile."""
    rig = nemesis.rig
    hanging, *others = chance.sample(range(rig.shards), rig.shards)
    stopped = nemesis.stop(hanging, kind="hang", replaces=True)
    while rig.processes().get(hanging) == stopped:
        for shard in others:
            pid = nemesis.kill(shard)
            rig.until_replaced(shard, pid)
            rig.until_served(shard)
        nemesis.work.advance(chance.randint(20, 100))
    rig.until_served()


def pause(nemesis: Nemesis, chance: random.Random) -> None:
    """SIGSTOP for a moment: nothing but latency."""
    shard = chance.randrange(nemesis.rig.shards)
    pid = nemesis.stop(shard, kind="pause")
    time.sleep(chance.uniform(0.1, STOPPED_SECONDS_MAX))
    nemesis.go_on(pid)
    nemesis.rig.until_served(shard)


def kill_fork_server(nemesis: Nemesis, chance: random.Random) -> None:
    """Kill -9 of the process that shards are forked from; they die with it."""
    rig = nemesis.rig
    shards = {rig.process(shard): shard for shard in range(rig.shards)}
    # One that a reload has left behind has no shards any more, and one that was broken off has some.
    children = {pid: shards.keys() & {*children_of(pid)} for pid in children_of(rig.server.pid)}
    fork_server, dying = max(children.items(), key=lambda each: len(each[1]))
    mortal = [shards[pid] for pid in dying]
    nemesis.strike("kill of the fork server", fork_server, signal.SIGKILL, "", *mortal, replaces=True)
    for pid in dying:
        rig.until_replaced(shards[pid], pid)
    rig.until_served()


def kill_supervisor(nemesis: Nemesis, chance: random.Random) -> None:
    """Kill -9 of the supervisor, and another one at once."""
    server = nemesis.rig.server
    left_behind = server.descendants()
    every = range(nemesis.rig.shards)
    nemesis.strike("kill of the supervisor", server.pid, signal.SIGKILL, "", *every, replaces=True)
    server.wait()
    server.start()
    eventually(lambda: not any(map(is_alive, left_behind)), timeout=60.0)
    nemesis.rig.until_served()


def take_over_stopped(nemesis: Nemesis, chance: random.Random) -> None:
    """A whole server is stopped, another one takes its store over, and then the first wakes up."""
    rig, first = nemesis.rig, nemesis.rig.server
    zombies = stop_all(first)
    nemesis.note("stop of a whole server", "stops")
    second = rig.add_server(takeover=True)
    nemesis.note("takeover")
    nemesis.work.visit()  # what the zombies remember is old when they wake, with calls waiting for them
    shards = [
        pid for pid in zombies if pid not in {first.pid, *children_of(first.pid)}
    ]  # a reload leaves two fork servers
    if chance.random() < 0.5:
        chance.shuffle(zombies)
    else:  # shards first, that find out for themselves while whoever would end them stands still
        for pid in shards:
            nemesis.go_on(pid)
        eventually(lambda: not any(map(is_alive, shards)), timeout=60.0, state=lambda: first.log[-3000:])
    for pid in zombies:
        nemesis.go_on(pid)
    assert first.wait() == 1, first.log[-3000:]
    assert "another supervisor took this store over" in first.log
    eventually(lambda: not any(map(is_alive, zombies)), timeout=60.0)
    assert rig.server is second
    rig.until_served()


def stop_all(server: Server) -> list[int]:
    """SIGSTOP of a supervisor and all its processes; their process ids."""
    os.kill(server.pid, signal.SIGSTOP)

    def stopped() -> list[int]:
        found = server.descendants()  # the supervisor orders no more, but an order may have been on its way
        for pid in found:
            stop_between_commits(pid)
        return found if sorted(server.descendants()) == sorted(found) else []

    return [server.pid, *eventually(stopped, timeout=60.0, state=server.descendants)]


def stop_between_commits(pid: int) -> None:
    """SIGSTOP; once more when that was in a commit to SQLite, whose lock nobody could take from a stopped process."""

    def stopped() -> bool:
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            return True
        eventually(lambda: is_stopped(pid) or not is_alive(pid))
        if holds_lock(pid):
            os.kill(pid, signal.SIGCONT)
            return False
        return True

    eventually(stopped, timeout=60.0, state=lambda: Path("/proc/locks").read_text())


def spin(nemesis: Nemesis, chance: random.Random) -> None:
    """A handler that never gives the loop back: the watchdog's case, and a strike against its object."""
    rig, shard = nemesis.rig, chance.randrange(nemesis.rig.shards)
    pid, spinner = rig.process(shard), rig.somebody("Saboteur", shard, nemesis.number())
    nemesis.note("spin", "", shard, replaces=True)
    rig.call("Saboteur", spinner, "spin", timeout=30.0)  # until it is killed
    rig.until_replaced(shard, pid)
    eventually(lambda: f"strike 1 against Saboteur/{spinner}" in rig.server.log, state=lambda: rig.server.log[-3000:])
    rig.until_served(shard)


def memory_bomb(nemesis: Nemesis, chance: random.Random) -> None:
    """A handler that wants more memory than there is: its caller's error, and nobody else's."""
    rig, shard = nemesis.rig, chance.randrange(nemesis.rig.shards)
    bomb = rig.somebody("Saboteur", shard, nemesis.number())

    def exploded() -> bool:
        return "MemoryError" in str(rig.call("Saboteur", bomb, "hog", UNTHINKABLE_BYTES))

    eventually(exploded, timeout=60.0, state=lambda: rig.server.log[-3000:])
    nemesis.note("memory bomb")
    rig.until_served(shard)
    assert f"against Saboteur/{bomb}" not in rig.server.log


def slow_reader(nemesis: Nemesis, chance: random.Random) -> None:
    """A client that asks for a lot and reads nothing costs its shard little."""
    rig, shard = nemesis.rig, chance.randrange(nemesis.rig.shards)
    growth = pile_up(rig, shard, nemesis.number())
    nemesis.note("slow reader")
    assert growth < MEMORY_BYTES_MAX, f"shard {shard} grew by {growth >> 20} MB"
    rig.until_served(shard)
