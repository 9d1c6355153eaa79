"""How commands reach a running server, and how they read CLASS."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from durable_engine.output import EXIT_USAGE, Failure
from durable_engine.settings import setting

if TYPE_CHECKING:
    from durable_engine.client import Client

_IMPORTABLE: Final = re.compile(r"(?P<module>[\w.]+|.+\.py):(?P<name>[A-Za-z_]\w*)")


def server_settings(command: Any) -> Any:
    """Give a command what it needs to talk to a server: --connect and --timeout."""
    return setting("connect")(setting("timeout")(command))


@contextmanager
def connected(address: str, timeout: timedelta) -> Iterator[Client]:
    """A blocking client of the server at `address`, closed at the end."""
    with open_client(address, timeout.total_seconds()) as client:
        yield client


def open_client(address: str, timeout_seconds: float) -> Client:
    """The seam for tests."""
    from durable_engine.client import Client

    try:
        return Client(address, timeout=timeout_seconds, call_timeout=timeout_seconds)
    except ValueError as error:
        raise Failure(str(error), hint="name the server with --connect", exit_code=EXIT_USAGE, kind="Usage") from None


class StoredName(click.ParamType):  # type: ignore[type-arg] # generic since click 8.5
    """The stored name of a class, also found through `module:Class` or `file.py:Class`."""

    name = "class"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Import the class where one is named, and take its stored name."""
        match = _IMPORTABLE.fullmatch(value)
        if match is None:
            return str(value)
        sys.path.insert(0, "")  # a console script does not look into the working directory by itself
        from durable_shards.registry import Registry

        try:
            classes = Registry.load([value]).classes
        except Exception as error:
            raise Failure(f"{value} cannot be loaded: {error}", exit_code=EXIT_USAGE, kind="Usage") from None
        return next(iter(classes))
