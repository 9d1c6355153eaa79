"""One history: a seed decides everything, and what must hold is checked all the way."""

from __future__ import annotations

import logging
import random
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

from tests.simulation.clients import HANDLERS, Client
from tests.simulation.clock import Simulation, Violation
from tests.simulation.cluster import Cluster
from tests.simulation.nemesis import Nemesis
from tests.simulation.objects import OBJECTS

__all__ = ["Report", "Violation", "run_history"]

FAULTY_SECONDS = (4.0, 10.0)
LIVELY_SECONDS = 30.0
"""Within so much of the last heal every client has completed its calls on every shard."""
LATE_SECONDS = 15.0
"""No alarm is later than this after the last heal."""
CALLS_AT_THE_END = 2


@dataclass(frozen=True, slots=True)
class Report:
    """What one history was."""

    seed: int
    digest: str
    """Of all its events: equal for equal seeds."""
    seconds: float
    """Virtual."""
    steps: int
    commits: int
    replies: int
    failures: int
    firings: int
    faults: Counter[str]


def run_history(seed: int, *, trace: bool = False) -> Report:
    """Play the history of a seed. Raises Violation on a broken promise; its text ends with what repeats it."""
    state, disabled = random.getstate(), logging.root.manager.disable
    random.seed(seed)  # the engine spreads its pauses by it
    logging.disable(logging.CRITICAL)
    simulation = Simulation(seed)
    history = History(simulation)
    try:
        history.play()
    except Violation as violation:
        lines = "\n".join(simulation.trace) if trace else ""
        repeat = f"seed {seed}, repeated by: python -m tests.simulation --seed {seed} --trace"
        raise Violation(f"{violation}\n{lines}\n{repeat}") from None
    finally:
        history.bury()
        logging.disable(disabled)
        random.setstate(state)
    return history.report()


class History:
    """Calm, faults, and the end."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        chance = simulation.random
        self._cluster = cluster = Cluster(simulation, shards=chance.choice((2, 2, 3)))
        simulation.dump = cluster.describe
        weights = {name: weight for name, weight in HANDLERS.items() if chance.random() < 0.7} or {"append": 1}
        cluster.clients = [
            Client(cluster, f"client-{number}", chance.choice((1, 2, 4)), weights)
            for number in range(chance.choice((1, 2, 2, 2)))
        ]
        self._nemesis: Nemesis | None = None

    def play(self) -> None:
        """The whole history."""
        simulation, cluster = self._simulation, self._cluster
        simulation.run_until(cluster.all_up, 10.0, "the start")
        self._nemesis = Nemesis(cluster)
        simulation.run_for(simulation.random.uniform(*FAULTY_SECONDS))
        if cluster.release == 1 and simulation.random.random() < 0.9 and cluster.faults["release 2"]:
            self._nemesis.release()
        self._nemesis.heal()
        self._revive()
        self._finish()

    def _revive(self) -> None:
        """What was rolled back stays unreadable where newer rows exist, so that the newest release ends a history."""
        cluster = self._cluster
        if cluster.faults["release 2"] and cluster.release == 1:
            cluster.release = 2
        for keeper in cluster.supervisor.keepers:
            if keeper.process is not None and keeper.process.release != cluster.release:
                keeper.process.kill()

    def _finish(self) -> None:
        simulation, cluster = self._simulation, self._cluster
        for client in cluster.clients:
            client.finish(list(OBJECTS), CALLS_AT_THE_END)
        simulation.run_until(
            lambda: not any(client.wanted for client in cluster.clients), LIVELY_SECONDS, "calls after the last heal"
        )
        simulation.run_until(lambda: not self._overdue(0.5), LATE_SECONDS, "alarms after the last heal")
        simulation.run_until(self._is_quiet, 10.0, "coming to rest")
        self._memory_is_the_store()

    def _overdue(self, seconds: float) -> list[str]:
        horizon = self._simulation.wall() - timedelta(seconds=seconds)
        return [
            f"{address.object_id}.{row.name} for {row.at}"
            for address, rows in self._cluster.database.world.alarms.items()
            for row in rows.values()
            if row.at < horizon and not row.is_parked
        ]

    def _is_quiet(self) -> bool:
        """Nobody waits for anything, and no ghost is left."""
        cluster = self._cluster
        if any(not ghost.loop.dead for ghost in cluster.ghosts) or not cluster.all_up():
            return False
        for client in cluster.clients:
            if client.frontend is None or client.frontend.statistics().in_flight:
                return False
        for process in cluster.shards_now():
            assert process.shard is not None
            if process.shard.gate.waiting or any(not act.clean for act in process.shard.directory.live()):
                return False
        return True

    def _memory_is_the_store(self) -> None:
        world = self._cluster.database.world
        for process in self._cluster.shards_now():
            assert process.shard is not None
            for act in process.shard.directory.live():
                row = world.objects.get(act.address)
                stored = (row.state, row.version) if row is not None else (None, 0)
                remembered = act.durable[:2]
                if remembered != stored and not (row is None and not remembered[1]):
                    self._simulation.fail(f"I8 memory is the store: {act.address} {remembered} {stored}")
                if dict(act.durable[2]) != world.alarms.get(act.address, {}):
                    self._simulation.fail(f"I8 memory is the store: alarms of {act.address}: {act.durable[2]}")
        if self._simulation.violation is not None:
            raise self._simulation.violation

    def bury(self) -> None:
        """Leave nothing behind."""
        self._simulation.over = True
        if self._nemesis is not None:
            self._nemesis.give_up_orders()
        for process in self._cluster.processes:
            process.loop.bury()

    def report(self) -> Report:
        """After `play`."""
        model = self._cluster.model
        return Report(
            self._simulation.seed, self._simulation.digest, self._simulation.now - 1000.0, self._simulation.steps,
            model.commits, model.replies, model.failures, model.firings, self._cluster.faults,
        )  # fmt: skip
