"""Histories of a small cluster in virtual time: every promise, under everything that can go wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from durable_storage.crashpoints import POINTS
from tests.simulation.run import run_history

CHUNKS = 40
SEEDS_PER_CHUNK = 50
KINDS = {
    "crash", *(f"crash {point}" for point in POINTS),
    "freeze", "watchdog kill", "takeover", "supervisor crash", "drain",
    "release 1", "release 2", "before in commit", "after in commit", "late in commit", "hang in commit", "cut in query",
    "store away", "store held", "store slow", "refused", "connection broken", "drop", "twice", "wire slow",
    "late routes", "cut off", "clock forwards", "clock backwards",
}  # fmt: skip


@pytest.fixture
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run see."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "simulated-faults"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_the_promises_hold_in_every_history(chunk: int, shared: Path) -> None:
    """Whatever fails, in whatever order; whoever ends the last chunk sees that every kind of fault did happen."""
    faults: Counter[str] = Counter()
    for seed in range(chunk * SEEDS_PER_CHUNK, (chunk + 1) * SEEDS_PER_CHUNK):
        faults += run_history(seed).faults
    (shared / f"{chunk}.json").write_text(json.dumps(faults))
    parts = [shared / f"{each}.json" for each in range(CHUNKS)]
    if all(part.exists() and part.read_text() for part in parts):
        total = sum((Counter(json.loads(part.read_text())) for part in parts), Counter[str]())
        assert total.keys() >= KINDS, f"these faults never happened: {KINDS - total.keys()}"


def test_a_seed_is_a_history() -> None:
    """The same seed gives the same events, in this process and in another one with other hashes."""
    here = run_history(7)
    assert run_history(7) == here
    ran = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", "7"],
        env={**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"digest {here.digest}" in ran.stdout
