"""The README tells the truth: its class is served, its processes are killed, its count survives."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support.transcript import blocks, terminal

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.processes
def test_the_session_on_the_first_screen_happens_as_shown(tmp_path: Path) -> None:
    """parity 114: each command is typed in, the literal kill -9 included, and prints what the README says."""
    with terminal(tmp_path) as screen:
        screen.follow(README.read_text())

    assert [command for command in screen.commands_run if command.startswith("kill -9 ")]


def test_the_first_screen_holds_a_class_and_the_kill() -> None:
    """Within the first 60 lines somebody sees a complete class and what it survives."""
    first_screen = "\n".join(README.read_text().splitlines()[:60])

    assert "class Counter(DurableObject):" in first_screen
    assert "$ kill -9 " in first_screen


def test_every_example_in_the_readme_is_python() -> None:
    """Each Python block compiles."""
    for block in blocks(README.read_text()):
        if block.language == "python":
            compile(block.text, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
