"""Which faults come in which order: decided by the seed alone, before anything happens.

Real processes make no run like another, but the faults, their order, their victims and their lengths are the seed's.
They are dealt like cards: the first deck holds each fault once, so that even a short run shows them all; the decks that
follow hold the frequent ones many times. When only some counts are wanting still, what counts for others is left out.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

FEW = 10
"""Somebody asked for these and no others, so they come first as well."""
Store = str
"""sqlite or postgresql."""


@dataclass(frozen=True)
class Card:
    """A kind of fault, and how often it lies in a deck."""

    name: str
    times: int
    counts_for: str = ""
    """kills, stops, restarts or cuts."""
    first: bool = True
    """Whether it lies in the first deck, too."""


PROCESSES = (
    Card("kill", 30, "kills"),
    Card("kill_all", 3, "kills"),
    Card("kill_in_recovery", 4, "kills"),
    Card("crash_before_commit", 4, "kills"),
    Card("crash_after_commit", 4, "kills"),
    Card("crash_before_load", 2, "kills"),
    Card("crash_before_fire", 2, "kills"),
    Card("kill_while_another_hangs", 5, "stops"),
    Card("hang", 2, "stops"),
    Card("pause", 10, "stops"),
    Card("kill_fork_server", 1),
    Card("kill_supervisor", 1),
    Card("take_over_stopped", 1),
    Card("spin", 1),
    Card("memory_bomb", 1),
    Card("slow_reader", 1),
    Card("planned_restart", 2),
    Card("kill_while_draining", 2, "kills"),
    Card("reload", 1),
    Card("kill_while_reloading", 1, first=False),
    Card("stop_and_start", 1, first=False),
    Card("kill_while_stopping", 1),
)
DATABASE = (
    Card("postgres_restart", 40, "restarts"),
    Card("postgres_restart_and_kill", 4, "restarts"),
    Card("terminate_backends", 3),
    Card("cut_in_commit", 6, "cuts"),
    Card("lose_answer_of_commit", 6, "cuts"),
    Card("late_commit", 6, "cuts"),
    Card("duplicate_commit", 4, "cuts"),
    Card("delay_commit", 1),
    Card("strike_anywhere", 4),
    Card("cut_everything", 2),
    Card("black_hole", 2),
    Card("black_hole_one_way", 2),
    Card("black_hole_past_deadline", 1, first=False),
    Card("slow_network", 1),
)


DISORDERLY = ("memory_bomb", "slow_reader")
"""They may have a shard refuse what it would have done, and live on."""


def loses_messages(name: str) -> bool:
    """Whether a turn may fail by this fault though its shard lives on: nobody repeats one-way calls."""
    return name in DISORDERLY or name in {card.name for card in DATABASE}


def cards_of(store: Store) -> tuple[Card, ...]:
    """The faults that a store can have."""
    return PROCESSES if store == "sqlite" else PROCESSES + DATABASE


class Plan:
    """Deals the faults of one run."""

    def __init__(self, store: Store, seed: int, only: Collection[str] = ()) -> None:
        self._cards = [card for card in cards_of(store) if not only or card.name in only]
        self._chance = random.Random(f"{seed}/{store}")

    def first(self) -> list[tuple[str, random.Random]]:
        """Each fault once; with each, the randomness of its details."""
        return self._deal([card.name for card in self._cards if card.first or len(self._cards) < FEW])

    def following(self, wanting: set[str]) -> Iterator[tuple[str, random.Random]]:
        """A deck; when something is `wanting`, without what counts for anything else."""
        kept = [card for card in self._cards if not wanting or card.counts_for in {"", *wanting}]
        yield from self._deal([card.name for card in kept for _ in range(card.times)])

    def _deal(self, names: list[str]) -> list[tuple[str, random.Random]]:
        self._chance.shuffle(names)
        return [(name, random.Random(self._chance.random())) for name in names]
