"""The page `objects.md`: what a class may say and do, read from the code and its docstrings."""
# ruff: noqa: INP001 - a part of generate.py; its text is that of the page

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import durable_engine
from docs.reference.tables import cells
from durable_engine import DurableObject, Engine, alarm, errors, field, handler
from durable_engine.alarms import AlarmsOf
from durable_engine.durations import format_duration
from durable_engine.scaffold.kinds import WORDS, annotation_of, beginning_of
from durable_engine.scaffold.values import literal
from durable_shards.alarms import ObjectAlarms, PendingAlarm
from durable_shards.errors import Rejected
from durable_shards.fields import RESERVED
from durable_shards.object import Caller
from durable_shards.spec import Options
from durable_storage.shapes import SUPPORTED

HEAD = """\
# Reference of objects

<!-- Made by docs/reference/generate.py: edit the docstrings, not this page. -->

What `durable_engine` exports, as its code has it. [Objects](../guide/objects.md) explains it with examples.
"""


def objects_page() -> str:
    """The whole page."""
    return HEAD + "".join(
        [
            *_section("Decorators", (_function(each.__name__, each) for each in (handler, alarm, field))),
            *_section("Class keywords", _keywords()),
            *_section("What an object has", _members(DurableObject)),
            *_section("`self.alarms`", _members(ObjectAlarms)),
            *_section("`self.engine`", _members(Caller)),
            *_section("`Engine`", _engine()),
            *_section("`engine.alarms(Class, id)`", _members(AlarmsOf)),
            *_section("`PendingAlarm`", [f"{_first(PendingAlarm)} Its fields: {_listed(PendingAlarm._fields)}.\n"]),
            *_section("Types of fields", _types()),
            *_section("Reserved names", [f"No field and no handler can be called {_listed(RESERVED)}.\n"]),
            *_section("Errors", _errors()),
            *_section("All names", [f"{_listed(durable_engine.__all__)}.\n"]),
        ]
    )


def _section(title: str, blocks: Iterator[str] | list[str]) -> list[str]:
    return [f"\n## {title}\n\n", *blocks]


def _function(name: str, function: Callable[..., Any]) -> str:
    title = name if function is field else f"@{name}"
    return f"### `{title}`\n\n`{name}({_words(function)})`\n\n{_prose(function)}\n\n"


def _words(function: Callable[..., Any]) -> str:
    """What callers give, without types: those are in their editors."""
    words = []
    for each in inspect.signature(function).parameters.values():
        if each.kind is inspect.Parameter.KEYWORD_ONLY and "*" not in "".join(words):
            words.append("*")
        if each.name != "self":
            words.append(str(each.replace(annotation=inspect.Parameter.empty)).replace("Ellipsis", "..."))
    return ", ".join(words)


def _keywords() -> Iterator[str]:
    yield "| keyword | default | |\n|---|---|---|\n"
    yield cells("`name`", "the class's own", "The stored name: a class that has one can be renamed or moved.")
    texts = _attribute_docs(Options)
    for each in dataclasses.fields(Options):
        yield cells(f"`{each.name}`", f"`{_default(each)}`", texts[each.name])
    yield "\nDurations are `timedelta`; `None` means never. Subclasses inherit all but the name.\n"


def _default(each: dataclasses.Field[Any]) -> str:
    if isinstance(each.default, float):
        return f"timedelta: {format_duration(timedelta(seconds=each.default))}"
    return repr(each.default)


def _attribute_docs(cls: type) -> dict[str, str]:
    """The texts below the attributes of a class."""
    [statement] = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(statement, ast.ClassDef)
    docs, name = {}, ""
    for node in statement.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        elif name and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            docs[name] = " ".join(str(node.value.value).split())
    return docs


def _members(cls: type) -> Iterator[str]:
    """The public attributes of a class with their first paragraphs."""
    for name, value in vars(cls).items():
        if name.startswith("_"):
            continue
        if isinstance(value, property):
            yield f"- `{name}`: {_first(value)}\n"
        elif inspect.isfunction(value):
            mark = "await " if inspect.iscoroutinefunction(value) else ""
            yield f"- `{mark}{name}({_words(value)})`: {_first(value)}\n"


def _engine() -> Iterator[str]:
    yield f"`Engine({_words(Engine)})`\n\n{_prose(Engine)}\n\n"
    for cls in reversed(Engine.__mro__[:-1]):
        yield from _members(cls)


def _types() -> Iterator[str]:
    yield f"Supported are {SUPPORTED}.\n\n"
    yield "`durable-engine new` knows these by name, and lets a field begin so:\n\n"
    yield "| word | type | begins as |\n|---|---|---|\n"
    for word, hint in WORDS.items():
        begins = beginning_of(hint)
        optional = hint | None if begins is None and hint is not Any else hint
        yield cells(f"`{word}`", f"`{annotation_of(optional)}`", f"`{literal(begins)}`")


def _errors() -> Iterator[str]:
    yield "| error | retryable | outcome | |\n|---|---|---|---|\n"
    for name in sorted(errors.__all__):
        error = getattr(errors, name)
        if isinstance(error, type) and issubclass(error, errors.DurableError):
            yield cells(f"`{name}`", str(error.default_retryable), f"`{error.default_outcome}`", _first(error))
    yield f"\nYour own answers derive from `{Rejected.__name__}`. More of all of them: [errors](../errors.md).\n"


def _listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _first(documented: Any) -> str:
    return " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())


def _prose(documented: Any) -> str:
    """A docstring as Markdown: its indented examples become blocks of Python."""
    text = inspect.getdoc(documented) or ""
    indented = re.compile(r"(?:^ {4}.*\n?|^\n(?= {4}))+", re.MULTILINE)
    return indented.sub(lambda found: f"\n```python\n{textwrap.dedent(found[0]).strip()}\n```\n", text).strip()
