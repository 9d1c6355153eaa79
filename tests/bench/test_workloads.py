"""Workloads tell when the objects do not show what was acknowledged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from durable_bench.errors import NoFlights
from durable_bench.load import closed_loop
from durable_bench.objects import Counter, Customer, Document, Hub, Link, Record
from durable_bench.workloads import WORKLOADS, BaseWorkload, LostUpdate, Share
from durable_bench.workloads.base import Ledger, in_portions, stored_ids
from durable_bench.workloads.choices import coin, kinds, uniform, zipfian
from durable_bench.workloads.counters import Spread
from durable_engine import CallTimeout, Engine, Overloaded
from examples.flights.objects import Aircraft, Airport, Carrier

Spoil = Callable[[Engine, BaseWorkload], Awaitable[Any]]

CLASSES = [Counter, Customer, Document, Hub, Link, Record, Aircraft, Airport, Carrier]


def increment(engine: Engine, workload: BaseWorkload) -> Awaitable[Any]:
    return engine.at(Counter, workload.ids()[0]).increment()


def update(engine: Engine, workload: BaseWorkload) -> Awaitable[Any]:
    return engine.at(Record, workload.ids()[0]).update("field0", "x")


def insert(engine: Engine, workload: BaseWorkload) -> Awaitable[Any]:
    return engine.at(Record, workload.ids()[0] + "-again").insert({"field0": "x"})


def touch(engine: Engine, workload: BaseWorkload) -> Awaitable[Any]:
    return engine.at(Document, workload.ids()[0]).touch()


SPOILT: dict[str, Spoil] = {
    **dict.fromkeys(("spread", "hot", "zipf", "mixed", "alone", "keys", "embedded"), increment),
    **dict.fromkeys(("cold", "cold-storm"), increment),
    "new": lambda engine, workload: engine.at(Counter, f"new-{workload.share.run}-0-1").increment(),
    **dict.fromkeys(("state-1k", "state-10k", "state-100k"), touch),
    "fan-out": lambda engine, workload: engine.at(Counter, f"{workload.ids()[0]}-0").increment(),
    "chain": lambda engine, workload: engine.at(Link, f"{workload.ids()[0]}-0").pass_on([]),
    **dict.fromkeys(("ycsb-a", "ycsb-b", "ycsb-f"), update),
    **dict.fromkeys(("ycsb-d", "ycsb-e"), insert),
    "smallbank": lambda engine, workload: engine.at(Customer, workload.ids()[0]).deposit_checking(1),
    "flights": lambda engine, _: engine.at(Airport, "JFK").arrive(0),
}
"""What nobody was told of, behind the back of each workload that writes."""
READING = {"reads", "embedded-reads", "ycsb-c"}


@asynccontextmanager
async def run(name: str, path: Path, share: Share = Share()) -> AsyncIterator[tuple[Engine, BaseWorkload]]:  # noqa: B008
    """An engine, and a workload with few objects that has had two repetitions."""
    workload = WORKLOADS[name](share, objects=20)
    async with Engine(f"sqlite:///{path}", objects=CLASSES, exactly_once=workload.exactly_once) as engine:
        await workload.prepare(engine)
        for _ in range(2):
            await workload.again()
            sample = await closed_loop(workload.operation, in_flight=4, seconds=0.03)
            assert sample.calls > 0
            assert not sample.errors
            workload.settle(sample)
        yield engine, workload


def test_each_workload_is_spoilt_below_unless_it_writes_nothing() -> None:
    """A new one has to say how a lost change would be seen."""
    assert SPOILT.keys() | READING == WORKLOADS.keys()


@pytest.mark.parametrize("name", WORKLOADS)
async def test_a_workload_shows_what_was_acknowledged(name: str, tmp_path: Path) -> None:
    """After two repetitions, whatever its mix; one that changes nothing says 0."""
    async with run(name, tmp_path) as (_, workload):
        found = await workload.verify()
    assert (found > 0) == (name not in READING | {"cold", "cold-storm"})
    assert workload.title


@pytest.mark.parametrize("name", SPOILT)
async def test_a_change_that_nobody_was_told_of_is_noticed(name: str, tmp_path: Path) -> None:
    """One of them is enough, so that a lost one would be as well."""
    async with run(name, tmp_path) as (engine, workload):
        await SPOILT[name](engine, workload)
        with pytest.raises(LostUpdate, match=name):
            await workload.verify()


@pytest.mark.parametrize(("name", "kind"), [("spread", "calls"), ("ycsb-a", "updates"), ("smallbank", "cents")])
async def test_a_lost_change_is_noticed(name: str, kind: str, tmp_path: Path) -> None:
    """One more acknowledged than there is."""
    async with run(name, tmp_path) as (_, workload):
        workload.ledger.sure[kind] += 1
        with pytest.raises(LostUpdate, match=rf"{name}: -?\d+ {kind} acknowledged, but -?\d+ found"):
            await workload.verify()


def test_a_ledger_allows_for_calls_whose_outcome_is_unknown_and_no_others() -> None:
    """A timeout may have happened; what was refused has not."""
    ledger = Ledger()
    ledger.sure["calls"] = 10
    ledger.failed("calls", CallTimeout())
    ledger.failed("calls", Overloaded())
    ledger.failed("calls", CallTimeout(outcome="applied"))

    assert [ledger.check("spread", "calls", found) for found in (11, 12)] == [11, 11]
    for found in (10, 13):
        with pytest.raises(LostUpdate, match="11 calls acknowledged and 1 of unknown outcome"):
            ledger.check("spread", "calls", found)
    assert Ledger.read(ledger.written()) == ledger


async def test_the_books_of_two_clients_are_one(tmp_path: Path) -> None:
    """Each books its own calls, and either can verify with both books."""
    async with Engine(f"sqlite:///{tmp_path}", objects=[Counter]) as engine:
        first, second = (Spread(Share(client, 2), objects=10) for client in (0, 1))
        await first.prepare(engine)
        await second.attach(engine)
        assert await first.operation() == await second.operation() == 1, "they begin at different objects"
        first.ledger.sure["calls"] = 1
        other = Ledger()
        other.sure["calls"] = 1
        first.ledger.add(other)
        assert await first.verify() == 2


async def test_cold_objects_are_not_in_memory_before_a_repetition(tmp_path: Path) -> None:
    """Each client drops its part, and calls each of them once."""
    async with run("cold", tmp_path, Share(1, 2)) as (engine, workload):
        ids = workload.ids()
        await workload.again()
        there = [one is not None for one in await in_portions(engine.where(Counter, each) for each in ids)]
        assert there == [True, False] * 10
        assert (await closed_loop(workload.operation, in_flight=3, seconds=30)).calls == 10
        assert all(one is not None for one in await in_portions(engine.where(Counter, each) for each in ids))


async def test_large_states_are_as_large_as_they_say(tmp_path: Path) -> None:
    """In what is stored; and no two are alike, which a store might make use of."""
    async with run("state-10k", tmp_path) as (engine, workload):
        states = [await engine.state(Document, object_id) for object_id in workload.ids()[:2]]
    texts = [state.text for state in states if state is not None]
    assert [len(text) for text in texts] == [10 * 1024] * 2
    assert texts[0] != texts[1]


async def test_records_have_ten_fields_of_a_hundred_bytes(tmp_path: Path) -> None:
    """Also after updates and read-modify-writes, and where they were inserted by the mix."""
    for name in ("ycsb-a", "ycsb-d", "ycsb-f"):
        async with run(name, tmp_path / name) as (engine, _):
            for object_id in await stored_ids(engine, Record, name):
                fields = await engine.at(Record, object_id).read()
                assert [len(value) for value in fields.values()] == [100] * 10


async def test_flights_need_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than in a clone the error says where they are."""
    monkeypatch.chdir(tmp_path)
    async with Engine("memory://", objects=CLASSES) as engine:
        with pytest.raises(NoFlights, match="folder of a clone"):
            await WORKLOADS["flights"]().prepare(engine)


def test_zipf_prefers_the_first_ranks() -> None:
    """With theta 0.99 over 1,000 the first is wanted in 13 % of all choices, a thousand times the last one."""
    choices = zipfian(1000, seed=3)
    drawn = [next(choices) for _ in range(100_000)]

    assert drawn.count(0) / len(drawn) == pytest.approx(0.132, abs=0.01)
    assert 0 <= min(drawn) <= max(drawn) <= 999
    assert drawn[:50] == [rank for rank, _ in zip(zipfian(1000, seed=3), range(50), strict=False)]


def test_choices_are_what_they_say() -> None:
    """Numbers within their bounds, and kinds as often as their weights."""
    numbers, tosses, chosen = uniform(10, seed=1, least=1), coin(0.2, seed=1), kinds([0.7, 0.3], seed=1)

    assert {next(numbers) for _ in range(1_000)} == set(range(1, 11))
    assert sum(next(tosses) for _ in range(10_000)) == pytest.approx(2_000, rel=0.1)
    assert sum(next(chosen) for _ in range(10_000)) == pytest.approx(3_000, rel=0.1)
