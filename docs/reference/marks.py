"""The marks in tests' docstrings that say what a test shows: "parity 74:", "fault A1, B3:"."""
# ruff: noqa: INP001 - beside scripts, not in a package

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Shown:
    """A test that shows something."""

    path: Path
    name: str

    def __str__(self) -> str:
        return f"[`{self.name}`](../{self.path.relative_to(ROOT).as_posix()})"


Marks = Mapping[str, list[Shown]]


def marks(mark: re.Pattern[str]) -> Marks:
    """The tests with each mark, in the order of their files; the pattern's group holds one or more, with commas."""
    found: defaultdict[str, list[Shown]] = defaultdict(list)
    for shown, text in _tests():
        for each in sorted({each for names in mark.findall(text) for each in names.split(", ")}):
            found[each].append(shown)
    return found


@cache
def _tests() -> list[tuple[Shown, str]]:
    return [
        (Shown(path, name), text)
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for name, text in _functions(ast.parse(path.read_text(encoding="utf-8")))
    ]


def _functions(module: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name, ast.get_docstring(node) or ""
