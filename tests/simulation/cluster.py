"""Everything that one history consists of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from durable_storage.ownership import Ownership
from durable_storage.store import Change, Claim
from tests.simulation.clock import Simulation
from tests.simulation.database import Database
from tests.simulation.model import Model
from tests.simulation.network import Wires
from tests.simulation.processes import Process, SeenBoard, ShardProcess, Supervisor

if TYPE_CHECKING:
    from tests.simulation.clients import Client


class Cluster:
    """A database, a wire, a supervisor with its shards, and whoever else was started in it."""

    def __init__(self, simulation: Simulation, shards: int) -> None:
        self.simulation = simulation
        self.shards = shards
        self.faults: Counter[str] = Counter()
        self.processes: list[Process] = []
        self.wires = Wires(simulation, self.count_fault)
        self.database = Database(simulation, self.count_fault)
        self.database.world.shards = shards
        self.database.world.on_applied = self._applied
        self.database.world.refuse(self._refuses)
        self.model = Model(simulation)
        self.wires.on_twice = self.model.delivered_twice
        self.boards = [SeenBoard() for _ in range(shards)]
        self.release = 1
        self.routes_late_seconds = 0.0
        self.supervisors = 0
        self.clients: list[Client] = []
        self.ghosts: list[ShardProcess] = []
        """Shards that were taken over from while they lived."""
        self.next_token = partial(next, count(1))
        self.next_pid = partial(next, count(100))
        self.supervisor = Supervisor(self, takeover=False)

    def count_fault(self, kind: str) -> None:
        """A fault really happened."""
        self.faults[kind] += 1

    def _applied(self, claim: Claim, owned: Ownership, changes: Sequence[Change]) -> None:
        self.model.committed(claim, owned, changes, self.database.world.alarms)

    def _refuses(self, change: Change) -> bool:
        poisoned = change.state is not None and b'"poisoned":true' in change.state
        if poisoned:
            self.count_fault("refused")
        return poisoned

    def route_delay(self) -> float:
        """How late a new routing table is told."""
        if not self.routes_late_seconds:
            return 0.0
        self.count_fault("late routes")
        return self.simulation.random.random() * self.routes_late_seconds

    def shards_now(self) -> list[ShardProcess]:
        """The processes that the supervisor in power keeps, and that serve."""
        kept = [keeper.process for keeper in self.supervisor.keepers]
        return [process for process in kept if process is not None and process.is_up]

    def all_up(self) -> bool:
        """Whether every shard serves."""
        return len(self.shards_now()) == self.shards

    def describe(self) -> str:
        """For a history that does not end."""
        alive = [process for process in self.processes if not process.loop.dead]
        lines = [f"  {each.name}: frozen={each.loop.frozen} ready={len(each.loop.ready)}" for each in alive]
        for process in self.shards_now():
            assert process.shard is not None
            lines.append(f"  {process.name}: {process.shard.statistics()}")
        return "\n".join(lines)
