"""Adds a class to a module that somebody wrote: the class goes to its end, what it needs joins the imports.

Nothing that stands there is changed, except that an import of the same module takes further names in. Where the
module uses one of our names for something else, it is left alone and the person is told.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from durable_engine.scaffold.declaration import HOMES
from durable_engine.scaffold.source import from_line, import_lines, names_in

Import = ast.Import | ast.ImportFrom

_AS_GOOD: Final = {"field": ("dataclasses.field", "durable_shards.fields.field")}
"""Where else a name may come from."""


def new_module(class_source: str) -> str:
    """A module with nothing but the class."""
    return f"{import_lines(names_in(class_source))}\n\n\n{class_source}"


def extended(text: str, class_source: str, name: str, module: str) -> str:
    """The text of a module with a class more. Raises ValueError where that cannot be done."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        where = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ValueError(f"the module {module} is no valid Python{where}; mend it first") from None
    if not tree.body:
        return f"{text.rstrip()}\n\n{new_module(class_source)}".lstrip()
    bound = dict(_bound(tree))
    _check_free(tree, bound, name, module)
    missing = _missing(bound, class_source, module)
    lines = text.rstrip().split("\n")
    end = _guard(tree) or len(lines) + 1
    rest = lines[end - 1 :]
    head = "\n".join(lines[: end - 1]).rstrip().split("\n")
    body = [*_with_imports(head, tree, missing), "", "", *class_source.rstrip().split("\n")]
    return "\n".join([*body, *(["", "", *rest] if rest else []), ""])


def _bound(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """What each name of a module stands for: `datetime.datetime` where it is imported, else nothing that we know."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node in tree.body:
            yield node.name, ""
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.col_offset == 0:
            yield node.id, ""
    for node in tree.body:
        if isinstance(node, Import):
            source = f"{node.module or ''}." if isinstance(node, ast.ImportFrom) else ""
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0], source + alias.name


def _check_free(tree: ast.Module, bound: dict[str, str], name: str, module: str) -> None:
    if name in bound:
        raise ValueError(f"{module} has a {name} already; choose another name, or remove that one first")
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            stored = [keyword.value for keyword in node.keywords if keyword.arg == "name"]
            if any(isinstance(value, ast.Constant) and value.value == name for value in stored):
                raise ValueError(f"{module} has a class that is stored as {name!r}: {node.name}; choose another name")


def _missing(bound: dict[str, str], class_source: str, module: str) -> list[str]:
    """The names that the class reads and the module lacks."""
    missing = []
    for name in names_in(class_source):
        if name in bound:
            good = (f"{HOMES[name]}.{name}", *_AS_GOOD.get(name, ())) if name in HOMES else ()
            if bound[name] not in good and (good or hasattr(builtins, name)):
                said = f"{module} uses the name {name} for something else than the class would"
                raise ValueError(f"{said}; put the class into a module of its own")
        elif name in HOMES:
            missing.append(name)
    return missing


def _guard(tree: ast.Module) -> int | None:
    """The line of `if __name__ == "__main__":`, before which classes must stand."""
    for node in tree.body:
        if isinstance(node, ast.If) and any(
            isinstance(n, ast.Name) and n.id == "__name__" for n in ast.walk(node.test)
        ):
            return node.lineno
    return None


class Change(NamedTuple):
    """Lines that take the place of others, numbered as `ast` does."""

    first: int
    behind: int
    text: list[str]


def _with_imports(lines: list[str], tree: ast.Module, missing: Sequence[str]) -> list[str]:
    head = _head(tree)
    if missing and all(_section(each) == _FUTURE for each in head):
        changes = [_first_imports(tree, head, import_lines(missing).split("\n"))]
    else:
        changes = list(_joined(head, missing, lines))
    # From the bottom up, so that numbers stay true; of two insertions at one place the later one first.
    for _, change in sorted(enumerate(changes), key=lambda each: (*each[1][:2], each[0]), reverse=True):
        lines[change.first - 1 : change.behind - 1] = change.text
    return lines


def _first_imports(tree: ast.Module, head: Sequence[Import], block: list[str]) -> Change:
    """The imports of a module that has none: behind its docstring, else before its first line of code."""
    before = [*tree.body[: 1 if ast.get_docstring(tree) else 0], *head]
    if before:
        return Change(_behind(before[-1]), _behind(before[-1]), ["", *block])
    start = tree.body[0]
    line = min([start.lineno, *(each.lineno for each in getattr(start, "decorator_list", []))])
    is_definition = isinstance(start, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    return Change(line, line, [*block, "", ""] if is_definition else [*block, ""])


def _joined(head: Sequence[Import], missing: Sequence[str], lines: list[str]) -> Iterator[Change]:
    """The changes that import names, where ruff would have them."""
    modules: dict[str, list[str]] = {}
    for name in missing:
        modules.setdefault(HOMES[name], []).append(name)
    fresh: dict[int, list[str]] = {}
    """Imports for sections that the module lacks."""
    for module in sorted(modules):
        names = modules[module]
        same = next((node for node in head if _can_take_more(node, module, lines)), None)
        if same is not None:
            text = from_line(module, [*(alias.name for alias in same.names), *names])
            yield Change(same.lineno, _behind(same), text.split("\n"))
            continue
        text = from_line(module, names)
        section = _STANDARD if _is_standard(module) else _INSTALLED
        neighbours = [node for node in head if _section(node) == section]
        if neighbours:
            ahead = [node for node in neighbours if _key(node) < (1, module)]
            line = _behind(ahead[-1]) if ahead else neighbours[0].lineno
            yield Change(line, line, text.split("\n"))
        else:
            fresh.setdefault(section, []).extend(text.split("\n"))
    for section, block in sorted(fresh.items()):
        before = [node for node in head if _section(node) < section]
        line = _behind(before[-1]) if before else head[0].lineno
        yield Change(line, line, ["", *block] if before else [*block, ""])


def _head(tree: ast.Module) -> list[Import]:
    """The imports that a module begins with."""
    head = []
    for number, node in enumerate(tree.body):
        if isinstance(node, Import):
            head.append(node)
        elif number or not ast.get_docstring(tree):
            break
    return head


def _can_take_more(node: Import, module: str, lines: list[str]) -> bool:
    """Whether an import is of this module, and has nothing that a new text would lose or sort elsewhere."""
    if not isinstance(node, ast.ImportFrom) or node.module != module or node.level:
        return False
    text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
    return re.search("[#;*]", text) is None and not any(alias.asname for alias in node.names)


_FUTURE, _STANDARD, _INSTALLED, _RELATIVE = range(4)


def _section(node: Import) -> int:
    if isinstance(node, ast.ImportFrom) and (node.level or node.module == "__future__"):
        return _RELATIVE if node.level else _FUTURE
    return _STANDARD if _is_standard(_key(node)[1]) else _INSTALLED


def _key(node: Import) -> tuple[int, str]:
    """What imports of one section are sorted by."""
    return (1, node.module or "") if isinstance(node, ast.ImportFrom) else (0, node.names[0].name)


def _is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


def _behind(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) + 1
