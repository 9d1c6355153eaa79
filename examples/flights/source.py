"""The flights as they are recorded, and what they must add up to.

The count uses nothing but dictionaries, so that it can contradict the engine.
"""

from __future__ import annotations

import csv
import gzip
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

DAY = Path(__file__).parent / "data" / "flights-2013-01-01.csv"

Row = dict[str, str]
Totals = dict[tuple[str, str], Counter[str]]
"""(class, id) to what that object must have counted."""


@dataclass(frozen=True, slots=True)
class Flight:
    """One line of the file. None is what nobody wrote down."""

    scheduled: datetime
    carrier: str
    aircraft: str | None
    origin: str
    destination: str
    cancelled: bool
    landed: bool
    departure_delay: int
    arrival_delay: int
    air_minutes: int
    miles: int

    @classmethod
    def from_row(cls, row: Row) -> Flight:
        """A flight without departure time was cancelled; one without arrival time was never seen to land."""
        return cls(
            scheduled=datetime.fromisoformat(row["time_hour"]),
            carrier=row["carrier"],
            aircraft=row["tailnum"] or None,
            origin=row["origin"],
            destination=row["dest"],
            cancelled=not row["dep_time"],
            landed=bool(row["arr_time"]),
            departure_delay=_minutes(row["dep_delay"]),
            arrival_delay=_minutes(row["arr_delay"]),
            air_minutes=_minutes(row["air_time"]),
            miles=int(row["distance"]),
        )


def read_rows(path: Path) -> list[Row]:
    """The lines of a file of flights, `.csv` or `.csv.gz`."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


def count(rows: Iterable[Row]) -> Totals:
    """What every aircraft, airport and airline must have counted after these flights."""
    totals: Totals = defaultdict(Counter)
    for row in rows:
        carrier, origin = totals["Carrier", row["carrier"]], totals["Airport", row["origin"]]
        # Cancelled flights often have no tail number: they count for the airline and the airport alone.
        aircraft = totals["Aircraft", row["tailnum"]] if row["tailnum"] else Counter[str]()
        if row["dep_time"] == "":
            for counter in (carrier, origin, aircraft):
                counter["cancelled"] += 1
            continue
        for counter in (carrier, aircraft):
            counter["flights"] += 1
            counter["delay_minutes"] += _minutes(row["dep_delay"])
            counter["air_minutes"] += _minutes(row["air_time"])
            counter["miles"] += int(row["distance"])
        origin["departures"] += 1
        origin["departure_delay_minutes"] += _minutes(row["dep_delay"])
        if row["arr_time"]:
            destination = totals["Airport", row["dest"]]
            destination["arrivals"] += 1
            destination["arrival_delay_minutes"] += _minutes(row["arr_delay"])
    return dict(totals)


def _minutes(text: str) -> int:
    """Unknown minutes count as none."""
    return int(text) if text else 0
