"""`python -m tests.plants`: every planted fault against every group of checks, and the page that tells of it.

What was found is kept in results.json, so that a part can be run again, and long groups when there is time for them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any, Final

from tests.plants.catchers import CATCHERS, Catcher
from tests.plants.page import PAGE, RESULTS, page
from tests.plants.plant import Plant, all_plants
from tests.plants.runner import OK, Outcome, Runner
from tests.support import postgres

SAID_CHARACTERS: Final = 160
OUTPUT_CHARACTERS: Final = 2000


def main() -> int:
    """1 when a plant was caught by nothing at all."""
    parser = argparse.ArgumentParser(prog="python -m tests.plants", description=__doc__)
    parser.add_argument("--table", action="store_true", help="run, and write the page; otherwise only list the plants")
    parser.add_argument("--page", action="store_true", help="only write the page, from what was found before")
    parser.add_argument("--catchers", help=f"some of these, by commas: {', '.join(CATCHERS)}")
    parser.add_argument("--plants", help="some plants only, by commas")
    parser.add_argument("--missing", action="store_true", help="only what has no result yet")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    plants = chosen(all_plants(), options.plants)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if options.page:
        PAGE.write_text(page(list(all_plants().values()), results))
        return 0
    if not options.table:
        print("\n".join(f"{plant.name:30} {plant.attacks:12} {plant.breaks}" for plant in plants))
        return 0
    pairs = [
        (plant, catcher)
        for catcher in chosen(CATCHERS, options.catchers)
        for plant in plants
        if not (options.missing and catcher.name in results.get(plant.name, {}))
    ]
    for plant, catcher, outcome in run_all(pairs, options.workers):
        results.setdefault(plant.name, {})[catcher.name] = result = told(outcome)
        print(f"{catcher.name:15} {plant.name:30} {result['caught']}  {result['said']}", flush=True)
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(page(list(all_plants().values()), results))
    return int(any(not any(cell["caught"] for cell in results.get(plant.name, {}).values()) for plant in plants))


def chosen(everything: dict[str, Any], names: str | None) -> list[Any]:
    """Those that are named, or all."""
    return [everything[name] for name in names.split(",")] if names else list(everything.values())


def run_all(pairs: list[tuple[Plant, Catcher]], workers: int) -> Iterator[tuple[Plant, Catcher, Outcome]]:
    """In their order, so many at a time."""
    postgres.begin_session()
    runners: SimpleQueue[Runner] = SimpleQueue()
    made = [Runner().__enter__() for _ in range(workers)]
    for runner in made:
        runners.put(runner)

    def run(pair: tuple[Plant, Catcher]) -> tuple[Plant, Catcher, Outcome]:
        plant, catcher = pair
        runner = runners.get()
        try:
            return plant, catcher, runner.run(plant.name, catcher.words, seconds=catcher.seconds)
        finally:
            runners.put(runner)

    try:
        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(run, pairs)
    finally:
        for runner in made:
            runner.__exit__()
        postgres.end_session()


def told(outcome: Outcome) -> dict[str, Any]:
    """What is kept of an outcome. Raises RuntimeError for a run that was none."""
    bodies = [failure for failure in outcome.failures if failure.when == "call"]
    if not bodies and outcome.status not in (OK, None):
        raise RuntimeError(f"the tests could not be run ({outcome.status}): {outcome.output[-OUTPUT_CHARACTERS:]}")
    said = (bodies[0].errors.split("\n") or [""])[0][:SAID_CHARACTERS] if bodies else ""
    verdict = "no" if outcome.status == OK else "yes" if bodies else "the time was up"
    return {
        "caught": verdict == "yes",
        "verdict": verdict,
        "by": bodies[0].test if bodies else None,
        "said": said,
        "date": datetime.now(UTC).date().isoformat(),
    }


if __name__ == "__main__":
    sys.exit(main())
