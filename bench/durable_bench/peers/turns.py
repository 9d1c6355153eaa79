"""The run: peer after peer, and that again and again, so that what the machine does meanwhile strikes all alike.

In its turn a peer is started on what it stored before, warmed up, given every load, asked for the counts, and stopped:
while one is measured, no other takes processor time or writes to the disk. The first turn of each is not counted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from durable_bench.peers.kills import kill
from durable_bench.peers.peer import NotAvailable, Peer, Running
from durable_bench.peers.processes import cpu_seconds
from durable_bench.peers.results import Key, Measured, PeerResult, Seen
from durable_bench.peers.scenarios import SCENARIOS, Scenario
from durable_bench.peers.syncs import watch

Say = Callable[[str], None]
FILL_SECONDS = 30.0
"""For the first call of each of the 1,000 ids."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured."""

    scenarios: Sequence[str]
    callers: Sequence[int] = (64,)
    seconds: float = 2.0
    """Of each load; a warm-up takes half of it."""
    repetitions: int = 5
    watch: bool = False
    """Count the syncs of each peer, in a turn that is not measured."""
    kill: bool = False
    """Kill each peer with -9 under load, last of all."""

    def keys(self) -> list[Key]:
        """Every scenario with every number of callers, in the order of a turn; `alone` has one.

        `cold` brings `new` along, whose ids it reads a turn later.
        """
        wanted = {*self.scenarios, "new"} if "cold" in self.scenarios else {*self.scenarios}
        return [
            Key(scenario.name, callers)
            for scenario in SCENARIOS.values()
            if scenario.name in wanted
            for callers in ((1,) if scenario.alone else self.callers)
        ]


async def run(peers: Sequence[Peer], plan: Plan, directory: Path, cache: Path, say: Say) -> list[PeerResult]:
    """Install what can be installed, and measure it in turns; state rests below `directory`."""
    results = {peer.name: PeerResult(peer.name, peer.durability, peer.packages) for peer in peers}
    for peer in peers:
        _prepare(directory / peer.name)
        say(f"{peer.name}: installing")
        await _guarded(results[peer.name], peer.install(cache / peer.name), say)
    for turn in range(plan.repetitions + 1):
        for peer in peers:
            result = results[peer.name]
            if result.unavailable is None:
                say(f"{peer.name}: {f'turn {turn} of {plan.repetitions}' if turn else 'first turn, not counted'}")
                await _guarded(result, _take(peer, result, plan, turn, directory / peer.name, cache / peer.name), say)
    for peer in peers:
        result, folder, installed = results[peer.name], directory / peer.name, cache / peer.name
        if plan.watch and result.unavailable is None:
            say(f"{peer.name}: watching its syncs")
            result.seen = await _watch(peer, result, plan, folder, installed)
        if plan.kill and result.unavailable is None:
            say(f"{peer.name}: kill -9 under load")
            result.killed = await kill(peer, folder, installed)
    return list(results.values())


async def _watch(peer: Peer, result: PeerResult, plan: Plan, folder: Path, installed: Path) -> Seen:
    """What was seen, or why nothing: a peer that was measured stays measured."""
    try:
        async with peer.start(folder, installed) as running:
            await _warm_up(peer, running, result, plan, plan.repetitions)
            seen = await watch(running, result.books, max(plan.callers), folder)
            await _verify(running, result, plan.repetitions)
            return seen
    except Exception as error:
        return Seen(reason=f"{type(error).__name__}: {error}")


def _prepare(folder: Path) -> None:
    """A folder of a peer's own, which a PostgreSQL server of another user may enter."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)


async def _guarded(result: PeerResult, doing: Awaitable[None], say: Say) -> None:
    """A peer that fails is told, whatever it fails with, and the others go on."""
    try:
        await doing
    except NotAvailable as error:
        result.unavailable = str(error)
    except Exception as error:
        result.unavailable = f"{type(error).__name__}: {error}"
    if result.unavailable is not None:
        say(f"{result.name}: left out from here on: {result.unavailable}")


async def _take(peer: Peer, result: PeerResult, plan: Plan, turn: int, folder: Path, installed: Path) -> None:
    async with peer.start(folder, installed) as running:
        await _warm_up(peer, running, result, plan, turn)
        for key in plan.keys() if turn else _fills(plan):
            if key.scenario in peer.scenarios:
                await _measure(running, result, key, turn, plan.seconds)
        await _verify(running, result, turn)


def _fills(plan: Plan) -> list[Key]:
    """What the first turn leaves for the second: the ids that `cold` reads."""
    return [Key("new", callers) for callers in plan.callers] if "cold" in plan.scenarios else []


async def _warm_up(peer: Peer, running: Running, result: PeerResult, plan: Plan, turn: int) -> None:
    """Neither compilers nor caches are measured as they fill; all ids of `spread` exist."""
    load = SCENARIOS["spread"].load(turn, max(plan.callers), plan.seconds / 2)
    if turn and "reads" in peer.scenarios:
        # Some take a second to have a thousand objects in memory, and that is what `cold` is for.
        await running.drive(replace(load, operation="read", once=True, seconds=plan.seconds))
    if "spread" in peer.scenarios:
        adds = replace(load, once=True, seconds=FILL_SECONDS) if turn == 0 else load
        result.books.enter(adds, await running.drive(adds))
    if "reads" in peer.scenarios:
        await running.drive(replace(load, operation="read"))


async def _measure(running: Running, result: PeerResult, key: Key, turn: int, seconds: float) -> None:
    scenario: Scenario = SCENARIOS[key.scenario]
    load = scenario.load(turn, key.callers, seconds)
    if scenario.name == "cold":
        load = replace(load, count=result.books.ids.get(load.prefix, 0))
    before = cpu_seconds(running.servers)
    outcome = await running.drive(load)
    if scenario.operation == "add":
        result.books.enter(load, outcome)
    if turn and outcome.calls:
        measured = Measured(turn, outcome, cpu_seconds(running.servers) - before)
        result.series.setdefault(key, []).append(measured)
    elif not outcome.calls:
        raise NotAvailable(f"no call of {key.scenario} was answered: {dict(outcome.errors)}")


async def _verify(running: Running, result: PeerResult, turn: int) -> None:
    """Ask for all counts, those of this turn's new ids and of the last one's included."""
    books = result.books
    for prefix, ids in books.ids.items():
        if prefix.startswith("new-") and not prefix.startswith((f"new-{turn}-", f"new-{turn - 1}-")):
            continue
        books.found[prefix] = await running.total(prefix, ids)
