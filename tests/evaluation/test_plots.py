"""Figures: what is written in them, how large they are, and that they leave nothing behind."""

from __future__ import annotations

import io
import math

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation, Text
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import binom

from fer_lightning.emotions import EIGHT, SEVEN
from fer_lightning.evaluation.calibration import risk_points
from fer_lightning.evaluation.calibration_plots import reliability_figure, risk_figure
from fer_lightning.evaluation.confidence import reliability_bins
from fer_lightning.evaluation.plots import (
    _ink_on,
    confusion_matrix_figure,
    curves_figure,
    per_class_figure,
    worst_mistakes_figure,
)
from fer_lightning.figures import BLANK, COLORS, DPI, FAINT, INK, SPLIT_COLORS, figure_png
from fer_lightning.metrics import wilson_interval

MATRIX = np.array([[8, 1, 1], [0, 0, 0], [2, 0, 1234]])
NAMES = ("angry", "disgust", "fear")


def texts(figure: Figure) -> list[str]:
    return [found.get_text() for found in figure.findobj(Text) if isinstance(found, Text) and found.get_text()]


def decoded(figure: Figure) -> Image.Image:
    image = Image.open(io.BytesIO(figure_png(figure)))
    image.load()
    return image


def faces(count: int, channels: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, channels, 12, 12), dtype=np.uint8)


def every_figure() -> dict[str, Figure]:
    confidence = np.linspace(0.2, 1.0, 50, dtype=np.float32)
    history = {"train_loss": [(0.0, 1.5), (1.0, 1.0)], "val_loss": [(0.0, 1.4), (1.0, 1.2)], "val_acc": [(0.0, 0.4)]}
    return {
        "confusion": confusion_matrix_figure(MATRIX, NAMES, "title"),
        "per class": per_class_figure(MATRIX, NAMES, "title"),
        "reliability": reliability_figure({"": reliability_bins(confidence, confidence > 0.6)}, "title"),
        "mistakes": worst_mistakes_figure(faces(2), ["sad", "fear"], ["happy", "sad"], [0.9, 0.8], "title"),
        "curves": curves_figure(history, "title"),
    }


FIGURES = every_figure()


@pytest.mark.parametrize("name", list(FIGURES))
def test_png_decodes_at_the_stated_resolution_with_its_title(name: str) -> None:
    figure = FIGURES[name]
    image = decoded(figure)
    assert image.format == "PNG"
    assert image.size == tuple(int(inches * DPI) for inches in figure.get_size_inches())
    assert any(text.startswith("title") for text in texts(figure))
    assert np.asarray(image.convert("L")).std() > 5


def test_equal_figures_give_equal_bytes() -> None:
    first, second = (figure_png(per_class_figure(MATRIX, NAMES, "title")) for _ in range(2))
    assert first == second


def test_settings_of_the_caller_are_left_alone() -> None:
    def settings() -> dict[str, object]:  # without the backend: reading it already chooses one
        return {key: mpl.rcParams[key] for key in mpl.rcParams if not key.startswith("backend")}

    before = settings()
    for figure in every_figure().values():
        figure_png(figure)
    assert settings() == before


def test_colors_are_distinct() -> None:
    assert len(set(COLORS.values())) == 8


def test_confusion_matrix_shows_counts_shares_support_and_axes() -> None:
    found = texts(confusion_matrix_figure(MATRIX, NAMES, "FER2013 test"))
    assert {"true", "predicted", *NAMES, "angry\nn = 10", "disgust\nn = 0", "fear\nn = 1,236"} <= set(found)
    assert {"8", "80.0%", "10.0%", "1,234", "99.8%"} <= set(found)
    assert found.count("n/a") == 3
    assert "1,246 samples, accuracy 99.7%" in found


def test_confusion_matrix_has_rows_true_and_columns_predicted() -> None:
    figure = confusion_matrix_figure(np.array([[5, 3], [0, 7]]), ("sad", "fear"), "title")
    [axes] = figure.axes
    places = {text.get_text(): text.xy for text in axes.texts if hasattr(text, "xy")}
    assert places["3"] == (1, 0)  # x is the column, y the row
    assert axes.get_xlabel() == "predicted"
    assert axes.get_ylabel() == "true"


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 10])
def test_confusion_matrix_texts_lie_inside_the_picture(count: int) -> None:
    names = [*EIGHT.class_names, "bewildered_and_lost", "x"][-count:]
    figure = confusion_matrix_figure(np.full((count, count), 12345), names, "a headline of some length, test")
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text.get_text() and text.get_visible():
            box = text.get_window_extent()
            assert -1 <= box.x0 <= box.x1 <= width + 1, text.get_text()
            assert -1 <= box.y0 <= box.y1 <= height + 1, text.get_text()


def test_text_in_cells_contrasts_with_the_shade() -> None:
    figure = confusion_matrix_figure(np.array([[99, 1], [50, 50]]), ("sad", "fear"), "title")
    inks = {text.get_text(): text.get_color() for text in figure.axes[0].texts}
    assert inks["99"] == "white"
    assert inks["1"] != "white"


def test_confusion_matrix_without_samples_says_so() -> None:
    assert "no samples" in texts(confusion_matrix_figure(np.zeros((3, 3), np.int64), NAMES, "title"))


def test_per_class_bars_are_the_scores() -> None:
    figure = per_class_figure(np.array([[6, 2], [1, 1]]), ("sad", "fear"), "title")
    [axes] = figure.axes
    heights = [bar.get_height() for bar in axes.patches if isinstance(bar, Rectangle)]
    np.testing.assert_allclose(heights, [6 / 7, 1 / 3, 6 / 8, 1 / 2, 12 / 15, 2 / 5])
    found = texts(figure)
    assert {"precision", "recall", "F1", "95% interval of the recall", "sad\nn = 8", "fear\nn = 2"} <= set(found)
    assert {"0.86", "0.75", "0.80", "0.33", "0.50", "0.40"} <= set(found)


def test_per_class_bars_of_an_absent_class_read_not_available() -> None:
    assert texts(per_class_figure(MATRIX, NAMES, "title")).count("n/a") == 2  # predicted once: its precision is known


def test_reliability_title_has_the_ece() -> None:
    confidence = np.full(10, 0.9, np.float32)
    figure = reliability_figure({"": reliability_bins(confidence, np.arange(10) < 6)}, "FER2013 test")
    assert {"FER2013 test", "ECE 0.300, 10 samples"} <= set(texts(figure))
    assert {"accuracy", "confidence", "samples", "perfect calibration"} <= set(texts(figure))


def test_two_stages_stand_side_by_side() -> None:
    confidence, right = np.full(10, 0.9, np.float32), np.arange(10) < 6
    bins = {"before": reliability_bins(confidence, right), "after": reliability_bins(confidence - 0.3, right)}
    figure = reliability_figure(bins)
    assert {"before\nECE 0.300, 10 samples", "after\nECE 0.000, 10 samples"} <= set(texts(figure))
    assert layout(figure) == (2, 2)


def test_reliability_without_samples_says_so() -> None:
    figure = reliability_figure({"": reliability_bins(np.zeros(0, np.float32), np.zeros(0, bool))}, "title")
    assert {"title", "no ECE, no samples"} <= set(texts(figure))
    decoded(figure)


@pytest.mark.parametrize("channels", [1, 3])
def test_worst_mistakes_are_captioned_and_limited(channels: int) -> None:
    images = faces(8, channels)
    true, predicted = (names * 4 for names in (["sad", "angry"], ["fear", "happy"]))
    sure = [0.98 - place / 100 for place in range(8)]
    figure = worst_mistakes_figure(images, true, predicted, sure, "title", rows=2, columns=3)
    captions = [f"{true[place]} → {predicted[place]}\n{sure[place]:.2f}" for place in range(6)]
    assert [axes.get_title() for axes in figure.axes] == captions
    shown = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_array_equal(shown, images[0].transpose(1, 2, 0) if channels == 3 else images[0, 0])


def test_worst_mistakes_without_any_says_so() -> None:
    assert "no mistakes" in texts(worst_mistakes_figure(faces(0), [], [], [], "title"))


def test_curves_share_panels_by_kind_and_name_the_best_epoch() -> None:
    history = {
        "train_loss": [(0.0, 1.5), (1.0, 1.0), (2.0, 0.7)],
        "val_loss": [(0.0, 1.4), (1.0, 1.2), (2.0, 1.3)],
        "val_acc": [(0.0, 0.4), (1.0, math.nan), (2.0, 0.6)],
    }
    figure = curves_figure(history, "title")
    losses, scores = figure.axes
    assert (losses.get_ylabel(), scores.get_ylabel()) == ("loss", "score")
    found = texts(figure)
    assert "train_loss" in found
    assert "val_loss, best 1.200 in epoch 1" in found
    assert "val_acc, best 0.600 in epoch 2" in found


@pytest.mark.parametrize("history", [{}, {"val_loss": []}, {"val_loss": [(0.0, math.nan)]}, {"val_acc": [(3.0, 0.5)]}])
def test_curves_of_hardly_any_epoch_are_drawn(history: dict[str, list[tuple[float, float]]]) -> None:
    assert decoded(curves_figure(history, "title")).format == "PNG"


def test_a_dollar_in_a_name_is_no_formula() -> None:
    figure = confusion_matrix_figure(np.eye(2, dtype=np.int64), ("a$b$", "$\\frac"), "$x$")
    assert decoded(figure).size[0] > 100
    assert {"a$b$", "$\\frac", "$x$"} <= set(texts(figure))


def test_the_seven_fit_without_slanting() -> None:
    figure = confusion_matrix_figure(np.eye(7, dtype=np.int64), SEVEN.class_names, "title")
    assert {label.get_rotation() for label in figure.axes[0].get_xticklabels()} == {0.0}


def bars(axes: Axes) -> NDArray[np.float64]:
    """Return centre, lower end and height of each bar."""
    found = [bar for bar in axes.patches if isinstance(bar, Rectangle)]
    return np.array([(bar.get_x() + bar.get_width() / 2, bar.get_y(), bar.get_height()) for bar in found])


def test_reliability_points_are_accuracy_over_confidence_beside_what_a_perfect_model_shows() -> None:
    confidence = np.array([0.95] * 10 + [0.5] * 5 + [0.62] * 5, np.float32)
    correct = np.array([True] * 6 + [False] * 4 + [True] * 4 + [False] + [True] * 5)
    upper, lower = reliability_figure({"": reliability_bins(confidence, correct)}, "title").axes
    known = {7: (0.5, 0.8, 0.25), 9: (0.62, 1.0, 0.25), 14: (0.95, 0.6, 0.5)}  # confidence, accuracy, share
    [model] = [line for line in upper.lines if line.get_label() == "this model"]
    points = np.stack([np.asarray(line, np.float64) for line in model.get_data()], axis=1)
    shares, bands = bars(lower), bars(upper)
    for place, (bin_number, (stated, accuracy, share)) in enumerate(known.items()):
        assert points[place] == pytest.approx((stated, accuracy), abs=1e-6)
        assert shares[place] == pytest.approx(((bin_number + 0.5) / 15, 0, share))
        assert bands[place, 0] == pytest.approx((bin_number + 0.5) / 15)
    low, height = bands[0, 1:]  # of 5 answers that are right in half of the cases
    assert (low, low + height) == tuple(binom.ppf([0.025, 0.975], 5, 0.5) / 5)


def test_risk_is_the_share_of_wrong_answers_among_the_most_confident() -> None:
    confidence = np.linspace(0.3, 0.9, 40).astype(np.float32)
    correct = np.arange(40) >= 30  # the ten most confident
    chosen = {"threshold": 0.5, "answered": 0.6, "risk": {"value": 0.1, "low": 0.05, "high": 0.2}}
    figure = risk_figure({"": risk_points(confidence, correct)}, 0.15, chosen)
    [axes] = figure.axes
    assert {"threshold 0.500", "wanted 15.0%"} <= set(texts(figure))
    line, wanted, dot, *_ = axes.lines
    assert (np.unique(np.asarray(wanted.get_ydata())).tolist(), np.asarray(dot.get_xydata()).tolist()) == (
        [0.15],
        [[0.6, 0.1]],
    )
    points = np.stack([np.asarray(values, np.float64) for values in line.get_data()], axis=1)
    np.testing.assert_allclose(points, [(kept / 40, (kept - 10) / kept) for kept in range(20, 41)])


def test_the_interval_of_a_recall_is_wilsons() -> None:
    [axes] = per_class_figure(np.array([[6, 2], [1, 1]]), ("sad", "fear"), "title").axes
    [intervals] = axes.collections
    assert isinstance(intervals, LineCollection)
    for place, (segment, counts) in enumerate(zip(intervals.get_segments(), ((6, 8), (1, 2)), strict=True)):
        assert segment[:, 0].tolist() == [place, place]
        assert segment[:, 1] == pytest.approx(wilson_interval(*counts))


def test_curves_are_the_values_and_the_best_is_marked() -> None:
    history = {
        "train_loss": [(0.0, 1.5), (1.0, 1.0)],
        "val_loss": [(0.0, 1.1), (1.0, 1.2)],
        "train_acc": [(0.0, 0.3), (1.0, 0.9)],
        "val_acc": [(0.0, 0.4), (1.0, 0.6)],
    }
    marked = {"val_loss": (0.0, 1.1), "val_acc": (1.0, 0.6)}
    for axes, names in zip(
        curves_figure(history, "title").axes, (("train_loss", "val_loss"), ("train_acc", "val_acc")), strict=True
    ):
        lines = [np.stack(line.get_data(), axis=1).tolist() for line in axes.lines]
        first, best, second = (list(map(tuple, line)) for line in lines)
        assert first == history[names[0]]
        assert second == history[names[1]]
        assert best == [marked[names[1]]]
        assert axes.lines[0].get_color() != axes.lines[2].get_color() == axes.lines[1].get_color()


@pytest.mark.parametrize(
    ("color", "ink"),
    [((0.0, 0.6, 0.0), INK), ((0.6, 0.0, 0.0), "white"), ((0.0, 0.0, 0.9), "white"), ((0.9, 0.4, 0.0), INK)],
)
def test_the_ink_has_the_higher_contrast_to_the_eye(color: tuple[float, float, float], ink: str) -> None:
    assert _ink_on(np.array(color)) == ink


def test_the_bars_of_a_class_stand_in_the_order_of_the_legend() -> None:
    figure = per_class_figure(np.array([[6, 2], [1, 1]]), ("sad", "fear"), "title")
    [axes] = figure.axes
    assert bars(axes)[:, 0] == pytest.approx([-0.27, 0.73, 0.0, 1.0, 0.27, 1.27])
    colors = [to_hex(bar.get_facecolor()) for bar in axes.patches][::2]
    assert colors == [COLORS[name].lower() for name in ("sky", "blue", "orange")]
    tops = {text.get_text(): text.xy for text in axes.texts if isinstance(text, Annotation)}
    assert tops["0.75"] == pytest.approx((0, wilson_interval(6, 8)[1]))  # above the interval that stands on the bar
    assert tops["0.86"] == pytest.approx((-0.27, 6 / 7))


def test_cells_of_a_confusion_matrix_carry_their_own_count_and_share() -> None:
    matrix = np.array([[50, 31, 19], [2, 6, 0], [0, 0, 0]])
    figure = confusion_matrix_figure(matrix, NAMES, "title")
    [axes] = figure.axes
    texts_at: dict[tuple[float, float], list[str]] = {}
    for text in axes.texts:
        if isinstance(text, Annotation) and text.xycoords == "data":
            texts_at.setdefault(text.xy, []).append(text.get_text())
            assert (text.get_fontweight() == "bold") == (text.xy[0] == text.xy[1])
    assert texts_at == {
        (column, row): [f"{matrix[row, column]}", f"{matrix[row, column] / matrix[row].sum():.1%}"]
        for row in range(2)
        for column in range(3)
    }
    image = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(image[0, 1], mpl.colormaps["Blues"](0.31))
    np.testing.assert_allclose(image[2], [to_rgba(BLANK)] * 3)
    assert [label.get_text() for label in axes.get_xticklabels()] == list(NAMES)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["angry\nn = 100", "disgust\nn = 8", "fear\nn = 0"]
    assert "108 samples, accuracy 51.9%" in texts(figure)


def layout(figure: Figure) -> tuple[int, int]:
    """Return the rows and columns of the panels."""
    grid = figure.axes[0].get_gridspec()
    assert grid is not None
    return grid.nrows, grid.ncols


def test_24_mistakes_are_shown_in_four_rows_of_six_as_bright_as_they_are() -> None:
    figure = worst_mistakes_figure(faces(30), ["sad"] * 30, ["fear"] * 30, [0.5] * 30, "title")
    assert len(figure.axes) == 24
    assert layout(figure) == (4, 6)
    assert {axes.images[0].get_clim() for axes in figure.axes} == {(0, 255)}
    few = worst_mistakes_figure(faces(8), ["sad"] * 8, ["fear"] * 8, [0.5] * 8, "title")
    assert layout(few) == (2, 6)


def test_curves_have_the_colour_of_their_split_and_the_dash_of_their_metric() -> None:
    history = {name: [(0.0, 0.1), (2.0, 0.3)] for name in ("train_acc", "val_acc", "train_f1", "val_f1", "lr")}
    [axes] = curves_figure(history, "title").axes
    found = {str(line.get_label()).partition(",")[0]: line for line in axes.lines}
    looks = {name: (found[name].get_color(), found[name].get_linestyle()) for name in history}
    blue, red = (SPLIT_COLORS[split] for split in ("train", "val"))
    assert looks == {
        "train_acc": (blue, "-"),
        "val_acc": (red, "-"),
        "train_f1": (blue, "--"),
        "val_f1": (red, "--"),
        "lr": (FAINT, ":"),
    }
    assert {label for label in texts(curves_figure(history, "title")) if "best" in label} == {
        "val_acc, best 0.300 in epoch 2",
        "val_f1, best 0.300 in epoch 2",
    }
