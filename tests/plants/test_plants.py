"""Every planted fault is caught, by the test that the catalogue names, for the reason that it names.

The same tests run without faults in the rest of the suite, where they pass: that is not repeated here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

import pytest

from durable_storage.queries import queries
from tests.plants.catchers import CATCHERS
from tests.plants.page import PAGE, RESULTS, page
from tests.plants.plant import VARIABLE, Plant, all_plants
from tests.plants.runner import TESTS_FAILED, Runner
from tests.plants.surgery import NoGround, rewrite, rewrite_sql

SECONDS = 250
"""For a test that takes a second or two, on a machine that has other things to do."""


def marked(plant: Plant) -> object:
    """A plant as a parameter, with the marks of its catcher's kind."""
    marks = [pytest.mark.postgres] if "postgres" in plant.catcher else []
    marks += [pytest.mark.processes] if "tests/crash/" in plant.catcher else []
    return pytest.param(plant, id=plant.name, marks=marks)


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    """One for all that this worker runs."""
    with Runner() as runner:
        yield runner


@pytest.mark.timeout(SECONDS + 50)
@pytest.mark.parametrize("plant", [marked(plant) for plant in all_plants().values()])
def test_a_planted_fault_is_caught(runner: Runner, plant: Plant) -> None:
    """The named test fails, in its body, and says what the catalogue expects of it."""
    outcome = runner.run(plant.name, [plant.catcher], seconds=SECONDS)

    assert outcome.status == TESTS_FAILED, f"{plant.breaks}: and nobody notices\n{outcome.output}"
    [failure] = outcome.failures
    assert failure.when == "call", failure.said
    assert re.search(plant.reason, failure.errors), failure.said


def test_every_promise_is_attacked() -> None:
    """P1 to P11, and I1 to I11 (I12 is about the tests themselves)."""
    attacked = {each for plant in all_plants().values() for each in plant.attacks.split(", ")}
    assert {f"P{n}" for n in range(1, 12)} | {f"I{n}" for n in range(1, 12)} <= attacked


def test_the_page_tells_of_every_plant() -> None:
    """docs/invariants.md is as `python -m tests.plants --page` makes it, of plants and groups that there are."""
    results = json.loads(RESULTS.read_text())
    assert results.keys() <= all_plants().keys()
    assert {name for cells in results.values() for name in cells} <= CATCHERS.keys()
    assert PAGE.read_text() == page(list(all_plants().values()), results)


def add(one: int, other: int) -> int:
    """Something to plant a fault into."""
    return one + other


class Doubled(list[int]):
    """The same, with `super()`."""

    def append(self, value: int) -> None:
        """Twice."""
        super().append(2 * value)


def test_a_rewritten_function_does_what_was_written() -> None:
    """Whoever has imported it already; and it can use names that its module lacks."""
    known, doubled = add, Doubled()
    rewrite(add, ("one + other", "one - other + ONE"), ONE=1)
    rewrite(Doubled.append, ("2 * value", "3 * value"))

    doubled.append(1)

    assert known(5, 2) == 4
    assert doubled == [3]


@pytest.mark.parametrize("piece", ["no such code", "marks"])
def test_a_plant_without_its_ground_does_not_grow(piece: str) -> None:
    """What it would replace is not there, or there twice: the engine has changed, and the plant has to."""
    with pytest.raises(NoGround, match=r"marked has \d times, not once"):
        rewrite(marked, (piece, "nothing"))


def test_a_statement_is_rewritten_or_refused_alike() -> None:
    """By its name."""
    with pytest.raises(NoGround, match="no statement"):
        rewrite_sql("sqlite", "no_such_statement", ("a", "b"))
    with pytest.raises(NoGround, match="sqlite's read_host has 0 times"):
        rewrite_sql("sqlite", "read_host", ("no such text", "b"))
    assert "no such text" not in queries("sqlite")["read_host"]


def test_no_fault_is_planted_here(request: pytest.FixtureRequest) -> None:
    """The suite itself runs without any."""
    assert VARIABLE not in os.environ
    assert not request.config.pluginmanager.has_plugin("tests.plants.plugin")
