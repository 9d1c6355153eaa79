"""`docs/from-elixir.md` is fresh, lists every row, and each row has a test that shows it."""

from __future__ import annotations

from docs.reference import parity

ROWS = {row.number: row for area in parity.areas() for row in area.rows}


def test_every_row_is_there_once() -> None:
    """116 of them, in the order of their numbers."""
    assert [row.number for area in parity.areas() for row in area.rows] == list(range(1, 117))


def test_every_row_has_a_test_that_shows_it() -> None:
    """But for those that are listed, with the reason, as not done, and those whose tests are on their way."""
    left_out = {number for number, row in ROWS.items() if row.not_done}

    assert ROWS.keys() - parity.marks().keys() - left_out - parity.PENDING == set()


def test_no_row_is_pending_whose_test_has_arrived() -> None:
    """Take the number out of PENDING in docs/reference/parity.py."""
    assert parity.PENDING & parity.marks().keys() == set()
    assert ROWS.keys() >= parity.PENDING


def test_what_is_not_done_is_said_and_little() -> None:
    """Each with its reason; a row of which nothing is done has no test."""
    assert {number for number, row in ROWS.items() if row.not_done} <= {93, 94}
    assert 94 not in parity.marks()


def test_every_mark_of_a_test_is_a_row() -> None:
    """A mistyped number would claim nothing."""
    assert parity.marks().keys() <= ROWS.keys()
