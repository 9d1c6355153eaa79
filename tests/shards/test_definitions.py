"""Wrong declarations fail when the class is defined, with a message that says what to write instead."""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from durable_shards.errors import DefinitionError
from durable_shards.object import DurableObject
from durable_shards.registry import Registry, spec_of
from durable_storage.errors import DurableError
from tests.shards import wrong_fields, wrong_methods, wrong_versions


class Right(DurableObject):
    pass


WRONG = [*wrong_fields.WRONG, *wrong_methods.WRONG, *wrong_versions.WRONG]


@pytest.mark.parametrize(("declare", "message"), WRONG, ids=[each[0].__name__ for each in WRONG])
def test_a_wrong_declaration_fails_at_definition(declare: Callable[[], None], message: str) -> None:
    """parity 10, 12, 13, 16, fault D14: the message says what to write instead."""
    with pytest.raises(DefinitionError) as wrong:
        declare()
    assert message in str(wrong.value)
    assert isinstance(wrong.value, DurableError)
    assert isinstance(wrong.value, TypeError)


def test_every_declaration_is_tried() -> None:
    """None is forgotten in the tables."""
    functions = {
        value
        for module in (wrong_fields, wrong_methods, wrong_versions)
        for value in vars(module).values()
        if isinstance(value, types.FunctionType) and value.__module__ == module.__name__
    }
    assert functions == {declare for declare, _ in WRONG}


def test_options_have_defaults_and_accept_none_for_never() -> None:
    """parity 15, 16, 18."""

    class Default(DurableObject):
        pass

    class Explicit(
        DurableObject,
        name="shop.Explicit",
        hibernate_after=None,
        shutdown_after=None,
        call_timeout=timedelta(milliseconds=1500),
        reentrant=True,
        mailbox=1,
    ):
        pass

    options = spec_of(Default).options
    assert (options.hibernate_after, options.shutdown_after, options.call_timeout) == (300.0, None, 5.0)
    assert (options.reentrant, options.mailbox) == (False, 1000)
    options = spec_of(Explicit).options
    assert (options.hibernate_after, options.shutdown_after, options.call_timeout) == (None, None, 1.5)
    assert (options.reentrant, options.mailbox) == (True, 1)
    assert spec_of(Explicit).name == "shop.Explicit"


def define() -> type[DurableObject]:
    class Again(DurableObject):
        pass

    return Again


def again() -> type[DurableObject]:
    class Again(DurableObject):
        pass

    return Again


def test_running_one_class_statement_again_replaces_the_class() -> None:
    """Parametrised tests and factories do."""
    assert define() is not define()


def test_classes_of_one_name_in_other_functions_meet_only_in_one_engine() -> None:
    """Each test may have its Counter; one engine cannot serve both."""
    one, two = define(), again()
    Registry.load([one])
    Registry.load([two])
    Registry.load([one, one])
    with pytest.raises(DefinitionError) as wrong:
        Registry.load([one, two])
    assert "define.<locals>.Again and " in str(wrong.value)
    assert "again.<locals>.Again have one stored name, 'Again', and cannot be served together" in str(wrong.value)


def source_module(name: str, source: str) -> types.ModuleType:
    """A module from text, as a reload makes it."""
    module = sys.modules.setdefault(name, types.ModuleType(name))
    exec(compile(source, f"{name}.py", "exec"), module.__dict__)
    return module


def test_a_reloaded_module_replaces_its_classes_wherever_they_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Editing a file shifts lines; the old classes may still be alive."""
    monkeypatch.setitem(sys.modules, "reloaded", types.ModuleType("reloaded"))
    source = "from durable_shards.object import DurableObject\nclass Cart(DurableObject): pass\n"
    old = source_module("reloaded", source).Cart
    new = source_module("reloaded", "\n\n" + source).Cart
    assert old is not new
    with pytest.raises(DefinitionError, match=r"Cart and Cart .line 2. have one stored name, 'Cart'"):
        source_module("reloaded", source + "class Cart(DurableObject): pass\n")


def test_a_class_that_failed_is_forgotten() -> None:
    """A second, right attempt is not a second class of that name."""
    for wrong in (True, False):
        if wrong:
            with pytest.raises(DefinitionError):

                class Mended(DurableObject):
                    count: int

        else:

            class Mended(DurableObject):  # type: ignore[no-redef]
                count: int = 0

    gc.collect()
    assert spec_of(Mended).name == "Mended"


def test_a_plain_class_is_shown_the_two_lines_to_change() -> None:
    """parity 24."""

    class Cart:
        def add(self, sku: str) -> None: ...

    with pytest.raises(DefinitionError) as wrong:
        Registry.load([Cart])
    message = str(wrong.value)
    assert "Cart is a plain class, not a DurableObject. Change two lines:" in message
    assert "class Cart(DurableObject):" in message
    assert "@handler" in message
    assert "def add(self, ...)" in message


@pytest.mark.parametrize("wrong", [Right(), 3, None, len, DurableObject])
def test_what_is_no_class_of_objects_is_refused(wrong: Any) -> None:
    """Instances, numbers, and the base class itself."""
    with pytest.raises(DefinitionError):
        spec_of(wrong)
