"""The benchmarks run from end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from durable_bench.memory import MEMORY


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    """`python -m durable_bench` with these arguments, to its end."""
    command = [sys.executable, "-m", "durable_bench", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


@pytest.mark.processes
@pytest.mark.postgres
def test_a_short_run_measures_and_verifies_each_scenario_on_each_store(tmp_path: Path) -> None:
    """All scenarios on SQLite and PostgreSQL, with every acknowledged increment found afterwards."""
    path = tmp_path / "result.json"

    short = ("--repetitions", "1", "--seconds", "0.2", "--in-flight", "16", "--objects", "3000", "--alarms", "300")
    done = bench(*short, "--json", str(path))

    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(path.read_text())
    measured = {(one["scenario"], one["store"]): one for one in written["measurements"]}
    assert measured.keys() == {
        (scenario, store) for scenario in ("spread", "hot", "reads", "alone") for store in ("sqlite", "postgres")
    }
    assert all(one["verified_calls"] > 0 for (scenario, _), one in measured.items() if scenario != "reads")
    punctual = {(one["name"], one["store"]): one for one in written["alarms"]}
    assert punctual.keys() == {(name, store) for name in ("alarms", "storm") for store in ("sqlite", "postgres")}
    assert all(one["alarms"] == 300 and one["fired_per_second"] > 0 for one in punctual.values())
    assert all((one["rounds"][0]["calls"] is None) == (one["name"] == "storm") for one in punctual.values())
    live, hibernated = ({one["name"]: one["bytes_each"] for one in written["memory"]}[name] for name in MEMORY)
    assert live > hibernated > len("object-1000"), "an object that sleeps is little more than its bytes"


def test_an_unknown_scenario_is_refused_with_those_that_there_are() -> None:
    """Exit code 2, and the names."""
    done = bench("sprad")

    assert done.returncode == 2
    assert (
        "there is no scenario 'sprad'; there are spread, hot, reads, alone, alarms, storm, live, hibernated"
        in done.stderr
    )
