"""Outcomes of experiments for people: tables, and what was found in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.box import SIMPLE
from rich.table import Table

from durable_bench.experiments.outcome import Outcome, Sheet


def tables(outcomes: Sequence[Outcome]) -> Iterator[Table | str]:
    """Of each experiment its tables, the stores below each other, then its findings."""
    for name in dict.fromkeys(one.experiment for one in outcomes):
        ours = [one for one in outcomes if one.experiment == name]
        yield from map(_table, _joined(sheet for one in ours for sheet in one.sheets))
        for one in ours:
            yield from (f"{one.experiment}, {one.store}: {finding}" for finding in one.findings)


def _joined(sheets: Iterable[Sheet]) -> list[Sheet]:
    """Tables of the same title are one."""
    found: dict[str, Sheet] = {}
    for sheet in sheets:
        if sheet.title in found:
            found[sheet.title].rows.extend(sheet.rows)
        else:
            found[sheet.title] = Sheet(sheet.title, sheet.columns, [*sheet.rows], sheet.names)
    return list(found.values())


def _table(sheet: Sheet) -> Table:
    result = Table(title=sheet.title, title_justify="left", box=SIMPLE, show_edge=False, pad_edge=False)
    for number, column in enumerate(sheet.columns):
        result.add_column(column, justify="left" if number < sheet.names else "right", no_wrap=number < sheet.names)
    for row in sheet.rows:
        result.add_row(*row)
    return result
