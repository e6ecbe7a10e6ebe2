"""The images whose decisions are explained, and what is known of where the truth lies in them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.sets.sketch.actions import ACTION_UNITS, UPPER_UNITS
from fer_lightning.data.sets.sketch.sketch import SketchDataModule
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.emotions import LabelScheme, scheme_of
from fer_lightning.errors import ConfigError, DataError, LabelError
from fer_lightning.preprocessing import scaled
from fer_lightning.text import did_you_mean
from fer_lightning.types import Preprocessing

__all__ = ["Subject", "Truth", "balanced_rows", "chosen_classes", "drawn_subject", "subject_of", "truth_of"]

_CHUNK = 256  # images read at a time
_DRAWN = 350  # faces that are drawn where the truth is not known of others
_LARGEST = 96  # pixels of their side: drawing takes longer than it is worth beyond


@dataclass(frozen=True)
class Truth:
    """Drawn faces with some action units at rest, uint8 ``(N, C, H, W)`` each; all else is as in the face itself.

    Attributes:
        resting: all units rest.
        upper: brows and eyes rest.
        lower: nose, mouth and chin rest.
    """

    resting: NDArray[np.uint8]
    upper: NDArray[np.uint8]
    lower: NDArray[np.uint8]


@dataclass(frozen=True)
class Subject:
    """Images in an order of which every beginning has all classes alike, as far as there are images.

    Attributes:
        class_names: of the network and the data.
        faces: as stored, uint8 ``(N, C, H, W)``.
        images: in the network's size and channels, float32 ``(N, c, S, S)`` in 0..1.
        labels: int64 ``(N,)``.
        files: ``(N,)`` strings.
        digests: uint8 ``(N, 16)``, equal for equal images.
        truth: of drawn faces, else ``None``.
    """

    class_names: tuple[str, ...]
    faces: NDArray[np.uint8]
    images: Tensor
    labels: NDArray[np.int64]
    files: NDArray[np.str_]
    digests: NDArray[np.uint8]
    truth: Truth | None = None


def chosen_classes(class_names: tuple[str, ...], names: str) -> list[int]:
    """Return the labels of classes whose names (or synonyms) stand in a text with commas between; all if it is empty.

    Raises:
        ConfigError: if there is no such class.
    """
    scheme, labels = LabelScheme(scheme_of(class_names), class_names), []
    for name in (each.strip() for each in names.split(",")):
        if not name:
            continue
        try:
            labels.append(class_names.index(name) if name in class_names else scheme.index(name))
        except LabelError:
            known = ", ".join(class_names)
            raise ConfigError(f"there is no class '{name}'{did_you_mean(name, class_names)} (known: {known})") from None
    return sorted(set(labels)) or list(range(len(class_names)))


def balanced_rows(labels: NDArray[np.int64], rows: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Draw at most ``count`` of ``rows``, of each class equally many as far as there are images, int64 ``(M,)``.

    They come in turns: every beginning is balanced, too. Labels are int64 ``(N,)``, of all rows of the table.
    """
    shuffled = np.random.default_rng(seed).permutation(rows)
    turn = np.empty(len(rows), np.int64)
    for label in np.unique(labels[shuffled]):
        here = labels[shuffled] == label
        turn[here] = np.arange(here.sum())
    return shuffled[np.lexsort((labels[shuffled], turn))[:count]]


def subject_of(
    table: SamplesTable,
    preprocessing: Preprocessing,
    split: str,
    classes: list[int],
    count: int,
    seed: int,
) -> tuple[Subject, NDArray[np.int64]]:
    """Read images of a data set, prepared as a network expects them; also return their rows, int64 ``(N,)``.

    Args:
        table: of the data set, with the classes of the network.
        preprocessing: of the network.
        split: ``train``, ``val`` or ``test``.
        classes: labels of the classes that are wanted.
        count: images at most.
        seed: chooses them.

    Raises:
        DataError: if the data has no image of a class that is wanted.
    """
    class_names, rows = tuple(table.class_names), table.rows(split)
    rows = rows[np.isin(table.labels[rows], classes)]
    if not len(rows):
        wanted = "" if len(classes) == len(class_names) else f" of {', '.join(class_names[each] for each in classes)}"
        having = ", ".join(name for name in ("train", "val", "test") if len(table.rows(name)))
        raise DataError(f"the data has no image{wanted} in its split '{split}'; splits with images: {having or 'none'}")
    rows = balanced_rows(table.labels, rows, count, seed)
    parts = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    faces = np.concatenate([table.images[part] for part in parts])
    images = torch.cat(
        [scaled(torch.from_numpy(faces[at : at + _CHUNK]), preprocessing) for at in range(0, len(faces), _CHUNK)]
    )
    files = np.asarray(table.files, np.str_)[rows]
    return Subject(class_names, faces, images, table.labels[rows], files, table.digests[rows]), rows


def truth_of(data: EmotionDataModule, rows: NDArray[np.int64]) -> Truth | None:
    """Return drawn faces of a table, int64 ``(M,)``, with action units at rest; ``None`` for other data sets."""
    if not isinstance(data, SketchDataModule):
        return None
    return Truth(
        data.redrawn(rows), data.redrawn(rows, UPPER_UNITS), data.redrawn(rows, {*ACTION_UNITS} - {*UPPER_UNITS})
    )


def drawn_subject(preprocessing: Preprocessing, class_names: tuple[str, ...], seed: int) -> Subject | None:
    """Draw faces of which the truth is known, for a network that was trained on others.

    Args:
        preprocessing: of the network.
        class_names: of the network; ``None`` is returned if they are not those of drawn faces.
        seed: of the drawings and of their order.
    """
    if class_names != SketchDataModule.class_names:
        return None
    size, colour = min(max(preprocessing["image_size"], 32), _LARGEST), preprocessing["channels"] == 3
    data = SketchDataModule(train=0, val=_DRAWN, test=0, drawing_seed=seed, size=size, colour=colour)
    subject, rows = subject_of(data.table, preprocessing, "val", list(range(len(class_names))), _DRAWN, seed)
    return replace(subject, truth=truth_of(data, rows))
