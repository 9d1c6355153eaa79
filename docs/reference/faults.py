"""`faults.md` from `faults/*.toml` and from the tests, whose docstrings say which cases they show.

A test that makes a fault happen, and fails where the engine does not do what is expected, begins its docstring with the
case: "fault A1: the partitions of a killed shard are served again." or "fault A1, B3: ...". A case that no test shows
has a `reason`, and so has one of which the engine does a part, or something else. `pending` lists those on their way.
`tests/acceptance/test_faults.py` holds the page to this.
"""
# ruff: noqa: INP001 - beside scripts, not in a package

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from docs.reference import marks
from docs.reference.tables import cells

DATA = Path(__file__).with_suffix("")
MARK = re.compile(r"\bfault ([A-Z]\d+(?:, [A-Z]\d+)*):")

HEAD = """\
# Faults

<!-- Made by docs/reference/faults.py: edit docs/reference/faults/*.toml, or the docstrings of tests, not this page. -->

Everything that we could think of that goes wrong around an engine like this one, what has to happen then, and the
tests that make it go wrong. Each of them asserts that its fault did happen. Where there is no test, or where the engine
does something else than one might expect, the row says why. `make test` runs them all.
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A fault, and what is expected of the engine."""

    id: str
    fault: str
    expected: str
    reason: str = ""
    """Why no test shows it, or what differs from what is expected."""


@dataclass(frozen=True, slots=True)
class Part:
    """A letter of the catalogue."""

    letter: str
    title: str
    pending: frozenset[str]
    """Cases whose tests are on their way. The page says so in bold, and one that has arrived is an error."""
    cases: tuple[Case, ...]


def parts() -> list[Part]:
    """What the files say."""
    return [_part(path) for path in sorted(DATA.glob("*.toml"))]


def _part(path: Path) -> Part:
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    cases = tuple(Case(**each) for each in data["case"])
    return Part(path.stem.upper(), data["title"], frozenset(data["pending"]), cases)


def shown() -> marks.Marks:
    """The tests that show each case."""
    return marks.marks(MARK)


def faults_page() -> str:
    """The whole page."""
    return HEAD + _pending() + "".join(_section(each, shown()) for each in parts())


def _pending() -> str:
    waiting = any(part.pending for part in parts())
    return "\n**The tests of the cases that say *pending* are on their way.**\n" if waiting else ""


def _section(part: Part, found: marks.Marks) -> str:
    head = f"\n## {part.letter}. {part.title}\n\n| | fault | expected | shown by |\n|---|---|---|---|\n"
    return head + "".join(_row(case, part, found) for case in part.cases)


def _row(case: Case, part: Part, found: marks.Marks) -> str:
    tests = [str(each) for each in found.get(case.id, [])]
    if case.id in part.pending:
        tests.append("**pending**")
    if case.reason:
        tests.append(case.reason)
    return cells(case.id, case.fault, case.expected, "<br>".join(tests))
