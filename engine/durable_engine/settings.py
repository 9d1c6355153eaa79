"""Every setting of the command line, declared once: option, environment variable and key of `durable.toml`.

A setting `drain_timeout` is the option `--drain-timeout`, the variable `DURABLE_DRAIN_TIMEOUT` and the key
`drain_timeout`. The option beats the variable, the variable the file, the file the default. The file is flat,
since a name means the same in every command that has it. `docs/reference/settings.md` shows this table.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from durable_engine.durations import format_duration, parse_duration
from durable_engine.output import Output
from durable_storage.limits import PROCESS_BYTES_MIN

CONFIG_FILE: Final = "durable.toml"
DEFAULT_ADDRESS: Final = "tcp://127.0.0.1:7400"
DEFAULT_STORE: Final = "sqlite:///durable-data"
_CONFIG_META: Final = "durable_engine.config"


class Duration(click.ParamType):  # type: ignore[type-arg] # generic since click 8.5
    """A `timedelta` written like `5m`."""

    name = "duration"

    def __init__(self, *, zero: bool = True) -> None:
        self._zero = zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read what was typed; a `timedelta` passes."""
        if isinstance(value, timedelta):
            return value
        try:
            duration = parse_duration(value)
        except ValueError as problem:
            self.fail(str(problem), param, ctx)
        if not duration and not self._zero:
            self.fail(f"{value!r} must be longer than nothing", param, ctx)
        return duration


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, and what it is unless somebody says otherwise."""

    name: str
    help: str
    type: click.ParamType[Any] = click.STRING
    default: Any = None
    parameter: str = ""
    """The name in Python, where `name` is taken there."""
    metavar: str | None = None
    default_text: str = ""
    """How `--help` shows a default that is computed."""
    multiple: bool = False
    positional: bool = False

    @property
    def option(self) -> str:
        """How it is typed."""
        return "--" + self.name.replace("_", "-")

    @property
    def envvar(self) -> str:
        """Its environment variable."""
        return "DURABLE_" + self.name.upper()

    @property
    def key(self) -> str:
        """The name click knows it by."""
        return self.parameter or self.name

    def problem(self, value: Any) -> str | None:
        """Why a value of the file cannot be this setting's, or None."""
        if isinstance(value, list) != self.multiple:
            return "must be a list of strings" if self.multiple else "must be one value, not a list"
        for one in value if self.multiple else [value]:
            if not isinstance(one, str | int | float):
                return f"cannot be a {type(one).__name__}"
            if isinstance(self.type, Duration) and not isinstance(one, str):
                return 'must be text with a unit, like "30s"'
            try:
                self.type.convert(str(one), None, None)
            except click.BadParameter as error:
                return error.message
        return None


def _cores() -> int:
    return len(os.sched_getaffinity(0))


_ALL: Final = (
    # What a server is.
    Setting(
        "objects",
        "Modules (shop.objects) or files (shop/objects.py) whose classes are served.",
        multiple=True,
        positional=True,
        metavar="MODULE_OR_FILE...",
    ),
    Setting(
        "shards",
        "Shard processes.",
        click.IntRange(1, 256),
        default=_cores,
        default_text="number of cores",
    ),
    Setting(
        "store",
        "Where state rests: sqlite:///DIR, postgresql://… or memory://.",
        default=DEFAULT_STORE,
        metavar="URL",
    ),
    Setting("bind", "Address that clients connect to.", default=DEFAULT_ADDRESS, metavar="URL"),
    Setting(
        "migrate",
        "Upgrade the schemas of a PostgreSQL store first, of all tenants; SQLite does so by itself.",
        click.BOOL,
        default=False,
    ),
    Setting("takeover", "Take the store over from a server that still holds it.", click.BOOL, default=False),
    Setting(
        "accept_data_loss",
        "Serve what a store still has that lost commits; what is lost stays lost.",
        click.BOOL,
        default=False,
    ),
    Setting(
        "drain_timeout",
        "How long a stopping shard may finish what it has accepted.",
        Duration(),
        default="10s",
        metavar="DURATION",
    ),
    Setting(
        "stall_timeout",
        "A shard whose event loop is stuck for this long is killed, and started again.",
        Duration(zero=False),
        default="3s",
        metavar="DURATION",
    ),
    Setting(
        "memory_mb",
        "What the objects of each shard may take in memory; above it the longest idle go first.",
        click.IntRange(1),
        metavar="MB",
    ),
    Setting(
        "process_memory_mb",
        "What each shard's process may take in memory: past it handlers get MemoryError, near it the process is "
        "exchanged.",
        click.IntRange(PROCESS_BYTES_MIN >> 20),
        metavar="MB",
    ),
    Setting(
        "alarm_poll",
        "How often the store is searched for alarms that have come near.",
        Duration(zero=False),
        default="30s",
        metavar="DURATION",
    ),
    Setting("alarm_attempts", "How often an alarm may fail before it is parked.", click.IntRange(1), default=10),
    Setting(
        "alarm_backoff",
        "How long a failed alarm waits for its second attempt; doubles with each.",
        Duration(zero=False),
        default="1s",
        metavar="DURATION",
    ),
    Setting(
        "scheduler",
        "What fires alarms: the shards themselves, or the PostgreSQL job queue procrastinate (an extra).",
        click.Choice(["deadline", "procrastinate"]),
        default="deadline",
    ),
    Setting("procrastinate_app", "Your procrastinate app, whose tables hold the jobs of alarms.", metavar="MODULE:APP"),
    Setting("procrastinate_queue", "Queue of the jobs of alarms.", default="durable_alarms", metavar="NAME"),
    Setting(
        "procrastinate_concurrency",
        "Alarms that each shard's own worker fires at a time; 0 leaves them to workers that you run.",
        click.IntRange(0, 1000),
        default=8,
    ),
    Setting(
        "claim_ttl",
        "How long a worker of procrastinate may take for an alarm before another one is given it.",
        Duration(zero=False),
        default="1m",
        metavar="DURATION",
    ),
    Setting(
        "log_level",
        "The least serious messages that are logged.",
        click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
        default="info",
    ),
    # What a command talks to, and how.
    Setting("connect", "Address of the running server.", default=DEFAULT_ADDRESS, metavar="URL"),
    Setting("timeout", "How long to wait for an answer.", Duration(zero=False), default="5s", metavar="DURATION"),
    Setting("prefix", "Tenant.", default="", metavar="NAME"),
    Setting("json", "Print JSON, errors too.", click.BOOL, default=False, parameter="as_json"),
    Setting("now", "Kill the process instead of draining it.", click.BOOL, default=False),
    Setting(
        "allow_missing",
        "Reload although the new code lacks a class, or has an older schema version of one.",
        click.BOOL,
        default=False,
    ),
    Setting("yes", "Do not ask.", click.BOOL, default=False, parameter="confirmed"),
    # What single commands take.
    Setting(
        "kwarg",
        "A keyword argument, its value read like ARG; may be repeated.",
        metavar="NAME=VALUE",
        multiple=True,
    ),
    Setting("key", "Idempotency key: the call runs once, however often it is made.", metavar="KEY"),
    Setting(
        "after",
        "Begin behind this id, the last one of the page before (of an alarm: how long from now).",
        metavar="ID",
    ),
    Setting("limit", "Length of a page.", click.IntRange(1, 10_000), default=100),
    Setting("at", "A time, such as 2031-05-01T09:00:00Z.", metavar="TIME"),
    Setting("every", "Fire again and again, this far apart.", Duration(zero=False), metavar="DURATION"),
    Setting("cron", "Fire again and again, at the times that match: minute hour day month weekday.", metavar="TEXT"),
    Setting("tz", "Time zone of --cron.", metavar="ZONE", default_text="UTC"),
    Setting(
        "missed",
        "What becomes of repeated firings that could not be in time: one for all, none, or one for each.",
        click.Choice(["coalesce", "skip", "all"]),
        default="coalesce",
    ),
    Setting("payload", "What the alarm's method gets, read like an argument of `call`.", metavar="JSON"),
    Setting(
        "class",
        "Stored name of a class: only its rows; may be repeated.",
        parameter="class_names",
        metavar="NAME",
        multiple=True,
    ),
    Setting("batch", "Rows in one commit.", click.IntRange(1, 4096), default=1000),
    Setting("to", "Schema version to arrive at.", click.IntRange(0), parameter="to_version", metavar="N"),
    Setting("from", "Schema version to start from.", click.IntRange(0), parameter="from_version", metavar="N"),
    Setting("force", "Write over files that are in the way.", click.BOOL, default=False),
)
SETTINGS: Final = {setting.name: setting for setting in _ALL}

Decorator = Callable[[Any], Any]


def setting(name: str, **overrides: Any) -> Decorator:
    """Give a command the option of a setting; `overrides` go to click: another `default`, another `help`."""
    declared = SETTINGS[name]
    default = overrides.get("default", declared.default)
    options: dict[str, Any] = {
        "type": declared.type,
        "help": declared.help,
        "envvar": declared.envvar,
        "show_envvar": True,
        "show_default": declared.default_text or bool(default_text(declared, default)),
        "metavar": declared.metavar,
    }
    if declared.multiple:
        options["multiple"] = True
    elif default is not None:
        options["default"] = default
    if declared.type is click.BOOL:
        options["is_flag"] = True
    return click.option(declared.option, declared.key, **(options | overrides))


def positional(name: str, **overrides: Any) -> Decorator:
    """Give a command an argument that the environment and the file can supply as well."""
    declared = SETTINGS[name]
    options: dict[str, Any] = {
        "nargs": -1,
        "required": True,
        "metavar": declared.metavar,
        "envvar": declared.envvar,
    }
    return click.argument(declared.key, **(options | overrides))


def json_setting(command: Any) -> Any:
    """Give a command --json."""
    return setting("json", expose_value=False, callback=_choose_form)(command)


def _choose_form(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    output = ctx.find_object(Output)
    if output is not None and value:
        output.as_json = True


class Command(click.Command):
    """A command that reads `durable.toml`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(config_option(_load_config))


class Group(click.Group):
    """A group whose commands read `durable.toml`."""

    command_class = Command


def config_option(callback: Callable[[click.Context, click.Parameter, Path | None], None]) -> click.Option:
    """The option --config."""
    return click.Option(
        ["--config"],
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        envvar="DURABLE_CONFIG",
        show_envvar=True,
        show_default=f"{CONFIG_FILE} in the working directory, if there is one",
        help="File with settings.",
        is_eager=True,
        expose_value=False,
        callback=callback,
    )


def remember_config(ctx: click.Context, _param: click.Parameter, value: Path | None) -> None:
    """Keep `durable-engine --config FILE command` for the command."""
    if value is not None:
        ctx.meta[_CONFIG_META] = value


def _load_config(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    path = chosen_config(ctx, param, value)
    if path is not None:
        ctx.default_map = read_config(path)


def chosen_config(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """The file that settings are read from; `value` is what --config was given here."""
    typed_here = value is not None and ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
    path = value if typed_here else ctx.meta.get(_CONFIG_META, value)
    if path is not None:
        return Path(path)
    return Path(CONFIG_FILE) if Path(CONFIG_FILE).is_file() else None


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a file, under the names click knows them by. Raises click.UsageError."""
    values, problems = examine_config(path)
    if problems:
        raise click.UsageError(f"{path}{problems[0]}")
    return values


def examine_config(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The settings in a file, and what is wrong with it: each problem goes on from the file's name."""
    import tomllib  # noqa: PLC0415 - most commands find no file

    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return {}, [f" cannot be read: {error}"]
    values, problems = {}, []
    for written, value in content.items():
        declared = SETTINGS.get(written.replace("-", "_"))
        problem = unknown(written, "key", SETTINGS) if declared is None else declared.problem(value)
        if declared is not None and problem is None:
            values[declared.key] = value
        else:
            problems.append(f": {problem}" if declared is None else f": {written}: {problem}")
    return values, problems


def unknown(written: str, what: str, known: Collection[str]) -> str:
    """What to say of a name that nothing has."""
    close = get_close_matches(written, known, n=1)
    guess = f" (did you mean {close[0]}?)" if close else ""
    return f"unknown {what} {written!r}{guess}; known {what}s are {', '.join(sorted(known))}"


def default_text(declared: Setting, default: Any) -> str:
    """A default as help and documentation show it; empty where there is none."""
    if declared.default_text:
        return declared.default_text
    if isinstance(default, timedelta):
        return format_duration(default)
    return "" if default is None or default is False else str(default)
