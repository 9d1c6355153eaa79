"""`version`: what is installed."""

from __future__ import annotations

import platform

import click

from durable_engine.output import Output
from durable_engine.release import RELEASE
from durable_engine.settings import Command, json_setting


@click.command(cls=Command)
@json_setting
@click.pass_obj
def version(output: Output) -> None:
    """Print the release of durable-engine and of what it runs on."""
    facts = {
        "durable-engine": RELEASE,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
    }
    output.show(facts, [f"durable-engine {facts['durable-engine']}, Python {facts['python']}, {facts['platform']}"])
