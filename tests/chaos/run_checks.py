"""The invariants that concern a run as a whole: liveness, accounting, and whether its faults struck."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.final import Final
from tests.chaos.violation import Violation

CALLS_OF_A_PROBE = 5


def violations(final: Final) -> Iterator[Violation]:
    """I9, I11 and I12."""
    for probe in final.probes:
        if probe.completed < CALLS_OF_A_PROBE or probe.seconds > final.liveness_seconds:
            yield Violation("I9", f"client {probe.client}, shard {probe.shard}", f"{probe}")
    yield from accounting(final)
    for fault, times in final.faults.items():
        if not times:
            yield Violation("I12", fault, "it was ordered, and never struck")


def accounting(final: Final) -> Iterator[Violation]:
    """I11."""
    accounts = final.accounts
    if accounts.calls != accounts.replies + accounts.errors:
        yield Violation("I11", "clients", f"{accounts}")
    if accounts.engine_in_flight:
        yield Violation("I11", "clients", f"their engines still wait for {accounts.engine_in_flight} calls")
    for queue, length in accounts.queues.items():
        if length:
            yield Violation("I11", queue, f"{length} in the queue when all was quiet")
    for leak in accounts.leaks:
        yield Violation("I11", leak, "left behind")
