"""The page of planted faults: docs/reference/plants.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from tests.plants.catchers import CATCHERS
from tests.plants.plant import Plant

RESULTS: Final = Path(__file__).parent / "results.json"
PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "plants.md"

Results = dict[str, dict[str, dict[str, Any]]]
"""By plant, by catcher."""

HEAD = """# Planted faults

Green means little as long as nobody knows what would make it red. So faults are planted into the engine, one at a
time and in the process of a test only, and the suite has to notice each of them. The engine itself has no switch for
any of this: a plant rewrites a piece of one function or SQL statement, and refuses to grow where that piece is not
to be found exactly once.

`tests/plants/test_plants.py`, which is part of every run, plants each fault and has it caught by the quickest test
that does, for the reason that is expected. The table below is of all groups of checks. It is made by
`python -m tests.plants --table`, which takes hours for all of it; `--catchers`, `--plants` and `--missing` choose a
part.
"""


def page(plants: list[Plant], results: Results) -> str:
    """All of it, as Markdown."""
    return (
        "\n".join(
            [
                HEAD,
                *_summary(plants, results),
                "",
                *_groups(plants, results),
                "",
                *_table(plants, results),
                "",
                *_details(plants, results),
            ]
        )
        + "\n"
    )


def _summary(plants: list[Plant], results: Results) -> list[str]:
    missed = [plant.name for plant in plants if not any(_caught(results, plant.name, name) for name in CATCHERS)]
    idle = [name for name in CATCHERS if _counted(plants, results, name)[1] and not _counted(plants, results, name)[0]]
    dates = sorted(cell["date"] for cells in results.values() for cell in cells.values())
    period = f", run from {dates[0]} to {dates[-1]}" if dates else ""
    return [
        f"{len(plants)} plants, {len(CATCHERS)} groups of checks{period}.",
        "",
        f"- Plants that no group catches: {', '.join(missed) or 'none'}.",
        f"- Groups that catch nothing: {', '.join(idle) or 'none'}.",
    ]


def _groups(plants: list[Plant], results: Results) -> list[str]:
    rows = ["## Groups of checks", "", "| group | what it runs | catches |", "|--|--|--|"]
    for name, catcher in CATCHERS.items():
        caught, tried = _counted(plants, results, name)
        rows.append(f"| {name} | {catcher.runs} | {caught} of {tried} |")
    return rows


def _table(plants: list[Plant], results: Results) -> list[str]:
    rows = [
        "## Plants and catchers",
        "",
        "● caught, ○ not caught, ◌ not within its time; empty: not tried. Most faults are no matter of most groups.",
        "",
        f"| plant | attacks | {' | '.join(CATCHERS)} |",
        "|--|--|" + ":-:|" * len(CATCHERS),
    ]
    marks = {"yes": "●", "no": "○", "the time was up": "◌"}
    for plant in plants:
        cells = [marks.get(results.get(plant.name, {}).get(name, {}).get("verdict", ""), "") for name in CATCHERS]
        rows.append(f"| {plant.name} | {plant.attacks} | {' | '.join(cells)} |")
    return rows


def _details(plants: list[Plant], results: Results) -> list[str]:
    rows = ["## What each breaks, and what says so first", ""]
    for plant in plants:
        test = plant.catcher.removeprefix("tests/").replace("::", " ")
        rows.append(f"- **{plant.name}** ({plant.attacks}): {plant.breaks}. Caught in every run by `{test}`.")
    return rows


def _caught(results: Results, plant: str, catcher: str) -> bool:
    return bool(results.get(plant, {}).get(catcher, {}).get("caught"))


def _counted(plants: list[Plant], results: Results, catcher: str) -> tuple[int, int]:
    """(caught, tried)."""
    tried = [plant.name for plant in plants if catcher in results.get(plant.name, {})]
    return sum(_caught(results, name, catcher) for name in tried), len(tried)
