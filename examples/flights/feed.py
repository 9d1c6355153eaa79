"""Flights become calls, and the objects' answers become totals."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable

from durable_engine import Engine
from examples.flights.objects import Aircraft, Airport, Carrier
from examples.flights.source import Flight, Totals

IN_FLIGHT = 64
"""Flights fed at the same time; each waits for one reply at a time."""
TIMEOUT_SECONDS = 30.0
"""Longer than any restart of a shard: with `exactly_once` the client keeps trying until then."""

CLASSES: dict[str, type[Aircraft] | type[Airport] | type[Carrier]] = {
    "Aircraft": Aircraft,
    "Airport": Airport,
    "Carrier": Carrier,
}


async def record(engine: Engine, flight: Flight) -> None:
    """Tell everyone concerned about one flight."""
    carrier = engine.at(Carrier, flight.carrier, timeout=TIMEOUT_SECONDS)
    origin = engine.at(Airport, flight.origin, timeout=TIMEOUT_SECONDS)
    aircraft = engine.at(Aircraft, flight.aircraft, timeout=TIMEOUT_SECONDS) if flight.aircraft else None
    if flight.cancelled:
        await carrier.cancel()
        await origin.cancel()
        if aircraft:
            await aircraft.cancel()
        return
    await carrier.operate(flight.departure_delay, flight.air_minutes, flight.miles)
    await origin.depart(flight.departure_delay)
    if aircraft:
        await aircraft.fly(flight.origin, flight.scheduled, flight.departure_delay, flight.air_minutes, flight.miles)
    if flight.landed:
        await engine.at(Airport, flight.destination, timeout=TIMEOUT_SECONDS).arrive(flight.arrival_delay)


async def feed(engine: Engine, flights: Iterable[Flight], done: Callable[[], None] = lambda: None) -> None:
    """Record all flights, a bounded number of them at a time; `done` is called after each."""
    waiting = iter(flights)

    async def take() -> None:
        for flight in waiting:
            await record(engine, flight)
            done()

    async with asyncio.TaskGroup() as feeders:
        for _ in range(IN_FLIGHT):
            feeders.create_task(take())


async def read_totals(engine: Engine, addresses: Iterable[tuple[str, str]]) -> Totals:
    """What the objects say they have counted, asked of them through the engine."""
    waiting = iter(addresses)
    totals: Totals = {}

    async def ask() -> None:
        for kind, name in waiting:
            reply = await engine.at(CLASSES[kind], name, timeout=TIMEOUT_SECONDS).totals()
            totals[kind, name] = Counter(dataclasses.asdict(reply))

    async with asyncio.TaskGroup() as readers:
        for _ in range(IN_FLIGHT):
            readers.create_task(ask())
    return totals


def difference(after: Totals, before: Totals) -> Totals:
    """What was counted in between."""
    changed: Totals = {}
    for address, counter in after.items():
        changed[address] = counter.copy()
        changed[address].subtract(before[address])
    return changed
