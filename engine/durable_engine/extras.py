"""What can be installed besides: `pip install "durable-engine[procrastinate]"`.

    procrastinate = require("procrastinate")

A part of the engine that needs a package which not everybody has asks for it here, so that who lacks it reads which
line to add, and not a ModuleNotFoundError of a name that they never typed.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Final

from durable_storage.errors import DurableError

EXTRAS: Final = {
    "bench": ("hdrh", "durable-engine bench"),
    "procrastinate": ("procrastinate", "the scheduler procrastinate"),
}
"""The module that each extra brings, and what needs it."""


class MissingExtra(DurableError, ImportError):
    """A package that this feature needs is not installed; nothing was started. The message says what to install."""


def require(extra: str, module: str = "") -> ModuleType:
    """The module that an extra brings, or another one of it. Raises MissingExtra with the line to type or to add."""
    first, needed_by = EXTRAS[extra]
    module = module or first
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise  # it is installed, and broken in another way
        raise MissingExtra(
            f'{needed_by} needs the package {module}, which is not installed: pip install "durable-engine[{extra}]", '
            f'or add "durable-engine[{extra}]" to the dependencies of your project'
        ) from None
