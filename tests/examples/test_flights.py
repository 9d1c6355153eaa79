"""The example: its reading of dirty data, and the whole of it as `make run` runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from examples.flights.feed import difference
from examples.flights.source import DAY, Flight, count, read_rows

ROOT = Path(__file__).parents[2]
ONE_AT_A_TIME = pytest.mark.xdist_group("the usual port")
"""The example takes the usual port if it is free, which two of them at once may both find it to be."""


def test_the_shipped_day_has_its_dirt() -> None:
    """842 flights, 4 of them cancelled, one never seen to land."""
    flights = [Flight.from_row(row) for row in read_rows(DAY)]

    assert len(flights) == 842
    assert sum(flight.cancelled for flight in flights) == 4
    assert sum(not flight.cancelled and not flight.landed for flight in flights) == 1


def test_a_cancelled_flight_without_tail_number_counts_for_airline_and_airport_alone() -> None:
    """It is no departure, adds no miles, and invents no aircraft."""
    row = read_rows(DAY)[0] | {"dep_time": "", "tailnum": ""}

    assert count([row]) == {
        ("Carrier", row["carrier"]): Counter(cancelled=1),
        ("Airport", row["origin"]): Counter(cancelled=1),
    }


def test_totals_are_compared_as_differences() -> None:
    """What an earlier run counted does not matter."""
    after = {("Carrier", "UA"): Counter(flights=5, cancelled=1)}
    before = {("Carrier", "UA"): Counter(flights=3, cancelled=1)}

    assert difference(after, before) == {("Carrier", "UA"): Counter(flights=2)}


@ONE_AT_A_TIME
@pytest.mark.processes
def test_the_example_runs_twice_on_one_store_and_agrees_both_times(tmp_path: Path) -> None:
    """A server of its own, all flights through ZeroMQ, every total checked; the second run adds to the first."""
    for _ in range(2):
        done = replay("--store", f"sqlite:///{tmp_path}/data", "--log", str(tmp_path / "log"))

        assert done.returncode == 0, done.stdout + done.stderr + (tmp_path / "log").read_text()
        assert "OK: 752 of 752 aircraft, airports and carriers agree with the file" in done.stdout
        assert "call Airport JFK totals" in done.stdout


@ONE_AT_A_TIME
@pytest.mark.processes
def test_a_server_that_cannot_start_is_reported(tmp_path: Path) -> None:
    """The program ends with an error and the place of the log, and does not wait for ever."""
    done = replay("--store", "nosuch://store", "--log", str(tmp_path / "log"))

    assert done.returncode == 1
    assert "the server stopped with exit code" in done.stderr


def replay(*words: str) -> subprocess.CompletedProcess[str]:
    """The program of `make run` with these arguments, to its end."""
    command = [sys.executable, "-m", "examples.flights.replay", "--serve", *words]
    # As from make: the repository is the working directory, and nothing is a terminal.
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "160"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
