"""`durable-engine config check`: what is in force, where it comes from, and what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from durable_engine.settings import SETTINGS
from tests.support.scaffolds import Workplace


def checked(here: Workplace, *words: str, **env: str) -> dict[str, Any]:
    """What `config check --json` printed, its settings by name."""
    result = here.type("config", "check", "--json", *words, **env)
    shown: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == (1 if shown["problems"] else 0)
    return shown | {"settings": {row["name"]: (row["value"], row["source"]) for row in shown["settings"]}}


def test_every_setting_is_shown_with_where_it_comes_from(here: Workplace) -> None:
    """parity 97: a flag beats the environment, that the file, and that the default; each row says which it was."""
    here.put("durable.toml", 'objects = ["shop.objects"]\nstore = "memory://file"\nshards = 3\ntimeout = "90s"\n')
    shown = checked(here, "--store", "memory://flag", DURABLE_SHARDS="5", DURABLE_STORE="memory://env")

    assert shown["file"] == "durable.toml"
    assert shown["settings"].keys() == SETTINGS.keys()
    assert shown["settings"]["store"] == ("memory://flag", "flag")
    assert shown["settings"]["shards"] == (5, "env")
    assert shown["settings"]["timeout"] == ("1m30s", "file")
    assert shown["settings"]["objects"] == (["shop.objects"], "file")
    assert shown["settings"]["drain_timeout"] == ("10s", "default")
    assert shown["settings"]["prefix"] == ("", "default")


def test_a_table_for_people(here: Workplace) -> None:
    """parity 97: one line for each setting; without a file it says so."""
    here.put("other.toml", "takeover = true\n")
    lines = here.done("config", "check", "--config", "other.toml").stdout.splitlines()
    assert lines[0] == "settings of other.toml"
    assert ["takeover", "yes", "file"] in [line.split() for line in lines]
    assert here.done("config", "check").stdout.startswith("there is no durable.toml here\n")


def test_the_file_may_be_named_before_the_command_and_by_the_environment(here: Workplace) -> None:
    """As with all commands."""
    here.put("other.toml", "shards = 7\n")
    lines = here.done("--config", "other.toml", "config", "check").stdout.splitlines()
    assert ["shards", "7", "file"] in [line.split() for line in lines]
    assert checked(here, DURABLE_CONFIG="other.toml")["settings"]["shards"] == (7, "file")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("shard = 2", "durable.toml: unknown key 'shard' (did you mean shards?)"),
        ("shards = 0", "durable.toml: shards: 0 is not in the range"),
        ('drain_timeout = "30"', "durable.toml: drain_timeout: '30' has no unit"),
        ('store = "oracle://x"', "durable.toml: store: no store is called 'oracle'"),
        ('store = "sqlite://x"', "durable.toml: store: 'sqlite://x' lacks a slash"),
        ('bind = "tcp://0.0.0.0:7400"', "durable.toml: bind: 'tcp://0.0.0.0:7400' can be reached from other machines"),
        ('bind = "127.0.0.1:7400"', "durable.toml: bind: '127.0.0.1:7400' is no address"),
        ('connect = "here"', "durable.toml: connect: 'here' is no address"),
        ("shards = ", "durable.toml cannot be read"),
    ],
)
def test_what_is_wrong_in_the_file_is_found_and_left_out(here: Workplace, text: str, says: str) -> None:
    """parity 97: keys that nothing reads and values that no command would take; the exit code is 1."""
    here.put("durable.toml", text)
    shown = checked(here)
    assert len(shown["problems"]) == 1
    assert shown["problems"][0].startswith(says)
    assert {source for name, (_, source) in shown["settings"].items() if name != "json"} == {"default"}


def test_all_problems_are_told_at_once(here: Workplace) -> None:
    """parity 97: those of the file, of the environment and of what was typed, unknown variables included."""
    here.put("durable.toml", 'shard = 2\nlog_level = "loud"\n')
    wrong = {"DURABLE_SHARDS": "many", "DURABLE_STOR": "memory://", "DURABLE_TAKEOVER": "perhaps", "DURABLE_JSON": ""}
    result = here.type("config", "check", "--store", "oracle://x", "objects", **wrong)
    assert result.exit_code == 1
    assert result.stderr == "error: 6 problems with the settings\n"
    told = [line for line in result.stdout.splitlines() if line.startswith("wrong: ")]
    assert [line.split(": ")[1:3] for line in told] == [
        ["durable.toml", "unknown key 'shard' (did you mean shards?); known keys are " + ", ".join(sorted(SETTINGS))],
        ["durable.toml", "log_level"],
        ["environment", "DURABLE_SHARDS"],
        ["environment", told[3].split(": ", 2)[2]],
        ["environment", "DURABLE_TAKEOVER"],
        ["--store", "no store is called 'oracle'"],
    ]
    assert "unknown variable 'DURABLE_STOR' (did you mean DURABLE_STORE?); known variables are" in told[3]


def test_a_password_in_a_store_s_url_is_not_shown(here: Workplace) -> None:
    """parity 97: what is printed may be copied into a report."""
    here.put("durable.toml", 'store = "postgresql://me:secret@127.0.0.1/shop"\n')
    result = here.done("config", "check", "--json")
    assert "secret" not in result.stdout
    assert "postgresql://me@127.0.0.1/shop" in result.stdout


def test_variables_of_other_programs_are_none_of_its_business(here: Workplace) -> None:
    """parity 97: only names that begin like ours are looked at, and not those that tests of the project use."""
    assert checked(here, DURABLE_TEST_DSN="x", DURABLY="y", DURABLE_CONFIG="")["problems"] == []
