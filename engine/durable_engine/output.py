"""What the command line prints: results on stdout, all else on stderr; text for people, JSON for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import click

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNREACHABLE: Final = 3
EXIT_INTERRUPTED: Final = 130


class Failure(Exception):
    """A command was refused or failed: one line that says what, and a hint that says what to do."""

    def __init__(
        self,
        message: str,
        *,
        shown: str = "",
        hint: str = "",
        exit_code: int = EXIT_FAILED,
        kind: str = "Refused",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.shown = shown or message
        """The message as text for people."""
        self.hint = hint
        self.exit_code = exit_code
        self.kind = kind
        """`type` in the JSON form: the name of the error's class where there is one."""
        self.details = dict(details or {})
        """Further fields of the JSON form."""


class Output:
    """Where one command's results and its error go, and in which form."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.color = False if os.environ.get("NO_COLOR") else None
        """For click: False = never, None = when the stream is a terminal."""

    def show(self, value: Any, lines: Iterable[str]) -> None:
        """Print a result: `value` under --json, else `lines`, which are only then made."""
        if self.as_json:
            self.json(value)
            return
        for line in lines:
            click.echo(line, color=self.color)

    def json(self, value: Any) -> None:
        """Print a value as JSON: indented on a terminal, else one line."""
        click.echo(encode_json(value, indent=sys.stdout.isatty()))

    def note(self, text: str) -> None:
        """Tell the person at the terminal something that is no result."""
        if not self.as_json:
            click.echo(text, err=True, color=self.color)

    def failure(self, failure: Failure) -> None:
        """Report why the command ends: on stderr in either form, so that stdout holds results only."""
        if self.as_json:
            error = {"type": failure.kind, "message": failure.message, **failure.details}
            if failure.hint:
                error["hint"] = failure.hint
            click.echo(encode_json({"error": error}), err=True)
            return
        # An error is one line, whatever text it carries.
        message = " ".join(failure.shown.split())
        click.echo(click.style("error:", fg="red", bold=True) + f" {message}", err=True, color=self.color)
        if failure.hint:
            click.echo(click.style("hint:", fg="cyan") + f" {failure.hint}", err=True, color=self.color)


def encode_json(value: Any, *, indent: bool = False) -> str:
    """JSON text of anything a reply can hold; bytes become base64, what JSON lacks becomes text."""
    import orjson  # noqa: PLC0415 - most commands print no JSON

    option = orjson.OPT_NON_STR_KEYS | (orjson.OPT_INDENT_2 if indent else 0)
    return orjson.dumps(value, default=_plain, option=option).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        from base64 import b64encode  # noqa: PLC0415 - seldom needed

        return b64encode(value).decode()
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Rows as aligned text under a heading; `None` and what is missing print as a dash."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    heading = [column.upper().replace("_", " ") for column in columns]
    widths = [max(map(len, column)) for column in zip(heading, *cells, strict=True)]
    lines = [
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
        for line in [heading, *cells]
    ]
    return [click.style(lines[0], bold=True), *lines[1:]]


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, list | tuple):
        return "..".join(map(str, value))
    return str(value)


def at_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str, *, confirmed: bool) -> None:
    """Go on only when the person says yes, or said --yes before."""
    if confirmed:
        return
    if not at_terminal():
        raise Failure(
            "this cannot be undone, and there is no terminal to ask on",
            hint="add --yes to go ahead without being asked",
            exit_code=EXIT_USAGE,
        )
    if not click.confirm(question, err=True):
        raise Failure("nothing was done")
