"""`durable-engine new` in a module that somebody wrote, and with files in the way."""

from __future__ import annotations

import pytest

from tests.support.scaffolds import Workplace

FIELDS = ("at:utc_datetime", "items:map", "owner:uuid", "price:decimal", "names:list")

MODULES = {
    "empty": "",
    "comment": "# Nothing yet.\n",
    "docstring": '"""What this is for."""\n',
    "code": "LIMIT = 1\n",
    "decorated": "@print\nclass Old:\n    pass\n",
    "future": '"""Doc."""\n\nfrom __future__ import annotations\n\nLIMIT = 1\n',
    "plain imports": "import os\nfrom typing import cast\n\nimport click\n\nprint(os, cast, click)\n",
    "ours": "from durable_engine import DurableObject\n\n\nclass Old(DurableObject):\n    pass\n",
    "relative": "from .x import y\n\nprint(y)\n",
    "wrapped": "from typing import (\n    Any,\n    cast,\n)\n\nfrom durable_engine import Engine, handler\n\n"
    "from .x import y\n\nprint(Any, cast, Engine, handler, y)\n",
    "alias": "from uuid import uuid4 as fresh\n\nprint(fresh)\n",
    "guard": 'from typing import Any\n\nprint(Any)\n\nif __name__ == "__main__":\n    print(1)\n',
}


def test_a_class_joins_a_module_and_what_it_needs_joins_the_imports(here: Workplace) -> None:
    """parity 99: whatever the module holds, the result is laid out and sorted as ruff would have it."""
    here.put("shop/__init__.py", "")
    for number, (_, text) in enumerate(MODULES.items()):
        here.put(f"shop/module_{number}.py", text)
        here.done("new", f"shop.module_{number}:New{number}", *FIELDS)

    here.tool("ruff", "format", "--isolated", "--no-cache", "--check", "shop")
    here.tool("ruff", "check", "--isolated", "--no-cache", "--select", "I,E4,E7,E9,F", "shop")


def test_what_stands_in_a_module_is_kept(here: Workplace) -> None:
    """Code, comments and the guard at the end are where they were; the class stands before the guard."""
    here.put("shop.py", MODULES["guard"].replace("print(Any)", "print(Any)  # mine"))
    here.done("new", "shop:New", "count:int")

    text = here.text("shop.py")
    assert text.startswith("from typing import Any\n\nfrom durable_engine import DurableObject, handler\n\nprint(Any)")
    assert "  # mine\n" in text
    assert text.index("class New(DurableObject)") < text.index('if __name__ == "__main__"')
    assert text.endswith("    print(1)\n")


def test_a_second_class_joins_the_first_one(here: Workplace) -> None:
    """parity 99: two generated classes live in one module, and both pass their tests."""
    here.done("new", "shop.objects:Cart", "items:dict[str,int]")
    here.done("new", "shop.objects:Order", "at:datetime", "lines:list[str]")

    assert here.text("shop/objects.py").count("from durable_engine import") == 1
    here.is_formatted()
    here.is_typed()
    here.passes(4)


def test_the_line_ends_of_a_module_are_kept(here: Workplace) -> None:
    """A file of Windows stays one."""
    (here.folder / "shop.py").write_bytes(b"LIMIT = 1\r\n")
    here.done("new", "shop:New")

    written = (here.folder / "shop.py").read_bytes()
    assert written.count(b"\r\n") == written.count(b"\n")


def test_a_package_takes_the_class_itself_and_src_is_found(here: Workplace) -> None:
    """The file is the one that Python would import."""
    here.put("src/shop/__init__.py", "")
    here.done("new", "shop:Cart")
    here.done("new", "shop.orders:Order")

    assert "class Cart" in here.text("src/shop/__init__.py")
    assert "class Order" in here.text("src/shop/orders.py")


def test_existing_folders_do_not_become_packages(here: Workplace) -> None:
    """Only what the command makes is made a package; the tests of a project keep their layout."""
    here.put("tests/test_mine.py", "")
    here.put("shop/readme.txt", "")
    here.done("new", "shop.deep.objects:Cart")

    assert {name for name in here.files() if name.endswith("__init__.py")} == {"shop/deep/__init__.py"}


@pytest.mark.parametrize(
    ("text", "target", "says"),
    [
        ("class Cart:\n    pass\n", "shop:Cart", "shop has a Cart already; choose another name"),
        ("def Cart() -> None: ...\n", "shop:Cart", "shop has a Cart already"),
        ("Cart = 1\n", "shop:Cart", "shop has a Cart already"),
        ("from elsewhere import Cart\n", "shop:Cart", "shop has a Cart already"),
        ("class Old(X, name='Cart'):\n    pass\n", "shop:Cart", "has a class that is stored as 'Cart': Old"),
        ("import datetime\n", "shop:Cart", "shop uses the name datetime for something else than the class would"),
        ("def handler() -> None: ...\n", "shop:Cart", "uses the name handler for something else"),
        ("int = float\n", "shop:Cart", "uses the name int for something else"),
        ("def (:\n", "shop:Cart", "the module shop is no valid Python in line 1; mend it first"),
        ("x = 1\n", "shop.objects:Cart", "shop.py is a module, so there can be no shop.objects inside of it"),
    ],
)
def test_a_class_that_cannot_join_a_module_changes_nothing(here: Workplace, text: str, target: str, says: str) -> None:
    """parity 99: what is there is never overwritten or made wrong; one line says why."""
    here.put("shop.py", text)
    refused = here.type("new", target, "at:datetime", "count:int")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert says in refused.stderr
    assert here.files() == {"shop.py": text}


def test_a_module_that_is_no_text_is_left_alone(here: Workplace) -> None:
    """Bytes that are no UTF-8 are refused."""
    (here.folder / "shop.py").write_bytes(b"\xff\xfe")
    refused = here.type("new", "shop:Cart")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "shop.py cannot be read" in refused.stderr


def test_a_test_in_the_way_is_overwritten_only_when_told(here: Workplace) -> None:
    """parity 99: without --force nothing at all is written; with it the test is, and the module of others stays."""
    here.put("tests/test_shopping_cart.py", "mine = 1\n")
    refused = here.type("new", "shop:ShoppingCart", "count:int")
    assert refused.exit_code == 1
    assert "there is already tests/test_shopping_cart.py in this folder" in refused.stderr
    assert "--force" in refused.stderr
    assert here.files() == {"tests/test_shopping_cart.py": "mine = 1\n"}

    here.done("new", "shop:ShoppingCart", "count:int", "--force")
    assert "test_shopping_cart_in_an_engine" in here.text("tests/test_shopping_cart.py")


def test_a_file_that_cannot_be_written_undoes_the_others(here: Workplace) -> None:
    """The module was written already when the test turned out to be a folder: it is as it was."""
    here.put("shop.py", "LIMIT = 1\n")
    (here.folder / "tests" / "test_cart.py").mkdir(parents=True)
    refused = here.type("new", "shop:Cart", "--force")
    assert refused.exit_code == 1
    assert "tests/test_cart.py cannot be written (Is a directory); everything is as it was" in refused.stderr
    assert here.files() == {"shop.py": "LIMIT = 1\n"}


def test_folders_made_for_a_file_that_cannot_be_written_are_gone(here: Workplace) -> None:
    """Nothing of a failed attempt is left, packages included."""
    here.put("tests", "a file where a folder should be\n")
    refused = here.type("new", "shop.deep.objects:Cart")
    assert refused.exit_code == 1
    assert "everything is as it was" in refused.stderr
    assert [path.name for path in here.folder.iterdir()] == ["tests"]


def test_what_comes_next_is_told_and_fits_the_folder(here: Workplace) -> None:
    """The steps name the module, and durable.toml where there is one that does not serve it yet."""
    first = here.done("new", "shop.objects:Cart")
    assert first.stdout == (
        "wrote shop/__init__.py\nwrote shop/objects.py\nwrote tests/__init__.py\nwrote tests/test_cart.py\n"
    )
    assert "durable-engine run shop.objects\n" in first.stderr
    here.put("durable.toml", 'objects = ["shop.objects"]\n')
    assert "  durable-engine run\n" in here.done("new", "shop.objects:Order").stderr
    assert 'add "shop.other" to objects in durable.toml' in here.done("new", "shop.other:Other").stderr


def test_json_holds_what_was_written_and_what_comes_next(here: Workplace) -> None:
    """For programs."""
    shown = here.done("new", "shop:Cart", "--json")
    assert shown.stdout == (
        '{"written":["shop.py","tests/__init__.py","tests/test_cart.py"],'
        '"next_steps":["durable-engine run shop","python -m pytest tests/test_cart.py"]}\n'
    )
    assert shown.stderr == ""
