"""What every store does alike with a batch: cut it to the limits, and find the change that the database refuses.

A store gives `settle` its way to apply some changes as one atomic unit. A refused unit left no trace, so it is halved
until the guilty change stands alone; its neighbours commit. That costs about 2 log2(n) extra commits per guilty
change, paid only when there is one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence

from durable_storage.errors import PersistenceFailed
from durable_storage.limits import BATCH_BYTES_MAX, BATCH_ROWS_MAX
from durable_storage.store import Change


class Refused(Exception):
    """The database refused a unit of changes, which left no trace."""

    def __init__(self, error: Exception, *, divisible: bool = True) -> None:
        super().__init__(str(error))
        self.error = error
        self.divisible = divisible
        """Whether a smaller unit may succeed; False when every change would meet the same answer."""


Apply = Callable[[Sequence[Change]], Awaitable[None]]


async def settle(changes: Sequence[Change], apply: Apply) -> dict[int, Exception]:
    """Apply `changes` unit by unit; {index: error} of those that were refused. `apply` raises Refused."""
    refused: dict[int, Exception] = {}
    waiting = list(units(changes))
    waiting.reverse()
    while waiting:
        unit = waiting.pop()
        try:
            await apply(changes if len(unit) == len(changes) else [changes[index] for index in unit])
        except Refused as answer:
            if len(unit) == 1 or not answer.divisible:
                refused.update(dict.fromkeys(unit, answer.error))
            else:
                half = len(unit) // 2
                waiting += (unit[half:], unit[:half])
    return refused


def units(changes: Sequence[Change]) -> Iterator[Sequence[int]]:
    """Indices of the changes that go together: of one tenant, within the limits, in the order given.

    A change that is over the byte limit by itself makes a unit of its own.
    """
    if _is_one_plain_unit(changes):
        yield range(len(changes))
        return
    tenants: dict[str, list[int]] = {}
    for index, change in enumerate(changes):
        tenants.setdefault(change.address.prefix, []).append(index)
    for tenant in tenants.values():
        yield from _within_limits(changes, tenant)


def _is_one_plain_unit(changes: Sequence[Change]) -> bool:
    # The hot path: nearly every batch is of one tenant and small, and this is all it pays for the limits.
    if not 0 < len(changes) <= BATCH_ROWS_MAX:
        return False
    prefix = changes[0].address.prefix
    size = 0
    for change in changes:
        if change.address.prefix != prefix or change.alarms_set:
            return False
        if change.state is not None:
            size += len(change.state)
        for row in change.results:
            size += len(row.result)
    return size <= BATCH_BYTES_MAX


def _within_limits(changes: Sequence[Change], indices: Sequence[int]) -> Iterator[Sequence[int]]:
    unit: list[int] = []
    size = 0
    for index in indices:
        weight = _bytes_of(changes[index])
        if unit and (size + weight > BATCH_BYTES_MAX or len(unit) == BATCH_ROWS_MAX):
            yield unit
            unit, size = [], 0
        unit.append(index)
        size += weight
    if unit:
        yield unit


def _bytes_of(change: Change) -> int:
    size = len(change.state) if change.state is not None else 0
    size += sum(len(row.result) for row in change.results)
    return size + sum(len(alarm.payload or b"") for alarm in change.alarms_set)


def refusal(reason: object) -> PersistenceFailed:
    """PersistenceFailed with the database's reason."""
    return PersistenceFailed(f"the database refused the change, which left no trace: {reason}", retryable=False)
