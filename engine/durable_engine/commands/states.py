"""`objects check` and `migrate-state`: stored rows against the classes of this code, without a server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from durable_engine.output import EXIT_DONE, EXIT_FAILED, EXIT_USAGE, Failure, Output, table
from durable_engine.settings import Command, json_setting, positional, setting

if TYPE_CHECKING:
    from durable_engine.stored_states import Report, Tally
    from durable_shards.spec import ClassSpec

SHOWN_MAX: Final = 10
"""Failed rows of a class that `objects check` names in its text; under --json it names them all."""
PROGRESS_SECONDS: Final = 1.0


@click.command(cls=Command)
@positional("objects")
@setting("store")
@setting("class")
@setting("prefix")
@setting("limit", type=click.IntRange(1), default=None, help="Try only so many rows of each class.", show_default="all")
@json_setting
@click.pass_obj
def check(
    output: Output,
    *,
    objects: tuple[str, ...],
    store: str,
    class_names: tuple[str, ...],
    prefix: str,
    limit: int | None,
) -> int:
    """Try the stored rows of all classes in modules and files: can this code load them, migrate and store them?

    Changes nothing and needs no server; one that runs is not disturbed. Ends with 1 when a row cannot be read.
    """
    from durable_engine import stored_states

    classes = _classes(objects, class_names)
    report = _run(
        stored_states.check(store, classes, prefix=prefix, rows_max=limit, progress=_progress(output, "tried"))
    )
    output.show(_shown(report, "migrated", "outdated", filtered=class_names), _described(report, class_names))
    if limit is not None and any(tally.rows == limit for tally in report.classes):
        output.note(f"Only the first {limit} rows of each class were tried: --limit")
    return EXIT_FAILED if report.failed else EXIT_DONE


@click.command("migrate-state", cls=Command)
@positional("objects")
@setting("store")
@setting("class")
@setting("prefix")
@setting("batch")
@setting("takeover")
@json_setting
@click.pass_obj
def migrate_state(
    output: Output,
    *,
    objects: tuple[str, ...],
    store: str,
    class_names: tuple[str, ...],
    prefix: str,
    batch: int,
    takeover: bool,
) -> int:
    """Write the stored rows of all classes in modules and files as this code would: migrated, new fields filled in.

    Nothing else may have the store meanwhile. Rows that cannot be read stay as they are, are listed, and make it
    end with 1. After an interruption, run it again: it goes on where it was.
    """
    from durable_engine import stored_states

    classes = _classes(objects, class_names)
    report = _run(
        stored_states.rewrite(
            store,
            classes,
            prefix=prefix,
            batch_rows_max=batch,
            takeover=takeover,
            progress=_progress(output, "read"),
        )
    )
    output.show(_shown(report, "rewritten", filtered=class_names), _written(report, class_names))
    return EXIT_FAILED if report.failed else EXIT_DONE


def _run(work: Coroutine[Any, Any, Report]) -> Report:
    import asyncio

    return asyncio.run(work)


def _classes(objects: tuple[str, ...], names: tuple[str, ...]) -> dict[str, ClassSpec]:
    sys.path.insert(0, "")  # a console script does not look into the working directory by itself
    from durable_shards.registry import Registry

    try:
        classes = Registry.load(objects).classes
    except Exception as error:
        raise Failure(f"{' '.join(objects)} cannot be loaded: {error}", exit_code=EXIT_USAGE, kind="Usage") from error
    for name in names:
        if name not in classes:
            known = ", ".join(classes)
            raise Failure(
                f"{' '.join(objects)} has no class that is stored as {name!r}",
                hint=f"it has {known}",
                exit_code=EXIT_USAGE,
                kind="Usage",
            )
    return {name: spec for name, spec in classes.items() if not names or name in names}


def _progress(output: Output, done: str) -> Callable[[Tally], None]:
    from time import monotonic

    last = monotonic()

    def tell(tally: Tally) -> None:
        nonlocal last
        if monotonic() - last >= PROGRESS_SECONDS:
            last = monotonic()
            written = f", {tally.rewritten} rewritten" if tally.rewritten else ""
            output.note(f"{tally.name}: {tally.rows} rows {done}{written}, {tally.failed} failed")

    return tell


def _shown(report: Report, *columns: str, filtered: tuple[str, ...]) -> dict[str, Any]:
    classes = [
        {
            "class": tally.name,
            "rows": tally.rows,
            **{column: getattr(tally, column) for column in columns},
            "failed": tally.failed,
            "problems": [{"id": object_id, "problem": problem} for object_id, problem in tally.problems],
        }
        for tally in report.classes
    ]
    unknown = {} if filtered else report.unknown
    return {"classes": classes, "unknown": [{"class": name, "rows": rows} for name, rows in unknown.items()]}


def _described(report: Report, filtered: tuple[str, ...]) -> Iterator[str]:
    rows = [
        {
            "class": tally.name,
            "rows": tally.rows,
            "ok": tally.rows - tally.migrated - tally.failed,
            "migrated": tally.migrated,
            "unreadable": tally.failed,
        }
        for tally in report.classes
    ]
    yield from table(rows, ["class", "rows", "ok", "migrated", "unreadable"])
    yield from _problems(report, SHOWN_MAX)
    yield from _unknown(report, filtered)


def _written(report: Report, filtered: tuple[str, ...]) -> Iterator[str]:
    rows = [
        {"class": tally.name, "rows": tally.rows, "rewritten": tally.rewritten, "failed": tally.failed}
        for tally in report.classes
    ]
    yield from table(rows, ["class", "rows", "rewritten", "failed"])
    yield from _problems(report, None)
    yield from _unknown(report, filtered)


def _problems(report: Report, shown_max: int | None) -> Iterator[str]:
    for tally in report.classes:
        shown = tally.problems[:shown_max]
        for object_id, problem in shown:
            yield f"{tally.name} {object_id!r}: {' '.join(problem.split())}"
        if tally.failed > len(shown):
            yield f"{tally.name}: and {tally.failed - len(shown)} more"


def _unknown(report: Report, filtered: tuple[str, ...]) -> Iterator[str]:
    if not filtered:
        for name, rows in report.unknown.items():
            yield f"{name}: {rows} {'row' if rows == 1 else 'rows'} of a class that this code does not have"
