"""Writes the reference, `from-elixir.md` and `faults.md` from the code itself: `make reference`.

A test compares the pages with what this would write, so they cannot go stale.
"""
# ruff: noqa: INP001 - a script, not a package; its text is that of the pages

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from docs.reference.faults import faults_page
from docs.reference.objects_page import objects_page
from docs.reference.parity import from_elixir_page
from docs.reference.tables import cells
from durable_engine.cli import PROGRAM, cli
from durable_engine.settings import SETTINGS, Setting, default_text

HERE = Path(__file__).parent
_BY_KEY = {declared.key: declared for declared in SETTINGS.values()}
_METAVARS = {"integer range": "N"}
OURS = "durable_engine."
_VERBATIM = "\b\n"

CLI_HEAD = """\
# Command line

<!-- Made by docs/reference/generate.py: edit the commands, not this page. -->

Results go to stdout, everything else to stderr. With `--json` a result is one JSON value on stdout, and an error is
one line `{"error": {"type", "message", "hint", ...}}` on stderr, so stdout holds results only. Colour is used on a
terminal, unless `NO_COLOR` is set. Durations are written like `250ms`, `30s`, `5m` or `1h30m`.
Every option is also an environment variable and a key of `durable.toml`: see [settings](settings.md).
Those of `bench` are options only, and its `--json` names a file to write.

| exit code | means |
|---|---|
| 0 | done |
| 1 | refused or failed: the line on stderr says why |
| 2 | wrong usage: a mistyped command, option, value or settings file, or a question that nobody was there to answer |
| 3 | the server, or the database, cannot be reached |
| 130 | interrupted by Ctrl-C |

Commands that cannot be undone (`objects delete`, `alarms cancel` of all, `migrate down`) ask first; `--yes` answers
beforehand, and without a terminal they are refused unless it is given.
"""

SETTINGS_HEAD = """\
# Settings

<!-- Made by docs/reference/generate.py: edit the table in durable_engine/settings.py, not this page. -->

A setting can be given in three places. The option beats the environment variable, the variable the file, and the file
the default; an empty variable counts as none. A name means the same in every command that has it.

The file is `durable.toml` in the working directory, or what `--config` or `DURABLE_CONFIG` names. It is flat TOML; a
key that no setting has, or a value that does not fit, is an error that names the file and the key:

```toml
objects = ["shop.objects"]
store = "postgresql://localhost/shop"
shards = 8
drain_timeout = "30s"
```

In the environment a flag is `1` or `0` (also `true`, `yes`, `on` and their opposites), and a list is split at blanks.

| key | option | variable | value | default | |
|---|---|---|---|---|---|
"""


def cli_page() -> str:
    """The reference of all commands."""
    return CLI_HEAD + "".join(_sections(cli, PROGRAM, None))


def _sections(command: click.Command, path: str, parent: click.Context | None) -> Iterator[str]:
    # Laid out here and not taken from `--help`, whose looks differ between releases of click.
    ctx = click.Context(command, info_name=path.rpartition(" ")[2], parent=parent)
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            found = command.get_command(ctx, name)
            assert found is not None
            yield from _sections(found, f"{path} {name}", ctx)
        return
    usage = " ".join([path, *command.collect_usage_pieces(ctx)])
    yield f"\n## `{path}`\n\n```text\n{usage}\n```\n\n{_prose(command.help or '')}\n"
    options = [param for param in command.params if isinstance(param, click.Option) and param.name in _BY_KEY]
    if command.callback is not None and not inspect.unwrap(command.callback).__module__.startswith(OURS):
        options = [param for param in command.params if isinstance(param, click.Option)]  # it has no settings
    if options:
        yield "\n| option | default | |\n|---|---|---|\n"
        yield from (_option_row(option) for option in options)


def _prose(text: str) -> str:
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        f"```text\n{paragraph.removeprefix(_VERBATIM)}\n```" if paragraph.startswith(_VERBATIM) else paragraph
        for paragraph in paragraphs
    )


def _option_row(option: click.Option) -> str:
    declared = _BY_KEY.get(str(option.name))
    default = option.show_default if isinstance(option.show_default, str) else ""  # words, not a value
    if not default and declared is not None and not declared.multiple:
        value = default_text(declared, option.to_info_dict()["default"])
        default = f"`{value}`" if value else ""
    if declared is None and option.show_default:
        default = f"`{default or option.default}`"
    name = declared.option if declared is not None else option.opts[0]
    word = name + ("" if option.is_flag else f" {_value_of(option)}")
    return cells(f"`{word}`", default, str(option.help))


def _value_of(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return "|".join(option.type.choices)
    return option.metavar or _METAVARS.get(option.type.name, "TEXT")


def settings_page() -> str:
    """The reference of all settings."""
    return SETTINGS_HEAD + "".join(_row(declared) for declared in sorted(SETTINGS.values(), key=lambda one: one.name))


def _row(declared: Setting) -> str:
    option = "(arguments)" if declared.positional else f"`{declared.option}`"
    default = default_text(declared, declared.default)
    return cells(
        f"`{declared.name}`",
        option,
        f"`{declared.envvar}`",
        _kind(declared),
        f"`{default}`" if default and not declared.default_text else default,
        declared.help,
    )


def _kind(declared: Setting) -> str:
    kind = declared.type
    if isinstance(kind, click.Choice):
        return ", ".join(f"`{choice}`" for choice in kind.choices)
    if isinstance(kind, click.IntRange):
        return f"{kind.min} to {kind.max}" if kind.max is not None else f"number from {kind.min}"
    name = {"boolean": "flag", "text": "text"}.get(kind.name, kind.name)
    return f"list of {name}s" if declared.multiple else name


PAGES = {
    "cli.md": cli_page,
    "settings.md": settings_page,
    "objects.md": objects_page,
    "../from-elixir.md": from_elixir_page,
    "../faults.md": faults_page,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")
