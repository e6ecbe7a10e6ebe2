"""The embedded data set: drawn faces whose expressions follow the facial action units.

No download and no licence stands between a new user and a first training run: the faces are drawn on the fly, each a
pure function of (seed, split, number).

Licence:
    none is needed: this program draws the faces.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.sets.sketch.actions import ACTION_UNITS
from fer_lightning.data.sets.sketch.rendering import render_face, render_mask
from fer_lightning.data.sets.sketch.scene import sample_scene
from fer_lightning.data.table.samples import SPLITS, SamplesTable, content_digests
from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError, LabelError

__all__ = ["DEFAULT_COUNTS", "SketchDataModule", "draw_cutout", "draw_face", "face_source", "scan_sketch"]

DEFAULT_COUNTS: dict[str, int] = {"train": 4200, "val": 700, "test": 1400}
"""Drawings per split."""

_SIZES = (32, 512)
_COLUMNS = ("skin_tone", "age_group", "glasses")
_K = len(SEVEN.class_names)


def draw_face(
    expression: str, rng: np.random.Generator, size: int = 48, channels: int = 1, difficulty: float = 1.0
) -> tuple[NDArray[np.uint8], dict[str, str]]:
    """Draw one face.

    Args:
        expression: one of the seven, by any known name.
        rng: source of all that is random; the same state gives the same bytes.
        size: side in pixels, 32..512.
        channels: 1 (gray) or 3 (RGB).
        difficulty: 0 is a full expression, seen from the front in good light; 1 varies everything; up to 2.

    Returns:
        The picture, uint8 ``(C, H, W)``, and the person's ``skin_tone``, ``age_group`` and ``glasses``.

    Raises:
        ConfigError: if an argument is not one of those.
    """
    _check_picture(size, channels, difficulty)
    scene = sample_scene(SEVEN.class_names[_label(expression)], rng, difficulty)
    return render_face(scene.drawing(), size, channels, rng), scene.about


def draw_cutout(
    expression: str, rng: np.random.Generator, size: int = 48, difficulty: float = 1.0
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Draw a face with head, hair and shoulders whole, to be put on another background.

    The middle of it, half as wide and half as high, is what ``draw_face`` draws of the same state of ``rng`` with
    ``size``, but for the background and the noise.

    Args:
        expression: one of the seven, by any known name.
        rng: source of all that is random; the same state gives the same bytes.
        size: side of that middle part in pixels, 32..512.
        difficulty: as of ``draw_face``.

    Returns:
        The picture, uint8 RGB ``(2 size, 2 size, 3)``, and how much of each pixel is the person, float32
        ``(2 size, 2 size)`` in 0..1.

    Raises:
        ConfigError: if an argument is not one of those.
    """
    _check_picture(size, 3, difficulty)
    drawing = sample_scene(SEVEN.class_names[_label(expression)], rng, difficulty).drawing()
    person = [stroke for stroke in drawing.strokes if stroke.ink != "thing"]  # those stand on the wall
    wide = replace(drawing, strokes=person, shot=drawing.shot.from_afar(2.0))
    picture = render_face(wide, 2 * size, 3, rng)
    return np.ascontiguousarray(picture.transpose(1, 2, 0)), render_mask(wide, 2 * size)


def scan_sketch(
    *,
    counts: Mapping[str, int] | None = None,
    size: int = 48,
    channels: int = 1,
    seed: int = 0,
    difficulty: float = 1.0,
    class_ratio: Mapping[str, float] | None = None,
) -> SamplesTable:
    """Draw the data set.

    Each drawing is a person of its own and depends on (seed, split, number) alone, and its number decides what it
    shows: a smaller or an unbalanced table is a part of a larger, balanced one.

    ``counts`` are drawings per split, none where a split is left out; ``None`` stands for ``DEFAULT_COUNTS``. The
    other arguments are those of ``draw_face`` and ``SketchDataModule``. The table has the columns
    ``skin_tone``, ``age_group`` and ``glasses``.

    Raises:
        ConfigError: if an argument is out of range or names an unknown split or expression.
    """
    counts = DEFAULT_COUNTS if counts is None else counts
    _check_picture(size, channels, difficulty)
    _check_counts(counts, seed)
    shares = _class_shares(class_ratio)
    plan = [(split, number) for split in SPLITS for number in _numbers(counts.get(split, 0), shares)]
    images = np.empty((len(plan), channels, size, size), np.uint8)
    people: list[dict[str, str]] = []
    for row, (split, number) in enumerate(plan):
        rng = face_source(seed, split, number)
        images[row], person = draw_face(SEVEN.class_names[number % _K], rng, size, channels, difficulty)
        people.append(person)
    return SamplesTable(
        class_names=SEVEN.class_names,
        images=images,
        labels=np.array([number % _K for _, number in plan], np.int64),
        splits=np.array([split for split, _ in plan], np.str_),
        sources=np.full(len(plan), "sketch"),
        files=np.array([f"sketch/{split}/{number}" for split, number in plan], np.str_),
        digests=content_digests(images),
        columns={column: np.array([person[column] for person in people], np.str_) for column in _COLUMNS},
    )


def face_source(seed: int, split: str, number: int) -> np.random.Generator:
    """Return the source of all that is random in one drawing of the data set."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, SPLITS.index(split), number])))


def _class_shares(class_ratio: Mapping[str, float] | None) -> NDArray[np.float64]:
    """Return the share of each class, float64 ``(K,)``, summing to 1."""
    weights = np.ones(_K)
    for name, ratio in (class_ratio or {}).items():
        if not (0.0 <= ratio < math.inf):
            raise ConfigError(f"sketch: class_ratio of '{name}' must be a finite number >= 0, not {ratio}")
        weights[_label(name)] = ratio
    if weights.sum() <= 0.0:
        raise ConfigError("sketch: class_ratio leaves no expression to draw; give at least one a number above 0")
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def _numbers(total: int, shares: NDArray[np.float64]) -> list[int]:
    """Return the numbers of a split's drawings, ascending; the class of a drawing is its number modulo ``K``."""
    exact = shares * total
    sizes = np.floor(exact + 1e-9).astype(int)
    rest = np.argsort(sizes - exact, kind="stable")[: total - int(sizes.sum())]
    sizes[rest] += 1
    return sorted(label + _K * turn for label, size in enumerate(sizes.tolist()) for turn in range(size))


def _label(name: str) -> int:
    try:
        return SEVEN.index(name)
    except LabelError as error:
        raise ConfigError(f"sketch: {error}") from error


def _check_counts(counts: Mapping[str, int], seed: int) -> None:
    for split, count in counts.items():
        if split not in SPLITS:
            raise ConfigError(f"sketch: unknown split '{split}' in counts, expected one of {', '.join(SPLITS)}")
        if count < 0:
            raise ConfigError(f"sketch: counts of '{split}' must be >= 0, not {count}")
    if seed < 0:
        raise ConfigError(f"sketch: seed must be >= 0, not {seed}")


def _check_picture(size: int, channels: int, difficulty: float) -> None:
    if not _SIZES[0] <= size <= _SIZES[1]:
        raise ConfigError(f"sketch: size must be {_SIZES[0]}..{_SIZES[1]} pixels, not {size}")
    if channels not in (1, 3):
        raise ConfigError(f"sketch: channels must be 1 (gray) or 3 (RGB), not {channels}")
    if not 0.0 <= difficulty <= 2.0:
        raise ConfigError(f"sketch: difficulty must be 0..2, not {difficulty:g}")


class SketchDataModule(EmotionDataModule):
    """Drawn faces, made from a seed: nothing to download, and the truth is known.

    Args:
        train: number of training drawings.
        val: number of validation drawings.
        test: number of test drawings.
        drawing_seed: which people are drawn.
        difficulty: 0 for plain prototypes, 1 for faces as mixed and hidden as in the default set.
        class_ratio: share of an expression relative to the others, such as ``{disgust: 0.1}``; the totals stay.
        size: side of the drawings, pixels.
        colour: draw in colour.
        **options: of ``EmotionDataModule``.
    """

    native_mean = (0.5,)
    native_std = (0.25,)

    def __init__(
        self,
        train: int = 4200,
        val: int = 700,
        test: int = 1400,
        drawing_seed: int = 0,
        difficulty: float = 1.0,
        class_ratio: dict[str, float] | None = None,
        size: int = 48,
        colour: bool = False,
        **options: Any,
    ) -> None:
        self.native_size = size
        super().__init__(**options)
        self.counts = {"train": train, "val": val, "test": test}
        self.drawing_seed = drawing_seed
        self.difficulty = difficulty
        self.class_ratio = class_ratio
        self.drawn_channels = 3 if colour else 1

    def scan(self) -> SamplesTable:
        """Draw the faces."""
        return scan_sketch(
            counts=self.counts,
            size=self.native_size,
            channels=self.drawn_channels,
            seed=self.drawing_seed,
            difficulty=self.difficulty,
            class_ratio=self.class_ratio,
        )

    def redrawn(self, rows: NDArray[np.int64], resting: Collection[int] = tuple(ACTION_UNITS)) -> NDArray[np.uint8]:
        """Draw faces of the table once more, with action units at rest; person, camera, light and noise stay.

        What differs between such a picture and that in the table is what these units have moved.

        Args:
            rows: int64 ``(M,)``, of ``table``.
            resting: action units (keys of ``ACTION_UNITS``) that rest: all of them, if not given.

        Returns:
            Pictures, uint8 ``(M, C, H, W)``; with no unit resting, those in the table, byte for byte.
        """
        faces = np.empty((len(rows), self.drawn_channels, self.native_size, self.native_size), np.uint8)
        for place, file in enumerate(self.table.files[rows].tolist()):
            _, split, number = file.split("/")
            rng = face_source(self.drawing_seed, split, int(number))
            scene = sample_scene(SEVEN.class_names[int(number) % _K], rng, self.difficulty)
            drawing = scene.drawing(scene.actions.resting(resting))
            faces[place] = render_face(drawing, self.native_size, self.drawn_channels, rng)
        return faces
