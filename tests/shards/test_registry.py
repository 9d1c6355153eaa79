"""Which classes an engine serves: from classes, modules, files, or one class of a module or file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from durable_shards.errors import DefinitionError
from durable_shards.object import DurableObject
from durable_shards.registry import Registry

SOURCE = """
from abc import abstractmethod
from durable_shards.handler import handler
from durable_shards.object import DurableObject

class _Base(DurableObject):
    count: int = 0

class Cart(_Base):
    @handler
    def get(self) -> int:
        return self.count

class Order(_Base, name="shop.Order"):
    class Draft(_Base):
        pass

class Helper:
    pass

Alias = Cart
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with two modules of objects, importable; what a test imports is forgotten afterwards."""
    (tmp_path / "shop_objects.py").write_text(SOURCE)
    (tmp_path / "helpers_only.py").write_text("class Helper: ...\n")
    (tmp_path / "broken.py").write_text("import does_not_exist_anywhere\n")
    (tmp_path / "wrong.py").write_text(
        "from durable_shards.object import DurableObject\nclass A(DurableObject):\n    a: int\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    before, paths = set(sys.modules), list(sys.path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]
    sys.path[:] = paths


class Local(DurableObject):
    pass


def test_a_registry_holds_classes_by_stored_name() -> None:
    """A class may be named twice, also by a single class or name instead of a list."""
    assert list(Registry.load([Local, Local]).classes) == ["Local"]
    assert Registry.load([Local]).classes["Local"].cls is Local


@pytest.mark.usefixtures("folder")
def test_a_module_serves_its_public_classes() -> None:
    """Private ones are bases; aliases and nested classes are not counted twice."""
    assert list(Registry.load(["shop_objects"]).classes) == ["Cart", "shop.Order"]


@pytest.mark.usefixtures("folder")
def test_one_class_of_a_module_can_be_named() -> None:
    """`module:Class`, by the name it has in the module."""
    assert list(Registry.load(["shop_objects:Order"]).classes) == ["shop.Order"]
    assert list(Registry.load(["shop_objects:Order.Draft"]).classes) == ["Draft"]


def test_a_file_serves_its_classes(folder: Path) -> None:
    """Whether its folder is importable or not, and the same classes when it is named twice."""
    path = str(folder / "shop_objects.py")
    first = Registry.load([path])
    assert list(first.classes) == ["Cart", "shop.Order"]
    assert Registry.load([path, f"{path}:Cart", "shop_objects"]).classes["Cart"].cls is first.classes["Cart"].cls
    assert sys.modules["shop_objects"].__file__ == path


def test_files_of_one_name_in_two_folders_are_two_modules(folder: Path) -> None:
    """Neither replaces the other."""
    other = folder / "other"
    other.mkdir()
    (other / "shop_objects.py").write_text(SOURCE.replace("Cart", "Basket").replace("shop.Order", "Other"))
    registry = Registry.load([str(folder / "shop_objects.py"), str(other / "shop_objects.py")])
    assert sorted(registry.classes) == ["Basket", "Cart", "Other", "shop.Order"]


WRONG = [
    (
        "nowhere.objects",
        "there is no module 'nowhere.objects'; give a module that Python can import from here, or a file",
    ),
    ("helpers_only", "helpers_only declares no DurableObject, only: Helper"),
    ("shop_objects:Basket", "shop_objects has no class 'Basket'; it has: _Base, Cart, Order, Helper"),
    ("shop_objects:Helper", "Helper is a plain class, not a DurableObject. Change two lines"),
    ("nowhere.py", "there is no file"),
    ("wrong", "A: field 'a' has no default"),
    ("", "'' names no module"),
    ("..up", "names no module"),
]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("name", "message"), WRONG)
def test_what_cannot_be_loaded_is_told(name: str, message: str) -> None:
    """With what was found, or what to write instead."""
    with pytest.raises(DefinitionError) as wrong:
        Registry.load([name])
    assert message in str(wrong.value)


@pytest.mark.usefixtures("folder")
def test_an_error_inside_a_module_is_shown_as_it_is() -> None:
    """Its traceback leads to the line."""
    with pytest.raises(ModuleNotFoundError, match="does_not_exist_anywhere"):
        Registry.load(["broken"])


def test_a_file_that_failed_can_be_loaded_once_it_is_mended(folder: Path) -> None:
    """No half-loaded module stays behind."""
    path = folder / "wrong.py"
    with pytest.raises(DefinitionError):
        Registry.load([str(path)])
    path.write_text(SOURCE)
    assert list(Registry.load([str(path)]).classes) == ["Cart", "shop.Order"]
