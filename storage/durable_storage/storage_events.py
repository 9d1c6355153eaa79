"""The events of storage: a commit is one `storage.save`, a query of objects one `storage.load`.

`save` and `load` stand in the place of the store's own `commit` and `load`, and are these when nobody listens. Each
start is followed by one stop for the rows that went well, if there are any, and by an exception for those that did
not: one for each row that the database refused, or one for all rows when the store failed as a whole.
"""

from __future__ import annotations

from collections.abc import Collection, Coroutine, Sequence
from time import monotonic, time
from typing import Any, Final

from durable_storage import telemetry
from durable_storage.address import Address
from durable_storage.store import Change, Store, Stored

_SAVE: Final = "storage.save"
_LOAD: Final = "storage.load"
_DELETE: Final = "storage.delete"


def save(store: Store, changes: Sequence[Change], shard: int) -> Coroutine[Any, Any, dict[int, Exception]]:
    """`store.commit(changes)`, watched. Removals among the changes are a `storage.delete` as well."""
    return _save(store, changes, shard) if telemetry.wanted_of("storage") else store.commit(changes)


def load(store: Store, addresses: Sequence[Address], shard: int) -> Coroutine[Any, Any, list[Stored | None]]:
    """`store.load(addresses)`, watched."""
    return _load(store, addresses, shard) if telemetry.wanted_of("storage") else store.load(addresses)


async def _save(store: Store, changes: Sequence[Change], shard: int) -> dict[int, Exception]:
    operations = [_Operation(_SAVE, {n: change.address for n, change in enumerate(changes)}, shard)]
    removed = {n: change.address for n, change in enumerate(changes) if change.delete}
    if removed:
        operations.append(_Operation(_DELETE, removed, shard))
    for operation in operations:
        operation.start()
    try:
        refused = await store.commit(changes)
    except BaseException as error:
        for operation in operations:
            operation.fail(error)
        raise
    for operation in operations:
        operation.stop(refused)
    return refused


async def _load(store: Store, addresses: Sequence[Address], shard: int) -> list[Stored | None]:
    operation = _Operation(_LOAD, dict(enumerate(addresses)), shard)
    operation.start()
    try:
        found = await store.load(addresses)
    except BaseException as error:
        operation.fail(error)
        raise
    operation.stop({})
    return found


class _Operation:
    """One operation under way, with the rows that it is about by their place in the batch."""

    def __init__(self, name: str, rows: dict[int, Address], shard: int) -> None:
        self._name = name
        self._rows = rows
        self._shard = shard
        self._began = monotonic()

    def start(self) -> None:
        """The store is about to be asked."""
        self._emit("start", {"system_time": time()}, self._rows.values())

    def stop(self, refused: dict[int, Exception]) -> None:
        """The store has answered."""
        duration = {"duration": monotonic() - self._began}
        for place, error in refused.items():
            if place in self._rows:
                self._emit("exception", duration, [self._rows[place]], error)
        done = [address for place, address in self._rows.items() if place not in refused]
        if done:
            self._emit("stop", duration, done)

    def fail(self, error: BaseException) -> None:
        """The store raised, or was not waited for any longer."""
        self._emit("exception", {"duration": monotonic() - self._began}, self._rows.values(), error)

    def _emit(
        self, step: str, measurements: dict[str, Any], rows: Collection[Address], error: BaseException | None = None
    ) -> None:
        name = f"{self._name}.{step}"
        if telemetry.wanted(name):
            metadata = _about(rows, self._shard) | (telemetry.failure(error) if error is not None else {})
            telemetry.emit(name, measurements | {"rows": len(rows)}, metadata)


def _about(rows: Collection[Address], shard: int) -> dict[str, Any]:
    """Metadata of an operation on these rows: what they have in common, None where they differ, and all of them."""
    prefixes = {address.prefix for address in rows}
    types = {address.object_type for address in rows}
    addresses = tuple(rows)
    return {
        "object_type": types.pop() if len(types) == 1 else None,
        "object_id": addresses[0].object_id if len(addresses) == 1 else None,
        "prefix": prefixes.pop() if len(prefixes) == 1 else None,
        "addresses": addresses,
        "shard": shard,
    }
