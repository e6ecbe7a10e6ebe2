"""Pictures of a data set: what is written in them, and that nothing is cut off."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image

from fer_lightning.emotions import EIGHT, SEVEN
from fer_lightning.figures import DPI, figure_png, house_style
from fer_lightning.inspection.plots import (
    class_colors,
    counts_figure,
    faces_figure,
    histogram_figure,
    light_figure,
    pairs_figure,
    samples_figure,
    sizes_figure,
    strip_figure,
)

LONG = tuple(f"a class with a long name {number}" for number in range(3))


def faces(count: int, channels: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, channels, 12, 12), dtype=np.uint8)


def of_classes(names: tuple[str, ...], channels: int = 1) -> dict[str, Callable[[], Figure]]:
    """Return what makes each figure for a set of classes, of which the second has no training images."""
    rng = np.random.default_rng(1)
    count = len(names)
    train = {name: 0 if label == 1 else 1000 * label + 1 for label, name in enumerate(names)}
    mean = rng.random((count + 1, channels, 12, 12))
    mean[1] = np.nan
    labels = np.arange(200) % count
    labels[labels == 1] = 0
    long = "folder_with_a_long_name_and_numbers_0123456789.jpeg"
    means, deviations, widths, heights = rng.random(200), rng.random(200), *rng.uniform(20, 900, (2, 50))
    return {
        "counts": lambda: counts_figure({"train": train, "val": dict.fromkeys(names, 5), "unused": train}, "title"),
        "histogram": lambda: histogram_figure({"train": np.ones((channels, 256), np.int64)}, "title"),
        "light": lambda: light_figure(means, deviations, labels, names, "title"),
        "faces": lambda: faces_figure(mean, mean, list(train.values()), names, "title"),
        "samples": lambda: samples_figure(
            {name: faces(0 if label == 1 else 8, channels) for label, name in enumerate(names)}, "title"
        ),
        "strip": lambda: strip_figure(faces(9, channels), [f"{long}\n0.123"] * 9, "title"),
        "pairs": lambda: pairs_figure(
            faces(5, channels),
            faces(5, channels),
            [(long, f"{long}\nval, {names[0]}")] * 5,
            [True, False] * 2 + [True],
            "x",
        ),
        "sizes": lambda: sizes_figure(widths, heights, (48, 48), "title"),
    }


def texts(figure: Figure) -> list[str]:
    return [found.get_text() for found in figure.findobj(Text) if isinstance(found, Text) and found.get_text()]


def drawn(figure: Figure) -> None:
    """Lay a figure out, so that its texts have places."""
    with house_style():
        figure.savefig(io.BytesIO(), format="png", dpi=figure.dpi)


@pytest.mark.parametrize(
    ("names", "channels"), [(SEVEN.class_names, 1), (EIGHT.class_names, 3), (LONG, 1)], ids=["seven", "eight", "long"]
)
def test_nothing_is_cut_off(names: tuple[str, ...], channels: int) -> None:
    for stem, draw in of_classes(names, channels).items():
        figure = draw()
        drawn(figure)
        for text in figure.findobj(Text):
            assert isinstance(text, Text)
            if text.get_text() and text.get_visible() and text.axes is not None:
                box = text.get_window_extent()
                assert box.x0 >= -1, (stem, text)
                assert box.y0 >= -1, (stem, text)
                assert box.x1 <= figure.bbox.x1 + 1, (stem, text)
                assert box.y1 <= figure.bbox.y1 + 1, (stem, text)


def test_captions_side_by_side_do_not_touch() -> None:
    figure = of_classes(SEVEN.class_names)["pairs"]()
    drawn(figure)
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if "…" in text.get_text()]
    assert len(boxes) == 10
    overlaps = [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :] if a.overlaps(b)]
    assert overlaps == []


def test_equal_figures_are_equal_files() -> None:
    for stem, draw in of_classes(SEVEN.class_names[:3]).items():
        figure = draw()
        content = figure_png(figure)
        assert content == figure_png(draw()), stem
        width, height = Image.open(io.BytesIO(content)).size
        assert (width, height) == tuple(int(side * DPI) for side in figure.get_size_inches()), stem


def test_counts_are_written_on_their_bars() -> None:
    figure = counts_figure({"train": {"happy": 7215, "disgust": 436}, "val": {"happy": 895, "disgust": 56}}, "Counts")
    assert {"7,215", "436", "895", "56", "happy", "disgust", "train", "val", "Counts"} <= set(texts(figure))


def test_faces_name_each_class_with_its_images_and_what_is_missing() -> None:
    found = texts(of_classes(SEVEN.class_names)["faces"]())
    assert {*SEVEN.class_names, "all", "n = 0", "n = 2,001", "n/a"} <= set(found)
    assert found.count("n/a") == 3


def test_mean_faces_are_stretched_alike() -> None:
    mean = np.stack([np.full((1, 4, 4), level) for level in (0.4, 0.6, 0.5)])
    figure = faces_figure(mean, mean, [1, 1], ("happy", "sad"), "title")
    drawn = figure.axes[0].images
    assert [drawn[place].get_clim() for place in range(3)] == [(0.4, 0.6)] * 3
    assert len(drawn) == 8  # nothing sets "all" apart from all


def test_histogram_is_as_high_as_the_values_between_the_ends() -> None:
    counts = np.full((1, 256), 10, np.int64)
    counts[0, 0] = 100_000
    figure = histogram_figure({"train": counts}, "title")
    assert figure.axes[0].get_ylim()[1] == pytest.approx(1.15 * 10 / counts.sum())
    assert any("0: 97.5%" in text for text in texts(figure))


def test_light_shows_the_quartiles() -> None:
    values = np.linspace(0.0, 1.0, 101)
    figure = light_figure(values, values, np.zeros(101, np.int64), ("happy",), "title")
    bar = figure.axes[0].patches[0].get_extents().transformed(figure.axes[0].transData.inverted())
    assert (bar.x0, bar.x1) == pytest.approx((0.25, 0.75))


def test_the_legend_of_sizes_covers_no_bar() -> None:
    figure = sizes_figure(np.full(40, 48.0), np.full(40, 48.0), (48, 48), "title")  # one bar, as high as the panel
    drawn(figure)
    for axes in figure.axes:
        legend = axes.get_legend()
        bars = [patch.get_window_extent() for patch in axes.patches if patch.get_window_extent().height > 1]
        assert legend is not None
        assert len(bars) == 1
        assert not legend.get_window_extent().overlaps(bars[0])
        assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_conflicting_pairs_are_framed() -> None:
    def frames(conflicting: list[bool]) -> int:
        captions = [("a", "b")] * 2
        figure = pairs_figure(faces(2), faces(2), captions, conflicting, "title")
        return len(figure.axes[0].patches)

    assert frames([True, False]) - frames([False, False]) == 1


@pytest.mark.parametrize(
    "draw",
    [
        lambda: samples_figure({"happy": faces(0)}, "title"),
        lambda: strip_figure(faces(0), [], "title"),
        lambda: pairs_figure(faces(0), faces(0), [], [], "title"),
        lambda: sizes_figure(np.array([48.0]), np.array([48.0]), (48, 48), "title"),
        lambda: histogram_figure({"train": np.eye(1, 256, dtype=np.int64)}, "title"),
        lambda: counts_figure({}, "title"),
    ],
    ids=["samples", "strip", "pairs", "sizes", "histogram", "counts"],
)
def test_next_to_nothing_can_be_drawn(draw: Callable[[], Figure]) -> None:
    assert figure_png(draw()).startswith(b"\x89PNG")


def test_colours_come_round() -> None:
    assert len(set(class_colors(8))) == 8
    assert class_colors(10)[8:] == class_colors(2)
