"""What may be asked of a shard as a whole: REQUEST messages, which concern no single object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

import msgspec

from durable_shards.admission import Admission, unknown_class
from durable_shards.directory import Directory
from durable_shards.errors import InvalidArguments
from durable_shards.statistics import ShardStatistics
from durable_storage.address import id_problem, name_problem
from durable_storage.store import Store

LIST_MAX: Final = 10_000


class ListArguments(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of the request `list`."""

    object_type: str
    prefix: str = ""
    after: str | None = None
    limit: int = 100


class Requests:
    """Answers them."""

    def __init__(
        self,
        store: Store,
        directory: Directory,
        admission: Admission,
        statistics: Callable[[], ShardStatistics],
    ) -> None:
        self._store = store
        self._directory = directory
        self._admission = admission
        self._statistics = statistics

    async def answer(self, op: str, arguments: dict[str, Any]) -> Any:
        """Raises InvalidArguments for what is not known, and whatever the store raises."""
        if op == "ping":
            return "pong"
        if op == "statistics":
            return asdict(self._statistics())
        if op == "unpark":
            return self._unpark(str(arguments.get("address", "")))
        if op == "list":
            return await self._list(arguments)
        raise InvalidArguments(f"a shard does not know the request {op!r}; it knows list, ping, statistics and unpark")

    def _unpark(self, address: str) -> bool:
        was_parked = address in self._admission.parked
        self._admission.parked.discard(address)
        return was_parked

    async def _list(self, arguments: dict[str, Any]) -> list[str]:
        try:
            asked = msgspec.convert(arguments, ListArguments)
        except msgspec.ValidationError as error:
            raise InvalidArguments(f"list: {error}") from None
        if asked.object_type not in self._directory.class_names:
            raise unknown_class(self._directory, asked.object_type)
        problem = (asked.prefix and name_problem("prefix", asked.prefix)) or (asked.after and id_problem(asked.after))
        if problem or not 0 < asked.limit <= LIST_MAX:
            raise InvalidArguments(f"list: {problem or f'limit must be 1 to {LIST_MAX}'}")
        return await self._store.list_ids(asked.prefix, asked.object_type, asked.after, asked.limit)
