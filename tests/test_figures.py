"""How a figure becomes pixels and a file, and which colour a class has."""

from __future__ import annotations

import base64
import io
import warnings
from contextlib import suppress

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from fer_lightning.emotions import SEVEN
from fer_lightning.figures import (
    COLORS,
    _families,
    _tell_missing,
    class_colors,
    figure_pixels,
    figure_png,
    figure_svg,
    pixels_png,
    thumbnail,
    wrapped,
)


def test_pixels_are_red_green_blue_and_the_file_says_its_resolution() -> None:
    figure = Figure(figsize=(2, 1), facecolor="#FF8000")
    pixels = figure_pixels(figure)
    assert pixels.shape == (150, 300, 3)
    assert pixels[0, 0].tolist() == [255, 128, 0]
    image = Image.open(io.BytesIO(figure_png(figure)))
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), pixels)
    assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
    assert "Software" not in image.info  # whose version would make equal pictures differ
    assert pixels_png(pixels) == pixels_png(pixels.copy())


def test_characters_that_no_font_has_are_told_once_and_pages_leave_them_to_the_browser() -> None:
    _tell_missing.cache_clear()
    figure = Figure(figsize=(2, 1))
    figure.text(0.1, 0.5, "\ue0f1 \ue0f2")  # of nobody's font: a private use
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure_pixels(figure)
        figure_pixels(figure)
        assert "\ue0f1 \ue0f2" in figure_svg(figure, "signs")
    assert [str(warning.message)[:52] for warning in caught] == ["no font here has all characters of these names: pict"]


def test_other_warnings_of_drawing_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FigureCanvasAgg, "draw", lambda canvas: warnings.warn("something else", stacklevel=1))
    with pytest.warns(UserWarning, match="something else"), suppress(AttributeError):
        figure_pixels(Figure(figsize=(1, 1)))


def test_fonts_that_are_installed_draw_what_matplotlib_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(font_manager, "get_font_names", lambda: ["Yu Gothic", "Comic Neue", "Source Han Sans"])
    assert _families.__wrapped__() == ["DejaVu Sans", "Source Han Sans", "Yu Gothic"]


def test_the_seven_have_their_own_colours_wherever_they_stand_and_others_get_what_is_left() -> None:
    colours = class_colors(SEVEN.class_names)
    assert colours == {
        "angry": (213, 94, 0),
        "disgust": (0, 158, 115),
        "fear": (204, 121, 167),
        "happy": (240, 228, 66),
        "sad": (0, 114, 178),
        "surprise": (230, 159, 0),
        "neutral": (86, 180, 233),
    }
    assert class_colors(["sad", "angry"]) == {name: colours[name] for name in ("sad", "angry")}
    assert class_colors([*SEVEN.class_names, "contempt"])["contempt"] == (0, 0, 0)  # which none of the seven has
    many = class_colors([f"class {place}" for place in range(20)])
    assert {"#" + bytes(colour).hex().upper() for colour in many.values()} == set(COLORS.values())


def test_headlines_fit_the_width_of_their_figure() -> None:
    title = "a headline of many words that goes on and on and on until it is wider than the figure is"
    lines = wrapped(title, Figure(figsize=(5.25, 1))).split("\n")
    assert " ".join(lines) == title
    assert len(lines) == 2
    assert max(map(len, lines)) <= 46
    assert max(map(len, wrapped(title, Figure(figsize=(1, 1))).split("\n"))) <= 20


def test_a_drawing_for_a_page_has_its_text_as_text_and_is_the_same_each_time() -> None:
    def drawn() -> str:
        figure = Figure(figsize=(2, 1))
        figure.text(0.5, 0.5, "a <b>")
        return figure_svg(figure, 'what "it" shows')

    svg = drawn()
    assert svg == drawn()
    assert svg.startswith('<svg role="img" aria-label="what &quot;it&quot; shows"')
    assert "a &lt;b&gt;</text>" in svg
    assert "sans-serif" in svg
    assert "matplotlib.org" not in svg  # its version and the time would make equal drawings differ


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("side", "kind", "shown"), [(48, "png", (48, 40)), (256, "webp", (96, 80))])
def test_thumbnails_are_the_image_in_its_colours(channels: int, side: int, kind: str, shown: tuple[int, int]) -> None:
    image = np.zeros((channels, side, side * 5 // 6), np.uint8)
    image[0] = 200
    head, _, data = thumbnail(image).partition(",")
    assert head == f"data:image/{kind};base64"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    assert pixels.shape == (*shown, 3)
    wanted = (200, 200, 200) if channels == 1 else (200, 0, 0)
    np.testing.assert_allclose(pixels.reshape(-1, 3).mean(axis=0), wanted, atol=0 if kind == "png" else 6)
