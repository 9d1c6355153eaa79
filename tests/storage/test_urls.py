"""A store's URL: what it may be, and what is said when it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable_storage.memory import MemoryStore
from durable_storage.postgres import PostgresStore
from durable_storage.sqlite import SqliteStore
from durable_storage.urls import StoreUrlError, directory_of, open_control, open_store, without_password


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("postgresql://localhost/shop", PostgresStore),
        ("postgres://user:secret@[::1]:5433/shop?search_path=durable", PostgresStore),
        ("sqlite:///data", SqliteStore),
        ("sqlite:////var/lib/data", SqliteStore),
        ("memory://", MemoryStore),
        ("memory://name", MemoryStore),
    ],
)
def test_a_url_names_its_implementation(url: str, kind: type) -> None:
    """Nothing is opened yet."""
    assert type(open_store(url)) is kind
    assert open_control(url)


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("", "write postgresql://"),
        ("data.db", "write postgresql://"),
        ("mysql://localhost/shop", "no store is called 'mysql'"),
        ("sqlite://data", "sqlite:///data"),
        ("sqlite:///", "names no directory"),
        ("sqlite:///data?mode=ro", "takes no options"),
        ("sqlite:///da%00ta", "names no directory"),
        ("postgresql://localhost:port/shop", "port"),
    ],
)
def test_a_wrong_url_is_told_with_what_to_write(url: str, hint: str) -> None:
    """Before anything is opened."""
    with pytest.raises(StoreUrlError, match=hint):
        open_store(url)
    with pytest.raises(ValueError, match=hint):
        open_control(url)


def test_three_slashes_are_relative_and_four_absolute() -> None:
    """As SQLAlchemy writes it; percent-encoding is undone."""
    assert directory_of("sqlite:///data/shop") == Path("data/shop")
    assert directory_of("sqlite:////var/my%20data") == Path("/var/my data")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host:1/db?a=b", "postgresql://me@host:1/db?a=b"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("postgresql:///db?user=me&password=secret&host=/tmp", "postgresql:///db?user=me&host=%2Ftmp"),
        ("postgresql://me:pa/ss@host/db", "postgresql://...@host/db"),
        ("postgresql://me:12/ss@host/db", "postgresql://...@host/db"),
        ("postgresql://me:pa[ss@host/db", "postgresql://...@host/db"),
        ("postgresql://me:pa#ss@host/db?password=secret", "postgresql://...@host/db"),
        ("postgresql://host:port/db?password=secret", "postgresql://host:port/db"),
        ("postgresql://host:5432/db?user=me@site", "postgresql://host:5432/db?user=me@site"),
        ("sqlite:////var/data", "sqlite:////var/data"),
        ("sqlite:///me:you@home", "sqlite:///me:you@home"),
        ("memory://", "memory://"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    """Wherever they stand."""
    assert without_password(url) == shown


@pytest.mark.parametrize("url", ["postgresql://me:se/t@host/db", "postgresql://me:se[t@host/db", "pg:/me:se@host"])
def test_a_wrong_url_is_told_without_its_password(url: str) -> None:
    """Nor any piece of it, such as what stands where a port should."""
    with pytest.raises(StoreUrlError) as raised:
        open_store(url)
    assert "se" not in str(raised.value).partition("@host")[0].replace("postgresql", "")


async def test_a_named_memory_store_is_shared_within_the_process() -> None:
    """An unnamed one is not."""
    named = open_store("memory://shared"), open_store("memory://shared")
    unnamed = open_store("memory://"), open_store("memory://")
    assert isinstance(named[0], MemoryStore)
    assert isinstance(named[1], MemoryStore)
    assert named[0].world is named[1].world
    assert isinstance(unnamed[0], MemoryStore)
    assert isinstance(unnamed[1], MemoryStore)
    assert unnamed[0].world is not unnamed[1].world
