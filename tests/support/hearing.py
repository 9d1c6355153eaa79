"""A handler of events that remembers them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from durable_storage import telemetry


class Event(NamedTuple):
    """One event as its handler got it."""

    name: str
    measurements: dict[str, Any]
    metadata: dict[str, Any]


@dataclass(eq=False)
class Ear:
    """Attached for the duration of a test."""

    heard: list[Event] = field(default_factory=list)

    def __call__(self, name: str, measurements: dict[str, Any], metadata: dict[str, Any]) -> None:
        self.heard.append(Event(name, measurements, metadata))

    @property
    def names(self) -> list[str]:
        """In the order heard."""
        return [event.name for event in self.heard]

    def one(self, name: str) -> Event:
        """The only event of this name."""
        [event] = [event for event in self.heard if event.name == name]
        return event

    def take(self) -> list[str]:
        """The names heard since the last time."""
        names = self.names
        self.heard.clear()
        return names


@contextmanager
def hearing(*patterns: str) -> Iterator[Ear]:
    """An ear for these events."""
    ear = Ear()
    telemetry.attach(ear, *patterns)
    try:
        yield ear
    finally:
        telemetry.detach(ear)
