"""What each peer is asked, in the order of a turn.

`cold` comes first, when the peer was just started, and reads the ids that `new` made in the turn before.
"""

from __future__ import annotations

from dataclasses import dataclass

from durable_bench.peers.workers.load import Load

OBJECTS = 1_000
NEW_IDS_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of load."""

    name: str
    title: str
    operation: str
    objects: int
    alone: bool = False
    """One caller, whatever the number of callers is otherwise."""

    def load(self, turn: int, callers: int, seconds: float) -> Load:
        """The load of a turn."""
        once = self.name in {"new", "cold"}
        # `reads` asks what `spread` (and each warm-up) counted; `cold` what `new` made a turn ago.
        prefix = {
            "reads": "spread-",
            "new": f"new-{turn}-{callers}-",
            "cold": f"new-{turn - 1}-{callers}-",
        }.get(self.name, f"{self.name}-")
        return Load(self.operation, prefix, self.objects, 1 if self.alone else callers, seconds, once)


SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("cold", "reads of stored ids, each for the first time since the start", "read", NEW_IDS_MAX),
        Scenario("spread", "adds over 1,000 ids", "add", OBJECTS),
        Scenario("hot", "adds to one id", "add", 1),
        Scenario("reads", "reads over 1,000 ids", "read", OBJECTS),
        Scenario("alone", "adds to one id, one at a time", "add", 1, alone=True),
        Scenario("new", "adds to ids that were never seen before", "add", NEW_IDS_MAX),
    )
}
ALL = frozenset(SCENARIOS)
