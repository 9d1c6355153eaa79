"""`shards`: the processes that objects live in."""

from __future__ import annotations

from datetime import timedelta

import click

from durable_engine.commands.connection import connected, server_settings
from durable_engine.output import Output, table
from durable_engine.settings import Group, json_setting


@click.group(cls=Group)
def shards() -> None:
    """Look at the shards of a running server."""


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
