"""The part of docs/invariants.md that is about planted faults: from its marker to the end of the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from tests.plants.catchers import CATCHERS, group_of
from tests.plants.plant import Plant

RESULTS: Final = Path(__file__).parent / "results.json"
PAGE: Final = Path(__file__).parents[2] / "docs" / "invariants.md"
MARKER: Final = "<!-- From here on made by `python -m tests.plants --page`: edit tests/plants, not this. -->\n\n"

Results = dict[str, dict[str, dict[str, Any]]]
"""By plant, by catcher."""

HEAD = """## Planted faults

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
    """The whole page as it is to be: what is there before the marker, and what is made."""
    before, marker, _ = PAGE.read_text(encoding="utf-8").partition(MARKER)
    assert marker, f"{PAGE} has lost its line {MARKER!r}"
    return before + marker + _section(plants, results)


def _section(plants: list[Plant], results: Results) -> str:
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
                *_details(plants),
            ]
        )
        + "\n"
    )


def _summary(plants: list[Plant], results: Results) -> list[str]:
    idle = [name for name in CATCHERS if _counted(plants, results, name) == (0, len(plants))]
    untried = [name for name in CATCHERS if _counted(plants, results, name)[1] < len(plants)]
    dates = sorted(cell["date"] for cells in results.values() for cell in cells.values())
    period = f", run from {dates[0]} to {dates[-1]}" if dates else ""
    return [
        f"{len(plants)} plants, {len(CATCHERS)} groups of checks{period}. Each plant is caught in every run.",
        "",
        f"- Groups that catch nothing: {', '.join(idle) or 'none'}.",
        f"- Groups that were not tried on every plant yet: {', '.join(untried) or 'none'}.",
    ]


def _groups(plants: list[Plant], results: Results) -> list[str]:
    rows = ["### Groups of checks", "", "| group | what it runs | catches |", "|--|--|--|"]
    for name, catcher in CATCHERS.items():
        caught, tried = _counted(plants, results, name)
        rows.append(f"| {name} | {catcher.runs} | {caught} of {tried} |")
    return rows


def _table(plants: list[Plant], results: Results) -> list[str]:
    rows = [
        "### Plants and catchers",
        "",
        "★ caught in every run, ● caught, ○ not caught, ◌ not within its time; empty: not tried.",
        "Most faults are no matter of most groups.",
        "",
        f"| plant | attacks | {' | '.join(CATCHERS)} |",
        "|--|--|" + ":-:|" * len(CATCHERS),
    ]
    marks = {"every run": "★", "yes": "●", "no": "○", "the time was up": "◌", "": ""}
    for plant in plants:
        cells = [marks[_verdict(results, plant, name)] for name in CATCHERS]
        rows.append(f"| {plant.name} | {plant.attacks} | {' | '.join(cells)} |")
    return rows


def _details(plants: list[Plant]) -> list[str]:
    rows = ["### What each breaks, and what says so first", ""]
    for plant in plants:
        test = plant.catcher.removeprefix("tests/").replace("::", " ")
        rows.append(f"- **{plant.name}** ({plant.attacks}): {plant.breaks}. Caught in every run by `{test}`.")
    return rows


def _verdict(results: Results, plant: Plant, catcher: str) -> str:
    """What the table shows: "every run" where the quickest test of a plant is one of the group."""
    if group_of(plant.catcher) == catcher:
        return "every run"
    return str(results.get(plant.name, {}).get(catcher, {}).get("verdict", ""))


def _counted(plants: list[Plant], results: Results, catcher: str) -> tuple[int, int]:
    """(caught, tried)."""
    verdicts = [verdict for plant in plants if (verdict := _verdict(results, plant, catcher))]
    return sum(verdict in ("yes", "every run") for verdict in verdicts), len(verdicts)
