"""What SQLite's errors mean to those who call the engine."""

from __future__ import annotations

from collections.abc import Callable
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import ParamSpec, TypeVar

import apsw

from durable_storage.errors import SchemaMismatch, StoreUnavailable

P = ParamSpec("P")
R = TypeVar("R")


def explained(root: Path, job: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run `job` on the store in `root`, with errors that say what to do. Raises SchemaMismatch, StoreUnavailable."""
    try:
        return job(*args, **kwargs)
    except (apsw.Error, OSError) as error:
        raise explanation(root, error) from error


def explanation(root: Path, error: Exception) -> SchemaMismatch | StoreUnavailable:
    """The typed error for one of SQLite's or the file system's."""
    if isinstance(error, apsw.NotADBError):
        return SchemaMismatch(f"a file in {root} is no SQLite database: put the right one back, or another directory")
    if isinstance(error, apsw.CorruptError):
        return StoreUnavailable(f"a file in {root} is damaged ({error}): restore it from a backup", retryable=False)
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return StoreUnavailable(f"{root} is locked by another process: end that one, or call again later")
    if is_full(error):
        return StoreUnavailable(f"no space is left for {root}: free some and call again")
    if isinstance(error, apsw.ReadOnlyError | apsw.CantOpenError | apsw.PermissionsError | PermissionError):
        problem = f"{root} cannot be opened for writing by this user ({error}): change its owner or its rights"
        return StoreUnavailable(problem, retryable=False)
    return StoreUnavailable(f"the store in {root} cannot be used: {error}")


def is_full(error: Exception) -> bool:
    """Whether the disk has no space left. SQLite has rolled back cleanly then."""
    return isinstance(error, apsw.FullError) or getattr(error, "errno", None) in {ENOSPC, EDQUOT}
