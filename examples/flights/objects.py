"""Every aircraft, airport and airline is a durable object, and every flight is a few calls to them.

Serve them with `durable-engine run examples/flights/objects.py` and feed them with
`python -m examples.flights.replay`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from durable_engine import DurableObject, handler


@dataclass(frozen=True)
class AircraftTotals:
    flights: int
    cancelled: int
    delay_minutes: int
    air_minutes: int
    miles: int


@dataclass(frozen=True)
class AirportTotals:
    departures: int
    arrivals: int
    cancelled: int
    departure_delay_minutes: int
    arrival_delay_minutes: int


@dataclass(frozen=True)
class CarrierTotals:
    flights: int
    cancelled: int
    delay_minutes: int
    air_minutes: int
    miles: int


@dataclass(frozen=True)
class Sighting:
    airport: str
    at: datetime


class Aircraft(DurableObject):
    """One airframe, by its tail number."""

    flights: int = 0
    cancelled: int = 0
    delay_minutes: int = 0
    air_minutes: int = 0
    miles: int = 0
    last_seen: Sighting | None = None

    @handler
    def fly(self, origin: str, at: datetime, delay: int, air_minutes: int, miles: int) -> int:
        """It took off; the reply is how many flights it has made."""
        self.flights += 1
        self.delay_minutes += delay
        self.air_minutes += air_minutes
        self.miles += miles
        if self.last_seen is None or at >= self.last_seen.at:
            self.last_seen = Sighting(origin, at)
        return self.flights

    @handler
    def cancel(self) -> None:
        """It was scheduled and stayed where it was."""
        self.cancelled += 1

    @handler(readonly=True)
    def totals(self) -> AircraftTotals:
        return AircraftTotals(self.flights, self.cancelled, self.delay_minutes, self.air_minutes, self.miles)

    @handler(readonly=True)
    def whereabouts(self) -> Sighting | None:
        """Where and when it last took off from New York."""
        return self.last_seen


class Airport(DurableObject):
    """One airport, by its three letters. JFK, LGA and EWR are hot: each takes a third of all departures."""

    departures: int = 0
    arrivals: int = 0
    cancelled: int = 0
    departure_delay_minutes: int = 0
    arrival_delay_minutes: int = 0

    @handler
    def depart(self, delay: int) -> int:
        self.departures += 1
        self.departure_delay_minutes += delay
        return self.departures

    @handler
    def arrive(self, delay: int) -> int:
        self.arrivals += 1
        self.arrival_delay_minutes += delay
        return self.arrivals

    @handler
    def cancel(self) -> None:
        """A departure that did not happen."""
        self.cancelled += 1

    @handler(readonly=True)
    def totals(self) -> AirportTotals:
        return AirportTotals(
            self.departures,
            self.arrivals,
            self.cancelled,
            self.departure_delay_minutes,
            self.arrival_delay_minutes,
        )


class Carrier(DurableObject):
    """One airline, by its two-letter code."""

    flights: int = 0
    cancelled: int = 0
    delay_minutes: int = 0
    air_minutes: int = 0
    miles: int = 0

    @handler
    def operate(self, delay: int, air_minutes: int, miles: int) -> int:
        self.flights += 1
        self.delay_minutes += delay
        self.air_minutes += air_minutes
        self.miles += miles
        return self.flights

    @handler
    def cancel(self) -> None:
        self.cancelled += 1

    @handler(readonly=True)
    def totals(self) -> CarrierTotals:
        return CarrierTotals(self.flights, self.cancelled, self.delay_minutes, self.air_minutes, self.miles)
