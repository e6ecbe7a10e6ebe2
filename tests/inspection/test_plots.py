"""Pictures of a data set: what is written in them, and that nothing is cut off."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle, StepPatch
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image

from fer_lightning.emotions import EIGHT, SEVEN
from fer_lightning.figures import COLORS, DPI, FAINT, SPLIT_COLORS, figure_png, house_style
from fer_lightning.inspection.plots import (
    _middle,
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


def placed(figure: Figure) -> list[tuple[NDArray[Any], tuple[float, ...]]]:
    """Return the images of a canvas, each with its left, right, lower and upper edge in inches from the upper left."""
    return [(np.asarray(image.get_array()), tuple(image.get_extent())) for image in figure.axes[0].images]


def captions(figure: Figure) -> dict[str, tuple[float, float]]:
    return {text.get_text(): text.get_position() for text in figure.axes[0].texts}


def test_bars_of_counts_stand_around_their_class_in_the_colours_of_the_splits() -> None:
    counts = {"train": {"happy": 90, "sad": 40}, "val": {"happy": 30, "sad": 10}, "unused": {"happy": 3, "sad": 0}}
    [axes] = counts_figure(counts, "title").axes
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert [bar.get_height() for bar in bars] == [90, 40, 30, 10, 3, 0]
    centres = [bar.get_x() + bar.get_width() / 2 for bar in bars]
    assert centres == pytest.approx([-0.28, 0.72, 0.0, 1.0, 0.28, 1.28])
    colours = [SPLIT_COLORS["train"]] * 2 + [SPLIT_COLORS["val"]] * 2 + [FAINT] * 2
    assert [to_hex(bar.get_facecolor()) for bar in bars] == [colour.lower() for colour in colours]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["happy", "sad"]


def test_a_histogram_shows_the_shares_of_each_channel_by_its_colour() -> None:
    counts = np.zeros((3, 256), np.int64)
    counts[0, [0, 7]] = 1, 3
    counts[1, [9, 255]] = 8, 2
    counts[2, [254, 11]] = 1, 9
    figure = histogram_figure({"train": counts, "val": counts[::-1]}, "title")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [
        "red   0: 25.0%   255: 0.0%",
        "green   0: 0.0%   255: 20.0%",
        "blue   0: 25.0%   255: 0.0%",  # the larger of both splits
    ]
    for channel, axes in enumerate(figure.axes):
        for patch, given, colour in zip(axes.patches, (counts, counts[::-1]), SPLIT_COLORS.values(), strict=False):
            assert isinstance(patch, StepPatch)
            values, edges, _ = patch.get_data()
            np.testing.assert_allclose(values, given[channel] / given[channel].sum())
            assert edges.tolist() == list(range(257))
            assert to_hex(patch.get_edgecolor()) == colour.lower()


def test_light_shows_median_quartiles_and_the_middle_of_each_class() -> None:
    values = np.concatenate([np.linspace(0.0, 1.0, 101) ** 2, np.linspace(0.5, 0.7, 21)])
    labels = np.repeat([0, 2], [101, 21])
    figure = light_figure(values, values / 2, labels, ("happy", "sad", "fear"), "title")
    for axes, scale, name in zip(figure.axes, (1, 0.5), ("brightness", "contrast"), strict=True):
        assert axes.get_xlabel() == f"{name} of an image (0 to 1)"
        boxes = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        lines = [found.get_segments() for found in axes.collections if isinstance(found, LineCollection)]
        for place, label in enumerate((0, 2)):  # there is no image of the second
            low, first, middle, third, high = np.percentile(values[labels == label] * scale, (5, 25, 50, 75, 95))
            box = boxes[place]
            assert (box.get_x(), box.get_x() + box.get_width()) == pytest.approx((first, third))
            assert box.get_y() + box.get_height() / 2 == pytest.approx(label)
            assert to_hex(box.get_facecolor()) == class_colors(3)[label].lower()
            [[whisker], [median], _] = lines[3 * place : 3 * place + 3]
            np.testing.assert_allclose(whisker, [(low, label), (high, label)])
            np.testing.assert_allclose(median, [(middle, label - 0.28), (middle, label + 0.28)])
    top, bottom = figure.axes[0].get_ylim()[::-1]
    assert top < bottom  # the first class stands on top
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["happy", "sad", "fear"]


def test_mean_faces_stand_in_columns_and_red_is_brighter_than_all() -> None:
    rng = np.random.default_rng(0)
    mean, std = rng.uniform(0.3, 0.7, (3, 1, 4, 4)), rng.uniform(0.1, 0.2, (3, 1, 4, 4))
    figure = faces_figure(mean, std, [30, 12], ("happy", "sad"), "title")
    found = placed(figure)
    expected = [*mean[:, 0], *std[:, 0], *(mean[:2, 0] - mean[2, 0])]
    for (image, _), wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(image, wanted)
    assert [image.get_cmap().name for image in figure.axes[0].images] == ["gray"] * 6 + ["RdBu_r"] * 2
    reach = float(np.abs(mean[:2] - mean[2:]).max())
    assert figure.axes[0].images[-1].get_clim() == pytest.approx((-reach, reach))
    lefts, uppers = [box[0] for _, box in found], [box[3] for _, box in found]
    assert lefts[0] < lefts[1] < lefts[2]
    assert lefts == [*lefts[:3], *lefts[:3], *lefts[:2]]
    assert uppers[0] == uppers[2] < uppers[3] == uppers[5] < uppers[6] == uppers[7]
    assert all(upper < lower for _, (_, _, lower, upper) in found)  # upright
    named = captions(figure)
    for name, left in zip(("happy", "sad", "all"), lefts, strict=False):
        side = found[0][1][1] - found[0][1][0]
        assert named[name][0] == pytest.approx(left + side / 2)
    assert {"n = 30", "n = 12", "n = 42"} <= set(named)
    note = " ".join(next(text for text in named if "black" in text).split())
    low, high = mean.min(), mean.max()
    assert note.startswith(f"mean: black {low:.2f}, white {high:.2f}; standard deviation: black {std.min():.2f}, white")
    assert f"red {reach:.2f} brighter, blue as much darker" in note


def test_every_image_stands_where_its_row_and_caption_are() -> None:
    images = faces(11)
    samples = samples_figure({"happy": images[:3], "sad": images[3:3], "fear": images[3:5]}, "title")
    shown = placed(samples)
    assert [np.array_equal(image, given[0]) for (image, _), given in zip(shown, images[:5], strict=True)] == [True] * 5
    rows = [captions(samples)[name][1] for name in ("happy", "sad", "fear")]
    middles = [(box[2] + box[3]) / 2 for _, box in shown]
    assert middles == pytest.approx([rows[0]] * 3 + [rows[2]] * 2)
    assert captions(samples)["no images"][1] == pytest.approx(rows[1])
    lefts = [box[0] for _, box in shown]
    assert lefts[0] == lefts[3] < lefts[1] == lefts[4] < lefts[2]
    assert all(upper < lower for _, (_, _, lower, upper) in shown)
    strip = strip_figure(images, [f"image {place}" for place in range(11)], "title")
    shown = placed(strip)
    assert [np.array_equal(image, given[0]) for (image, _), given in zip(shown, images, strict=True)] == [True] * 11
    for place, (_, (left, right, lower, upper)) in enumerate(shown):
        x, y = captions(strip)[f"image {place}"]
        assert (x, y) == pytest.approx(((left + right) / 2, lower + 0.03))
        assert (left, upper) == pytest.approx((shown[place % 8][1][0], shown[place // 8 * 8][1][3]))
    assert shown[8][1][3] > shown[0][1][2]


def test_pairs_stand_side_by_side_and_a_frame_is_around_those_that_conflict() -> None:
    first, second = faces(12)[:6], faces(12)[6:]
    names = [(f"left {place}", f"right {place}") for place in range(6)]
    figure = pairs_figure(first, second, names, [place == 4 for place in range(6)], "title")
    shown = placed(figure)
    for place in range(6):
        (one, here), (other, beside) = shown[2 * place : 2 * place + 2]
        assert np.array_equal(one, first[place, 0])
        assert np.array_equal(other, second[place, 0])
        assert beside[0] == pytest.approx(here[1])
        assert beside[2:] == here[2:]
        assert captions(figure)[f"left {place}"][0] == pytest.approx((here[0] + here[1]) / 2)
        assert captions(figure)[f"right {place}"][0] == pytest.approx((beside[0] + beside[1]) / 2)
    assert shown[8][1][0] == shown[0][1][0]  # four in a row
    inks = {text.get_text(): to_hex(text.get_color()) for text in figure.axes[0].texts}
    assert inks["left 4"] == inks["right 4"] == COLORS["vermillion"].lower() != inks["left 3"]
    [frame] = [patch for patch in figure.axes[0].patches if to_hex(patch.get_edgecolor()) == inks["left 4"]]
    assert isinstance(frame, Rectangle)
    left, upper, right, lower = shown[8][1][0], shown[8][1][3], shown[9][1][1], shown[8][1][2]
    assert (*frame.get_xy(), frame.get_width(), frame.get_height()) == pytest.approx(
        (left, upper, right - left, lower - upper)
    )


def test_sizes_are_those_of_the_shorter_side_and_width_to_height() -> None:
    width, height = np.array([80.0, 80.0, 80.0, 30.0]), np.array([40.0, 40.0, 40.0, 60.0])
    left, right = sizes_figure(width, height, (40, 50), "title").axes
    heights = {
        axes: [(bar.get_x(), bar.get_height()) for bar in axes.patches if isinstance(bar, Rectangle)]
        for axes in (left, right)
    }
    assert [(round(x), count) for x, count in heights[left] if count] == [(30, 1), (39, 3)]
    filled = [(x, count) for x, count in heights[right] if count]
    assert [count for _, count in filled] == [1, 3]
    assert filled[0][0] == pytest.approx(-1)  # half as wide as high
    assert filled[1][0] == pytest.approx(1, abs=0.06)
    assert [np.asarray(axes.lines[0].get_xdata()).tolist() for axes in (left, right)] == [
        [40, 40],
        pytest.approx([np.log2(1.25)] * 2),
    ]
    assert [label.get_text() for label in right.get_xticklabels()] == ["0.5", "0.75", "1", "1.33", "2"]
    assert right.get_xticks() == pytest.approx(np.log2([0.5, 0.75, 1, 4 / 3, 2]))


def test_long_names_keep_their_ends() -> None:
    assert _middle("0123456789", 10) == "0123456789"
    assert _middle("0123456789x", 10) == "0123…6789x"
    assert _middle("0123456789x", 7) == "012…89x"
