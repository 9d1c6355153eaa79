"""Workloads tell when the objects do not show what was acknowledged."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable_bench.load import closed_loop
from durable_bench.objects import Counter
from durable_bench.workloads import WORKLOADS, LostUpdate, Share
from durable_bench.workloads.base import Ledger
from durable_bench.workloads.choices import zipfian
from durable_bench.workloads.counters import Spread
from durable_engine import CallTimeout, Engine, Overloaded

COUNTERS = ["spread", "hot", "zipf", "reads", "mixed", "alone", "new", "keys"]


@pytest.mark.parametrize("name", COUNTERS)
async def test_counters_show_what_was_acknowledged_and_a_lost_increment_is_noticed(name: str, tmp_path: Path) -> None:
    """Each of them is right after a run, and wrong when one increment more is claimed or was made."""
    workload = WORKLOADS[name](objects=20)
    async with Engine(f"sqlite:///{tmp_path}", objects=[Counter], exactly_once=workload.exactly_once) as engine:
        await workload.prepare(engine)
        for _ in range(2):
            await workload.again()
            workload.settle(await closed_loop(workload.operation, in_flight=4, seconds=0.03))
        found = await workload.verify()

        assert (found > 0) == (name != "reads")
        if name != "reads":
            workload.ledger.sure["calls"] += 1
            with pytest.raises(LostUpdate, match=f"{name}: {found + 1} calls acknowledged, but {found} found"):
                await workload.verify()
            workload.ledger.sure["calls"] -= 2
            with pytest.raises(LostUpdate, match=f"{found} found"):
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


def test_zipf_prefers_the_first_ranks() -> None:
    """With theta 0.99 over 1,000 the first is wanted in 13 % of all choices, a thousand times the last one."""
    choices = zipfian(1000, seed=3)
    drawn = [next(choices) for _ in range(100_000)]

    assert drawn.count(0) / len(drawn) == pytest.approx(0.132, abs=0.01)
    assert 0 <= min(drawn) <= max(drawn) <= 999
    assert drawn[:50] == [rank for rank, _ in zip(zipfian(1000, seed=3), range(50), strict=False)]
