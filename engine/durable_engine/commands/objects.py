"""`objects`: look at single objects, and act on them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import click

from durable_engine.commands.connection import StoredName, connected, server_settings
from durable_engine.commands.states import check
from durable_engine.output import Failure, Output, confirm, encode_json, table
from durable_engine.settings import Group, json_setting, setting


@click.group(cls=Group)
def objects() -> None:
    """List, show, wake, evict, delete, park and unpark objects; check stored ones against changed code."""


objects.add_command(check)


def on_one_object(command: Any) -> Any:
    """What all commands on one object take."""
    for give in (
        click.pass_obj,
        json_setting,
        server_settings,
        setting("prefix"),
        click.argument("object_id", metavar="ID"),
        click.argument("object_type", metavar="CLASS", type=StoredName()),
    ):
        command = give(command)
    return command


@objects.command("list")
@click.argument("object_type", metavar="CLASS", type=StoredName())
@setting("after")
@setting("limit")
@setting("prefix")
@server_settings
@json_setting
@click.pass_obj
def list_objects(
    output: Output,
    *,
    object_type: str,
    after: str | None,
    limit: int,
    prefix: str,
    connect: str,
    timeout: timedelta,
) -> None:
    """Print a page of the stored ids of CLASS, sorted, one a line."""
    with connected(connect, timeout) as client:
        ids = client.objects(object_type, after=after, limit=limit, prefix=prefix)
    output.show(ids, ids)
    if len(ids) == limit:
        output.note(f"There may be more: --after {shlex.quote(ids[-1])}")


@objects.command("show")
@on_one_object
def show_object(
    output: Output, *, object_type: str, object_id: str, prefix: str, connect: str, timeout: timedelta
) -> None:
    """Show the committed state of an object, its alarms, and where it lives."""
    label = label_of(object_type, object_id, prefix)
    with connected(connect, timeout) as client:
        found = client.call_by_name(object_type, object_id, "$state", prefix=prefix)
        alarms = client.call_by_name(object_type, object_id, "$alarms", prefix=prefix)
        shard = client.where(object_type, object_id, prefix=prefix)
    if found is None and not alarms:
        raise Failure(f"there is no {label}", hint=f"durable-engine objects list {object_type}", kind="NotFound")
    found = found or {"state": None, "version": 0, "live": False}
    shown = {
        "class": object_type,
        "id": object_id,
        "prefix": prefix,
        "version": found["version"],
        "live": found["live"],
        "shard": shard,
        "state": found["state"],
        "alarms": alarms,
    }
    output.show(shown, _describe(label, shown))


def _describe(label: str, shown: dict[str, Any]) -> Iterator[str]:
    where = "at rest" if shown["shard"] is None else f"in memory of shard {shown['shard']}"
    yield f"{click.style(label, bold=True)}  version {shown['version']}, {where}"
    state = shown["state"]
    if state is None:
        yield "no state was ever stored"
    else:
        width = max(map(len, state), default=0)
        for name, value in state.items():
            yield f"  {name.ljust(width)}  {encode_json(value)}"
    if shown["alarms"]:
        yield ""
        rows = [
            {**alarm, "payload": encode_json(alarm["payload"]), "parked": "parked" if alarm["parked"] else None}
            for alarm in shown["alarms"]
        ]
        yield from table(rows, ["name", "at", "attempt", "recurrence", "payload", "parked"])


@objects.command("wake")
@on_one_object
def wake_object(
    output: Output, *, object_type: str, object_id: str, prefix: str, connect: str, timeout: timedelta
) -> None:
    """Bring an object into memory."""
    with connected(connect, timeout) as client:
        client.wake(object_type, object_id, prefix=prefix)
    output.show({"awake": True}, [f"{label_of(object_type, object_id, prefix)} is awake"])


@objects.command("evict")
@on_one_object
def evict_object(
    output: Output, *, object_type: str, object_id: str, prefix: str, connect: str, timeout: timedelta
) -> None:
    """Drop an object from memory; its state stays stored."""
    with connected(connect, timeout) as client:
        evicted = client.evict(object_type, object_id, prefix=prefix)
    what = "was evicted" if evicted else "was not in memory"
    output.show({"evicted": evicted}, [f"{label_of(object_type, object_id, prefix)} {what}"])


@objects.command("delete")
@setting("yes")
@on_one_object
def delete_object(
    output: Output,
    *,
    object_type: str,
    object_id: str,
    prefix: str,
    connect: str,
    timeout: timedelta,
    confirmed: bool,
) -> None:
    """Remove the state and the alarms of an object, for ever."""
    label = label_of(object_type, object_id, prefix)
    confirm(f"Delete the state and alarms of {label} for ever?", confirmed=confirmed)
    with connected(connect, timeout) as client:
        deleted = client.delete(object_type, object_id, prefix=prefix)
    output.show({"deleted": deleted}, [f"{label} was deleted" if deleted else f"there was no {label}"])


@objects.command("park")
@on_one_object
def park_object(
    output: Output, *, object_type: str, object_id: str, prefix: str, connect: str, timeout: timedelta
) -> None:
    """Refuse all calls to an object, and run none of its alarms, until it is unparked or the server stops."""
    from durable_engine.pending import target_of

    address = str(target_of(prefix, object_type, object_id).address)
    with connected(connect, timeout) as client:
        parked = client.request("park", {"address": address}, timeout=timeout.total_seconds())
    what = "is parked" if parked else "was parked already"
    output.show({"parked": parked}, [f"{label_of(object_type, object_id, prefix)} {what}"])


@objects.command("unpark")
@on_one_object
def unpark_object(
    output: Output, *, object_type: str, object_id: str, prefix: str, connect: str, timeout: timedelta
) -> None:
    """Serve an object again that was parked, by hand or because it kept killing its shard."""
    with connected(connect, timeout) as client:
        unparked = client.unpark(object_type, object_id, prefix=prefix)
    what = "is served again" if unparked else "was not parked"
    output.show({"unparked": unparked}, [f"{label_of(object_type, object_id, prefix)} {what}"])


def label_of(object_type: str, object_id: str, prefix: str) -> str:
    """An object as people are told of it."""
    return f"{object_type} {object_id!r}" + (f" of tenant {prefix}" if prefix else "")
