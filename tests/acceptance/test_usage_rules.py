"""The rules for coding assistants hold: each block of the page is run, and what it says is refused is refused."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

from durable_engine import DefinitionError
from durable_engine.settings import read_config
from tests.support.scaffolds import ROOT, Workplace
from tests.support.transcript import Block, blocks, typed

PAGE = (ROOT / "docs" / "usage-rules.md").read_text()


def of_language(language: str) -> list[Block]:
    """The page's blocks in a language, in order."""
    return [block for block in blocks(PAGE) if block.language == language]


async def run(text: str, namespace: dict[str, Any]) -> None:
    """Run a block, which may await."""
    code = compile(text, "usage-rules.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    waiting = FunctionType(code, namespace)()
    if inspect.isawaitable(waiting):
        await waiting


@pytest.fixture
def namespace(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """That of a module of its own."""
    module = ModuleType("usage_rules")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return vars(module)


async def test_every_block_of_python_does_what_it_says(namespace: dict[str, Any]) -> None:
    """parity 115: the blocks run one after the other, assertions included; what is called refused raises, and why."""
    refused = 0
    for block in of_language("python"):
        if block.title:
            reason = block.title.removeprefix("refused: ")
            with pytest.raises(DefinitionError, match=re.escape(reason)):
                await run(block.text, namespace)
            refused += 1
        else:
            await run(block.text, namespace)
    assert refused == PAGE.count('title="refused: ') > 3


def test_every_command_and_setting_is_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """parity 115: the commands can be typed in this order, and the settings are a durable.toml."""
    monkeypatch.chdir(tmp_path)
    here = Workplace(tmp_path)
    tools: dict[str, Callable[..., object]] = {"durable-engine": here.done, "python": lambda _, tool: here.passes(4)}
    for block in of_language("console"):
        for one in typed(block.text):
            program, *words = [word.strip("'") for word in one.command.split(" ")]
            tools[program](*words)
    for number, block in enumerate(of_language("toml")):
        here.put(f"{number}.toml", block.text)
        assert read_config(tmp_path / f"{number}.toml")


def test_the_page_has_no_other_kind_of_block() -> None:
    """parity 115: so that nothing on it goes unchecked."""
    assert {block.language for block in blocks(PAGE)} == {"python", "console", "toml"}
    assert len(re.findall(r"^```\w", PAGE, re.MULTILINE)) == len(blocks(PAGE))
