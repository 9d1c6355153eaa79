"""The groups of checks that may catch a planted fault: what each runs, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SIMULATED_CHUNKS: Final = 2
SEEDS_PER_CHUNK: Final = 50


@dataclass(frozen=True, slots=True)
class Catcher:
    """Checks that are run together, until the first of them fails."""

    name: str
    runs: str
    """What, and how much of it, for the reader of the table."""
    words: tuple[str, ...]
    """pytest's."""
    seconds: float
    """For all of them."""


def _simulation() -> tuple[str, ...]:
    test = "tests/simulation/test_simulation.py::test_the_promises_hold_in_every_history"
    return tuple(f"{test}[{chunk}]" for chunk in range(SIMULATED_CHUNKS))


_CLIENTS = (
    "frontend",
    "frontend_faults",
    "client",
    "closing",
    "route",
    "protocol_client",
    "supervision",
    "handover",
    "renewal",
)
_MACHINE = "150 histories of 40 steps, drawn alike each time"

CATCHERS: Final = {
    each.name: each
    for each in (
        Catcher("stores", "tests/contract on memory and SQLite", ("tests/contract", "-m", "not postgres"), 300),
        Catcher("postgres", "tests/contract on PostgreSQL", ("tests/contract", "-m", "postgres"), 300),
        Catcher("codec", "tests/storage", ("tests/storage",), 200),
        Catcher("shards", "tests/shards", ("tests/shards",), 300),
        Catcher("log machine", _MACHINE, ("tests/invariants/test_shard_machine.py",), 200),
        Catcher("object machine", _MACHINE, ("tests/invariants/test_objects_machine.py",), 300),
        Catcher("alarm machine", _MACHINE, ("tests/invariants/test_alarms_machine.py",), 300),
        Catcher("simulation", f"the first {SIMULATED_CHUNKS * SEEDS_PER_CHUNK} seeds", _simulation(), 400),
        Catcher(
            "clients",
            "tests of links, routes, supervision and handovers",
            tuple(f"tests/engine/test_{name}.py" for name in _CLIENTS),
            300,
        ),
        Catcher(
            "crash",
            "servers of processes on SQLite: tests/crash but for its storms",
            ("tests/crash", "-m", "not postgres", "--deselect", "tests/crash/test_alarms.py"),
            400,
        ),
        Catcher(
            "chaos", "`python -m tests.chaos --store sqlite --seed 1` for 20 s", ("tests/plants/chaos_run.py",), 300
        ),
    )
}


def group_of(test: str) -> str:
    """The group that a plant's quickest test belongs to."""
    path = test.partition("::")[0]
    if path.startswith("tests/contract/"):
        return "postgres" if "postgres" in test else "stores"
    return next(name for name, each in CATCHERS.items() if any(path.startswith(word) for word in each.words))
