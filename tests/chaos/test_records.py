"""Records, recovery times, and how a client carries an operation through."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from durable_engine.errors import CallTimeout, DurableError, Overloaded, Unavailable
from tests.chaos.gaps import NEVER, Strike, longest_gaps, recoveries
from tests.chaos.objects import NotCovered
from tests.chaos.records import InMemory, Op, Recorded, Recorder
from tests.chaos.workload import Plan, Workload

SHOWN = [1, 77, 4711, 5]


def test_what_is_recorded_is_read_back(tmp_path: Path) -> None:
    """From the files of two clients, object by object, each of them once."""
    ops = [
        Op(0, "Log/a", "append", 1, True, 1.5, 2.25, "ok", [1, 4711], 5, 1),
        Op(0, "Log/é", "read", 0, False, 1.5, None, "unknown"),
        Op(1, "Log/a", "send", 1 << 40, False, 1.5, 2.0, "not_applied", ["full", 1, 2], 5, 1, "Log/b"),
    ]
    for client in (0, 1):
        record = Recorder(tmp_path, client)
        for op in ops:
            if op.client == client:
                record(op)
        record.close()

    recorded = Recorded(tmp_path)

    assert recorded.count == 3
    assert dict(recorded) == {"Log/a": [ops[0], ops[2]], "Log/é": [ops[1]]}


def test_recovery_is_counted_from_the_fault_to_the_next_success() -> None:
    """Of what began after it; after a restart, of what the new incarnation answered."""
    second = 1_000_000_000
    history = InMemory(
        [
            Op(0, "Log/a", "read", 0, False, 9.0, 10.5, "ok", epoch=second),  # began before
            Op(0, "Log/a", "read", 0, False, 10.1, 10.9, "not_applied"),
            Op(0, "Log/a", "read", 0, False, 10.2, 11.5, "ok", epoch=second),
            Op(0, "Log/a", "read", 0, False, 10.3, 11.0, "ok", epoch=second),
            Op(0, "Log/a", "read", 0, False, 9.5, 12.0, "ok", epoch=11 * second),
        ]
    )
    strikes = [Strike(10.0, 0, "cut", False), Strike(10.0, 0, "kill", True), Strike(20.0, 0, "cut", False)]

    assert recoveries(history, strikes, 1) == {"cut": [1.0, NEVER], "kill": [2.0]}


def test_the_longest_gap_of_a_kind_is_that_between_two_successes() -> None:
    """In the order of the answers; failures are none."""
    answers = [("read", 12.0, "ok"), ("read", 10.0, "ok"), ("read", 11.0, "not_applied"), ("append", 3.0, "ok")]
    history = InMemory([Op(0, "Log/a", kind, 0, False, 1.0, at, outcome) for kind, at, outcome in answers])  # type: ignore[arg-type]

    assert longest_gaps(history) == {"read": 2.0, "append": 0.0}


class Scripted:
    """An engine that answers one call after the other as it was told, and remembers their keys."""

    def __init__(self, *answers: Any) -> None:
        self.answers = [*answers]
        self.keys: list[str | None] = []

    async def call_by_name(self, *_: Any, idempotency_key: str | None, **__: Any) -> Any:
        self.keys.append(idempotency_key)
        answer = self.answers.pop(0)
        if isinstance(answer, DurableError):
            raise answer
        return answer


async def carry_through(engine: Any, tmp_path: Path, *, keyed: bool) -> tuple[Op, Workload]:
    work = Workload(engine, Recorder(tmp_path, 0), 0, random.Random(1), exactly_once=False)
    return await work.perform(Plan("Bank", 0, "transfer", [0, 1, 5]), "a", keyed=keyed), work


UNKNOWN, REFUSED = CallTimeout(), Overloaded()
REJECTED = NotCovered(shown=SHOWN)


@pytest.mark.parametrize(
    ("answers", "keyed", "outcome", "calls"),
    [
        ([SHOWN], False, "ok", 1),
        ([REFUSED], True, "not_applied", 1),
        ([UNKNOWN], False, "unknown", 1),
        ([UNKNOWN, SHOWN], True, "ok", 2),
        ([UNKNOWN, REFUSED, UNKNOWN, SHOWN], True, "ok", 4),
        ([UNKNOWN, REJECTED], True, "not_applied", 2),
        ([Unavailable(outcome="applied")], True, "applied", 1),
    ],
)
async def test_an_operation_with_a_key_is_repeated_until_the_truth_is_known(
    tmp_path: Path, answers: list[Any], keyed: bool, outcome: str, calls: int
) -> None:
    """After an unknown outcome a refusal says nothing; a rejection, which a turn gave, does."""
    engine = Scripted(*answers)

    op, work = await carry_through(engine, tmp_path, keyed=keyed)

    assert (op.outcome, op.answered is None) == (outcome, outcome == "unknown")
    assert len(engine.keys) == calls
    assert len({*engine.keys}) == 1
    assert (engine.keys[0] is not None) is keyed
    counts = work.counts
    assert (counts.calls, counts.replies + counts.errors, counts.in_flight) == (calls, calls, 0)


async def test_an_outcome_that_stays_unknown_is_given_up_at_the_end(tmp_path: Path) -> None:
    """Its record says so, and that it was never answered."""
    engine = Scripted(UNKNOWN, UNKNOWN, UNKNOWN)
    work = Workload(engine, Recorder(tmp_path, 0), 0, random.Random(1), exactly_once=False)  # type: ignore[arg-type]
    work.until = 0.0

    op = await asyncio.wait_for(work.perform(Plan("Log", 0, "append"), "a", keyed=True), 20)

    assert (op.outcome, op.answered, work.counts.unknown) == ("unknown", None, 1)
    assert len(engine.keys) == 1
