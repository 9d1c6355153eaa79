"""Where the engine's own processes log."""

from __future__ import annotations

import logging
import sys
from typing import Final

_LOGGERS: Final = ("durable_engine", "durable_shards", "durable_storage")


def configure_logging(who: str, level: str) -> None:
    """Log to stderr, with the process's name in each line, unless the program set up logging of its own."""
    if logging.getLogger().handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s {who} %(levelname)s %(message)s"))
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
