"""What a process takes of the memory of its machine, seen from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PREFIX: Final = "VmData:"


def data_bytes(pid: int) -> int:
    """What counts against RLIMIT_DATA: private writable memory of a process; 0 when there is none."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(_PREFIX)), 0)
