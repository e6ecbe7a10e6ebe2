"""Whole pictures with boxes and labels as files: writing scenes, and reading those of the user."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.files.decode import decode
from fer_lightning.data.table.manifest_file import read_manifest
from fer_lightning.emotions import canonical
from fer_lightning.errors import DataError, LabelError
from fer_lightning.figures import pixels_png
from fer_lightning.files import csv_text, write_atomically
from fer_lightning.inference.scenes import Scene
from fer_lightning.text import short_path

__all__ = ["BOXES", "SceneFiles", "read_boxes", "written"]

BOXES = "boxes.csv"
"""Name of the table beside written scenes."""

_COLUMNS = ("path", "label", "x", "y", "w", "h")


def written(scenes: Iterable[Scene], folder: Path, class_names: Sequence[str]) -> Iterator[Scene]:
    """Give scenes on, each once it is a file of a folder; the table ``BOXES`` follows when the last one is written.

    Args:
        scenes: what is written.
        folder: is made if it is not there.
        class_names: of the labels.
    """
    rows: list[tuple[str, ...]] = []
    for scene in scenes:
        write_atomically(folder / scene.name, pixels_png(scene.picture))
        for label, box in zip(scene.labels, scene.boxes, strict=True):
            rows.append((scene.name, class_names[label], *(f"{value:g}" for value in box)))
        yield scene
    write_atomically(folder / BOXES, csv_text(_COLUMNS, rows))


@dataclass(frozen=True)
class SceneFiles:
    """Pictures, and the faces in each; a picture is read when it is its turn.

    Attributes:
        paths: of the pictures.
        boxes: float32 ``(F, 4)`` of each: left, top, width, height in pixels.
        labels: int64 ``(F,)`` of each.
    """

    paths: list[Path]
    boxes: list[NDArray[np.float32]]
    labels: list[NDArray[np.int64]]

    def __len__(self) -> int:
        """Return the number of faces."""
        return sum(map(len, self.labels))

    def __iter__(self) -> Iterator[Scene]:
        for path, boxes, labels in zip(self.paths, self.boxes, self.labels, strict=True):
            try:
                yield Scene(path.name, decode(path, channels=3), boxes, labels)
            except DataError as error:
                raise DataError(f"{short_path(path)}: {error}") from error


def read_boxes(path: Path, class_names: Sequence[str]) -> SceneFiles:
    """Read a table of faces: ``path`` of the picture, ``label``, and the box ``x, y, w, h`` in pixels of the picture.

    A picture with several faces has several rows. Paths are relative to the table's folder.

    Args:
        path: of the table: CSV, Parquet or JSON.
        class_names: of the model.

    Raises:
        DataError: if the table, a picture of it, a number or a label is missing or wrong; the message names the row.
    """
    table = read_manifest(path, _COLUMNS)
    numbers = np.stack([table.numbers(name) for name in "xywh"], axis=1)
    faces: dict[Path, list[int]] = {}
    labels = np.zeros(len(numbers), np.int64)
    for row, (name, label) in enumerate(zip(table.columns["path"], table.columns["label"], strict=True)):
        picture = path.parent / str(name)
        if not picture.is_file():
            raise DataError(f"{table.place(row)}: there is no picture {short_path(picture)}")
        if not (np.isfinite(numbers[row]).all() and numbers[row, 2:].min() > 0):
            raise DataError(f"{table.place(row)}: expected a box (x, y, and w and h above 0), found {numbers[row]}")
        labels[row] = _label(str(label), class_names, table.place(row))
        faces.setdefault(picture, []).append(row)
    chosen = [np.array(rows) for rows in faces.values()]
    return SceneFiles(
        list(faces), [numbers[rows].astype(np.float32) for rows in chosen], [labels[rows] for rows in chosen]
    )


def _label(text: str, class_names: Sequence[str], where: str) -> int:
    try:
        name = text if text in class_names else canonical(text)
    except LabelError as error:
        raise DataError(f"{where}: {error}") from error
    if name not in class_names:
        raise DataError(f"{where}: the model does not know '{text}', only {', '.join(class_names)}")
    return list(class_names).index(name)
