"""What goes wrong. Each seed draws the kinds of its history, so that some meet alone and some together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from durable_storage import crashpoints
from durable_storage.lease import LEASE_SECONDS
from tests.simulation.processes import DOOR, Process, ShardProcess, Supervisor

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

PAUSE_SECONDS = 0.8
"""Between two faults, on average."""
WALL_SECONDS_MAX = 1200.0
"""The clock is never set further off than this: results of keys that clients make themselves are kept for an hour."""


class Nemesis:
    """Strikes now and then until it is told to heal."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._random = cluster.simulation.random
        self._armed: list[crashpoints.Armed] = []
        self._healed = False
        every = list(FAULTS)
        kinds = self._random.sample(every, self._random.randint(1, 6))
        kinds += [kind for kind in ("crash_point", "takeover", "store_trouble") if self._random.random() < 0.2]
        self.kinds = kinds
        self._pause = PAUSE_SECONDS * self._random.uniform(0.4, 2.0)
        self._next()

    def _next(self) -> None:
        self._cluster.simulation.later(self._random.expovariate(1 / self._pause), self._strike)

    def _strike(self) -> None:
        if self._healed:
            return
        kind = self._random.choice(self.kinds)
        FAULTS[kind](self)
        self._next()

    def heal(self) -> None:
        """From now on everything works."""
        self._healed = True
        cluster = self._cluster
        cluster.simulation.note("healed")
        for armed in self._armed:
            armed.disarm()
        cluster.database.trouble = cluster.wires.drop_chance = cluster.wires.twice_chance = 0.0
        cluster.database.away_until = cluster.database.held_until = 0.0
        cluster.database.slowest_seconds = cluster.wires.slowest_seconds = 0.002
        cluster.routes_late_seconds = 0.0
        cluster.wires.cut_off.clear()
        for process in cluster.processes:
            if process.loop.frozen and not process.loop.dead:
                self._thaw(process)

    def give_up_orders(self) -> None:
        """Whatever became of the history, no crash is left in wait for another one."""
        for armed in self._armed:
            armed.disarm()

    # Processes.

    def _victim(self) -> ShardProcess | None:
        shards = self._cluster.shards_now()
        return self._random.choice(shards) if shards else None

    def crash(self) -> None:
        if victim := self._victim():
            self._cluster.count_fault("crash")
            victim.kill()

    def crash_point(self) -> None:
        """Each shard dies where it next comes to a point that is drawn for it."""
        for victim in self._cluster.shards_now():
            point = self._random.choice(list(crashpoints.POINTS))
            nth = self._random.choice((1, 1, 2, 3, 5))
            strike = partial(self._strike_at, point, victim)
            self._armed.append(crashpoints.arm(point, nth=nth, store=victim.store, act=strike))
            if point == "before_resolve":
                self.store_trouble()

    def _strike_at(self, point: str, victim: ShardProcess) -> None:
        self._cluster.count_fault(f"crash {point}")
        victim.kill()

    def freeze(self) -> None:
        victim = self._victim()
        if victim is None or victim.loop.frozen:
            return
        self._cluster.count_fault("freeze")
        self._freeze(victim, self._random.choice((0.2, 1.0, 3.0)) * self._random.uniform(0.5, 1.5))
        victim.keeper.watch(victim, self._random.uniform(1.0, 3.0))

    def _freeze(self, process: Process, seconds: float) -> None:
        self._cluster.simulation.note(f"{process.name} freezes")
        process.loop.freeze()
        self._cluster.simulation.later(seconds, self._thaw, process)

    def _thaw(self, process: Process) -> None:
        if process.loop.frozen and not process.loop.dead:
            self._cluster.simulation.note(f"{process.name} thaws")
            process.loop.thaw()

    def takeover(self) -> None:
        """Another machine takes over, while the shards of this one stand still, or merely live on."""
        cluster = self._cluster
        if not cluster.all_up():
            return
        cluster.count_fault("takeover")
        ghosts = cluster.shards_now()
        cluster.supervisor.kill()
        for ghost in ghosts:
            if self._random.random() < 0.7:
                # Most wake up a little after their successors began: with calls of whoever does not know of them.
                until = LEASE_SECONDS if self._random.random() < 0.75 else 0.2
                self._freeze(ghost, until + self._random.uniform(0.2, 2.0))
        if self._random.random() < 0.8:
            # One goes on calling the old shards, since it does not hear of the new ones.
            unaware = self._random.choice(cluster.clients)
            cluster.wires.cut_off[unaware.loop, DOOR] = cluster.simulation.now + self._random.uniform(3.0, 7.0)
        cluster.ghosts += ghosts
        cluster.supervisor = Supervisor(cluster, takeover=True)

    def supervisor_dies(self) -> None:
        """Its shards die with it, and the next one starts at once."""
        cluster = self._cluster
        if not cluster.supervisor.keepers:
            return
        cluster.count_fault("supervisor crash")
        keepers = cluster.supervisor.keepers
        cluster.supervisor.kill()
        for keeper in keepers:
            if keeper.process is not None:
                keeper.process.kill()
        cluster.supervisor = Supervisor(cluster, takeover=False)

    def drain(self) -> None:
        if victim := self._victim():
            self._cluster.count_fault("drain")
            victim.keeper.drain()

    def release(self) -> None:
        """The next release, or back to the one before, shard by shard."""
        cluster = self._cluster
        cluster.release = 3 - cluster.release
        cluster.count_fault(f"release {cluster.release}")
        for index, process in enumerate(cluster.shards_now()):
            restart = process.kill if self._random.random() < 0.3 else process.keeper.drain
            cluster.simulation.later(index * self._random.random(), restart)

    # The store.

    def store_trouble(self) -> None:
        self._window(self._set_trouble, self._random.uniform(0.1, 0.6))

    def _set_trouble(self, chance: float) -> None:
        self._cluster.database.trouble = chance

    def store_away(self) -> None:
        self._cluster.database.away_until = self._cluster.simulation.now + self._random.uniform(0.1, 3.0)

    def store_held(self) -> None:
        self._cluster.database.held_until = self._cluster.simulation.now + self._random.uniform(0.1, 2.0)

    def store_slow(self) -> None:
        self._cluster.count_fault("store slow")
        self._window(self._set_store_slow, self._random.uniform(0.02, 0.3), 0.003)

    def _set_store_slow(self, seconds: float) -> None:
        self._cluster.database.slowest_seconds = seconds

    # The wire.

    def break_connections(self) -> None:
        pipes = [pipe for pipe in self._cluster.wires.pipes.values() if self._random.random() < 0.4]
        for pipe in pipes:
            self._cluster.count_fault("connection broken")
            pipe.snap()

    def drop(self) -> None:
        self._window(self._set_drop, self._random.uniform(0.02, 0.2))

    def _set_drop(self, chance: float) -> None:
        self._cluster.wires.drop_chance = chance

    def twice(self) -> None:
        self._window(self._set_twice, self._random.uniform(0.05, 0.4))

    def _set_twice(self, chance: float) -> None:
        self._cluster.wires.twice_chance = chance

    def wire_slow(self) -> None:
        self._cluster.count_fault("wire slow")
        self._window(self._set_wire_slow, self._random.uniform(0.02, 0.8), 0.002)

    def _set_wire_slow(self, seconds: float) -> None:
        self._cluster.wires.slowest_seconds = seconds

    def routes_late(self) -> None:
        self._window(self._set_routes_late, self._random.uniform(0.1, 2.0))

    def _set_routes_late(self, seconds: float) -> None:
        self._cluster.routes_late_seconds = seconds

    # Time.

    def clock_set(self) -> None:
        simulation = self._cluster.simulation
        offset = self._random.choice((-1, 1)) * self._random.choice((1.0, 10.0, 600.0)) * self._random.random()
        simulation.set_wall(max(-WALL_SECONDS_MAX, min(WALL_SECONDS_MAX, simulation.wall_offset + offset)))
        self._cluster.count_fault("clock forwards" if offset > 0 else "clock backwards")
        simulation.note(f"clock set by {offset:.3f}")

    def _window(self, put: Callable[[float], None], value: float, usual: float = 0.0) -> None:
        put(value)
        self._cluster.simulation.later(self._random.uniform(0.3, 3.0), put, usual)


FAULTS: dict[str, Callable[[Nemesis], None]] = {
    each.__name__: each
    for each in (
        Nemesis.crash, Nemesis.crash_point, Nemesis.freeze, Nemesis.takeover, Nemesis.supervisor_dies, Nemesis.drain,
        Nemesis.release, Nemesis.store_trouble, Nemesis.store_away, Nemesis.store_held, Nemesis.store_slow,
        Nemesis.break_connections, Nemesis.drop, Nemesis.twice, Nemesis.wire_slow, Nemesis.routes_late,
        Nemesis.clock_set,
    )
}  # fmt: skip
