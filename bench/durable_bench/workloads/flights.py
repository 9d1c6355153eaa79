"""A day of real flights (examples/flights), again and again: every aircraft, airport and airline is an object.

A call of this workload is one flight, which is up to four calls, one after the other. Three airports take all
departures, so that there are hot objects beside many cold ones. The example is part of a clone, and not of the package.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Awaitable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from durable_bench.errors import LostUpdate, NoFlights
from durable_bench.workloads.base import BaseWorkload
from durable_engine import Engine


class Flights(BaseWorkload):
    """The day is divided between the clients."""

    name = "flights"
    title = "a day of real flights, again and again: a call is a flight"
    group = "flights"
    modules = ("examples/flights/objects.py",)
    exactly_once = True
    in_flight = 64

    _next: Iterator[int] = iter(())

    async def prepare(self, engine: Engine) -> None:
        """What the objects have counted before."""
        await self.attach(engine)
        self._before = await self._feed.read_totals(engine, self._source.count(self._rows))

    async def attach(self, engine: Engine) -> None:
        """Read the file. Raises NoFlights."""
        self.engine = engine
        self._feed, self._source = (_example(name) for name in ("feed", "source"))
        self._rows = self._source.read_rows(self._source.DAY)
        self._flights = [self._source.Flight.from_row(row) for row in self._rows]
        self.objects = len(self._source.count(self._rows))

    def operation(self) -> Awaitable[Any]:
        """The next flight of this client."""
        number = next(self._next, None)
        if number is None:
            self._next = iter(self.own(range(len(self._flights))))
            number = next(self._next)
        return self.counted(str(number), self._feed.record(self.engine, self._flights[number]))

    async def verify(self) -> int:
        """Each object has counted what a few dictionaries count from the same lines. Raises LostUpdate."""
        unsure = sum(self.ledger.maybe.values())
        if unsure:
            raise LostUpdate(f"{self.name}: {unsure} flights are of unknown outcome, so that totals say nothing")
        told = [row for number, times in self.ledger.sure.items() for row in [self._rows[int(number)]] * times]
        expected = self._source.count(told)
        after = await self._feed.read_totals(self.engine, self._before)
        for address, counted in self._feed.difference(after, self._before).items():
            if counted != expected.get(address, Counter()):
                raise LostUpdate(f"{self.name}: {address} counted {dict(counted)}, and not {dict(expected[address])}")
        return len(told)


def _example(name: str) -> Any:
    if not Path("examples/flights/objects.py").is_file():
        raise NoFlights
    if str(Path.cwd()) not in sys.path:  # as the command installs itself it is not
        sys.path.append(str(Path.cwd()))
    return import_module(f"examples.flights.{name}")
