"""Charts of experiments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure as Canvas

from durable_bench.experiments.outcome import Outcome, Picture


def charts(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, Canvas]]:
    """A chart for each picture."""
    for one in outcomes:
        for picture in one.pictures:
            yield picture.name, _chart(picture)


def _chart(picture: Picture) -> Canvas:
    canvas = Canvas(figsize=(6.5, 4.0), layout="constrained")
    axes = canvas.subplots()
    for curve in picture.curves:
        down = [y - low for y, low in zip(curve.ys, curve.lows, strict=True)]
        up = [high - y for y, high in zip(curve.ys, curve.highs, strict=True)]
        axes.errorbar(curve.xs, curve.ys, yerr=[down, up], marker=".", capsize=3, label=curve.label)
    if picture.log_x:
        axes.set_xscale("log")
        places = sorted({x for curve in picture.curves for x in curve.xs})
        axes.set_xticks(places, [f"{place:,g}" for place in places])
        axes.minorticks_off()
    if picture.log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(picture.x)
    axes.set_ylabel(picture.y)
    axes.set_title(picture.title)
    axes.grid(visible=True, axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False)
    return canvas
