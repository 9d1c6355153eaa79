"""Faults of what stands before the shards: clients' links, and the supervisor."""

from __future__ import annotations

from durable_engine import link, supervisor
from tests.plants.plant import Bed
from tests.plants.surgery import rewrite

bed = Bed()


@bed.plant(
    "clients believe replies of an older epoch than they have seen",
    attacks="P1, I10",
    catcher="tests/engine/test_frontend_faults.py::test_replies_of_an_ended_ownership_are_dropped",
    reason="DID NOT RAISE CallTimeout",
)
def replies_of_older_epochs() -> None:
    rewrite(link.Link._on_replies, ("if body.epoch < self.epoch:", "if False:"))


@bed.plant(
    "calls that are sent again after a broken connection overtake each other",
    attacks="P8",
    catcher="tests/engine/test_frontend_faults.py::test_calls_keep_their_order_over_a_crash",
    reason=r"assert \[0, 1, 2",
)
def resent_out_of_order() -> None:
    rewrite(link.Link._freshen, ("key=lambda call: call.id)", "key=lambda call: -call.id)"))


@bed.plant(
    "calls under way to a shard that died wait for their deadline instead of being told or sent again",
    attacks="I9",
    catcher="tests/engine/test_frontend_faults.py::test_a_call_whose_shard_died_is_of_unknown_outcome",
    reason="CallTimeout",
)
def calls_of_the_dead_hang() -> None:
    rewrite(link.Link._lost, ("in_flight, self.in_flight = self.in_flight, {}", "in_flight: dict[int, Pending] = {}"))


@bed.plant(
    "the supervisor does not tell a new shard what the one before has acknowledged",
    attacks="P2, I1",
    catcher="tests/crash/test_refused_starts.py"
    "::test_a_store_that_lost_commits_is_refused_until_the_loss_is_accepted[sqlite]",
    reason="a store that has less than a client was told is served",
)
def acknowledged_forgotten() -> None:
    rewrite(
        supervisor.Supervisor._shard_config,
        ("acknowledged_seq=keeper.acknowledged_seq or None", "acknowledged_seq=None"),
    )
