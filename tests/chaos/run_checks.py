"""The invariants that concern a run as a whole: liveness, accounting, and whether its faults struck."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from tests.chaos.final import Final
from tests.chaos.violation import Violation

CALLS_OF_A_PROBE = 5


def violations(final: Final) -> Iterator[Violation]:
    """I9, I11 and I12."""
    if final.healed_at is not None:
        yield from silence(final)
    for probe in final.probes:
        if probe.completed < CALLS_OF_A_PROBE or probe.seconds > final.liveness_seconds:
            yield Violation("I9", f"client {probe.client}, shard {probe.shard}", f"{probe}")
    yield from accounting(final)
    for fault, times in final.faults.items():
        if not times:
            yield Violation("I12", fault, "it was ordered, and never struck")
    for kind, count in final.acknowledged.items():
        if not count:
            yield Violation("I12", kind, "no client of this kind had a success")


def silence(final: Final) -> Iterator[Violation]:
    """I9: who was not even heard of, once all was healed."""
    heard = {(probe.client, probe.shard) for probe in final.probes}
    for client, shard in product(range(final.clients), range(final.shards)):
        if (client, shard) not in heard:
            yield Violation("I9", f"client {client}, shard {shard}", "it was not tried")


def accounting(final: Final) -> Iterator[Violation]:
    """I11.

    A client counts its calls and errors where it makes them, and its engine where it sends and settles them: a call
    that was settled twice, or for nobody, or never, has them disagree. Replies are what the client alone has counted.
    """
    accounts = final.accounts
    counted = (accounts.engine_calls, accounts.engine_errors)
    if accounts.engine_calls is not None and counted != (accounts.calls, accounts.errors):
        yield Violation("I11", "clients", f"their engines have counted otherwise: {accounts}")
    if accounts.calls != accounts.replies + accounts.errors:
        yield Violation("I11", "clients", f"{accounts}")
    if accounts.engine_in_flight:
        yield Violation("I11", "clients", f"their engines still wait for {accounts.engine_in_flight} calls")
    for queue, length in accounts.queues.items():
        if length:
            yield Violation("I11", queue, f"{length} in the queue when all was quiet")
    for leak in accounts.leaks:
        yield Violation("I11", leak, "left behind")
