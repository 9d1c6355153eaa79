"""The processes of a small cluster: shards as `durable_shards.process` makes them, and who keeps them running.

Shard, writer, scheduler, keys, lease, server, client and the supervisor's door are the engine's own. The supervisor's
keeping is played by a few lines: it learns at once that a process has died, kills one that is frozen for too long, and
tells the routes; one that takes over from another machine fences the old shards first and waits out their lease.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from durable_engine.late_caller import LateCaller
from durable_engine.reception import Reception
from durable_engine.restarts import Restarts
from durable_shards.alarm_settings import AlarmSettings
from durable_shards.board import NullBoard
from durable_shards.registry import Registry
from durable_shards.server import ShardServer
from durable_shards.shard import Shard
from durable_shards.shard_settings import ShardSettings
from durable_shards.wire import RoutingTable, ShardRoute
from durable_storage.address import partitions_of_shard
from durable_storage.errors import DurableError, Fenced, StoreUnavailable
from durable_storage.lease import Holder, this_boot
from durable_storage.limits import PARTITIONS
from durable_storage.memory_control import MemoryControl
from durable_storage.store import Claim
from tests.simulation.clock import ProcessClock, ProcessLoop
from tests.simulation.database import Broken, SimulatedStore
from tests.simulation.network import SimulatedNetwork
from tests.simulation.objects import RELEASES

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

DOOR = "sim://door"
ALARMS = AlarmSettings(poll=3.0, attempts=5, backoff=0.1)
DRAIN_SECONDS = 3.0
BOOT = this_boot()
_registries = {number: Registry.load(release.served) for number, release in RELEASES.items()}


class Process:
    """One process: a loop, and its end of the wire."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.loop = ProcessLoop(cluster.simulation, name)
        self.network = SimulatedNetwork(cluster.wires, self.loop)
        cluster.processes.append(self)

    def kill(self) -> None:
        """SIGKILL: nothing more of it is run."""
        if not self.loop.dead:
            self.cluster.simulation.note(f"{self.name} dies")
            self.loop.kill()
            self.cluster.wires.process_died(self.loop)

    def start(self, work: Any) -> None:
        """Run a coroutine function in it."""
        self.loop.call_soon(lambda: self.loop.create_task(work()))


class SeenBoard(NullBoard):
    """The page of memory that a supervisor looks at; it outlives the shard."""

    def __init__(self) -> None:
        super().__init__()
        self.seq = 0

    def acknowledged(self, epoch: int, seq: int) -> None:
        self.seq = max(self.seq, seq)


class ShardProcess(Process):
    """One incarnation of a shard."""

    def __init__(self, keeper: Keeper, number: int) -> None:
        super().__init__(keeper.cluster, f"shard-{keeper.shard}.{keeper.supervisor.term}.{number}")
        self.keeper = keeper
        self.pid = keeper.cluster.next_pid()
        self.endpoint = f"sim://{keeper.supervisor.term}/{keeper.shard}"
        self.release = keeper.cluster.release
        self.is_up = False
        self.shard: Shard | None = None
        self.server: ShardServer | None = None
        self._drain = asyncio.Event()
        self._finish = asyncio.Event()
        self.start(self._run)

    async def _run(self) -> None:
        cluster, keeper = self.cluster, self.keeper
        self._ended: asyncio.Future[None] = self.loop.create_future()
        self.store = SimulatedStore(cluster.database, self.loop)
        self.caller = LateCaller(DOOR, for_turns=True, network=self.network)
        owned = partitions_of_shard(keeper.shard, cluster.shards)
        self.shard = Shard(
            _registries[self.release],
            self.store,
            ShardSettings(shard=keeper.shard, owned=owned, strict_readonly=True, alarms=ALARMS),
            clock=ProcessClock(cluster.simulation),
            board=keeper.board,
            caller=self.caller,
            on_stop=self._lost,
        )
        try:
            await self.shard.start(self._claim())
        except DurableError as error:
            cluster.simulation.note(f"{self.name} does not start: {type(error).__name__}")
            if not isinstance(error, (StoreUnavailable, Fenced)):
                cluster.simulation.fail(f"I1 durable: {self.name} does not start: {error}")
            self.exit()
            return
        self.server = ShardServer(self.shard, self.endpoint, self.loop, network=self.network)
        self.server.set_routes(keeper.supervisor.table())
        self.is_up = True
        cluster.simulation.note(f"{self.name} is up, epoch {self.shard.epoch} seq {self.shard.seq}")
        keeper.hears(keeper.up, self)
        await self._ended
        if self._drain.is_set() and self.shard.stopped is None:
            await self._drained()
        self.server.close(0 if self.shard.stopped else 1.0)
        await self.caller.close()
        await self.shard.close()
        self.exit()

    def drain(self) -> None:
        """SIGTERM."""
        self._drain.set()
        if not self._ended.done():
            self._ended.set_result(None)

    async def _drained(self) -> None:
        assert self.shard is not None
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self.shard.drain()
        except TimeoutError:
            self.cluster.simulation.note(f"{self.name} drains for too long")
        await asyncio.sleep(0.1)  # clients that have not heard yet are refused

    def _claim(self) -> Claim:
        keeper = self.keeper
        return Claim(
            host=f"shard-{keeper.shard}",
            node=keeper.supervisor.name,
            pid=self.pid,
            address=self.endpoint,
            shard=keeper.shard,
            shards=self.cluster.shards,
            acknowledged_seq=keeper.board.seq,
            term=keeper.supervisor.term,
        )

    def _lost(self, error: Exception) -> None:
        self.cluster.simulation.note(f"{self.name} is lost: {type(error).__name__}")
        if not isinstance(error, Fenced):
            self.cluster.simulation.fail(f"I11 accounting: {self.name} gave up: {error!r}")
        elif self.cluster.supervisor is self.keeper.supervisor and self.keeper.process is self:
            self.cluster.simulation.fail(f"I5 one instance: {self.name} lost its rows, and nobody took them")
        if not self._ended.done():
            self._ended.set_result(None)

    def exit(self) -> None:
        """The process ends by itself."""
        self.kill()

    def kill(self) -> None:
        if not self.loop.dead:
            super().kill()
            self.is_up = False
            self.keeper.hears(self.keeper.died, self)


class Keeper:
    """One shard as its supervisor sees it."""

    def __init__(self, supervisor: Supervisor, shard: int) -> None:
        self.supervisor = supervisor
        self.cluster = supervisor.cluster
        self.shard = shard
        self.board = self.cluster.boards[shard]
        self.restarts = Restarts()
        self.state = "starting"
        self.process: ShardProcess | None = None
        self._incarnations = 0

    def hears(self, what: Any, process: ShardProcess) -> None:
        """Something is told to the supervisor, over a pipe or by the kernel."""
        self.cluster.simulation.later(0.0005, self._hear, what, process)

    def _hear(self, what: Any, process: ShardProcess) -> None:
        if not self.supervisor.loop.dead and process is self.process:
            self.supervisor.loop.call_soon(what, process)

    def start(self) -> None:
        """A new incarnation."""
        if self.supervisor.loop.dead or self.process is not None:
            return
        self._incarnations += 1
        self.process = ShardProcess(self, self._incarnations)

    def up(self, process: ShardProcess) -> None:
        """It serves."""
        self.restarts.came_up(self.cluster.simulation.now)
        self.state = "up"
        self.supervisor.announce()

    def died(self, process: ShardProcess) -> None:
        """It is gone, for certain."""
        was_draining = self.state == "draining"
        self.process = None
        self.state = "down"
        self.supervisor.announce()
        delay = 0.0 if was_draining else self.restarts.died(self.cluster.simulation.now)
        self.supervisor.loop.call_later(delay, self.start)

    def drain(self) -> None:
        """A planned restart."""
        process = self.process
        if process is not None and process.is_up and self.state == "up":
            self.state = "draining"
            self.supervisor.announce()
            process.loop.call_soon(process.drain)
            self.cluster.simulation.later(DRAIN_SECONDS + 1.0, process.kill)

    def watch(self, process: ShardProcess, seconds: float) -> None:
        """The watchdog: a process that stands still for so long is killed."""

        def look() -> None:
            if process.loop.frozen and not self.supervisor.loop.dead and not process.loop.dead:
                self.cluster.count_fault("watchdog kill")
                process.kill()

        self.cluster.simulation.later(seconds, look)

    def route(self) -> ShardRoute:
        process = self.process
        reachable = process is not None and process.is_up and self.state in ("up", "draining")
        first, end = (found := partitions_of_shard(self.shard, self.cluster.shards)).start, found.stop
        endpoint = process.endpoint if process is not None and reachable else ""
        epoch = process.shard.epoch if process is not None and process.shard is not None else 0
        return ShardRoute(self.shard, endpoint, epoch, (first, end), self.state, process.pid if process else 0)


class Supervisor(Process):
    """Who rules the store, keeps the shards, and tells clients the way."""

    def __init__(self, cluster: Cluster, *, takeover: bool) -> None:
        cluster.supervisors += 1
        super().__init__(cluster, f"supervisor-{cluster.supervisors}")
        self.term = 0
        self.keepers: list[Keeper] = []
        self.version = 0
        self._takeover = takeover
        self._reception: Reception | None = None
        self.start(self._run)

    async def _run(self) -> None:
        control = MemoryControl(self.cluster.database.world)
        # On the machine of its predecessor, whose process is gone, it need not wait; from another one it must.
        world = self.cluster.database.world
        if self._takeover and world.ruler is not None:
            world.ruler = replace(world.ruler, boot="another machine")
        holder = Holder(self.name, BOOT, 1, -self.cluster.supervisors)
        self.term = await self._acquire(control, holder)
        self.cluster.simulation.note(f"{self.name} rules, term {self.term}")
        self.keepers = [Keeper(self, shard) for shard in range(self.cluster.shards)]
        self._reception = Reception(
            self.loop, table=self.table, operations={}, on_acknowledged=lambda _: None, network=self.network
        )
        self._reception.open(DOOR)
        for keeper in self.keepers:
            keeper.start()
        self.announce()

    async def _acquire(self, control: MemoryControl, holder: Holder) -> int:
        """Over a connection that works in the end: the statement, then what comes after it."""
        while True:
            try:
                await self.cluster.database.ask(self.loop, lambda: None)
                return await control.acquire(holder, takeover=self._takeover)
            except Broken:
                await asyncio.sleep(0.1)

    def table(self) -> RoutingTable:
        shards = [keeper.route() for keeper in self.keepers]
        return RoutingTable(self.name, self.version, PARTITIONS, shards, "simulated")

    def announce(self) -> None:
        """Something changed: all clients are told, sooner or later."""
        self.version += 1
        delay = self.cluster.route_delay()
        if delay:
            self.loop.call_later(delay, self._announce)
        else:
            self._announce()

    def _announce(self) -> None:
        assert self._reception is not None
        self._reception.announce()
