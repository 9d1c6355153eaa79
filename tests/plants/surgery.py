"""Faults are planted into the source of single functions and statements, at runtime, in the process of one test.

What is rewritten must be there, exactly once: a plant whose ground has changed refuses to grow, so that the table of
plants never tells of faults that are none. The function object stays and only its code is replaced, so that it does not
matter who has imported it already. The engine itself knows nothing of this.
"""

from __future__ import annotations
import __future__

import inspect
import textwrap
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

from durable_storage.queries import Dialect, queries

_rewritten: set[FunctionType] = set()


class NoGround(Exception):
    """What a plant would change is not there, or would not be changed."""


def rewrite(function: Callable[..., Any], *changes: tuple[str, str], **names: Any) -> None:
    """Replace pieces of a function's source by others; `names` is what the new ones need besides its module's.

    Raises NoGround unless each piece occurs exactly once.
    """
    target = inspect.unwrap(function)
    if not isinstance(target, FunctionType):
        raise NoGround(f"{function!r} is no function")
    if target in _rewritten:
        raise NoGround(f"{target.__qualname__} was rewritten before; put all changes of a function into one")
    code = _compiled(target, _replaced(target.__qualname__, textwrap.dedent(inspect.getsource(target)), changes))
    if names.keys() & target.__globals__.keys():
        raise NoGround(f"the module of {target.__qualname__} has one of {sorted(names)} already")
    target.__globals__.update(names)
    target.__code__ = code
    _rewritten.add(target)


def rewrite_sql(dialect: Dialect, name: str, *changes: tuple[str, str]) -> None:
    """Replace pieces of a named statement. Raises NoGround unless each occurs exactly once."""
    statements = queries(dialect)
    if name not in statements:
        raise NoGround(f"{dialect} has no statement {name}")
    statements[name] = _replaced(f"{dialect}'s {name}", statements[name], changes)


def _replaced(where: str, text: str, changes: tuple[tuple[str, str], ...]) -> str:
    for old, new in changes:
        if (times := text.count(old)) != 1:
            raise NoGround(f"{where} has {times} times, not once: {old}")
        if old == new:
            raise NoGround(f"nothing would change in {where}")
        text = text.replace(old, new)
    return text


def _compiled(function: FunctionType, source: str) -> CodeType:
    """The code of the only function in `source`, with lines counted as in its file."""
    known = function.__code__
    above = known.co_firstlineno - 1
    if known.co_freevars:  # `super()` and `__class__` exist inside of a class only
        source, above = "class _:\n" + textwrap.indent(source, "    "), max(above - 1, 0)
    flags = known.co_flags & __future__.annotations.compiler_flag
    module = compile("\n" * above + source, known.co_filename, "exec", flags=flags, dont_inherit=True)
    found = _inner(module, function.__name__)
    if found is None or found.co_freevars != known.co_freevars:
        raise NoGround(f"{function.__qualname__} cannot be compiled by itself")
    return found


def _inner(code: CodeType, name: str) -> CodeType | None:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_name == name:
                return constant
            if constant.co_name == "_" and (found := _inner(constant, name)):
                return found
    return None
