"""The pytest plugin: a fixture `durable` for every test, and the marker that says where its objects are stored.

    async def test_it_counts(durable: Durable) -> None:
        assert await durable.call(Counter.increment, "a") == 1

    @pytest.mark.durable(store="sqlite")
    async def test_it_survives(durable: Durable) -> None: ...

pytest loads this with every run of every project that has durable-engine installed, so it imports nothing of the
engine before a test asks for the fixture. The engine lives in the event loop of the test, of which pytest-asyncio has
several: there is one inner fixture for each scope of a loop, and one for anyio.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from durable_engine.testing import Durable

VARIABLE: Final = "DURABLE_TEST_DSN"
LOOP_SCOPES: Final = ("function", "class", "module", "package", "session")
MARKER: Final = (
    'durable(store="memory", objects=[], prefix=None, strict_readonly=True, now=None, **options): where the fixture '
    '`durable` keeps its objects ("memory", "sqlite", "postgresql" or a URL), the classes that no code names, the '
    "tenant, and where the clock begins; options are those of Engine."
)
NO_LOOP: Final = (
    "the fixture `durable` is async and needs a plugin that runs async tests: `pip install pytest-asyncio`, and then "
    'either set asyncio_mode = "auto" in the configuration of pytest or put @pytest.mark.asyncio above the test, which '
    "must be an `async def`. With anyio, put @pytest.mark.anyio above it."
)
NO_POSTGRES: Final = (
    '@pytest.mark.durable(store="postgresql") needs a PostgreSQL server to make databases on: run pytest with '
    f"--durable-postgres postgresql://user@host/postgres, set {VARIABLE}, or define a fixture `durable_postgres` that "
    "returns such a URL."
)
UNKNOWN_STORE: Final = (
    '@pytest.mark.durable(store={!r}) is no store: write "memory", "sqlite", "postgresql", or a URL such as '
    "sqlite:///directory."
)
NOT_ASYNCIO: Final = (
    "the fixture `durable` runs on asyncio, and this test does not: define a fixture `anyio_backend` that returns "
    '"asyncio".'
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The way to a PostgreSQL server."""
    group = parser.getgroup("durable-engine")
    group.addoption(
        "--durable-postgres",
        metavar="URL",
        help=f"server on which tests marked durable(store='postgresql') make a database each; default: ${VARIABLE}",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marker, and the fixtures of pytest-asyncio's loops, if it is there."""
    config.addinivalue_line("markers", MARKER)
    if config.pluginmanager.has_plugin("asyncio"):
        config.pluginmanager.register(_asyncio_fixtures(), "durable_asyncio_fixtures")


@pytest.fixture
def durable(request: pytest.FixtureRequest) -> Durable:
    """An engine for this test alone, by a clock that stands still: see docs/guide/testing.md."""
    if _options(request.node).get("store") == "postgresql":
        request.getfixturevalue("durable_postgres")  # here, where it may be an async one
    opened: Durable = request.getfixturevalue(_inner_fixture(request.node))
    return opened


@pytest.fixture(scope="session")
def durable_postgres(request: pytest.FixtureRequest) -> str:
    """URL of the PostgreSQL server for tests marked with store="postgresql". A project may define its own."""
    url = request.config.getoption("--durable-postgres") or os.environ.get(VARIABLE)
    if not url:
        pytest.fail(NO_POSTGRES, pytrace=False)
    return str(url)


def _inner_fixture(node: pytest.Item) -> str:
    """The name of the fixture that lives in the event loop of this test."""
    marker = node.get_closest_marker("asyncio")
    if marker is not None and node.config.pluginmanager.has_plugin("durable_asyncio_fixtures"):
        return _name(marker.kwargs.get("loop_scope") or marker.kwargs.get("scope") or _default_scope(node.config))
    if "anyio_backend" in getattr(node, "fixturenames", ()):
        return _name("anyio")
    pytest.fail(NO_LOOP, pytrace=False)


def _default_scope(config: pytest.Config) -> str:
    try:
        return str(config.getini("asyncio_default_test_loop_scope") or "function")
    except (KeyError, ValueError):  # a pytest-asyncio from before that setting
        return "function"


def _name(loop: str) -> str:
    return f"_durable_on_{loop}_loop"


def _asyncio_fixtures() -> ModuleType:
    """A plugin with a fixture for each scope that an event loop may have."""
    import pytest_asyncio  # noqa: PLC0415 - it is optional

    module = ModuleType("durable_asyncio_fixtures", "The fixture `durable`, in the event loops of pytest-asyncio.")
    for scope in LOOP_SCOPES:

        async def opened(request: pytest.FixtureRequest) -> AsyncIterator[Durable]:
            async with _opened(request) as durable:
                yield durable

        setattr(module, _name(scope), pytest_asyncio.fixture(opened, loop_scope=scope, name=_name(scope)))
    return module


@pytest.fixture(name=_name("anyio"))
async def on_anyio_loop(request: pytest.FixtureRequest) -> AsyncIterator[Durable]:
    """For tests that anyio runs."""
    async with _opened(request) as durable:
        yield durable


@asynccontextmanager
async def _opened(request: pytest.FixtureRequest) -> AsyncIterator[Durable]:
    check_loop()
    options = _options(request.node)
    store = options.pop("store", "memory")
    async with AsyncExitStack() as stack:
        from durable_engine.testing import Durable  # noqa: PLC0415 - not before somebody asks
        from durable_engine.testing_store import fresh_database  # noqa: PLC0415

        match store:
            case "memory":
                url = "memory://"
            case "sqlite":
                factory: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
                url = f"sqlite:///{factory.mktemp('durable')}"
            case "postgresql":
                url = await stack.enter_async_context(fresh_database(request.getfixturevalue("durable_postgres")))
            case _ if isinstance(store, str) and "://" in store:
                url = store
            case _:
                pytest.fail(UNKNOWN_STORE.format(store), pytrace=False)
        yield await stack.enter_async_context(Durable(url, **options))


def check_loop() -> None:
    """Fail the test unless it runs on asyncio."""
    import asyncio  # noqa: PLC0415 - as pytest itself does

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pytest.fail(NOT_ASYNCIO, pytrace=False)


def _options(node: pytest.Item) -> dict[str, Any]:
    """What the markers say, that of a function before that of its class and module."""
    options: dict[str, Any] = {}
    for marker in _outermost_first(node):
        if len(marker.args) > 1:
            pytest.fail(f"@pytest.mark.durable takes one store, not {marker.args!r}; the rest by name", pytrace=False)
        options.update(marker.kwargs)
        if marker.args:
            options["store"] = marker.args[0]
    if options.get("store") == "postgres":  # as many say
        options["store"] = "postgresql"
    return options


def _outermost_first(node: pytest.Item) -> Iterator[pytest.Mark]:
    return reversed(list(node.iter_markers("durable")))
