"""How long fuzzers run, and what they watch: a few examples in `make test`, as many as one likes in `make fuzz`."""

from __future__ import annotations

import gc
import logging
import os
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, settings

LONG = int(os.environ.get("FUZZ_EXAMPLES", "0"))
"""Examples of each fuzzer; 0: as few as each says."""


def budget(few: int) -> Any:
    """Settings of a fuzzer."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=LONG or few, deadline=None, suppress_health_check=checks, print_blob=True)


class Watched(logging.Handler):
    """Exceptions that the engine logs as errors: nobody foresaw them. What is foreseen has a text and no traceback."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.records.append(self.format(record))


@contextmanager
def watched(*loggers: str) -> Iterator[list[str]]:
    """The errors that these loggers are given meanwhile."""
    handler = Watched()
    for name in loggers:
        logging.getLogger(name).addHandler(handler)
    yield handler.records
    for name in loggers:
        logging.getLogger(name).removeHandler(handler)


@contextmanager
def measured() -> Iterator[Any]:
    """Yields a function that tells how many bytes Python holds by now."""

    def held() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        yield held
    finally:
        tracemalloc.stop()
