"""Runs tests in processes of their own that begin with a planted fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.plants.plant import VARIABLE
from tests.plants.plugin import REPORT

ROOT: Final = Path(__file__).parents[2]
OK: Final = 0
TESTS_FAILED: Final = 1
"""Exit codes of pytest; all others say that it was used in the wrong way, or that nothing was found to run."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A test that failed."""

    test: str
    when: str
    said: str
    """Its traceback, and what it printed."""

    @property
    def errors(self) -> str:
        """The lines that say what was wrong."""
        return "\n".join(line[1:].strip() for line in self.said.splitlines() if line.startswith("E "))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the tests said."""

    status: int | None
    """pytest's exit code; None when the time was up."""
    failures: list[Failure]
    output: str


class Runner:
    """Runs tests, one after the other, by a nursery of its own. For `with`.

    They are one more worker of the session under way: it shares its PostgreSQL, and cleans up behind them.
    """

    def __enter__(self) -> Runner:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.plants.nursery"],
            cwd=ROOT,
            env=clean,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, plant: str, tests: Sequence[str], *, seconds: float, options: Sequence[str] = ("-x",)) -> Outcome:
        """Run tests with a fault planted; "" for none. They are given so many seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory(prefix="plant-") as folder:
            report, output = Path(folder) / "failures", Path(folder) / "output"
            report.touch()
            output.touch()
            environment = {VARIABLE: plant, REPORT: str(report), "PYTEST_XDIST_WORKER": f"plant-{plant}"}
            words = [*options, *tests]
            order = {"environment": environment, "words": words, "output": str(output), "seconds": seconds}
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
            assert answer, "the nursery is gone"
            failures = [Failure(**json.loads(line)) for line in report.read_text().splitlines()]
            return Outcome(json.loads(answer), failures, output.read_text(errors="replace"))
