"""The look of every picture: colours, type and lines, and how a figure becomes a PNG file."""

from __future__ import annotations

import base64
import functools
import html
import io
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

__all__ = [
    "BLANK",
    "COLORS",
    "DPI",
    "FAINT",
    "GRID",
    "INK",
    "PREVIEW",
    "SPLIT_COLORS",
    "STYLE",
    "class_colors",
    "data_url",
    "figure_pixels",
    "figure_png",
    "figure_svg",
    "house_style",
    "pixels_png",
    "pixels_webp",
    "thumbnail",
    "wrapped",
]

_NO_METADATA: dict[str, Any] = {"Software": None}  # the version of matplotlib would make files differ
_NO_SVG_METADATA: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))

_FURTHER_FONTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Source Han Sans",
    "WenQuanYi Micro Hei",
    "Hiragino Sans",
    "PingFang SC",
    "Apple SD Gothic Neo",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Noto Sans Devanagari",
    "Nirmala UI",
    "Noto Sans Thai",
)
"""For characters that matplotlib's own font lacks, where they are installed; the first that has one draws it."""

DPI = 150
"""Resolution of written pictures, in dots per inch."""

PREVIEW = "preview.webp"
"""Name of the small picture in a folder of findings that pages beside it show."""

COLORS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermillion": "#D55E00",
    "sky": "#56B4E9",
    "purple": "#CC79A7",
    "yellow": "#F0E442",
    "black": "#000000",
}
"""Eight colours that colour-blind readers can tell apart (Okabe and Ito 2008, https://jfly.uni-koeln.de/color/)."""

_CLASS_COLORS = {
    "angry": "vermillion",
    "disgust": "green",
    "fear": "purple",
    "happy": "yellow",
    "sad": "blue",
    "surprise": "orange",
    "neutral": "sky",
}
SPLIT_COLORS = {"train": COLORS["blue"], "val": COLORS["vermillion"], "test": COLORS["green"]}
"""The colour of each split in every picture."""
INK = "#222222"
"""Colour of text."""
FAINT = "#767676"
"""Colour of what matters less."""
GRID = "#E3E3E3"
"""Colour of lines behind the data."""
BLANK = "#F4F4F4"
"""Colour of areas without a value."""

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same picture on every machine
    "font.size": 9.0,
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "axes.titlepad": 8.0,
    "axes.labelsize": 9.5,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "text.color": INK,
    "text.parse_math": False,  # a "$" in a name is a dollar
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "hatch.linewidth": 0.5,
    "figure.constrained_layout.w_pad": 0.1,
    "figure.constrained_layout.h_pad": 0.1,
    "figure.titlesize": 11.0,
    "figure.titleweight": "bold",
    "figure.facecolor": "white",
}
"""Matplotlib's settings for every picture."""


def class_colors(class_names: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Return the colour of each class as red, green, blue in 0..255: always the same for the seven expressions."""
    spare = iter(["black", *(name for name in COLORS if name not in _CLASS_COLORS.values())] + list(COLORS) * 4)
    chosen = {name: COLORS[_CLASS_COLORS.get(name) or next(spare)] for name in class_names}
    return {name: tuple(bytes.fromhex(color[1:])) for name, color in chosen.items()}  # type: ignore[misc]  # three bytes


@contextmanager
def house_style() -> Iterator[None]:
    """Draw everything inside the ``with`` block in the package's style; settings of the caller come back afterwards."""
    with mpl.rc_context({**STYLE, "font.family": _families()}):
        yield


@functools.cache
def _families() -> list[str]:
    installed = set(font_manager.get_font_names())
    return [STYLE["font.family"], *(name for name in _FURTHER_FONTS if name in installed)]


@contextmanager
def _missing_characters() -> Iterator[None]:
    """Say once, not once for each character and picture, that no font here has some characters."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    others = [warning for warning in caught if "missing from font" not in str(warning.message)]
    for warning in others:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if len(caught) > len(others):
        _tell_missing()


@functools.cache
def _tell_missing() -> None:
    warnings.warn(
        "no font here has all characters of these names: pictures show boxes for some; install one that has them, "
        "such as Noto Sans CJK, and remove matplotlib's list of fonts (" + mpl.get_cachedir() + ")",
        stacklevel=2,
    )


def figure_pixels(figure: Figure) -> NDArray[np.uint8]:
    """Return a figure as pixels, uint8 ``(H, W, 3)``, at 150 dots per inch; its own resolution becomes that."""
    with house_style(), _missing_characters():
        canvas = FigureCanvasAgg(figure)
        figure.set_dpi(DPI)
        canvas.draw()  # type: ignore[no-untyped-call]
    pixels: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
    return pixels


def pixels_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return pixels, uint8 ``(H, W, 3)``, as a PNG file of 150 dots per inch; equal pixels give equal bytes."""
    buffer = io.BytesIO()
    imsave(buffer, pixels, format="png", dpi=DPI, metadata=_NO_METADATA)
    return buffer.getvalue()


def pixels_webp(pixels: NDArray[np.uint8], width: int = 680, quality: int = 80) -> bytes:
    """Return pixels, uint8 ``(H, W, 3)``, as a WebP file for a page, made smaller if they are wider than ``width``."""
    height, wide = pixels.shape[:2]
    shown = np.ascontiguousarray(pixels[..., ::-1])  # OpenCV: BGR
    if wide > width:
        size = width, max(1, round(height * width / wide))
        shown = np.asarray(cv2.resize(shown, size, interpolation=cv2.INTER_AREA), np.uint8)
    return cv2.imencode(".webp", shown, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()


def figure_png(figure: Figure) -> bytes:
    """Return a figure as a PNG file of 150 dots per inch; equal figures give equal bytes."""
    return pixels_png(figure_pixels(figure))


def figure_svg(figure: Figure, shows: str) -> Markup:
    """Return a figure as an ``<svg>`` element for a page; equal figures give equal texts.

    Text stays text, escaped by matplotlib: it is sharp at any size and can be searched.

    Args:
        figure: at most 5.2 inches wide, so that its text can be read on a phone.
        shows: what is to be seen, for those who cannot see it.
    """
    buffer = io.StringIO()
    as_text: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": shows}
    with house_style(), mpl.rc_context(as_text), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*missing from font")  # the reader's browser has other fonts
        figure.savefig(buffer, format="svg", metadata=_NO_SVG_METADATA)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    return Markup(
        svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(shows)}"', 1)
    )  # matplotlib escapes text


def thumbnail(image: NDArray[np.uint8], side: int = 96) -> str:
    """Return an image, uint8 ``(C, H, W)``, gray or RGB, as a data URL for a page, no side longer than ``side`` pixels.

    Small images stay as they are and are kept exactly (PNG); others are made smaller and kept as WebP.
    """
    height, width = image.shape[1:]
    shown = image[0] if len(image) == 1 else np.ascontiguousarray(image[::-1].transpose(1, 2, 0))  # OpenCV: BGR
    scale = side / max(height, width)
    kind = "png"
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        kind, shown = "webp", cv2.resize(shown, size, interpolation=cv2.INTER_AREA)
    return data_url(cv2.imencode(f".{kind}", shown)[1].tobytes(), kind)


def data_url(image: bytes, kind: str = "png") -> str:
    """Return the content of an image file as a data URL, which stands in a page instead of the file."""
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def wrapped(title: str, figure: Figure) -> str:
    """Break a headline into lines that fit a figure; bold letters of 11 points are about 0.105 inches wide."""
    return textwrap.fill(title, max(20, int(figure.get_figwidth() / 0.105) - 4))
