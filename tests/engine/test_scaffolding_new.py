"""`durable-engine new`: what it writes runs, is formatted, is typed and passes its own test."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from durable_engine.scaffold.kinds import WORDS
from durable_engine.scaffold.values import literal
from durable_shards.registry import spec_of
from tests.support.scaffolds import Workplace

EVERY_TYPE = [f"field_{number}:{word}" for number, word in enumerate(WORDS)]
PARAMETRISED = [
    "tags:list[str]",
    "sizes:dict[str,int]",
    "seen:set[UUID]",
    "nickname:str|None",
    "deep:dict[string, list[integer]]",
    "days:list[date]|None",
    "by_id:dict[UUID,Decimal]",
]
DEFAULTS = [
    "count:int=3",
    "name:str=Bob",
    "quoted:str='it\\'s \"so\"'",
    "most:int=9223372036854775807",
    "ratio:float=1e-7",
    "paid:boolean=yes",
    "since:utc_datetime=2030-01-31T12:00:00+02:00",
    "local:naive_datetime=2030-01-31T12:00",
    "on_day:date=2030-01-31",
    "at_noon:time=12:00",
    "every:timedelta=1h30m",
    "owner:UUID=12345678-1234-5678-1234-567812345678",
    "price:Decimal=1.50",
    "raw:bytes=abc",
    'labels:list[str]=["a","b"]',
    'limits:dict[str,int]={"a": 1}',
    "given:str|None=Bob",
    "absent:str|None=None",
    'free:any={"a": [1, null]}',
    f"a_name_that_is_so_long_that_no_line_holds_it:list[dict[str, list[int]]]={[{'a': [1, 2, 3]}]}".replace("'", '"'),
]


def load(here: Workplace, name: str, cls: str) -> Any:
    """A class of a generated file."""
    spec = importlib.util.spec_from_file_location(f"generated_{here.folder.name}", here.folder / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, cls)


def test_everything_that_is_written_runs_and_is_formatted_and_typed(here: Workplace) -> None:
    """parity 99: classes of every type, with and without defaults, pass ruff, mypy --strict and their own tests."""
    here.done("new", "shop.objects:EveryType", *EVERY_TYPE)
    here.done("new", "shop.objects:Parametrised", *PARAMETRISED)
    here.done("new", "shop.more:WithDefaults", *DEFAULTS)
    here.done("new", "shop.more:NoFields")
    here.done("new", "lone:HTTPDoor", "open:bool")

    here.is_formatted()
    here.is_typed()
    here.passes(10)


def test_a_field_begins_as_the_seed_s_generator_has_it(here: Workplace) -> None:
    """parity 4, 6, 99: each of the seed's types has the seed's default; what has no natural one begins as None."""
    types = ["integer", "float", "string", "boolean", "map", "list", "utc_datetime", "naive_datetime", "date"]
    here.done("new", "things:Thing", *[f"a_{word}:{word}" for word in types])

    thing = load(here, "things.py", "Thing")()
    assert [getattr(thing, f"a_{word}") for word in types] == [0, 0.0, "", False, {}, [], None, None, None]


def test_defaults_are_those_that_were_typed(here: Workplace) -> None:
    """parity 4, 99: text, numbers, truth and JSON arrive as values of their types, and no two objects share one."""
    here.done("new", "things:Thing", "count:int=3", "name:str=Bob", "paid:bool=true", 'tags:list[str]=["a"]')

    cls = load(here, "things.py", "Thing")
    one, other = cls(), cls()
    assert (one.count, one.name, one.paid, one.tags) == (3, "Bob", True, ["a"])
    assert one.tags is not other.tags
    assert [str(each) for each in spec_of(cls).fields.values()][:3] == [
        "count: int = 3",
        "name: str = 'Bob'",
        "paid: bool = True",
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["shop.objects"], "'shop.objects' does not name a module and a class, like shop.objects:Cart"),
        (["shop:"], "does not name a module and a class"),
        ([":Cart"], "does not name a module and a class"),
        (["shop/objects.py:Cart"], "is a path; write the module as it is imported: shop.objects"),
        (["shop..objects:Cart"], "cannot be a module: '' is no name of Python's"),
        (["class.objects:Cart"], "'class' is a keyword of Python"),
        (["json:Cart"], "a module 'json' here would hide the one of Python"),
        (["durable_engine.x:Cart"], "would hide the one of durable-engine"),
        (["shop:2Cart"], "'2Cart' cannot be a class: it is no name of Python's"),
        (["shop:class"], "'class' cannot be a class: it is a keyword"),
        (["shop:_Cart"], "begins with an underscore, and classes that do are not served"),
        (["shop:DurableObject"], "is a name that the code uses for something else"),
        (["shop:list"], "is a name that the code uses for something else"),
        (["shop:Cart", "count"], "'count' is no field; write name:type or name:type=default, like count:int=3"),
        (["shop:Cart", "count:"], "'count:' is no field"),
        (["shop:Cart", "a b:int"], "'a b' cannot be a field: it is no name of Python's"),
        (["shop:Cart", "class:int"], "'class' cannot be a field: it is a keyword of Python"),
        (["shop:Cart", "\ufb01n:int"], "would be read as 'fin'"),
        (["shop:Cart", "_hidden:int"], "what begins with an underscore is never stored"),
        (["shop:Cart", "count:int", "count:str"], "field count is declared twice"),
        (["shop:Cart", "date:date"], "field date: inside of the class it would hide what date means"),
        (["shop:Cart", "str:int", "name:str"], "field str: inside of the class it would hide what str means"),
        (["shop:Cart", "a:int", "get_a:int"], "field get_a: a handler of another field gets this name"),
        *[
            (["shop:Cart", f"{name}:int"], f"field {name}: self.{name} has a meaning of its own")
            for name in ("id", "now", "alarms", "engine", "state", "after_load", "handle_alarm")
        ],
    ],
)
def test_a_bad_name_is_refused_and_nothing_is_written(here: Workplace, words: list[str], says: str) -> None:
    """parity 10, 99: one line says what is wrong with it, and the folder stays empty."""
    refused = here.type("new", *words)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert says in refused.stderr
    assert here.files() == {}


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ("a:intger", "field a: unknown type 'intger' (did you mean integer?); known types are int, float, str, bool"),
        ("a:list[strin]", "unknown type 'strin' (did you mean string?)"),
        ("a:zzz", "unknown type 'zzz'; known types are"),
        ("a:int[str]", "unknown type 'int[str]'"),
        ("a:list[int", "unknown type 'list[int'"),
        ("a:__import__('os')", "unknown type"),
        ("a:" + "list[" * 100, "is longer than 200 characters"),
        ("a:" + "list[" * 30 + "int" + "]" * 30 + "|", "unknown type"),
        ("a:dict[str]", "dict takes two types, like dict[str, int]"),
        ("a:list[int,str]", "list takes one type, like list[str]"),
        ("a:set", "set needs the type of its items: set[str]"),
        ("a:int|str", "a type can be joined with None only"),
        ("a:None", "a field that is always None keeps nothing"),
        ("a:dict[float,int]", "keys of a dict must be str, int, UUID"),
        ("a:set[list[int]]", "a set cannot contain list[int]"),
        ("a:int=x", "the default 'x' is no int: write digits, like 3"),
        ("a:int=1.5", "the default '1.5' is no int"),
        ("a:int=", "the default '' is no int"),
        ("a:int=99999999999999999999", "int cannot be stored: Integer exceeds 64-bit range"),
        ("a:float=nan", "the default 'nan' is no float: write a finite number"),
        ("a:bool=perhaps", "the default 'perhaps' is no bool: write true or false"),
        ("a:str=None", "None is no str; write str|None as its type"),
        ("a:str='a'b'", "is no str"),
        ("a:Decimal=much", "is no Decimal: write a finite number, like 1.50"),
        ("a:date=yesterday", "is no date: write it like 2030-01-31"),
        ("a:utc_datetime=2030-01-31T12:00", "has no time zone; write it like 2030-01-31T12:00:00+00:00"),
        ("a:naive_datetime=2030-01-31T12:00Z", "has a time zone, which a naive datetime has not"),
        ("a:time=12:00+01:00", "a time with a time zone cannot be stored"),
        ("a:timedelta=5", "'5' has no unit"),
        ("a:UUID=7", "is no UUID: write it like 12345678-"),
        ("a:list[int]=1,2", 'write it as JSON, like ["a", "b"]'),
        ("a:list[int]=[1", 'write it as JSON, like ["a", "b"]'),
        ('a:list[int]=["x"]', "Expected `int`, got `str` - at `$[0]`"),
        ("a:dict[str,int]=[]", 'write it as JSON, like {"a": 1}'),
    ],
)
def test_a_bad_type_or_default_is_refused_and_nothing_is_written(here: Workplace, declared: str, says: str) -> None:
    """parity 99: unknown types and defaults that do not fit are errors that say what to write, never None."""
    refused = here.type("new", "shop.objects:Cart", "fine:int", declared)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert says in refused.stderr
    assert here.files() == {}


def test_literals_are_written_as_ruff_writes_them(here: Workplace) -> None:
    """Quotes, escapes and numbers need no second look of a formatter, and mean what they meant."""
    texts = ["", "a", "it's", 'say "a"', 'it\'s "a"', "'\"'", "\\", "\\'", '\\"', "\n\t\0\x7f\xad", "ä🐘", "'''", '"""']
    values = [*texts, *[text.encode() for text in texts], 0, -1, 1e16, 1e-7, -0.0, 1.5, [texts], {"a": {1: None}}]
    here.put("values.py", "values = [\n" + "".join(f"    {literal(value)},\n" for value in values) + "]\n")

    here.tool("ruff", "format", "--isolated", "--no-cache", "--line-length", "320", "--check", "values.py")
    assert repr(load(here, "values.py", "values")) == repr(values)
