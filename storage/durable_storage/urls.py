"""From a store's URL to its implementation.

- `postgresql://user@host:5432/database`: asyncpg's form; `?search_path=durable` picks the schema of the tables;
- `sqlite:///relative/directory`, `sqlite:////absolute/directory`;
- `memory://`: gone with the process; `memory://name`: shared by all that name it within one process.

The drivers are imported only when their kind of store is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from durable_storage.errors import DurableError
from durable_storage.lease import Control
from durable_storage.store import Store

if TYPE_CHECKING:
    from durable_storage.memory import MemoryWorld

Kind = Literal["postgresql", "sqlite", "memory"]

EXAMPLES = "postgresql://user@host/database, sqlite:///directory or memory://"

_worlds: dict[str, MemoryWorld] = {}


class StoreUrlError(DurableError, ValueError):
    """The store's URL cannot be understood; nothing was opened."""


def kind_of(url: str) -> Kind:
    """Which implementation a URL asks for. Raises StoreUrlError."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise StoreUrlError(f"{without_password(url)!r} is no store URL: write {EXAMPLES}")
    match scheme:
        case "postgresql" | "postgres":
            _check_port(url)
            return "postgresql"
        case "sqlite":
            return "sqlite"
        case "memory":
            return "memory"
    raise StoreUrlError(f"no store is called {scheme!r}: write {EXAMPLES}")


def _check_port(url: str) -> None:
    try:
        urlsplit(url).port  # noqa: B018 - it is parsed by being asked for
    except ValueError:
        # What the parser says may quote a piece of a password: one with a slash in it ends up in the port's place.
        raise StoreUrlError(
            f"{without_password(url)!r} has no valid host and port: percent-encode what is special in a user's name "
            "or password"
        ) from None


def open_store(url: str) -> Store:
    """The store of `url`, not opened yet. Raises StoreUrlError."""
    match kind_of(url):
        case "postgresql":
            from durable_storage.postgres import PostgresStore  # noqa: PLC0415

            return PostgresStore(url)
        case "sqlite":
            from durable_storage.sqlite import SqliteStore  # noqa: PLC0415

            return SqliteStore(directory_of(url))
        case "memory":
            from durable_storage.memory import MemoryStore  # noqa: PLC0415

            return MemoryStore(_world(url), volatile=True)


def open_control(url: str) -> Control:
    """The seat of the ruler of the store of `url`. Raises StoreUrlError."""
    match kind_of(url):
        case "postgresql":
            from durable_storage.postgres_control import PostgresControl  # noqa: PLC0415

            return PostgresControl(url)
        case "sqlite":
            from durable_storage.sqlite_control import SqliteControl  # noqa: PLC0415

            return SqliteControl(directory_of(url))
        case "memory":
            from durable_storage.memory_control import MemoryControl  # noqa: PLC0415

            return MemoryControl(_world(url))


def directory_of(url: str) -> Path:
    """The directory of a SQLite store: three slashes before a relative path, four before an absolute one."""
    rest = url.partition("://")[2]
    if not rest.startswith("/"):
        raise StoreUrlError(f"{url!r} lacks a slash: write sqlite:///{rest or 'directory'} or sqlite:////absolute/path")
    path = unquote(rest[1:])
    if not path or "?" in path or "\0" in path:
        raise StoreUrlError(f"{url!r} names no directory: write sqlite:///directory (it takes no options)")
    return Path(path)


def without_password(url: str) -> str:
    """The URL as it may be shown and logged."""
    if url.startswith(("sqlite:", "memory:")):
        return url
    parts = _taken_apart(url)
    if parts is None:  # Then a password may stand anywhere before the last @, and behind a question mark.
        end = url.rpartition("@")[2].rpartition("://")[2].partition("?")[0]
        return f"{url.partition(':')[0]}://{'...@' if '@' in url else ''}{end}"
    if parts.password is not None:
        user, _, host = parts.netloc.rpartition("@")
        url = url.replace(parts.netloc, f"{user.partition(':')[0]}@{host}", 1)
    if "password=" in parts.query:
        options = [(name, value) for name, value in parse_qsl(parts.query) if not name.endswith("password")]
        url = url.replace(parts.query, urlencode(options), 1)
    return url


def _taken_apart(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    is_odd = "@" in url and "@" not in parts.netloc and ("@" not in parts.query or "=" not in parts.query)
    return None if is_odd else parts


def _world(url: str) -> MemoryWorld:
    from durable_storage.memory import MemoryWorld  # noqa: PLC0415

    name = url.partition("://")[2].strip("/")
    return _worlds.setdefault(name, MemoryWorld()) if name else MemoryWorld()
