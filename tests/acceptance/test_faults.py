"""`docs/faults.md` is fresh, has every case of the catalogue, and each has a test that shows it or says why not."""

from __future__ import annotations

from docs.reference import faults

CASES = {case.id: case for part in faults.parts() for case in part.cases}
PENDING = frozenset[str]().union(*(part.pending for part in faults.parts()))
COUNTS = {"A": 18, "B": 16, "C": 8, "D": 16, "E": 14, "F": 9}


def test_every_case_is_there_once() -> None:
    """In the order of their numbers, each letter in its file."""
    listed = {part.letter: [case.id for case in part.cases] for part in faults.parts()}

    assert listed == {
        letter: [f"{letter}{number}" for number in range(1, count + 1)] for letter, count in COUNTS.items()
    }


def test_every_case_has_a_test_or_a_reason() -> None:
    """Mark the docstring of a test as docs/reference/faults.py says, or write a reason into the file of its letter."""
    explained = {case.id for case in CASES.values() if case.reason}

    assert CASES.keys() - faults.shown().keys() - explained - PENDING == set()


def test_no_case_is_pending_that_has_arrived() -> None:
    """Take it out of `pending` in its file: it has a test or a reason."""
    explained = {case.id for case in CASES.values() if case.reason}

    assert PENDING & (faults.shown().keys() | explained) == set()
    assert CASES.keys() >= PENDING


def test_every_mark_of_a_test_is_a_case() -> None:
    """A mistyped one would claim nothing."""
    assert faults.shown().keys() <= CASES.keys()
