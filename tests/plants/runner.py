"""Runs tests in a process of their own that begins with a planted fault."""

from __future__ import annotations

import json
import os
import signal
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
UNWIND_SECONDS: Final = 20.0


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


def run(plant: str, tests: Sequence[str], *, seconds: float, options: Sequence[str] = ("-x",)) -> Outcome:
    """Run tests with a fault planted; "" for none. They are given so many seconds.

    They are one more worker of the session under way: it shares its PostgreSQL, and cleans up behind them.
    """
    with tempfile.TemporaryDirectory(prefix="plant-") as folder:
        report = Path(folder) / "failures"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.plants.plugin", "-p", "no:cacheprovider"]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        environment |= {VARIABLE: plant, REPORT: str(report), "PYTEST_XDIST_WORKER": f"plant-{plant}"}
        process = subprocess.Popen(
            [*command, *options, *tests],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        status, output = _wait(process, seconds)
        lines = report.read_text().splitlines() if report.exists() else []
    return Outcome(status, [Failure(**json.loads(line)) for line in lines], output)


def _wait(process: subprocess.Popen[str], seconds: float) -> tuple[int | None, str]:
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # it may clean up: servers that its tests have started
        try:
            output, _ = process.communicate(timeout=UNWIND_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        return None, output
    return process.returncode, output
