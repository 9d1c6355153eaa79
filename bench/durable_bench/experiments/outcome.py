"""What an experiment has found: tables, curves and sentences, of plain values so that they rest in a run's file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable_bench.results import Figure


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table as it is shown. The first `names` columns are words, the others numbers."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    names: int = 1


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of a chart: medians, and the lowest and highest repetition at each place."""

    label: str
    xs: list[float]
    ys: list[float]
    lows: list[float]
    highs: list[float]

    @classmethod
    def of(cls, label: str, xs: Sequence[float], figures: Sequence[Figure]) -> Curve:
        """From several repetitions at each place."""
        return cls(
            label,
            list(xs),
            [one.median for one in figures],
            [min(one.values) for one in figures],
            [max(one.values) for one in figures],
        )


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart: what its axes are, and its curves."""

    name: str
    title: str
    x: str
    y: str
    curves: list[Curve]
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one experiment on one store."""

    experiment: str
    store: str
    sheets: list[Sheet]
    pictures: list[Picture] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    """Sentences: what was asked for, and whether it holds."""
    figures: dict[str, list[float]] = field(default_factory=dict)
    """Every repetition of what the tables show medians of."""

    @property
    def key(self) -> tuple[str, ...]:
        """What must be the same for two of them to be compared."""
        return (self.experiment, self.store)


Note = Callable[[str], None]
"""Told what is being measured."""
