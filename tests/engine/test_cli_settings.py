"""Where a setting comes from: option, environment, durable.toml, default."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from durable_engine.cli import CommandLine, cli
from durable_engine.settings import (
    SETTINGS,
    Command,
    Setting,
    json_setting,
    positional,
    remember_config,
    setting,
)
from durable_engine.settings import config_option as root_config

Show = Callable[..., Result]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Show:
    """A small command line that prints what it was set to; it runs in an empty directory."""
    monkeypatch.chdir(tmp_path)

    @click.group(cls=CommandLine, params=[root_config(remember_config)])
    def root() -> None: ...

    @root.command(cls=Command)
    @positional("objects", required=False)
    @setting("store")
    @setting("shards", default=1)
    @setting("drain_timeout")
    @setting("takeover")
    @setting("from")
    @json_setting
    def show(**values: object) -> None:
        for name, value in values.items():
            click.echo(f"{name}={value}")

    def invoke(*words: str, **env: str) -> Result:
        return CliRunner().invoke(root, words, env=env)

    return invoke


def write(text: str, name: str = "durable.toml") -> None:
    """A settings file in the working directory."""
    Path(name).write_text(text, encoding="utf-8")


def test_option_beats_environment_beats_file_beats_default(show: Show) -> None:
    """The four sources, peeled off one by one."""
    write('store = "memory://file"')
    assert "store=memory://flag\n" in show("show", "--store", "memory://flag", DURABLE_STORE="memory://env").stdout
    assert "store=memory://env\n" in show("show", DURABLE_STORE="memory://env").stdout
    assert "store=memory://file\n" in show("show").stdout
    Path("durable.toml").unlink()
    assert "store=sqlite:///durable-data\n" in show("show").stdout


def test_a_file_is_named_before_or_behind_the_command_or_by_the_environment(show: Show) -> None:
    """What is typed nearest the command counts; durable.toml is only the default."""
    write("shards = 2")
    write("shards = 3", "three.toml")
    write("shards = 4", "four.toml")
    assert "shards=2\n" in show("show").stdout
    assert "shards=3\n" in show("--config", "three.toml", "show").stdout
    assert "shards=4\n" in show("--config", "three.toml", "show", "--config", "four.toml").stdout
    assert "shards=3\n" in show("show", DURABLE_CONFIG="three.toml").stdout
    assert "shards=4\n" in show("--config", "four.toml", "show", DURABLE_CONFIG="three.toml").stdout


def test_the_file_holds_every_kind_of_value(show: Show) -> None:
    """Lists, flags, durations, numbers; dashes count as underscores."""
    write('objects = ["shop.a", "b.py"]\ndrain-timeout = "1m30s"\ntakeover = true\nfrom = 3\njson = false\n')
    lines = show("show").stdout.splitlines()
    expected = {"objects=('shop.a', 'b.py')", "drain_timeout=0:01:30", "takeover=True", "from_version=3"}
    assert expected <= set(lines)


def test_the_environment_holds_flags_and_lists(show: Show) -> None:
    """A flag is a word like 1 or no, a list is split at blanks."""
    env = {"DURABLE_TAKEOVER": "yes", "DURABLE_OBJECTS": "shop.a b.py", "DURABLE_FROM": "2"}
    lines = show("show", **env).stdout.splitlines()
    assert {"takeover=True", "objects=('shop.a', 'b.py')", "from_version=2"} <= set(lines)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("shard = 2", "unknown key 'shard' (did you mean shards?); known keys are accept_data_loss"),
        ("zzz = 2", "unknown key 'zzz'; known keys are"),
        ('shards = "many"', "shards: 'many' is not a valid integer"),
        ("shards = 0", "shards: 0 is not in the range"),
        ("shards = 2.5", "shards: '2.5' is not a valid integer"),
        ("shards = true", "shards: 'True' is not a valid integer"),
        ("shards = [1]", "shards: must be one value, not a list"),
        ("[shards]\nx = 1", "shards: cannot be a dict"),
        ('objects = "a.py"', "objects: must be a list of strings"),
        ("drain_timeout = 30", "drain_timeout: must be text with a unit"),
        ('drain_timeout = "30"', "'30' has no unit"),
        ('takeover = "perhaps"', "takeover: 'perhaps' is not a valid boolean"),
        ("shards = ", "durable.toml cannot be read: "),
        ('log_level = "loud"', "log_level: 'loud' is not one of"),
    ],
)
def test_a_mistake_in_the_file_names_file_key_and_problem(show: Show, text: str, says: str) -> None:
    """It is a usage error, whatever command reads the file."""
    write(text)
    result = show("show")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: durable.toml")
    assert says in result.stderr


@pytest.mark.parametrize(("name", "value"), [("DURABLE_SHARDS", "many"), ("DURABLE_DRAIN_TIMEOUT", "30")])
def test_a_mistake_in_the_environment_names_the_variable(show: Show, name: str, value: str) -> None:
    """So that nobody looks for it on the command line."""
    result = show("show", **{name: value})
    assert result.exit_code == 2
    assert name in result.stderr


def test_a_file_that_is_no_text_is_refused(show: Show) -> None:
    """Bytes that are no UTF-8 are a usage error too."""
    Path("durable.toml").write_bytes(b"\xff\xfe")
    assert show("show").exit_code == 2


def commands(command: click.Command, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something."""
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands(child, f"{path} {name}".strip())
    else:
        yield path, command


@pytest.mark.parametrize(("path", "command"), [pytest.param(*one, id=one[0]) for one in commands(cli)])
def test_every_option_is_a_variable_and_a_key_and_help_says_so(path: str, command: click.Command) -> None:
    """No command declares an option past the table of settings."""
    keys = {declared.key: declared for declared in SETTINGS.values()}
    for param in command.params:
        if isinstance(param, click.Option) and param.name != "config":
            declared = keys[str(param.name)]
            assert (declared.envvar, True) == (param.envvar, param.show_envvar)
            assert [declared.option] == param.opts
    text = CliRunner().invoke(cli, [*path.split(), "--help"]).stdout
    assert all(f"DURABLE_{name}" in text for name in ("CONFIG",))
    assert command.help


def test_help_shows_variables_and_defaults() -> None:
    """One look is enough."""
    text = " ".join(CliRunner().invoke(cli, ["run", "--help"], terminal_width=200).stdout.split())
    assert "[env var: DURABLE_STORE; default: sqlite:///durable-data]" in text
    assert "[env var: DURABLE_SHARDS; default: (number of cores); 1<=x<=256]" in text
    assert "[env var: DURABLE_DRAIN_TIMEOUT; default: 10s]" in text


@pytest.mark.parametrize("declared", SETTINGS.values(), ids=lambda declared: declared.name)
def test_every_default_is_a_value_of_its_setting(declared: Setting) -> None:
    """The table agrees with itself."""
    if declared.default is not None and not callable(declared.default):
        assert declared.problem(declared.default) is None
