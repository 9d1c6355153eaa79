"""All experiments, by the names that the command takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from durable_bench.experiments import fairness, heap, knee, parts, scaling, startup
from durable_bench.experiments.outcome import Note, Outcome

if TYPE_CHECKING:
    from durable_bench.runner import Plan


@dataclass(frozen=True, slots=True)
class Experiment:
    """What it is for, and how it is run: with the plan of the command, on each of its stores."""

    title: str
    run: Callable[[Plan, Note], Awaitable[list[Outcome]]]


EXPERIMENTS: Final[dict[str, Experiment]] = {
    "fairness": Experiment(fairness.TITLE, fairness.run),
    "startup": Experiment(startup.TITLE, startup.run),
    "scaling": Experiment(scaling.TITLE, scaling.run),
    "parts": Experiment(parts.TITLE, parts.run),
    "knee": Experiment(knee.TITLE, knee.run),
    "memory": Experiment(heap.TITLE, heap.run),
}
