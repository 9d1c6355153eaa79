"""`durable-engine init`: a folder that works as it stands."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest

from durable_engine.extras import EXTRAS, MissingExtra, require
from durable_engine.settings import read_config
from tests.engine.test_cli_processes import run, start
from tests.support.scaffolds import ROOT, Workplace

WRITTEN = [".gitignore", "durable.toml", "objects.py", "tests/__init__.py", "tests/test_counter.py"]


def test_a_new_project_passes_its_tests_and_is_formatted_and_typed(here: Workplace) -> None:
    """parity 98: what init writes needs no touch; a class added by `new` joins it."""
    here.done("init")
    assert sorted(here.files()) == WRITTEN
    here.done("new", "objects:Cart", "items:dict[str,int]", "owner:str|None")
    here.is_formatted()
    here.is_typed()
    here.passes(4)


@pytest.mark.processes
def test_a_new_project_is_served_with_nothing_but_its_settings(here: Workplace) -> None:
    """parity 98: `durable-engine run` needs no argument there, and serves the class of the project."""
    here.done("init", "--shards", "1")
    server = start(here.folder, "run")
    try:
        assert server.ask("call", "Counter", "user-123", "increment", "5") == 5
        refused = server.cli("call", "Counter", "user-123", "increment", "1000")
        assert 'The counter counts no further. {"limit":1000}' in refused.stderr
        assert server.ask("call", "Counter", "user-123", "get") == 5
        assert server.stop() == 0
    finally:
        server.end()


@pytest.mark.processes
def test_a_new_project_on_postgresql_is_served_after_the_steps_it_names(
    here: Workplace, postgres_empty_dsn: str
) -> None:
    """parity 98: the migrations that init prints, one for each schema, are all that is missing."""
    told = here.done("init", "--store", postgres_empty_dsn, "--prefix", "acme", "--shards", "1").stderr
    steps = [line.split() for line in told.splitlines() if "migrate up" in line]
    assert steps == [
        ["durable-engine", "migrate", "up", "--prefix", '""'],
        ["durable-engine", "migrate", "up", "--prefix", "acme"],
    ]
    for _, *words in steps:
        migrated = run(*[word.strip('"') for word in words], folder=here.folder)
        assert migrated.returncode == 0, migrated.stderr
    server = start(here.folder, "run")
    try:
        assert server.ask("call", "Counter", "user-123", "increment", "5") == 5
        assert server.ask("call", "Counter", "user-123", "get", "--prefix", "") == 0
    finally:
        server.stop()
        server.end()


def test_the_settings_are_those_that_were_chosen(here: Workplace) -> None:
    """parity 97, 98: what was chosen is set, all else is explained behind a #, and every key is one that exists."""
    here.done("init", "--store", "memory://", "--shards", "3", "--prefix", 'a"\\\u00e4')
    assert read_config(Path("durable.toml")) == {
        "objects": ["objects"],
        "store": "memory://",
        "shards": 3,
        "prefix": 'a"\\\u00e4',
    }
    uncommented = here.text("durable.toml").replace("# bind = ", "bind = ").replace("# drain", "drain")
    assert {"bind", "drain_timeout"} <= tomllib.loads(uncommented).keys()
    here.put("all.toml", "\n".join(line.removeprefix("# ") for line in uncommented.splitlines() if " = " in line))
    assert here.done("config", "check", "--config", "all.toml", "--json")


def test_a_password_is_not_written(here: Workplace) -> None:
    """parity 98: durable.toml goes into repositories; the notice says where a password belongs."""
    told = here.done("init", "--store", "postgresql://me:secret@127.0.0.1/shop")
    assert "secret" not in told.stdout + told.stderr + "".join(here.files().values())
    assert read_config(Path("durable.toml"))["store"] == "postgresql://me@127.0.0.1/shop"
    assert "put the password into ~/.pgpass, PGPASSWORD or DURABLE_STORE" in told.stderr
    assert "create the database shop, unless it is there" in told.stderr


def test_notices_name_the_next_steps(here: Workplace) -> None:
    """parity 98: where to go, and what to type there; for programs they are in the JSON."""
    told = here.done("init", "deep/shop")
    assert told.stdout.splitlines() == [f"wrote {name}" for name in WRITTEN]
    assert [line.strip() for line in told.stderr.splitlines()[2:]] == [
        "cd deep/shop",
        "durable-engine config check",
        "durable-engine run",
        "durable-engine call Counter user-123 increment 5",
        "python -m pytest",
    ]
    again = json.loads(here.done("init", "other", "--json").stdout)
    assert (again["written"], again["next_steps"][0]) == (WRITTEN, "cd other")


def test_files_in_the_way_are_named_and_left_alone(here: Workplace) -> None:
    """parity 98: nothing is written at all, unless --force says to write over them."""
    mine = {"objects.py": "mine = 1\n", "durable.toml": "shards = 2\n", "notes.txt": "mine\n"}
    for name, text in mine.items():
        here.put(name, text)
    refused = here.type("init")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "there is already durable.toml, objects.py in this folder" in refused.stderr
    assert "--force" in refused.stderr
    assert here.files() == mine

    here.done("init", "--force", "--store", "memory://")
    assert "class Counter" in here.text("objects.py")
    assert here.text("notes.txt") == "mine\n"


def test_an_ignore_list_is_never_written_over(here: Workplace) -> None:
    """parity 98: the line to add is told instead, unless it is there."""
    here.put("one/.gitignore", "*.log\n")
    here.put("two/.gitignore", "durable-data/\n")
    assert "add durable-data/ to .gitignore" in here.done("init", "one", "--force").stderr
    assert "add durable-data/" not in here.done("init", "two").stderr
    assert here.text("one/.gitignore") == "*.log\n"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--store", "oracle://x"], 2, "no store is called 'oracle'"),
        (["--store", "sqlite://data"], 2, "lacks a slash: write sqlite:///data"),
        (["--shards", "0"], 2, "0 is not in the range"),
        (["--scheduler", "cron"], 2, "'cron' is not one of 'deadline', 'procrastinate'"),
        (["--scheduler", "procrastinate"], 2, "keeps its jobs in PostgreSQL; add --store postgresql://..."),
        (["--prefix", "x" * 1000], 2, "the prefix is 1000 bytes"),
        (["a-file"], 2, "is a file"),
        (["a-file/below"], 1, "everything is as it was"),
    ],
)
def test_a_project_that_could_not_start_is_not_written(here: Workplace, words: list[str], code: int, says: str) -> None:
    """parity 98: one line says why, and the folder is as it was."""
    here.put("a-file", "")
    refused = here.type("init", *words)
    assert (refused.exit_code, refused.stdout) == (code, "")
    assert says in refused.stderr
    assert here.files() == {"a-file": ""}


POSTGRES = ("--store", "postgresql://me@127.0.0.1/shop")


def test_a_missing_extra_is_told_with_the_line_to_add(here: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """parity 96: who chooses the job queue and has not installed it reads what to install, and nothing is written."""
    monkeypatch.setitem(sys.modules, "procrastinate", None)
    refused = here.type("init", "--scheduler", "procrastinate", *POSTGRES)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert 'pip install "durable-engine[procrastinate]"' in refused.stderr
    assert 'add "durable-engine[procrastinate]" to the dependencies' in refused.stderr
    assert here.files() == {}


def test_an_extra_that_is_there_is_set(here: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """parity 96: with the package the choice goes into durable.toml, and its tables are among the next steps."""
    monkeypatch.setitem(sys.modules, "procrastinate", sys)
    said = here.done("init", "--scheduler", "procrastinate", *POSTGRES).stderr
    assert "procrastinate --app=durable_engine.procrastinate_app.app schema --apply" in said
    assert read_config(Path("durable.toml"))["scheduler"] == "procrastinate"


def test_a_package_that_is_broken_is_no_missing_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """parity 96: what is installed and lacks something itself says so in its own words."""
    (tmp_path / "half_a_package.py").write_text("import nothing_of_this_name\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(EXTRAS, "half", ("half_a_package", "the test"))
    monkeypatch.setitem(EXTRAS, "none", ("no_package_of_this_name", "the test"))
    with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):
        require("half")
    with pytest.raises(MissingExtra, match="the test needs the package no_package_of_this_name"):
        require("none")


def test_every_extra_can_be_installed() -> None:
    """parity 96: the line to add is true: pyproject.toml has each extra by its name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"].keys() >= EXTRAS.keys()
