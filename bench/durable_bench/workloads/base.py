"""What a workload is: objects, calls to them, and a check that what was acknowledged is there.

A run is `prepare` once, `again` before each repetition, calls by `operation` under the load of the harness, `settle`
after each repetition, and `verify` at the end. With several client processes each has a workload of its own, told by
`Share` which part it plays; their ledgers are added up before one of them verifies.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar, Final, Protocol, TypeVar

from durable_bench.errors import LostUpdate
from durable_bench.load import Sample
from durable_engine import DurableError, DurableObject, Engine

T = TypeVar("T")

PREPARING: Final = 256
"""Calls at once while objects are made, looked at or dropped."""
CALLS: Final = "calls"
PAGE: Final = 10_000


@dataclass(frozen=True, slots=True)
class Share:
    """Which of several client processes this is; the seed of its random choices."""

    client: int = 0
    clients: int = 1
    seed: int = 0
    run: str = "0"
    """Part of the ids that are made anew in each run, so that a store may be used again."""

    @property
    def own_seed(self) -> int:
        """Different for each client, the same in each run."""
        return self.seed * 1_000 + self.client


@dataclass(slots=True)
class Ledger:
    """Changes that the objects must show, by kind: those that were acknowledged, and those of unknown outcome."""

    sure: Counter[str] = field(default_factory=Counter)
    maybe: Counter[str] = field(default_factory=Counter)

    def add(self, other: Ledger) -> None:
        """Book another client's changes as well."""
        for name, number in other.sure.items():
            self.sure[name] += number
        for name, number in other.maybe.items():
            self.maybe[name] += number

    def written(self) -> dict[str, dict[str, int]]:
        """For another process to `read`."""
        return {"sure": dict(self.sure), "maybe": dict(self.maybe)}

    @classmethod
    def read(cls, written: Mapping[str, Mapping[str, int]]) -> Ledger:
        """What `written` gave."""
        return cls(Counter(written["sure"]), Counter(written["maybe"]))

    def failed(self, kind: str, error: DurableError, number: int = 1) -> None:
        """Book a change whose call ended with an error, by what the error says of the state."""
        self.booked(kind, {error.outcome: number})

    def booked(self, kind: str, outcomes: Mapping[str, int]) -> None:
        """The same for many."""
        self.sure[kind] += outcomes.get("applied", 0)
        self.maybe[kind] += outcomes.get("unknown", 0)

    def check(self, workload: str, kind: str, found: int) -> int:
        """How many were acknowledged; raises LostUpdate unless just these were found, and perhaps some unknown ones."""
        sure, maybe = self.sure[kind], self.maybe[kind]
        if not sure <= found <= sure + maybe:
            unknown = f" and {maybe} of unknown outcome" if maybe else ""
            raise LostUpdate(f"{workload}: {sure} {kind} acknowledged{unknown}, but {found} found")
        return sure


class Workload(Protocol):
    """What the harness needs of a workload."""

    name: str
    title: str

    async def prepare(self, engine: Engine) -> None:
        """Make the objects, and the references that calls go through."""

    def operation(self) -> Awaitable[Any]:
        """Begin the next call. Raises Exhausted when this repetition has none left."""

    async def verify(self) -> int:
        """Compare the objects with the ledger; how many changes were found. Raises LostUpdate."""


class BaseWorkload:
    """A workload with the defaults filled in: the classes of this package are of it."""

    name: str = ""
    title: str = ""
    group: str = "counters"
    modules: tuple[str, ...] = ("durable_bench.objects",)
    """Modules or files that its server serves."""
    objects: int = 1_000
    in_flight: int = 256
    """Callers, each waiting for its reply before it calls again, unless the command line says otherwise."""
    exactly_once: bool = False
    """Whether each call carries an idempotency key."""
    embedded: bool = False
    """Whether the objects live in the process of the caller."""
    fixed: bool = False
    """Whether the number of callers is what the workload is about, and not to be changed."""
    floors: ClassVar[Mapping[str, int]] = {}
    """Calls per second that the project holds itself to on two cores, by store."""

    engine: Engine

    def __init__(self, share: Share = Share(), objects: int | None = None) -> None:
        self.share = share
        self.objects = objects or self.objects
        self.ledger = Ledger()

    async def prepare(self, engine: Engine) -> None:
        """Make references; most classes also make their objects first."""
        self.engine = engine

    async def attach(self, engine: Engine) -> None:
        """What a client process does in place of `prepare`: the objects are there."""
        await self.prepare(engine)

    async def again(self) -> None:
        """Before each repetition and its warm-up; not measured."""

    def operation(self) -> Awaitable[Any]:
        """Begin the next call."""
        raise NotImplementedError

    def settle(self, sample: Sample) -> None:
        """Book what a repetition has changed, where its calls are all alike; else `counted` does it."""

    async def verify(self) -> int:
        """Nothing was written, unless a class says otherwise."""
        return 0

    async def counted(self, kind: str, call: Awaitable[T]) -> T:
        """Wait for a call and book it as one change of this kind."""
        try:
            answer = await call
        except DurableError as error:
            self.ledger.failed(kind, error)
            raise
        self.ledger.sure[kind] += 1
        return answer

    def ids(self) -> list[str]:
        """Of all objects; they belong to this workload alone."""
        return [f"{self.name}-{self.share.run}-{number}" for number in range(self.objects)]

    def own(self, ids: Sequence[T]) -> Sequence[T]:
        """This client's part of them."""
        return ids[self.share.client :: self.share.clients]


async def stored_ids(engine: Engine, cls: type[DurableObject], beginning: str) -> list[str]:
    """All stored ids of a class that begin so."""
    found: list[str] = []
    while True:
        page = await engine.objects(cls, after=found[-1] if found else beginning, limit=PAGE)
        ours = [object_id for object_id in page if object_id.startswith(beginning)]
        found += ours
        if len(ours) < PAGE:
            return found


async def in_portions(calls: Iterable[Awaitable[T]], at_once: int = PREPARING) -> list[T]:
    """The answers of many calls, a bounded number of them under way: `calls` begins each when asked for it."""
    waiting, answers = iter(calls), []
    while portion := list(islice(waiting, at_once)):
        answers += await asyncio.gather(*portion)
    return answers
