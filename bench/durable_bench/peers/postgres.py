"""What peers that rest on PostgreSQL share: a server of their own, with the settings it comes with."""

from __future__ import annotations

from pathlib import Path

DURABILITY = "PostgreSQL with fsync and synchronous_commit on, as it comes"
TABLE = """
CREATE TABLE IF NOT EXISTS counters (id text PRIMARY KEY, count bigint NOT NULL);
CREATE SEQUENCE IF NOT EXISTS new_ids CACHE 100;
"""
"""Of those that have no engine."""


def postmaster(directory: Path) -> list[int]:
    """The process id of the server that `durable_bench.postgres_server` runs in this folder, if there is one."""
    try:
        return [int((directory / "data" / "postmaster.pid").read_text().split()[0])]
    except OSError:
        return []
