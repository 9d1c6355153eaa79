"""Faults of planned changes: how one process of a shard gives way to another."""

from __future__ import annotations

import contextlib
from typing import Any

from durable_engine import keeper, link, reloading, renewal
from durable_shards import former, shard
from durable_storage.errors import DurableError
from tests.plants.plant import Bed
from tests.plants.surgery import rewrite

bed = Bed()

FORMER = "tests/shards/test_former.py::"
RENEWAL = "tests/engine/test_renewal.py::"


# The process that gives way.


@bed.plant(
    "a shard counts as drained while turns that it has taken in still run",
    attacks="P10",
    catcher="tests/shards/test_turns.py::test_draining_finishes_what_was_begun_and_takes_nothing_new",
    reason="assert not True",
)
def drained_while_turns_run() -> None:
    rewrite(shard.Shard.drain, ("while self.stopped is None and not self.settled:", "while False:"))


@bed.plant(
    "a shard counts as settled while answers still wait to leave, and they are never given",
    attacks="P10",
    catcher="tests/shards/test_gate_hard.py::test_answers_that_wait_for_the_lease_leave_before_a_drain_ends",
    reason="assert not True",
)
def settled_before_its_answers() -> None:
    rewrite(shard.Shard.settled.fget, ("not self.gate.waiting and all(", "all("))  # type: ignore[attr-defined]


@bed.plant(
    "the process that gave way leaves calls that come too late without an answer",
    attacks="P10",
    catcher=FORMER + "test_a_late_call_is_refused_as_certainly_not_run",
    reason=r"assert \[\] == \[1, 2\]",
)
def late_call_unanswered() -> None:
    rewrite(former.FormerShard.receive, ("peer.fail(call, NotOwner(", "str(NotOwner("))


@bed.plant(
    "the process that gave way refuses a call that comes too late, and has its successor run it as well",
    attacks="P10, I2",
    catcher=FORMER + "test_a_late_call_is_refused_as_certainly_not_run",
    reason=r"assert \[\('Counter', .* == \[\]",
)
def late_call_runs_twice() -> None:
    rewrite(former.FormerShard.receive, ("else:", "else:\n            self._kept.append(call)"))


@bed.plant(
    "clients take the refusal of a process that gave way for the outcome of their call",
    attacks="P10",
    catcher="tests/engine/test_frontend_faults.py::test_refused_calls_time_out",
    reason="NotOwner",
)
def late_call_fails() -> None:
    rewrite(link.Link._on_error, ('if type(value) is dict and value.get("type") == "NotOwner":', "if False:"))


# The process that follows.


@bed.plant(
    "the successor begins as soon as the process before it was told to drain, and fences it off from its last turns",
    attacks="P10",
    catcher=RENEWAL + "test_the_next_process_begins_when_the_one_before_has_sealed_itself",
    reason="it begins while the one before it may still run turns",
)
def successor_begins_early() -> None:
    rewrite(
        renewal._renew,
        ('keeper.leave("restart", drain_seconds)', 'keeper.leave("restart", drain_seconds); keeper.succeed()'),
    )


@bed.plant(
    "the successor is not told what the process before it has acknowledged",
    attacks="P10, P2, I1",
    catcher=RENEWAL + "test_the_next_process_begins_when_the_one_before_has_sealed_itself",
    reason=r"Begin\(acknowledged_seq=None",
)
def successor_begins_unknowing() -> None:
    rewrite(keeper.ShardKeeper.succeed, ("self.acknowledged_seq or None", "None"))


@bed.plant(
    "a reload rolls on to the next shard although one did not come up",
    attacks="P10",
    catcher=RENEWAL + "test_a_reload_ends_with_the_first_shard_that_does_not_come_up",
    reason="it goes on to the next shard",
)
def reload_rolls_on() -> None:
    async def renew_or_not(*arguments: Any) -> None:
        with contextlib.suppress(DurableError):
            await renewal.renew(*arguments)

    rewrite(reloading.Reload._roll, ("await renew(", "await renew_or_not("), renew_or_not=renew_or_not)
