"""`from-elixir.md` from `parity.toml` and from the tests, whose docstrings say which rows they show.

A test that would fail without a feature has the number of its row in its docstring: "parity 74: many alarms, each by
its name." or "parity 74, 75: ...". `tests/acceptance/test_parity.py` holds the page to this.
"""
# ruff: noqa: INP001 - beside scripts, not in a package

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docs.reference.tables import cells

ROOT = Path(__file__).parents[2]
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


@dataclass(frozen=True, slots=True)
class Shown:
    """A test that shows a row."""

    path: Path
    name: str

    def __str__(self) -> str:
        return f"[`{self.name}`](../{self.path.relative_to(ROOT).as_posix()})"


Marks = Mapping[int, list[Shown]]


def areas() -> list[Area]:
    """What `parity.toml` says."""
    return [Area(each["title"], tuple(Row(**row) for row in each["row"])) for each in _data()["area"]]


def _data() -> dict[str, Any]:
    return tomllib.loads(DATA.read_text(encoding="utf-8"))


def marks() -> Marks:
    """The tests that show each row, by its number, in the order of their files."""
    found: defaultdict[int, list[Shown]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, text in _tests(ast.parse(path.read_text(encoding="utf-8"))):
            for number in sorted({int(each) for mark in MARK.findall(text) for each in mark.split(", ")}):
                found[number].append(Shown(path, name))
    return found


def _tests(module: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name, ast.get_docstring(node) or ""


def from_elixir_page() -> str:
    """The whole page."""
    shown = marks()
    return HEAD + _data()["introduction"] + _pending() + "".join(_area(each, shown) for each in areas()) + _not_done()


def _area(area: Area, shown: Marks) -> str:
    head = f"\n## {area.title}\n\n| | in Elixir | here | shown by |\n|--:|---|---|---|\n"
    return head + "".join(_row(row, shown.get(row.number, [])) for row in area.rows)


def _row(row: Row, shown: list[Shown]) -> str:
    number = f"{row.number} +" if row.kind == "beyond" else str(row.number)
    here = f"{row.here}<br>**More:** {row.more}" if row.more else row.here
    tests = [str(each) for each in shown]
    if row.number in PENDING:
        tests.append("**pending**")
    if row.not_done:
        tests.append(f"[not done](#not-done): {row.not_done}" if not tests else "[in part](#not-done)")
    return cells(number, row.seed, here, "<br>".join(tests))


def _pending() -> str:
    if not PENDING:
        return ""
    numbers = ", ".join(map(str, sorted(PENDING)))
    return f"\n**Pending: the tests of {len(PENDING)} rows are on their way ({numbers}).**\n"


def _not_done() -> str:
    left = [f"- {row.number}: {row.not_done}\n" for area in areas() for row in area.rows if row.not_done]
    return "\n## Not done\n\n" + ("".join(left) or "Nothing.\n")
