"""`call`: one call of one handler, from a shell."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final, NoReturn

import click

from durable_engine.commands.connection import StoredName, connected, server_settings
from durable_engine.output import Failure, Output
from durable_engine.settings import Command, json_setting, setting

_NEGATIVE: Final = re.compile(r"-(\d|\.\d).*", re.ASCII | re.DOTALL)
_STRUCTURE: Final = ("{", "[", '"')


class CallCommand(Command):
    """Lets `-5` be an argument, and nothing else that begins with a dash."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse with unknown options let through, then refuse those that are no numbers."""
        plain = args[: args.index("--")] if "--" in args else list(args)
        rest = super().parse_args(ctx, args)
        given = [ctx.params.get("object_id"), ctx.params.get("handler"), *(ctx.params.get("words") or ())]
        for word in given:
            if word and word.startswith("--") and word in plain:
                raise click.NoSuchOption(word.partition("=")[0], ctx=ctx)
            if word and word.startswith("-") and len(word) > 1 and word in plain and not _NEGATIVE.fullmatch(word):
                raise click.NoSuchOption(word, ctx=ctx)
        return rest


@click.command(cls=CallCommand, context_settings={"ignore_unknown_options": True})
@click.argument("object_type", metavar="CLASS", type=StoredName())
@click.argument("object_id", metavar="ID")
@click.argument("handler", metavar="HANDLER")
@click.argument("words", metavar="[ARG]...", nargs=-1)
@setting("kwarg")
@setting("key")
@setting("prefix")
@server_settings
@json_setting
@click.pass_obj
def call(
    output: Output,
    *,
    object_type: str,
    object_id: str,
    handler: str,
    words: tuple[str, ...],
    kwarg: tuple[str, ...],
    key: str | None,
    prefix: str,
    connect: str,
    timeout: timedelta,
) -> None:
    """Call HANDLER of the object ID of CLASS and print its reply as JSON.

    Each ARG is read as JSON; a bare word is a string: 5 is a number, '"5"' a string, true a boolean, red the
    string "red". What follows a lone -- is never an option.
    """
    if handler.startswith("$"):
        raise Failure(
            f"{handler} is not a handler but part of the engine",
            hint="use `durable-engine objects`",
            exit_code=2,
        )
    arguments = [read_argument(word) for word in words]
    keywords = read_keywords(kwarg)
    with connected(connect, timeout) as client:
        reply = client.call_by_name(
            object_type,
            object_id,
            handler,
            arguments,
            keywords,
            prefix=prefix,
            timeout=timeout.total_seconds(),
            idempotency_key=key,
        )
    output.json(reply)


def read_argument(word: str) -> Any:
    """A word of the command line as a value: JSON, or itself where it is none."""
    import json

    try:
        return json.loads(word, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        if word.lstrip().startswith(_STRUCTURE):
            raise click.UsageError(
                f"{word!r} begins like JSON but is none ({error}); text of that kind must be a JSON string"
            ) from None
        return word


def _refuse_constant(name: str) -> NoReturn:
    # Python's json takes NaN and Infinity, which JSON has not: they are bare words.
    raise ValueError(name)


def read_keywords(pairs: Iterable[str]) -> dict[str, Any]:
    """`name=value` pairs as keyword arguments."""
    keywords: dict[str, Any] = {}
    for pair in pairs:
        name, equals, word = pair.partition("=")
        if not equals or not name.isidentifier():
            raise click.UsageError(f"--kwarg {pair!r} is not of the form name=value")
        if name in keywords:
            raise click.UsageError(f"--kwarg {name} is given twice")
        keywords[name] = read_argument(word)
    return keywords
