"""What a run has found, and the file it is kept in: JSON of a format with a number, histograms included.

Tables, charts and comparisons are made from this alone, so that they can be made again from a file.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from durable_bench.errors import NotAResult
from durable_bench.experiments.outcome import Outcome
from durable_bench.histogram import Histogram, Percentiles, merged
from durable_bench.load import Sample
from durable_bench.machine import machine

FORMAT: Final = 2
"""Raised when a file of another one could be misread. 1 was of the first release, with histograms of its own."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number, measured several times."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """(highest - lowest) / median: what part of a difference may be noise."""
        return (max(self.values) - min(self.values)) / self.median if self.median else 0.0

    def overlaps(self, other: Figure) -> bool:
        """Whether some repetition of the one lies between those of the other."""
        return min(self.values) <= max(other.values) and min(other.values) <= max(self.values)


@dataclass(frozen=True, slots=True)
class Repetition:
    """One `Sample`, in the form that is kept."""

    calls: int
    seconds: float
    latency: Percentiles
    client_us: float
    shards_us: float
    errors: dict[str, int]
    behind_ms: float
    behind_max_ms: float
    histogram: str
    """HDR V2, base64."""

    @classmethod
    def of(cls, sample: Sample) -> Repetition:
        return cls(
            calls=sample.calls,
            seconds=sample.seconds,
            latency=sample.histogram.percentiles(),
            client_us=sample.client_us,
            shards_us=sample.shards_us,
            errors=sample.errors,
            behind_ms=sample.behind_ms,
            behind_max_ms=sample.behind_max_ms,
            histogram=sample.histogram.encode(),
        )

    @property
    def per_second(self) -> float:
        return self.calls / self.seconds


@dataclass(frozen=True, slots=True)
class Measurement:
    """All repetitions of one scenario under one load."""

    scenario: str
    title: str
    store: str
    shards: int
    """Processes; 0: the objects lived in the process of the caller."""
    clients: int
    in_flight: int | None
    """Callers of a closed loop."""
    rate: float | None
    """Calls per second of an open loop."""
    objects: int
    verified: int
    """Acknowledged changes that were then found in the objects, warm-ups and the loads before this one included."""
    repetitions: list[Repetition]
    floor: int | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """What must be the same for two of them to be compared."""
        return (self.scenario, self.store, self.shards, self.clients, self.in_flight, self.rate)

    @property
    def load(self) -> str:
        """In words that fit into a column: callers of a closed loop, or the rate of an open one."""
        return f"{self.in_flight:,}" if self.rate is None else f"{self.rate:,.0f}/s"

    def figure(self, of: Callable[[Repetition], float]) -> Figure:
        return Figure([of(each) for each in self.repetitions])

    @property
    def rates(self) -> Figure:
        """Acknowledged calls per second."""
        return self.figure(lambda each: each.per_second)

    def latency(self, name: str) -> Figure:
        """By the name of a field of `Percentiles`."""
        return self.figure(lambda each: float(getattr(each.latency, name)))

    @property
    def histogram(self) -> Histogram:
        """Of all repetitions together."""
        return merged(Histogram.decode(each.histogram) for each in self.repetitions)

    @property
    def errors(self) -> dict[str, int]:
        names = {name for each in self.repetitions for name in each.errors}
        return {name: sum(each.errors.get(name, 0) for each in self.repetitions) for name in sorted(names)}


@dataclass(frozen=True, slots=True)
class Round:
    """All alarms of one repetition."""

    lateness: Percentiles
    """From the time an alarm was due until its method ran."""
    seconds: float
    """From the time the first was due until the last was fired, on disk."""
    histogram: str
    calls: Repetition | None
    """What callers saw meanwhile."""


@dataclass(frozen=True, slots=True)
class Punctuality:
    """All repetitions of one scenario of alarms."""

    scenario: str
    store: str
    shards: int
    alarms: int
    rounds: list[Round]
    floor: int | None = None
    """Alarms fired in a second that the project holds itself to on two cores."""
    late_p99_ms_max: float | None = None
    """The p99 of lateness, likewise."""

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.scenario, self.store, self.shards, self.alarms)

    @property
    def rates(self) -> Figure:
        """Fired per second."""
        return Figure([self.alarms / each.seconds for each in self.rounds])

    def lateness(self, name: str) -> Figure:
        """By the name of a field of `Percentiles`."""
        return Figure([float(getattr(each.lateness, name)) for each in self.rounds])


@dataclass(frozen=True, slots=True)
class Weight:
    """All weighings of objects in one state."""

    scenario: str
    objects: int
    grown_bytes: list[int]
    """By how much resident memory grew, each time."""

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.scenario, self.objects)

    @property
    def bytes_each(self) -> Figure:
        return Figure([grown / self.objects for grown in self.grown_bytes])


@dataclass(slots=True)
class Results:
    """One run."""

    settings: dict[str, Any]
    measurements: list[Measurement] = field(default_factory=list)
    alarms: list[Punctuality] = field(default_factory=list)
    memory: list[Weight] = field(default_factory=list)
    experiments: list[Outcome] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=machine)
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    format: int = FORMAT

    def document(self) -> dict[str, Any]:
        """Everything, and the medians beside it for those who read without this module."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        for written, one in zip(content["measurements"], self.measurements, strict=True):
            written["median"] = {"per_second": one.rates.median, "spread": one.rates.spread} | {
                name: one.latency(name).median for name in Percentiles.__slots__
            }
        for written, alarm in zip(content["alarms"], self.alarms, strict=True):
            written["median"] = {"per_second": alarm.rates.median, "late_p99_ms": alarm.lateness("p99_ms").median}
        for written, weight in zip(content["memory"], self.memory, strict=True):
            written["median"] = {"bytes_each": weight.bytes_each.median}
        return content


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """One file a run; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")


def read(path: Path) -> Results:
    """What was written. Raises NotAResult."""
    try:
        content = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise NotAResult(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict) or "format" not in content:
        raise NotAResult(f"{path} is no result of durable-engine bench: it has no format")
    if content["format"] != FORMAT:
        raise NotAResult(f"{path} has format {content['format']}, and this release reads {FORMAT}: measure it again")
    try:
        return msgspec.convert(content, Results)
    except msgspec.ValidationError as error:
        raise NotAResult(f"{path} is no result of durable-engine bench: {error}") from None
