"""`from-elixir.md` from `parity.toml` and from the tests, whose docstrings say which rows they show.

A test that would fail without a feature has the number of its row in its docstring: "parity 74: many alarms, each by
its name." or "parity 74, 75: ...". `tests/acceptance/test_parity.py` holds the page to this.
"""
# ruff: noqa: INP001 - beside scripts, not in a package

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docs.reference import marks as tests
from docs.reference.tables import cells

DATA = Path(__file__).with_suffix(".toml")
MARK = re.compile(r"\bparity (\d+(?:, \d+)*)")

HEAD = """\
# Coming from Elixir

<!-- Made by docs/reference/parity.py: edit parity.toml, or the docstrings of tests, not this page. -->

"""

PENDING: frozenset[int] = frozenset()
"""Rows whose tests are on their way. The page says so in bold, and a number whose test has arrived is an error."""


@dataclass(frozen=True, slots=True)
class Row:
    """A feature of the seed, and what stands in its place."""

    number: int
    seed: str
    here: str
    more: str = ""
    """What it does beyond the seed."""
    kind: str = "mandatory"
    """Or "beyond": the seed has it not, or not working."""
    not_done: str = ""
    """Why it, or a part of it, is consciously left out."""


@dataclass(frozen=True, slots=True)
class Area:
    title: str
    rows: tuple[Row, ...]


Marks = Mapping[int, list[tests.Shown]]


def areas() -> list[Area]:
    """What `parity.toml` says."""
    return [Area(each["title"], tuple(Row(**row) for row in each["row"])) for each in _data()["area"]]


def _data() -> dict[str, Any]:
    return tomllib.loads(DATA.read_text(encoding="utf-8"))


def marks() -> Marks:
    """The tests that show each row, by its number, in the order of their files."""
    return {int(number): shown for number, shown in tests.marks(MARK).items()}


def from_elixir_page() -> str:
    """The whole page."""
    shown = marks()
    return HEAD + _data()["introduction"] + _pending() + "".join(_area(each, shown) for each in areas()) + _not_done()


def _area(area: Area, shown: Marks) -> str:
    head = f"\n## {area.title}\n\n| | in Elixir | here | shown by |\n|--:|---|---|---|\n"
    return head + "".join(_row(row, shown.get(row.number, [])) for row in area.rows)


def _row(row: Row, shown: list[tests.Shown]) -> str:
    number = f"{row.number} +" if row.kind == "beyond" else str(row.number)
    here = f"{row.here}<br>**More:** {row.more}" if row.more else row.here
    names = [str(each) for each in shown]
    if row.number in PENDING:
        names.append("**pending**")
    if row.not_done:
        names.append(f"[not done](#not-done): {row.not_done}" if not names else "[in part](#not-done)")
    return cells(number, row.seed, here, "<br>".join(names))


def _pending() -> str:
    if not PENDING:
        return ""
    numbers = ", ".join(map(str, sorted(PENDING)))
    return f"\n**Pending: the tests of {len(PENDING)} rows are on their way ({numbers}).**\n"


def _not_done() -> str:
    left = [f"- {row.number}: {row.not_done}\n" for area in areas() for row in area.rows if row.not_done]
    return "\n## Not done\n\n" + ("".join(left) or "Nothing.\n")
