"""Whole pictures with faces at known places, which test detector and classifier together.

The faces are drawn persons of ``SketchDataModule``, or images of any other data set with a gray border; the
background is drawn. Each scene is a function of the seed and its number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.sets.sketch.sketch import SketchDataModule, draw_cutout, face_source
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.errors import ConfigError, DataError

__all__ = ["Scene", "SceneSettings", "scene_faces", "scenes"]

_GRAY = 128
_TRIES = 60  # places that are tried for a face before it waits for the next scene


@dataclass(frozen=True)
class Scene:
    """A picture and the faces in it.

    Attributes:
        name: of the picture.
        picture: RGB uint8 ``(H, W, 3)``.
        boxes: float32 ``(F, 4)``: left, top, width, height in pixels of the part that the data set has as an image.
        labels: int64 ``(F,)``.
    """

    name: str
    picture: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class SceneSettings:
    """What scenes look like.

    Attributes:
        width: of the pictures in pixels.
        height: likewise.
        smallest: side of the smallest face in pixels.
        largest: side of the largest.
        most: faces in one picture, at most.
        seed: of all that is random.

    Raises:
        ConfigError: if a face of the largest size does not fit in.
    """

    width: int = 960
    height: int = 720
    smallest: int = 60
    largest: int = 360
    most: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if not 32 <= self.smallest <= self.largest:
            raise ConfigError(f"faces are 32 pixels or more, not {self.smallest} to {self.largest}")
        if 2 * self.largest > min(self.width, self.height):
            raise ConfigError(
                f"faces of {self.largest} pixels have no room in {self.width}x{self.height}: "
                f"{min(self.width, self.height) // 2} at most"
            )
        if self.most < 1:
            raise ConfigError(f"a scene has at least 1 face, not {self.most}")


class FaceSource(Protocol):
    """Gives faces with what is around them."""

    labels: NDArray[np.int64]
    """Of all faces, int64 ``(N,)``."""

    def __call__(self, number: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return a face of a size in pixels, twice as wide and high in all.

        The middle, ``(size, size)``, is what the data set has as an image.

        Returns:
            RGB uint8 ``(2 size, 2 size, 3)``, and how much of each pixel covers the background, float32
            ``(2 size, 2 size)`` in 0..1.
        """


class _Drawn:
    """Persons of the drawn data set."""

    def __init__(self, data: SketchDataModule, table: SamplesTable, rows: NDArray[np.int64]) -> None:
        self.labels = table.labels[rows]
        self._names = table.class_names
        self._numbers = [int(file.rpartition("/")[2]) for file in table.files[rows]]
        self._splits = table.splits[rows]
        self._seed, self._difficulty = data.drawing_seed, data.difficulty

    def __call__(self, number: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        source = face_source(self._seed, str(self._splits[number]), self._numbers[number])
        return draw_cutout(self._names[self.labels[number]], source, size, self._difficulty)


class _Tiles:
    """Images of a data set with a gray border."""

    def __init__(self, table: SamplesTable, rows: NDArray[np.int64]) -> None:
        self.labels = table.labels[rows]
        self._images, self._rows = table.images, rows

    def __call__(self, number: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        image = np.ascontiguousarray(self._images[self._rows[number : number + 1]][0].transpose(1, 2, 0))
        rule = cv2.INTER_AREA if max(image.shape[:2]) > size else cv2.INTER_LINEAR
        tile = np.asarray(cv2.resize(image, (size, size), interpolation=rule), np.uint8).reshape(size, size, -1)
        edge = size // 2
        whole = np.full((2 * size, 2 * size, 3), _GRAY, np.uint8)
        whole[edge : edge + size, edge : edge + size] = tile
        return whole, np.ones((2 * size, 2 * size), np.float32)


def scene_faces(
    data: EmotionDataModule, class_names: Sequence[str], split: str = "test", most: int | None = None, seed: int = 0
) -> FaceSource:
    """Return the faces of one split of a data set, in an order that the seed decides.

    Args:
        data: a data module; drawn persons are drawn anew in colour and with shoulders.
        class_names: of the model that is tested: those of the data.
        split: ``train``, ``val`` or ``test``.
        most: faces, at most; all if ``None``.
        seed: of the order.

    Raises:
        DataError: if the split has no images or the classes are others.
    """
    table = data.table
    if table.class_names != tuple(class_names):
        raise DataError(f"the model knows {', '.join(class_names)}; the data has {', '.join(table.class_names)}")
    rows = table.rows(split)
    if not len(rows):
        there = [name for name in ("train", "val", "test") if len(table.rows(name))]
        raise DataError(f"the data set has no {split} images; there are: {', '.join(there)} (--split {there[-1]})")
    rows = np.random.default_rng(seed).permutation(rows)[:most]
    return _Drawn(data, table, rows) if isinstance(data, SketchDataModule) else _Tiles(table, rows)


def scenes(faces: FaceSource, settings: SceneSettings) -> Iterator[Scene]:
    """Give scenes until each face was in one of them; the next one is made when it is asked for.

    Args:
        faces: what is put into them, in this order.
        settings: of the scenes.
    """
    number = done = 0
    while done < len(faces.labels):
        rng = np.random.default_rng([settings.seed, number])
        picture = _background(rng, settings.height, settings.width).astype(np.float32)
        wanted = min(int(rng.integers(1, settings.most + 1)), len(faces.labels) - done)
        places = _places(rng, settings, wanted)
        for face, (left, top, size) in enumerate(places, start=done):
            pixels, cover = faces(face, size)
            _put(picture, pixels, cover[..., None], left - size // 2, top - size // 2)
        boxes = np.array([[left, top, size, size] for left, top, size in places], np.float32)
        labels = faces.labels[done : done + len(places)]
        yield Scene(f"{number:05d}.png", np.rint(picture).astype(np.uint8), boxes, labels)
        done += len(places)
        number += 1


def _places(rng: np.random.Generator, settings: SceneSettings, wanted: int) -> list[tuple[int, int, int]]:
    """Return left, top and size of faces, at least one, with room around each for its shoulders or border."""
    found: list[tuple[int, int, int]] = []
    low, high = np.log(settings.smallest), np.log(settings.largest)
    for _ in range(_TRIES):
        if len(found) == wanted:
            break
        size = 2 * round(float(np.exp(rng.uniform(low, high))) / 2)  # even, so that what is around it is as well
        room = size // 2  # on each side
        left = int(rng.integers(room, settings.width - size - room + 1))
        top = int(rng.integers(room, settings.height - size - room + 1))
        if all(_apart(left, top, size, *other) for other in found):
            found.append((left, top, size))
    return found


def _apart(left: int, top: int, size: int, left_2: int, top_2: int, size_2: int) -> bool:
    reach = size + size_2  # the halves of both with what is around them
    across = abs(2 * left + size - 2 * left_2 - size_2)
    down = abs(2 * top + size - 2 * top_2 - size_2)
    return max(across, down) >= 2 * reach


def _put(picture: NDArray[np.float32], pixels: NDArray[np.uint8], cover: NDArray[np.float32], x: int, y: int) -> None:
    """Lay pixels over a part of a picture."""
    part = picture[y : y + len(pixels), x : x + len(pixels)]
    part += cover * (pixels - part)


def _background(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Draw a wall with shadows, things with straight edges, round things and a little noise, uint8 ``(H, W, 3)``."""
    corners = rng.integers(60, 200, (2, 2, 3)).astype(np.float32)
    wall = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
    canvas = np.clip(wall, 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(4, 12))):
        color = tuple(int(value) for value in rng.integers(20, 240, 3))
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        wide, high = (int(value) for value in rng.integers(20, height // 2, 2))
        kind = int(rng.integers(0, 3))
        if kind == 0:
            cv2.rectangle(canvas, (x, y), (x + wide, y + high), color, cv2.FILLED)
        elif kind == 1:
            cv2.ellipse(canvas, (x, y), (wide // 3, high // 3), float(rng.uniform(0, 180)), 0, 360, color, cv2.FILLED)
        else:
            cv2.line(canvas, (x, y), (x + wide, y - high), color, int(rng.integers(2, 14)), cv2.LINE_AA)
    soft = cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.5, 3.0)))
    noise = rng.normal(0, rng.uniform(0.5, 5.0), (height, width, 1))
    return np.clip(np.rint(soft + noise), 0, 255).astype(np.uint8)
