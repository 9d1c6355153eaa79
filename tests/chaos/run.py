"""One run on one store, by phases: calm, fault and heal again and again, and at the end the reading of everything."""

from __future__ import annotations

import asyncio
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tests.chaos import at_rest, load
from tests.chaos.checker import Violation, check
from tests.chaos.final import Final
from tests.chaos.gaps import NEVER, recoveries
from tests.chaos.gaps import Strike as Gap
from tests.chaos.gauge import Gauge
from tests.chaos.nemesis import Nemesis, Strike
from tests.chaos.plan import Plan, cards_of, loses_messages
from tests.chaos.records import InMemory, Op, Recorded
from tests.chaos.rig import RECOVERY_SECONDS, Rig, now
from tests.support.eventually import eventually
from tests.support.server import is_alive

CLIENTS = 2
"""One of each kind: with keys of its own, and with keys of its engine."""
IN_FLIGHT = 40
"""Operations of each client at a time."""
CALM_OPERATIONS = 2000
"""So many at a time when nothing but operations is wanted any more, and at the end."""
VISITORS_OPERATIONS = 300
LIVENESS_SECONDS = 30.0
"""For a loaded machine; what it took is in the report."""


@dataclass(frozen=True)
class Wanted:
    """How long a run goes on: until the time is up, and all counts are reached."""

    seconds: float
    counts: dict[str, int] = field(default_factory=dict)
    """kills, stops, restarts, cuts and operations; what a store cannot have is left out."""
    only: tuple[str, ...] = ()
    """Faults; all when there are none."""


@dataclass
class Record:
    """What a run leaves besides its history; enough to check it again."""

    store: str
    seed: int
    shards: int
    seconds: float = 0.0
    strikes: list[Strike] = field(default_factory=list)
    gauged: list[Op] = field(default_factory=list)
    """Successes of callers that each knew one shard alone."""
    final: Final = field(default_factory=Final)
    failures: list[Violation] = field(default_factory=list)
    """Faults that did not strike, or from which the server did not recover."""
    outcomes: dict[str, int] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    """Kind of fault: seconds until clients were served again, sorted."""

    def save(self, folder: Path) -> None:
        """Beside the history."""
        (folder / "record.json").write_bytes(msgspec.json.encode(self))

    @classmethod
    def read(cls, folder: Path) -> Record:
        """What `save` wrote."""
        return msgspec.json.decode((folder / "record.json").read_bytes(), type=cls)

    def judge(self, folder: Path) -> None:
        """Read the history and say what is wrong with it."""
        history = Recorded(history_of(folder))
        self.violations = [*self.failures, *check(history, self.final)]
        self.outcomes = dict(Counter(op.outcome for op in history.ops()))
        strikes = [
            Gap(strike.at, shard, strike.kind, strike.replaces) for strike in self.strikes for shard in strike.shards
        ]
        found = recoveries(InMemory(self.gauged), strikes, self.shards)
        # A shard that never came back is a violation of its own; without an answer here is what struck last of all.
        self.recoveries = {kind: [each for each in seconds if each < NEVER] for kind, seconds in found.items()}


def history_of(folder: Path) -> Path:
    """Where the clients of a run write."""
    return folder / "history"


class Work:
    """The clients as the nemesis sees them."""

    def __init__(self, clients: load.Load, gauge: Gauge) -> None:
        self._clients = clients
        self._gauge = gauge

    def until_heard(self) -> None:
        """Until each shard has answered somebody anew."""
        self._gauge.until_heard()

    def advance(self, by: int) -> None:
        """Until so many more operations were acknowledged."""
        advance(self._clients, by)

    def visit(self) -> None:
        """A client that has connected just now writes where the others do."""
        self._clients.visit(VISITORS_OPERATIONS)


def advance(clients: load.Load, by: int) -> None:
    """Until so many more operations were acknowledged."""
    goal = clients.progress().acknowledged + by
    eventually(
        lambda: clients.progress().acknowledged >= goal,
        timeout=RECOVERY_SECONDS,
        state=clients.progress,
    )


Tell = Callable[[str], None]


class Run:
    """One run; `record` tells of it when `go` has returned."""

    def __init__(self, folder: Path, store: str, *, seed: int, shards: int, wanted: Wanted, tell: Tell) -> None:
        self.record = Record(store, seed, shards)
        self._folder = folder
        self._wanted = wanted
        self._tell = tell
        self._began = time.monotonic()
        self._told = 0.0

    def go(self) -> Record:
        """From start to judgement. Whatever goes wrong is a violation, and the end of the faults."""
        record = self.record
        history_of(self._folder).mkdir()
        with Rig(self._folder, record.store, record.shards, load.SETTINGS) as rig:
            clients = load.Load(
                rig.url, history_of(self._folder), seed=record.seed, clients=CLIENTS, in_flight=IN_FLIGHT
            )
            try:
                with clients:
                    with Gauge(rig.url, rig.witnesses) as gauge:
                        record.gauged = gauge.ops
                        self._harm(Nemesis(rig, Work(clients, gauge)), clients)
                    self._finish(rig, clients)
                self._read_at_rest(rig)
            except Exception as error:
                self._failed("I9", "the end of the run", error)
            for number, server in enumerate(rig.servers):
                (self._folder / f"server-{number}.txt").write_text(server.log)
        record.seconds = time.monotonic() - self._began
        record.save(self._folder)
        record.judge(self._folder)
        record.save(self._folder)
        return record

    def _harm(self, nemesis: Nemesis, clients: load.Load) -> None:
        name = "the start"
        try:
            for name, chance in self._faults(nemesis, clients):
                self._note(name)
                self._strike(nemesis, name, chance)
                self._progress(nemesis, clients)
        except Exception as error:
            self._failed("I9", name, error)
            nemesis.rig.heal()
        self.record.strikes = nemesis.strikes
        self.record.final.faults = dict(nemesis.dealt)

    def _strike(self, nemesis: Nemesis, name: str, chance: random.Random) -> None:
        begun = now()
        try:
            nemesis.do(name, chance)
        finally:
            if loses_messages(name):
                self.record.final.storms.append((begun, now()))

    def _faults(self, nemesis: Nemesis, clients: load.Load) -> Iterator[tuple[str, random.Random]]:
        plan = Plan(self.record.store, self.record.seed, self._wanted.only)
        yield from plan.first()
        while (wanting := self._wanting(nemesis, clients)) or self._is_early():
            if wanting == {"operations"} and not self._is_early():
                nemesis.work.advance(CALM_OPERATIONS)
                self._progress(nemesis, clients)
                continue
            for dealt in plan.following(set() if self._is_early() else wanting):
                yield dealt
                now = self._wanting(nemesis, clients)
                if not self._is_early() and (now != wanting or not now):
                    break

    def _wanting(self, nemesis: Nemesis, clients: load.Load) -> set[str]:
        counts = {**nemesis.counts, "operations": clients.progress().acknowledged}
        return {name for name, goal in self._wanted.counts.items() if counts.get(name, 0) < goal}

    def _is_early(self) -> bool:
        return time.monotonic() - self._began < self._wanted.seconds

    def _finish(self, rig: Rig, clients: load.Load) -> None:
        final = self.record.final
        self._tell("final: everything is healed; the clients go on in peace, and settle what they began")
        rig.until_served()
        final.calm_since = now()
        advance(clients, CALM_OPERATIONS)
        final.healed_at, final.liveness_seconds = time.time(), LIVENESS_SECONDS
        final.shards = self.record.shards
        clients.finish(final)
        final.ended_at = time.time()
        final.memory, final.accounts.queues = load.gather(rig.url)
        final.accounts.leaks += [f"{address} was parked" for address in rig.ask("statistics")["parked"]]

    def _read_at_rest(self, rig: Rig) -> None:
        leaks = self.record.final.accounts.leaks
        processes = [rig.server.pid, *rig.server.descendants()]
        status = rig.server.stop()
        if status != 0:
            leaks.append(f"the server ended with {status}")
        leaks += [f"process {pid} still runs" for pid in processes if is_alive(pid)]
        leaks += [f"{path.name} is left" for path in self._folder.glob("engine-*.sock*")]
        if rig.proxy is not None:
            statement = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'durable-engine%'"
            eventually(lambda: rig.sql(statement) == [], timeout=RECOVERY_SECONDS, state=lambda: rig.sql(statement))
        self.record.final.store = asyncio.run(at_rest.read_at_rest(rig.store, self.record.shards))

    def _note(self, name: str) -> None:
        """To be laid beside the logs."""
        with (self._folder / "faults.txt").open("a") as file:
            file.write(f"{datetime.now(UTC).isoformat(sep=' ', timespec='milliseconds')} {name}\n")

    def _failed(self, invariant: str, where: str, error: Exception) -> None:
        text = "".join(traceback.format_exception(error))
        self._tell(f"{where}: {text}")
        self.record.failures.append(Violation(invariant, where, text[-4000:]))

    def _progress(self, nemesis: Nemesis, clients: load.Load) -> None:
        seconds = time.monotonic() - self._began
        if seconds - self._told < 5:
            return
        self._told, progress = seconds, clients.progress()
        counts = ", ".join(f"{count} {name}" for name, count in sorted(nemesis.counts.items()))
        self._tell(f"{seconds:5.0f} s: {progress.acknowledged:,} acknowledged, {progress.errors:,} errors; {counts}")


def counted(store: str) -> set[str]:
    """What can be counted on a store."""
    return {card.counts_for for card in cards_of(store)} - {""} | {"operations"}
