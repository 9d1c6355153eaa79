"""The clock on the wall of real processes, set forward and back while they run, by libfaketime.

Only the wall clock: what is measured with the monotonic ones goes on as if nothing had happened, as when an operator or
NTP sets a machine's time.
"""

from __future__ import annotations

import platform
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import pytest


class WallClock:
    """What processes that are started from now on see when they ask for the time."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offset = timedelta(0)
        self._file = folder / "wall-clock"
        self.set(self.offset)
        for name, value in {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",  # each look at the clock is a look into the file
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",  # nothing is left in /dev/shm by processes that are killed
        }.items():
            monkeypatch.setenv(name, value)

    def set(self, offset: timedelta) -> None:
        """So much ahead of the true time, or behind it, at once in all processes."""
        self.offset = offset
        draft = self._file.with_suffix(".new")
        draft.write_text(f"{offset.total_seconds():+.0f}\n")
        draft.replace(self._file)

    def now(self) -> datetime:
        """What the processes see."""
        return datetime.now(UTC) + self.offset


def _library() -> Path:
    package = find_spec("libfaketime")
    assert package is not None, "pip install libfaketime"
    assert package.submodule_search_locations
    machine = platform.machine()
    assert machine == "x86_64", f"the package libfaketime is built for x86_64 and not for {machine}"
    return Path(package.submodule_search_locations[0], "vendor", "libfaketime", "src", "libfaketime.so.1")
