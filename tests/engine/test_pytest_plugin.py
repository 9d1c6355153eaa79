"""The pytest plugin in projects of all kinds: with pytest-asyncio, with anyio, with neither, with several workers."""

from __future__ import annotations

import os
import sys

import pytest

from durable_engine import pytest_plugin

pytest_plugins = ["pytester"]

OBJECTS = """
    import asyncio
    import os

    import pytest

    from durable_engine import DurableObject, handler
    from durable_engine.testing import Durable


    class Counter(DurableObject):
        count: int = 0

        @handler
        def increment(self) -> int:
            self.count += 1
            return self.count

"""
USE = """
    async def test_counts(durable: Durable) -> None:
        assert await durable.call(Counter.increment, "a") == 1
        durable.crash()
        assert await durable.call(Counter.increment, "a") == 2
        assert asyncio.get_running_loop() is durable.engine._backend.loop
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project of somebody else's, with one module of tests."""
    monkeypatch.delenv("DURABLE_TEST_DSN", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    return pytester


def write(project: pytest.Pytester, tests: str, mode: str = "auto", **settings: str) -> None:
    """Its module, and its configuration; warnings are errors."""
    options = {"asyncio_mode": mode, "asyncio_default_fixture_loop_scope": "function", "filterwarnings": "error"}
    lines = [f"{name} = {value}" for name, value in {**options, **settings}.items()]
    project.makeini("\n".join(["[pytest]", "addopts = --strict-markers", *lines]))
    project.makepyfile(test_it=OBJECTS + tests)


def outcomes(project: pytest.Pytester, *args: str) -> dict[str, int]:
    return project.runpytest_subprocess("-p", "no:cacheprovider", *args).parseoutcomes()


def test_auto_mode_needs_nothing_else(project: pytest.Pytester) -> None:
    """parity 101: the fixture is there once durable-engine is installed."""
    write(project, USE)
    assert outcomes(project) == {"passed": 1}


def test_strict_mode_needs_the_mark_of_pytest_asyncio(project: pytest.Pytester) -> None:
    """parity 101: and no mark on the fixture."""
    write(project, USE.replace("async def", "@pytest.mark.asyncio\n    async def"), mode="strict")
    assert outcomes(project) == {"passed": 1}


def test_the_engine_lives_in_the_event_loop_of_the_test(project: pytest.Pytester) -> None:
    """Whichever that is, by the mark of the test, and a new engine for each."""
    tests = ""
    for scope in ("function", "class", "module", "session"):
        marked = USE.replace("async def", f"@pytest.mark.asyncio(loop_scope={scope!r})\n    async def")
        tests += marked.replace("test_counts", f"test_{scope}") + marked.replace("test_counts", f"test_{scope}_again")
    write(project, tests)
    assert outcomes(project) == {"passed": 8}


def test_the_event_loop_of_the_test_may_be_configured(project: pytest.Pytester) -> None:
    """For all tests, in which fixtures run in another one by default."""
    write(project, USE, asyncio_default_test_loop_scope="session")
    assert outcomes(project) == {"passed": 1}


def test_fixtures_of_a_project_may_use_it(project: pytest.Pytester) -> None:
    """They prepare what the tests find."""
    write(
        project,
        """
    @pytest.fixture
    async def counted(durable: Durable) -> Durable:
        await durable.call(Counter.increment, "a")
        return durable


    async def test_is_prepared(counted: Durable, durable: Durable) -> None:
        assert counted is durable
        await durable.assert_persisted(Counter, "a", count=1)
""",
    )
    assert outcomes(project) == {"passed": 1}


def test_anyio_will_do(project: pytest.Pytester) -> None:
    """In the place of pytest-asyncio, which need not even be installed."""
    backend = """
    @pytest.fixture
    def anyio_backend() -> str:
        return "asyncio"
"""
    project.makeini("[pytest]\nfilterwarnings = error")
    project.makepyfile(test_it=OBJECTS + backend + USE.replace("async def", "@pytest.mark.anyio\n    async def"))
    assert outcomes(project, "-p", "no:asyncio") == {"passed": 1}


def test_anyio_and_pytest_asyncio_live_side_by_side(project: pytest.Pytester) -> None:
    """Each test gets its engine from the one that runs it."""
    both = """
    @pytest.fixture
    def anyio_backend() -> str:
        return "asyncio"
"""
    both += USE.replace("async def", "@pytest.mark.anyio\n    async def")
    both += USE.replace("async def test_counts", "@pytest.mark.asyncio\n    async def test_counts_too")
    write(project, both, mode="strict")
    assert outcomes(project) == {"passed": 2}


def test_without_an_async_plugin_it_says_what_is_missing(project: pytest.Pytester) -> None:
    """Instead of a coroutine that was never awaited."""
    project.makeini("[pytest]")
    project.makepyfile(test_it=OBJECTS + USE)
    result = project.runpytest_subprocess("-p", "no:asyncio", "-p", "no:anyio", "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*the fixture `durable` is async*pip install pytest-asyncio*asyncio_mode*"])
    assert result.parseoutcomes()["errors"] == 1


def test_in_strict_mode_a_test_without_a_mark_is_told_so(project: pytest.Pytester) -> None:
    """What to put above it, or to configure."""
    write(project, USE, mode="strict")
    result = project.runpytest_subprocess("-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*put @pytest.mark.asyncio above the test*"])
    assert result.parseoutcomes()["errors"] == 1


def test_a_loop_that_is_not_asyncio_is_refused() -> None:
    """The engine needs asyncio, and says how anyio is told."""
    with pytest.raises(pytest.fail.Exception, match=r'anyio_backend.* returns "asyncio"'):
        pytest_plugin.check_loop()


def test_workers_do_not_meet(project: pytest.Pytester) -> None:
    """parity 101: tests run at once, each on a store of its own, on disk too."""
    tests = """
    @pytest.mark.durable(store="sqlite")
    @pytest.mark.parametrize("number", range(6))
    async def test_counts(durable: Durable, number: int) -> None:
        assert await durable.call(Counter.increment, "the same") == 1
        durable.crash()
        assert await durable.call(Counter.increment, "the same") == 2
"""
    write(project, tests)
    assert outcomes(project, "-n", "2") == {"passed": 6}


def test_markers_of_a_module_and_of_a_test_add_up(project: pytest.Pytester) -> None:
    """What the test says goes first."""
    tests = """
    pytestmark = pytest.mark.durable(store="sqlite", prefix="outer")


    @pytest.mark.durable(prefix="inner")
    async def test_counts(durable: Durable) -> None:
        await durable.call(Counter.increment, "a")
        await durable.assert_persisted(Counter, "a", prefix="inner", count=1)
        await durable.assert_persisted(Counter, "a", None, prefix="outer")
        assert durable.engine._store.startswith("sqlite:///")
"""
    write(project, tests)
    assert outcomes(project) == {"passed": 1}


def test_a_marker_that_is_misspelt_is_an_error(project: pytest.Pytester) -> None:
    """So is a store that there is not."""
    write(
        project,
        """
    @pytest.mark.durable(shop="sqlite")
    async def test_option(durable: Durable) -> None: ...


    @pytest.mark.durable(store="mysql")
    async def test_store(durable: Durable) -> None: ...


    @pytest.mark.durable("sqlite", "shop")
    async def test_two(durable: Durable) -> None: ...
""",
    )
    result = project.runpytest_subprocess("-p", "no:cacheprovider")
    result.stdout.fnmatch_lines_random(
        [
            "*unknown option shop;*",
            "*(store='mysql') is no store: write \"memory\", *",
            "*takes one store, not ('sqlite', *",
        ]
    )
    assert result.parseoutcomes()["errors"] == 3


def test_the_marker_is_documented_by_pytest_itself(project: pytest.Pytester) -> None:
    """`pytest --markers` shows it, `pytest --fixtures` the fixtures."""
    assert "@pytest.mark.durable(store=" in project.runpytest_subprocess("--markers").stdout.str()
    listed = project.runpytest_subprocess("--fixtures").stdout.str()
    assert "durable_postgres [session scope]" in listed
    assert "_durable_on" not in listed


ON_POSTGRES = """
    @pytest.mark.durable(store="postgresql")
    async def test_counts(durable: Durable) -> None:
        assert await durable.call(Counter.increment, "the same") == 1
"""


def test_without_a_server_tests_on_postgresql_say_how_to_give_one(project: pytest.Pytester) -> None:
    """Three ways."""
    write(project, ON_POSTGRES)
    result = project.runpytest_subprocess("-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*--durable-postgres postgresql://*DURABLE_TEST_DSN*fixture `durable_postgres`*"])
    assert result.parseoutcomes()["errors"] == 1


def test_a_server_that_is_not_there_is_named(project: pytest.Pytester) -> None:
    """Without its password."""
    write(project, ON_POSTGRES)
    result = project.runpytest_subprocess(
        "-p", "no:cacheprovider", "--durable-postgres", "postgresql://me:secret@localhost:1/x"
    )
    result.stdout.fnmatch_lines(["*StoreUnavailable: PostgreSQL at postgresql://me@localhost:1/x cannot be reached*"])
    assert result.parseoutcomes()["errors"] == 1


@pytest.mark.postgres
@pytest.mark.parametrize("way", ["option", "variable", "fixture"])
def test_each_test_gets_a_database_of_its_own(
    project: pytest.Pytester, way: str, durable_postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """parity 101: on the server that was named, and it is gone afterwards."""
    again = ON_POSTGRES.replace("test_counts", "test_counts_again").replace('"postgresql"', '"postgres"')  # as many say
    tests = ON_POSTGRES + again
    args: list[str] = []
    match way:
        case "option":
            args = ["--durable-postgres", durable_postgres]
        case "variable":
            monkeypatch.setenv("DURABLE_TEST_DSN", durable_postgres)
        case "fixture":
            tests += f"""
    @pytest.fixture
    async def durable_postgres() -> str:
        return {durable_postgres!r}
"""
    write(project, tests)
    assert outcomes(project, *args) == {"passed": 2}


def test_a_run_that_does_not_use_it_does_not_import_the_engine(project: pytest.Pytester) -> None:
    """It would slow every run down, and be imported before coverage begins."""
    project.makepyfile(
        test_it="""
    import sys

    def test_nothing_is_there() -> None:
        loaded = {name for name in sys.modules if name.startswith("durable_")}
        assert loaded == {"durable_engine", "durable_engine.pytest_plugin"}
"""
    )
    assert outcomes(project) == {"passed": 1}
