"""Everything that can be said against a call before its object is touched. No object is loaded or created by it."""

from __future__ import annotations

import shlex

from durable_shards import system
from durable_shards.directory import ClassTable, Directory
from durable_shards.errors import (
    InvalidArguments,
    NotOwner,
    ObjectParked,
    UnknownClass,
    UnknownHandler,
)
from durable_shards.handler import HandlerSpec
from durable_shards.spec import ClassSpec
from durable_shards.wire import Call
from durable_storage.address import Address, id_problem, name_problem
from durable_storage.errors import TooLarge
from durable_storage.limits import ID_BYTES_MAX, NAME_BYTES_MAX


class Admission:
    """The doorkeeper of one shard."""

    def __init__(self, directory: Directory, owned: range, parked: set[str]) -> None:
        self._directory = directory
        self._owned = owned
        self.parked = parked
        """Objects (text of their addresses) that killed their shard too often."""

    def admit(self, table: ClassTable | None, call: Call) -> ClassTable:
        """The table of the call's class. Raises the DurableError that the call is to be refused with."""
        if table is None:
            if problem := call.prefix and name_problem("prefix", call.prefix):
                too_long = len(call.prefix.encode(errors="surrogatepass")) > NAME_BYTES_MAX
                raise (TooLarge if too_long else InvalidArguments)(problem)
            table = self._directory.table(call.prefix, call.object_type)
        if table is None:
            raise unknown_class(self._directory, call.object_type)
        if problem := id_problem(call.object_id):
            too_long = len(call.object_id.encode(errors="surrogatepass")) > ID_BYTES_MAX
            raise (TooLarge if too_long else InvalidArguments)(problem)
        if table.partition_of(call.object_id) not in self._owned:
            raise NotOwner("this object belongs to another shard; nothing was run")
        handler = table.spec.handlers.get(call.handler)
        if handler is not None or call.handler not in system.HANDLERS:
            (handler or handler_of(table.spec, call.handler)).bind(call.args, call.kwargs)
        if self.parked and (call.handler == "$fire" or call.handler not in system.HANDLERS):
            self._refuse_parked(call)
        return table

    def _refuse_parked(self, call: Call) -> None:
        address = str(Address(call.prefix, call.object_type, call.object_id))
        if address in self.parked:
            tenant = ["--prefix", call.prefix] if call.prefix else []
            command = shlex.join(["durable-engine", "objects", "unpark", *tenant, call.object_type, call.object_id])
            raise ObjectParked(
                f"{address} is parked, because it killed its shard too often or somebody parked it; nothing was run. "
                f"Mend its class, then `{command}`"
            )


def unknown_class(directory: Directory, name: str) -> UnknownClass:
    """The error for a class that is not served."""
    known = ", ".join(directory.class_names) or "none"
    return UnknownClass(f"no class {name!r} is served here; known are: {known}")


def handler_of(spec: ClassSpec, name: str) -> HandlerSpec:
    """A declared handler. Raises UnknownHandler."""
    handler = spec.handlers.get(name)
    if handler is None:
        known = ", ".join(sorted(spec.handlers)) or "none"
        raise UnknownHandler(f"{spec.name} has no handler {name!r}; its handlers are: {known}")
    return handler
