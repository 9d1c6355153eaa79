"""What a planted fault is, and how it gets into a process."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VARIABLE: Final = "DURABLE_TEST_PLANT"
"""Names the plant that a process of a test begins with."""


@dataclass(frozen=True, slots=True)
class Plant:
    """One fault of the engine."""

    name: str
    breaks: str
    """What is wrong with it, in a sentence."""
    attacks: str
    """The promises (P) and invariants (I) that it breaks."""
    grow: Callable[[], None]
    """Puts it into this process, for good. Raises NoGround."""
    catcher: str
    """The quickest test that fails because of it."""
    reason: str
    """A pattern of what that test says then."""


class Bed:
    """Plants by name, in the order in which they are declared."""

    def __init__(self) -> None:
        self.plants: dict[str, Plant] = {}

    def plant(
        self, breaks: str, *, attacks: str, catcher: str, reason: str
    ) -> Callable[[Callable[[], None]], Callable[[], None]]:
        """Declare the fault that a function plants; it is called like the function."""

        def declare(grow: Callable[[], None]) -> Callable[[], None]:
            name = grow.__name__
            assert name not in self.plants, f"two plants are called {name}"
            self.plants[name] = Plant(name, breaks, attacks, grow, catcher, reason)
            return grow

        return declare


def all_plants() -> dict[str, Plant]:
    """Every plant there is."""
    from tests.plants import clients, handovers, shards, stores

    return stores.bed.plants | shards.bed.plants | clients.bed.plants | handovers.bed.plants


def grow_from_environment() -> None:
    """Put the plant into this process that the environment names, if it names one. Raises NoGround, KeyError."""
    if name := os.environ.get(VARIABLE):
        all_plants()[name].grow()


def path_of_plants() -> list[str]:
    """What a server has to find on its path so that it begins with the plant of this process, if there is one."""
    return [str(Path(__file__).parent / "site")] if os.environ.get(VARIABLE) else []
