"""From a declaration to Python: the class, and a test that it passes as it is written.

The text is laid out as ruff would lay it out. A line that is too long for that, because names or defaults are, says so
to ruff, which beats a formatter of our own.
"""

from __future__ import annotations

import ast
import builtins
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final, get_args

from durable_engine.scaffold.declaration import HOMES, ClassDeclaration, FieldDeclaration, container_of, is_number
from durable_engine.scaffold.kinds import annotation_of, without_none
from durable_engine.scaffold.templates import filled
from durable_engine.scaffold.values import example_of, literal
from durable_shards.spec import spec_of
from durable_storage.errors import DurableError

LINE_MAX: Final = 88
_LARGE: Final = 2**62


def source_of_class(declared: ClassDeclaration) -> str:
    """The class statement. Raises ValueError where a field has the name of a handler."""
    body = "".join(f"    {each.line}\n" for each in declared.fields)
    methods = [text for each in declared.fields for text in _handlers(each)] or [filled("handlers/none.py")]
    source = filled("class.py", name=declared.name, body="\n".join([*([body] if body else []), *methods]))
    _check_names(declared, source)
    return _fitted(source.rstrip("\n") + "\n")


def _handlers(each: FieldDeclaration) -> Iterator[str]:
    parts = {"name": each.name, "type": each.annotation}
    yield filled("handlers/get.py", **parts)
    container = container_of(each.kind)
    if container is None:
        yield filled("handlers/number.py" if is_number(each.kind) else "handlers/value.py", **parts)
        return
    *key, item = map(annotation_of, get_args(each.kind.hint))
    yield filled(f"handlers/{container.__name__}.py", name=each.name, key="".join(key), item=item)


def _check_names(declared: ClassDeclaration, source: str) -> None:
    """No field may stand in the way of a handler, or of a name that the class itself reads."""
    methods = {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}
    read = {name for name in names_in(source) if name in HOMES or hasattr(builtins, name)}
    for each in declared.fields:
        if each.name in methods:
            raise ValueError(f"field {each.name}: a handler of another field gets this name; give it another one")
        if each.name in read:
            said = f"inside of the class it would hide what {each.name} means"
            raise ValueError(f"field {each.name}: {said}; give the field another name")


def prove(declared: ClassDeclaration, source: str) -> None:
    """Define the class, and store what it begins with. Raises ValueError with the engine's reason against it."""
    code = compile(f"{import_lines(names_in(source))}\n\n{source}", f"<{declared.module}>", "exec", dont_inherit=True)
    namespace: dict[str, Any] = {"__name__": f"durable_engine.scaffold.proof.{declared.module}"}
    try:
        exec(code, namespace)  # noqa: S102 - names are identifiers and defaults literals by now: the text is ours
        fresh = namespace[declared.name]()
        codec = spec_of(type(fresh)).codec
        codec.verify(fresh, codec.encode(fresh))
    except DurableError as error:
        raise ValueError(error.message.removeprefix(f"{declared.name}.").removeprefix(f"{declared.name}: ")) from None


def names_in(source: str) -> list[str]:
    """The names that a text reads, sorted."""
    nodes = ast.walk(ast.parse(source))
    return sorted({node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)})


def import_lines(names: Iterable[str]) -> str:
    """What generated code must import for the names that it reads, sorted as ruff sorts."""
    modules = defaultdict[str, list[str]](list)
    plain = []
    for name in names:
        if HOMES.get(name):
            modules[HOMES[name]].append(name)
        elif name in HOMES:
            plain.append(f"import {name}")
    ours = from_line("durable_engine", modules.pop("durable_engine", []))
    standard = [*plain, *(from_line(module, modules[module]) for module in sorted(modules))]
    return "\n\n".join(block for block in ("\n".join(standard), ours) if block)


def from_line(module: str, names: Iterable[str]) -> str:
    """`from module import names`, broken where it is too long; nothing for no names."""
    listed = sorted(set(names), key=_rank)
    line = f"from {module} import {', '.join(listed)}"
    if len(line) <= LINE_MAX or not listed:
        return line if listed else ""
    return f"from {module} import (\n" + "".join(f"    {name},\n" for name in listed) + ")"


def _rank(name: str) -> tuple[int, str]:
    """Constants, classes, the rest: ruff's order within one import."""
    bare = name.partition(" ")[0]
    kind = 0 if bare.isupper() and len(bare) > 1 else 1 if bare[0].isupper() else 2
    return kind, name


def source_of_test(declared: ClassDeclaration) -> str:
    """A module of pytest that the class passes."""
    plain = [line for each in declared.fields for line in _tried("plain", each)]
    changes = [f"await {_change('stored', each)}" for each in declared.fields]
    stored = [_holds("stored", each, _changed(each)) for each in declared.fields]
    parts = {
        "plain": _block(8, plain or ["assert await plain.get_own_id() is None"]),
        "changes": _block(12, changes or ["await engine.wake(" + declared.name + ', "one")']),
        "stored": _block(12, stored or ['assert await stored.get_own_id() == "one"']),
    }
    names = {"module": declared.module, "name": declared.name, "snake": declared.snake}
    draft = filled("class_test.py", imports="", **names, **parts)
    imports = f"{import_lines(names_in(draft))}\n\nfrom {declared.module} import {declared.name}"
    return _fitted(filled("class_test.py", imports=imports, **names, **parts))


def _block(indent: int, lines: Iterable[str]) -> str:
    return "\n".join(" " * indent + line for line in lines)


def _tried(variable: str, each: FieldDeclaration) -> Iterator[str]:
    yield _holds(variable, each, each.default)
    yield f"await {_change(variable, each)}"
    yield _holds(variable, each, _changed(each))


def _holds(variable: str, each: FieldDeclaration, value: Any) -> str:
    same = "is" if value is None or isinstance(value, bool) else "=="
    return f"assert await {variable}.get_{each.name}() {same} {literal(value)}"


def _change(variable: str, each: FieldDeclaration) -> str:
    """The call of the handler that changes a field."""
    container = container_of(each.kind)
    if container is not None:
        verb = {list: "append_to", dict: "put_in", set: "include_in"}[container]
        arguments = [example_of(hint) for hint in get_args(each.kind.hint)]
    else:
        verb, arguments = ("add_to" if is_number(each.kind) else "set"), [_example(each)]
    return f"{variable}.{verb}_{each.name}({', '.join(map(literal, arguments))})"


def _changed(each: FieldDeclaration) -> Any:
    """What a field holds after that call."""
    container = container_of(each.kind)
    if container is list:
        return [*each.default, example_of(get_args(each.kind.hint)[0])]
    if container is dict:
        key, item = map(example_of, get_args(each.kind.hint))
        return {**each.default, key: item}
    if container is set:
        return each.default | {example_of(get_args(each.kind.hint)[0])}
    return each.default + _example(each) if is_number(each.kind) else _example(each)


def _example(each: FieldDeclaration) -> Any:
    """Another value than the default, and one that keeps a sum within what can be stored."""
    value = example_of(without_none(each.kind.hint), each.kind.zone)
    if isinstance(value, bool):
        return not each.default
    return -value if is_number(each.kind) and each.default > _LARGE else value


def _fitted(source: str) -> str:
    """Keep ruff from breaking lines that are longer than it wants them."""
    lines = source.split("\n")
    return "\n".join(
        f"{line}  # fmt: skip" if len(line) > LINE_MAX and not line.lstrip().startswith('"""') else line
        for line in lines
    )
