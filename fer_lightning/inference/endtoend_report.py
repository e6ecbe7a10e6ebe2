"""What ``endtoend`` has measured, as a table, JSON and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fer_lightning.figures import COLORS, FAINT, GRID, INK, figure_png, house_style
from fer_lightning.files import json_text, write_atomically
from fer_lightning.inference.endtoend import CUTS, Answers, Score, scores
from fer_lightning.text import table_lines

__all__ = ["endtoend_figure", "endtoend_table", "write_endtoend"]

_COLORS = {"framing": COLORS["blue"], "margin": COLORS["orange"]}


def endtoend_table(answers: Answers, by_size: bool = False) -> list[str]:
    """Return the scores as lines of text: those of all faces, or by their size, cut by the framing."""
    chosen = [
        score
        for score in scores(answers)
        if (score.sizes != "all") == by_size and (not by_size or score.cut == CUTS[0])
    ]
    second = "size" if by_size else "cut by"
    rows = [("detector", second, "faces", "found", "false", "on crops", "end to end", "lost", "misses wrong")]
    for score in chosen:
        lost = "" if score.lost is None else f"{score.lost:+.1f}"
        false = "" if score.false is None else f"{score.false:,}"
        rows.append(
            (
                score.detector,
                score.sizes if by_size else score.cut,
                f"{score.faces:,}",
                f"{score.found / score.faces:.1%}",
                false,
                _percent(score.found_on_crops),
                _percent(score.end_to_end),
                lost,
                _percent(score.with_misses),
            )
        )
    return table_lines(rows, left=(0, 1))


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def write_endtoend(folder: Path, answers: Answers, **about: Any) -> None:
    """Write ``endtoend.json`` and ``endtoend.png`` into a folder.

    Args:
        folder: is made if it is not there.
        answers: of the model.
        **about: what else is to be said, as plain values.
    """
    made = scores(answers)
    values = [{**asdict(score), "lost": score.lost} for score in made]
    counts = {"pictures": answers.pictures, "faces": len(answers.labels)}
    write_atomically(folder / "endtoend.json", json_text({**about, **counts, "scores": values}))
    write_atomically(folder / "endtoend.png", figure_png(endtoend_figure(made)))


def endtoend_figure(made: Sequence[Score]) -> Figure:
    """Draw the accuracy of each detector and way of cutting beside that on crops, and by the size of the faces."""
    with house_style():
        figure = Figure(figsize=(9.6, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
        _draw_detectors(left, [score for score in made if score.sizes == "all"])
        _draw_sizes(right, [score for score in made if score.sizes != "all"])
    return figure


def _draw_detectors(axes: Axes, made: Sequence[Score]) -> None:
    names = list(dict.fromkeys(score.detector for score in made))
    for cut, shift in zip(CUTS, (-0.2, 0.2), strict=True):
        chosen = [score for score in made if score.cut == cut]
        places = [names.index(score.detector) + shift for score in chosen]
        axes.bar(places, [score.with_misses for score in chosen], 0.38, color=_COLORS[cut], label=f"cut by {cut}")
        axes.bar(places, [score.end_to_end or 0.0 for score in chosen], 0.38, fill=False, edgecolor=FAINT)
    axes.axhline(made[0].on_crops, color=INK, linewidth=1.0, linestyle="--", label="on the true crops")
    axes.set_xticks(range(len(names)), names)
    axes.set_title("Filled: a miss is wrong; outline: found faces")
    _finish(axes)


def _draw_sizes(axes: Axes, made: Sequence[Score]) -> None:
    sizes = list(dict.fromkeys(score.sizes for score in made))
    palette = [color for name, color in COLORS.items() if name not in ("yellow", "black")]
    for detector, color in zip(dict.fromkeys(score.detector for score in made), palette, strict=False):
        chosen = [score for score in made if score.detector == detector and score.cut == CUTS[0]]
        places = [sizes.index(score.sizes) for score in chosen]
        axes.plot(places, [score.with_misses for score in chosen], "o-", color=color, label=detector)
    crops = {score.sizes: score.on_crops for score in made}
    axes.plot(range(len(sizes)), [crops[name] for name in sizes], "--", color=INK, linewidth=1.0, label="true crops")
    axes.set_xticks(range(len(sizes)), sizes)
    axes.set_xlabel("side of the face in pixels")
    axes.set_title("Cut by framing, a miss is wrong, by size")
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="y", color=GRID)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=8)
