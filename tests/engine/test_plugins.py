"""Commands of the command line that other packages bring."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from durable_engine.cli import cli

METADATA = "Metadata-Version: 2.1\nName: greetings\nVersion: 1\n"
ENTRY_POINTS = """\
[durable_engine.commands]
greet = greetings:greet
version = greetings:greet
lame = greetings_that_are_missing:greet
number = greetings:number
"""
MODULE = """\
import click
@click.command()
@click.argument("whom")
def greet(whom):
    "Say hello."
    click.echo(f"hello {whom}")
number = 7
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of somebody else's, with four entry points of which two are broken."""
    about = tmp_path / "greetings-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(METADATA)
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "greetings.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "greetings", raising=False)


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    return int(ended.value.code or 0)


@pytest.mark.usefixtures("installed")
def test_a_command_of_another_package_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """By the entry point group `durable_engine.commands`, with its own arguments."""
    assert run("greet", "Ada") == 0
    assert capsys.readouterr().out == "hello Ada\n"


@pytest.mark.usefixtures("installed")
def test_our_own_commands_go_first(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody can put something else in the place of `version`."""
    assert run("version") == 0
    assert capsys.readouterr().out.startswith("durable-engine ")


@pytest.mark.usefixtures("installed")
def test_all_commands_are_listed_even_if_one_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    """The help of the program names those of others, and what is wrong with one."""
    assert run("--help") == 0
    told = capsys.readouterr().out

    assert "greet " in told
    assert "Say hello." in told
    assert "Broken: cannot be loaded" in told


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("lame", "cannot be loaded: ModuleNotFoundError(\"No module named 'greetings_that_are_missing'\")"),
        ("number", "is no click command: 7"),
    ],
)
def test_a_broken_command_says_what_to_do(name: str, problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever arguments it is given, it is one line and a hint that names the package."""
    assert run(name, "--anything", "at all") == 1
    told = capsys.readouterr().err

    assert problem in told
    assert "install the package greetings anew, or remove it" in told


@pytest.mark.usefixtures("installed")
def test_a_word_that_is_no_command_anywhere_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """As before there were others."""
    assert run("gret") == 2
    assert "No such command 'gret'" in capsys.readouterr().err
