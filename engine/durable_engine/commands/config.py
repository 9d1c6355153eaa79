"""`config check`: which settings are in force, where each comes from, and what nobody would ever read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from durable_engine.durations import format_duration
from durable_engine.output import Failure, Output, table
from durable_engine.settings import (
    CONFIG_FILE,
    SETTINGS,
    Setting,
    chosen_config,
    config_option,
    examine_config,
    positional,
    setting,
    unknown,
)

_SOURCES: Final = {
    ParameterSource.COMMANDLINE: "flag",
    ParameterSource.ENVIRONMENT: "env",
    ParameterSource.DEFAULT_MAP: "file",
}
_PREFIX: Final = "DURABLE_"
_ALSO_KNOWN: Final = ("DURABLE_CONFIG",)
_OF_TESTS: Final = "DURABLE_TEST_"
"""Variables of the project's own tests and of the pytest plugin, which are no settings of commands."""


class _Lenient(click.Option):
    """An option that takes no notice of a variable with a wrong value: finding those is what the command is for."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        value = super().resolve_envvar_value(ctx)
        declared = _BY_KEY[str(self.name)]
        return value if value is None or _problem_of_text(declared, value) is None else None


class _Check(click.Command):
    """A command that reads durable.toml and does not stop at what is wrong in it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(config_option(_read_what_is_right))


_BY_KEY: Final = {declared.key: declared for declared in SETTINGS.values()}
_PROBLEMS: Final = "durable_engine.config.problems"
_FILE: Final = "durable_engine.config.file"


def _read_what_is_right(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    path = chosen_config(ctx, param, value)
    ctx.meta[_FILE] = path
    ctx.meta[_PROBLEMS] = []
    if path is not None:
        values, problems = examine_config(path)
        found = [f"{path}{problem}" for problem in problems]
        for key, each in list(values.items()):
            problem = _deeper_problem(_BY_KEY[key], each)
            if problem:
                found.append(f"{path}: {_BY_KEY[key].name}: {problem}")
                del values[key]
        ctx.default_map = values
        ctx.meta[_PROBLEMS] = found


@click.group()
def config() -> None:
    """Look at the settings."""


def _all_settings(command: Any) -> Any:
    for declared in reversed(SETTINGS.values()):
        if declared.positional:
            command = positional(declared.name, required=False)(command)
        else:
            command = setting(declared.name, cls=_Lenient)(command)
    return command


@config.command(cls=_Check)
@_all_settings
@click.pass_context
def check(ctx: click.Context, /, **values: Any) -> None:
    """Show every setting in force, and where it comes from; find keys, variables and values that are wrong.

    Give it the options of another command to see what that would be told. With anything wrong the exit code is 1.
    """
    output = ctx.ensure_object(Output)
    output.as_json = output.as_json or values["as_json"]
    path: Path | None = ctx.meta[_FILE]
    rows = [_row(ctx, declared, values[declared.key]) for declared in SETTINGS.values()]
    problems = [*ctx.meta[_PROBLEMS], *_problems_of_environment(), *_problems_of_flags(ctx, values)]
    shown = {"file": str(path) if path else None, "settings": rows, "problems": problems}
    output.show(shown, _lines(path, rows, problems))
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise Failure(f"{count} with the settings", details={"problems": problems})


def _lines(path: Path | None, rows: list[dict[str, Any]], problems: list[str]) -> Iterator[str]:
    yield f"settings of {path}" if path else f"there is no {CONFIG_FILE} here"
    yield ""
    yield from table([row | {"value": _text(row["value"])} for row in rows], ["name", "value", "source"])
    if problems:
        yield ""
    yield from (f"wrong: {problem}" for problem in problems)


def _row(ctx: click.Context, declared: Setting, value: Any) -> dict[str, Any]:
    source = _SOURCES.get(ctx.get_parameter_source(declared.key) or ParameterSource.DEFAULT, "default")
    if declared.name in ("store", "bind", "connect"):
        from durable_storage.urls import without_password

        value = without_password(value)
    return {"name": declared.name, "value": _plain(value), "source": source, "variable": declared.envvar}


def _plain(value: Any) -> Any:
    """As it would be written in the file."""
    if isinstance(value, tuple):
        return list(value)
    return format_duration(value) if isinstance(value, timedelta) else value


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def _problems_of_environment() -> Iterator[str]:
    known = {declared.envvar: declared for declared in SETTINGS.values()}
    for name, value in sorted(os.environ.items()):
        if not name.startswith(_PREFIX) or name.startswith(_OF_TESTS) or name in _ALSO_KNOWN:
            continue
        if name not in known:
            yield f"environment: {unknown(name, 'variable', [*known, *_ALSO_KNOWN])}"
        elif value and (problem := _problem_of_text(known[name], value)):
            yield f"environment: {name}: {problem}"


def _problems_of_flags(ctx: click.Context, values: dict[str, Any]) -> Iterator[str]:
    for declared in SETTINGS.values():
        if ctx.get_parameter_source(declared.key) is ParameterSource.COMMANDLINE:
            problem = _deeper_problem(declared, values[declared.key])
            if problem:
                yield f"{declared.option}: {problem}"


def _problem_of_text(declared: Setting, text: str) -> str | None:
    if declared.multiple:
        return None
    return declared.problem(text) or _deeper_problem(declared, text)


def _deeper_problem(declared: Setting, value: Any) -> str | None:
    """What the commands that take a setting would say of it, beyond its type."""
    from durable_engine.endpoints import check_bind
    from durable_storage.address import name_problem
    from durable_storage.urls import directory_of, kind_of

    try:
        if declared.name == "store" and kind_of(value) == "sqlite":
            directory_of(value)
        elif declared.name == "bind":
            check_bind(value)
    except ValueError as error:
        return str(error)
    if declared.name in ("bind", "connect") and not value.startswith(("tcp://", "ipc://")):
        return f"{value!r} is no address: expected tcp://HOST:PORT or ipc:///PATH"
    return name_problem("a prefix", value) if declared.name == "prefix" and value else None
