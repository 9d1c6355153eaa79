"""What may be asked of a shard as a whole: REQUEST messages, which concern no single object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final, TypeVar

import msgspec
import orjson

from durable_shards.admission import Admission, unknown_class
from durable_shards.directory import Directory
from durable_shards.errors import InvalidArguments
from durable_shards.statistics import ShardStatistics
from durable_shards.system_alarms import described
from durable_storage.address import id_problem, name_problem
from durable_storage.store import ListedAlarm, Served, Store

LIST_MAX: Final = 10_000
LISTED_PAYLOAD_BYTES_MAX: Final = 1_000
"""Of an alarm in a page of many, which has to fit into one message."""
T = TypeVar("T")


class ListArguments(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of the request `list`."""

    object_type: str
    prefix: str = ""
    after: str | None = None
    limit: int = 100


class AlarmsArguments(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of the request `alarms`."""

    prefix: str = ""
    orphaned: bool = False
    after: tuple[str, str, str] | None = None
    """Class, id and name of the last one of the page before."""
    limit: int = 100


class Requests:
    """Answers them."""

    def __init__(
        self,
        store: Store,
        directory: Directory,
        admission: Admission,
        served: Callable[[], Served],
        statistics: Callable[[], ShardStatistics],
    ) -> None:
        self._store = store
        self._directory = directory
        self._admission = admission
        self._served = served
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
        if op == "alarms":
            return await self._alarms(arguments)
        known = "alarms, list, ping, statistics and unpark"
        raise InvalidArguments(f"a shard does not know the request {op!r}; it knows {known}")

    def _unpark(self, address: str) -> bool:
        was_parked = address in self._admission.parked
        self._admission.parked.discard(address)
        return was_parked

    async def _alarms(self, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        """A page of the stored alarms, or of those that cannot fire, by class, id and name."""
        asked = _converted("alarms", arguments, AlarmsArguments)
        problem = asked.prefix and name_problem("prefix", asked.prefix)
        if problem or not 0 < asked.limit <= LIST_MAX:
            raise InvalidArguments(f"alarms: {problem or f'limit must be 1 to {LIST_MAX}'}")
        served = self._served()
        found = await self._store.list_alarms(
            asked.prefix, served if asked.orphaned else None, asked.after, asked.limit
        )
        return [_listed(alarm, served, self._directory.class_names) for alarm in found]

    async def _list(self, arguments: dict[str, Any]) -> list[str]:
        asked = _converted("list", arguments, ListArguments)
        if asked.object_type not in self._directory.class_names:
            raise unknown_class(self._directory, asked.object_type)
        problem = (asked.prefix and name_problem("prefix", asked.prefix)) or (asked.after and id_problem(asked.after))
        if problem or not 0 < asked.limit <= LIST_MAX:
            raise InvalidArguments(f"list: {problem or f'limit must be 1 to {LIST_MAX}'}")
        return await self._store.list_ids(asked.prefix, asked.object_type, asked.after, asked.limit)


def _converted(op: str, arguments: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(arguments, kind)
    except msgspec.ValidationError as error:
        raise InvalidArguments(f"{op}: {error}") from None


def _listed(alarm: ListedAlarm, served: Served, classes: list[str]) -> dict[str, Any]:
    (prefix, object_type, object_id), row = alarm
    why = "failed" if row.is_parked else None
    if not served.serves(object_type, row.name):
        why = "unknown alarm" if object_type in classes else "unknown class"
    if row.payload is not None and len(row.payload) > LISTED_PAYLOAD_BYTES_MAX:
        row = row._replace(payload=orjson.dumps(f"({len(row.payload)} bytes: see `durable-engine objects show`)"))
    return {"class": object_type, "id": object_id, "prefix": prefix, **described(row), "orphaned": why}
