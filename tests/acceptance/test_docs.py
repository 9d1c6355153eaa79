"""The documentation tells the truth: sessions run, examples compile, the table of errors is the code's."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from durable_engine import errors
from durable_shards.recurrence import recurrence
from tests.support.transcript import blocks, terminal

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
RUN = ["quickstart.md", *(f"guide/{name}.md" for name in ("alarms", "migrations", "scaffolding", "tenants"))]


@pytest.mark.processes
@pytest.mark.parametrize("name", RUN)
def test_what_a_page_shows_happens(name: str, tmp_path: Path) -> None:
    """parity 114: the page's files are written, its commands typed in, and their outputs are those on the page."""
    with terminal(tmp_path) as screen:
        screen.follow((DOCS / name).read_text())

    assert screen.commands_run


def test_the_guides_that_the_seed_has_are_here() -> None:
    """parity 114: a lifecycle guide with diagrams, and pages for all that somebody comes with from there."""
    lifecycle = [
        block for block in blocks((DOCS / "guide" / "lifecycle.md").read_text()) if block.language == "mermaid"
    ]
    index = (DOCS / "index.md").read_text()

    assert len(lifecycle) >= 2
    for page in ("quickstart.md", "guide/objects.md", "guide/lifecycle.md", "from-elixir.md", "reference/settings.md"):
        assert f"]({page})" in index


def test_the_tests_that_a_page_shows_pass(tmp_path: Path) -> None:
    """The files of the guide to testing are a project of somebody else's, and pytest has nothing to say about it."""
    files = {block.title: block.text for block in blocks((DOCS / "guide" / "testing.md").read_text()) if block.title}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    expected = sum(len(re.findall(r"^ *(?:async )?def test_", text, re.MULTILINE)) for text in files.values())

    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "-rA"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    passed = set(re.findall(r"^PASSED (\S+?)(?:\[.*)?$", ran.stdout, re.MULTILINE))
    assert len(passed) == expected > 15


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_example_is_python(page: Path) -> None:
    """Each Python block compiles."""
    for block in blocks(page.read_text()):
        if block.language == "python":
            compile(block.text, page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_architecture_names_files_that_exist() -> None:
    """Each step of the way of a call is a module of one of the packages."""
    page = (DOCS / "architecture.md").read_text()
    steps = set(re.findall(r"\*\*`(\w+)`\*\*", page))
    modules = {path.stem for folder in ("engine", "shards", "storage") for path in (ROOT / folder).rglob("*.py")}

    assert len(steps) > 15
    assert steps - modules == set()


def test_the_page_of_errors_lists_each_error_as_it_is() -> None:
    """docs/errors.md has one line for every error that users can import, with its true defaults."""
    rows = re.findall(r"^\| `(\w+)` \| (yes|no|depends) \| `(\w+)` \|", (DOCS / "errors.md").read_text(), re.MULTILINE)
    documented = {name: (retryable, outcome) for name, retryable, outcome in rows}
    exported = {
        name: value
        for name, value in vars(errors).items()
        if name in errors.__all__ and isinstance(value, type) and issubclass(value, errors.DurableError)
    }

    assert documented.keys() == exported.keys() - {"DurableError"}
    assert {name: outcome for name, (_, outcome) in documented.items()} == {
        name: exported[name].default_outcome for name in documented
    }
    assert {name: retryable == "yes" for name, (retryable, _) in documented.items()} == {
        name: exported[name].default_retryable for name in documented
    }


def test_the_page_of_alarms_is_right_about_summer_time() -> None:
    """parity 83: the table shows the ticks that there are on the two nights of the year, and nothing else."""
    page = (DOCS / "guide" / "alarms.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \|([^|]*)\|([^|]*)\|$", page, re.MULTILINE)
    rows = [(cron, *cells) for cron, *cells in rows if "+0" in "".join(cells)]
    nights = [datetime(2026, 3, 29, 1, tzinfo=BERLIN), datetime(2026, 10, 25, 1, tzinfo=BERLIN)]

    assert len(rows) > 4
    for cron, *cells in rows:
        for cell, night in zip(cells, nights, strict=True):
            shown = cell.strip().removesuffix(" and so on")
            ticks = ticks_of(cron, night)
            if cell.strip() != shown:
                ticks = ticks[: len(shown.split(", "))]
            assert shown == ", ".join(ticks), cron


BERLIN = ZoneInfo("Europe/Berlin")


def ticks_of(cron: str, start: datetime) -> list[str]:
    """Those from `start` to ten o'clock of that day, in local time."""
    rule = recurrence("alarm", cron=cron, tz=BERLIN.key)
    assert rule is not None
    tick, found = rule.first(start - timedelta(seconds=1)), []
    while tick is not None and tick < start.replace(hour=10):
        found.append(tick.astimezone(BERLIN).strftime("%H:%M%z"))
        tick = rule.first(tick)
    return found
