"""`shards` and `reload`: the processes that objects live in, and how they are exchanged."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from durable_engine.commands.connection import connected, server_settings
from durable_engine.output import Failure, Output, table
from durable_engine.settings import Command, Group, json_setting, setting

if TYPE_CHECKING:
    from durable_engine.client import Client

CHANGE_SECONDS_MAX: Final = 3600.0
"""Until a change of a shard is given up: how long a drain may take is the server's to say (`--drain-timeout`)."""
LOOK_SECONDS: Final = 0.1


@click.group(cls=Group)
def shards() -> None:
    """Look at the shards of a running server, drain and restart them."""


COLUMNS = ("shard", "pid", "state", "endpoint", "partitions", "epoch", "restarts")


@shards.command("list")
@server_settings
@json_setting
@click.pass_obj
def list_shards(output: Output, connect: str, timeout: timedelta) -> None:
    """Print the shards: process, state, endpoint, range of partitions (half-open) and epoch."""
    with connected(connect, timeout) as client:
        found = client.request("shards", timeout=timeout.total_seconds())
    output.show(found, table(found, COLUMNS))


number = click.argument("number", metavar="N", type=click.IntRange(0))


@shards.command("drain")
@number
@server_settings
@json_setting
@click.pass_obj
def drain(output: Output, number: int, connect: str, timeout: timedelta) -> None:
    """Let shard N finish what it has, and a fresh process take its place.

    The fresh process stands by first. Then shard N takes no new calls, finishes and answers what it has, and hands
    its partitions over; calls made meanwhile wait in their clients. No call fails by it. Returns when the fresh
    process serves. What takes longer than the server's --drain-timeout is undone, as when a server stops.
    """
    with connected(connect, timeout) as client:
        done = client.request("drain_shard", {"shard": number}, timeout=CHANGE_SECONDS_MAX)
    output.show(done, [_changed(done)])


@shards.command("restart")
@number
@setting("now")
@server_settings
@json_setting
@click.pass_obj
def restart(output: Output, *, number: int, now: bool, connect: str, timeout: timedelta) -> None:
    """Drain shard N as `shards drain` does, or start it if it is down.

    With --now its process is killed and started again, as after a crash: nothing that was acknowledged is lost, but
    calls without an idempotency key that were under way fail with an unknown outcome.
    """
    with connected(connect, timeout) as client:
        done = client.request("restart_shard", {"shard": number, "now": now}, timeout=CHANGE_SECONDS_MAX)
    output.show(done, [_changed(done)])


@click.command("reload", cls=Command)
@setting("allow_missing")
@server_settings
@json_setting
@click.pass_obj
def reload(output: Output, *, allow_missing: bool, connect: str, timeout: timedelta) -> None:
    """Move the shards of a running server, one by one, to the code that is on disk now. No call fails by it.

    The objects are imported anew beside the running shards. If that fails, or if a class is gone or has an older
    schema version, nothing is changed. Then each shard is drained as by `shards drain`; the first that does not come
    up on the new code ends the reload, stays on the old code, and so do those behind it. SIGHUP to the server does
    the same, unless it was started from a terminal.
    """
    with connected(connect, timeout) as client:
        told = client.request("reload", {"allow_missing": allow_missing}, timeout=timeout.total_seconds())
        output.note("importing the objects anew")
        told = _followed(client, told, output, timeout)
    if told["state"] != "done":
        if told["traceback"]:
            output.note(told["traceback"].rstrip())
        raise _failure(told)
    count = len(told["shards"])
    shards = "1 shard runs" if count == 1 else f"{count} shards run"
    output.show(told, [f"{shards} the new code, after {told['seconds']:.2f} s"])


def _followed(client: Client, told: dict[str, Any], output: Output, timeout: timedelta) -> dict[str, Any]:
    """The reload when it is over; each shard that is done is noted."""
    noted: set[int] = set()
    while True:
        for shard in told["shards"]:
            if shard["after"] is not None and shard["shard"] not in noted:
                noted.add(shard["shard"])
                output.note(_changed(shard))
        if told["state"] not in ("importing", "rolling"):
            return told
        time.sleep(LOOK_SECONDS)
        told = client.request("reload_status", timeout=timeout.total_seconds())


def _failure(told: dict[str, Any]) -> Failure:
    refused = told["state"] == "refused"
    return Failure(
        ("nothing was changed: " if refused else "the reload has stopped: ") + told["problem"],
        kind="ReloadRefused" if refused else "ReloadFailed",
        details={name: told[name] for name in ("shards", "seconds", "traceback")},
    )


def _changed(done: dict[str, Any]) -> str:
    before = f"pid {done['before']}" if done["before"] else "no process"
    return f"shard {done['shard']}: {before} -> pid {done['after']}, in {done['seconds']:.3f} s"
