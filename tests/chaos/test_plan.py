"""The plan of faults is the seed's, deals every fault, and names none that does not exist."""

from __future__ import annotations

from itertools import islice

import pytest

from tests.chaos.nemesis import FAULTS
from tests.chaos.plan import Plan, cards_of


def dealt(store: str, seed: int) -> list[tuple[str, float]]:
    """The first faults of a plan, each with the first of its random numbers."""
    plan = Plan(store, seed)
    hands = [*plan.first(), *islice(plan.following(set()), 50), *islice(plan.following({"cuts"}), 5)]
    return [(name, chance.random()) for name, chance in hands]


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_a_seed_decides_the_plan(store: str) -> None:
    """The same one the same plan, to the details of each fault; another one another."""
    assert dealt(store, 7) == dealt(store, 7)
    assert dealt(store, 7) != dealt(store, 8)


def test_every_fault_is_dealt_and_every_card_is_a_fault() -> None:
    """None is forgotten, on neither side."""
    assert {card.name for store in ("sqlite", "postgresql") for card in cards_of(store)} == set(FAULTS)


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_a_short_run_has_each_fault_once(store: str) -> None:
    """But for the few that take too long; in the decks that follow they are, too."""
    plan = Plan(store, 1)

    first = [name for name, _ in plan.first()]

    assert len(first) == len(set(first))
    late = {card.name for card in cards_of(store)} - set(first)
    assert late == {card.name for card in cards_of(store) if not card.first}
    assert late <= {name for name, _ in plan.following(set())}


def test_what_was_done_often_enough_is_left_out() -> None:
    """Cuts are wanting: no more kills, stops and restarts, but all that nobody counts."""
    names = {name for name, _ in Plan("postgresql", 3).following({"cuts"})}

    assert names == {card.name for card in cards_of("postgresql") if card.counts_for in ("cuts", "")}


def test_single_faults_can_be_asked_for() -> None:
    """Also those that the first deck leaves out."""
    assert [name for name, _ in Plan("postgresql", 3, ["black_hole_past_deadline"]).first()] == [
        "black_hole_past_deadline"
    ]
