"""Everything that can be said against a call before its object is touched. Nothing is loaded or created by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_shards import system
from durable_shards.errors import (
    InvalidArguments,
    NotOwner,
    ObjectParked,
    Overloaded,
    ReentrantCall,
    UnknownClass,
    UnknownHandler,
)
from durable_storage.address import Address, id_problem, name_problem, partition_of
from durable_storage.errors import TooLarge
from durable_storage.limits import ID_BYTES_MAX

if TYPE_CHECKING:
    from durable_shards.activation import Activation
    from durable_shards.directory import ClassTable
    from durable_shards.handler import HandlerSpec
    from durable_shards.shard import Shard
    from durable_shards.wire import Call


def admit(shard: Shard, table: ClassTable | None, call: Call) -> ClassTable:
    """The table of the call's class. Raises the DurableError that the call is to be refused with."""
    if shard.stopped is not None or (shard.draining and not call.chain):
        raise NotOwner("this shard is shutting down; nothing was run")
    if shard.gate.waiting >= shard.settings.gated_max:
        waiting = shard.gate.waiting
        raise Overloaded(f"{waiting} answers already wait for the store; nothing was run, try again shortly")
    if table is None:
        if problem := call.prefix and name_problem("prefix", call.prefix):
            raise InvalidArguments(problem)
        table = shard.directory.table(call.prefix, call.object_type)
    if table is None:
        raise unknown_class(shard, call.object_type)
    if problem := id_problem(call.object_id):
        too_long = len(call.object_id.encode(errors="surrogatepass")) > ID_BYTES_MAX
        raise (TooLarge if too_long else InvalidArguments)(problem)
    if partition_of(call.prefix, call.object_type, call.object_id) not in shard.settings.owned:
        raise NotOwner("this object belongs to another shard; nothing was run")
    if call.handler not in system.HANDLERS:
        handler_of(table, call.handler).bind(call.args, call.kwargs)
        if shard.parked:
            _refuse_parked(shard, call)
    return table


def unknown_class(shard: Shard, name: str) -> UnknownClass:
    """The error for a class that is not served."""
    known = ", ".join(shard.directory.class_names) or "none"
    return UnknownClass(f"no class {name!r} is served here; known are: {known}")


def handler_of(table: ClassTable, name: str) -> HandlerSpec:
    """A declared handler. Raises UnknownHandler."""
    spec = table.handlers.get(name)
    if spec is None:
        known = ", ".join(sorted(table.handlers)) or "none"
        raise UnknownHandler(f"{table.spec.name} has no handler {name!r}; its handlers are: {known}")
    return spec


def circle(act: Activation, call: Call) -> ReentrantCall | None:
    """The error of a call that would wait for itself, directly or because two chains cross; None if it would not."""
    if not call.chain or not act.suspended or act.paused:
        return None
    crossing = any(not turn.waiting_for.isdisjoint(call.chain) for turn in act.suspended)
    if str(act.address) not in call.chain and not crossing:
        return None
    chain = [*call.chain, str(act.address)]
    return ReentrantCall(
        f"{' -> '.join(chain)}: {act.address} waits for this very chain; nothing was run. "
        "Break the circle, or declare the class with reentrant=True",
        chain=chain,
    )


def _refuse_parked(shard: Shard, call: Call) -> None:
    address = str(Address(call.prefix, call.object_type, call.object_id))
    if address in shard.parked:
        raise ObjectParked(
            f"{address} killed its shard too often and is parked; nothing was run. Mend its class, then "
            f"`durable-engine objects unpark {call.object_type} {call.object_id}`"
        )
