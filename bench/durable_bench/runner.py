"""A run: stores, servers and scenarios, one after the other, and what they gave."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from durable_bench import objects as bench_objects
from durable_bench.alarms import ALARMS, COUNT, punctuality
from durable_bench.clients import Load
from durable_bench.experiments.catalogue import EXPERIMENTS
from durable_bench.measure import Place, measure
from durable_bench.memory import MEMORY, OBJECTS, weigh
from durable_bench.results import Results
from durable_bench.server import served
from durable_bench.stores import fresh_store, temporary_directory
from durable_bench.workloads import WORKLOADS, BaseWorkload, Share
from durable_engine import Engine

TIMEOUT_SECONDS: Final = 60.0
"""Of a call: longer than any queue that an overload builds up, so that latencies are measured and not cut off."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured, and how; the defaults are those of the command."""

    scenarios: Sequence[str]
    stores: Sequence[str]
    shards: Sequence[int] = (1,)
    in_flight: Sequence[int] = ()
    """Callers of closed loops; none: as each scenario says."""
    rates: Sequence[float] = ()
    """Calls per second of open loops, which take the place of closed ones."""
    arrivals: str = "constant"
    clients: int = 1
    repetitions: int = 3
    seconds: float = 3.0
    objects: int | None = None
    alarms: int = COUNT
    postgres: str | None = None
    bind: str | None = None
    directory: Path | None = None
    seed: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        """For the file of results: all but where it lay."""
        kept = asdict(self)
        del kept["directory"], kept["postgres"]
        return kept | {"bind": self.bind or "ipc"}

    def loads(self, workload: BaseWorkload) -> list[Load]:
        """The loads that this workload is put under."""
        if self.rates:
            return [Load(None, rate, self.seconds, self.arrivals, self.seed) for rate in self.rates]
        numbers = [workload.in_flight] if workload.fixed or not self.in_flight else self.in_flight
        return [Load(number, None, self.seconds) for number in numbers]


class Run:
    """One run of a plan; `note` is told what is being measured."""

    def __init__(self, plan: Plan, note: Callable[[str], None]) -> None:
        self._plan = plan
        self._note = note
        self.results = Results(plan.settings)

    async def run(self) -> Results:
        """Measure everything. Raises BenchError, and what the engine raises."""
        embedded = [name for name in self._plan.scenarios if name in WORKLOADS and WORKLOADS[name].embedded]
        apart = [name for name in self._plan.scenarios if name not in (*MEMORY, *EXPERIMENTS, *embedded)]
        for store in self._plan.stores:
            for shards in self._plan.shards if apart else ():
                with self._store(store) as (url, directory):
                    await self._on_a_server(apart, store, url, directory, shards)
            if embedded:
                with self._store(store) as (url, directory):
                    await self._in_this_process(embedded, store, url, directory)
        await self._memory()
        for name in (name for name in self._plan.scenarios if name in EXPERIMENTS):
            self.results.experiments += await EXPERIMENTS[name].run(self._plan, self._note)
        return self.results

    async def _on_a_server(self, names: Sequence[str], store: str, url: str, directory: Path, shards: int) -> None:
        bind = self._plan.bind or f"ipc://{directory / 'server'}"
        modules = dict.fromkeys(module for name in names for module in _modules(name))
        place = Place(store, shards, directory, bind)
        async with served(list(modules), url, directory, shards=shards, bind=bind):
            for name in names:
                if name in ALARMS:
                    await self._alarms(name, place)
                else:
                    workload = self._workload(name)
                    async with Engine.connect(
                        bind, exactly_once=workload.exactly_once, call_timeout=TIMEOUT_SECONDS
                    ) as engine:
                        await self._measure(workload, engine, place)

    async def _in_this_process(self, names: Sequence[str], store: str, url: str, directory: Path) -> None:
        place = Place(store, 0, directory)
        for name in names:
            workload = self._workload(name)
            async with Engine(
                url,
                objects=[bench_objects.__name__],
                migrate=True,
                exactly_once=workload.exactly_once,
                call_timeout=TIMEOUT_SECONDS,
            ) as engine:
                await self._measure(workload, engine, place)

    async def _measure(self, workload: BaseWorkload, engine: Engine, place: Place) -> None:
        loads = self._plan.loads(workload)
        points = f", {len(loads)} loads" if len(loads) > 1 else ""
        self._note(f"{_where(place)}: {workload.title}{points} ...")
        self.results.measurements += await measure(
            workload, engine, place, loads, repetitions=self._plan.repetitions, clients=self._plan.clients
        )

    async def _alarms(self, name: str, place: Place) -> None:
        self._note(f"{_where(place)}: {ALARMS[name]} ...")
        assert place.url is not None
        async with Engine.connect(place.url, call_timeout=TIMEOUT_SECONDS) as engine:
            plan = self._plan
            self.results.alarms.append(
                await punctuality(engine, name, place, _share(plan), alarms=plan.alarms, repetitions=plan.repetitions)
            )

    async def _memory(self) -> None:
        with temporary_directory(self._plan.directory) as directory:
            for name in self._plan.scenarios:
                if name in MEMORY:
                    self._note(f"{name}: {MEMORY[name]} ...")
                    objects = self._plan.objects or OBJECTS
                    self.results.memory.append(
                        await weigh(name, directory, objects=objects, repetitions=self._plan.repetitions)
                    )

    def _workload(self, name: str) -> BaseWorkload:
        return WORKLOADS[name](_share(self._plan), self._plan.objects)

    @contextmanager
    def _store(self, kind: str) -> Iterator[tuple[str, Path]]:
        """URL and folder of a fresh store, which is gone afterwards."""
        with (
            temporary_directory(self._plan.directory) as directory,
            fresh_store(kind, directory, self._plan.postgres) as url,
        ):
            yield url, directory


def _share(plan: Plan) -> Share:
    return Share(seed=plan.seed, run=secrets.token_hex(4))


def _modules(name: str) -> tuple[str, ...]:
    return WORKLOADS[name].modules if name in WORKLOADS else (bench_objects.__name__,)


def _where(place: Place) -> str:
    return f"{place.store}, {place.shards} shards" if place.shards > 1 else place.store
