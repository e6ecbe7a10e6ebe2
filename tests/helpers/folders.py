"""Tiny trees and tables of image files, drawn from a seed: what a user's own data set may look like."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SEVEN_NAMES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def draw(label: int, rng: np.random.Generator, channels: int = 3) -> NDArray[np.uint8]:
    """Return a picture ``(H, W, C)`` of 40 to 70 pixels: one bright stripe more than the label, on soft blotches.

    The blotches make each picture another photograph; the stripes can be learned.
    """
    width, height = rng.integers(40, 71, 2).tolist()
    blotches = Image.fromarray(rng.integers(30, 226, (5, 5, 3)).astype(np.uint8)).resize((width, height), 3)
    rows = np.arange(height) / height
    stripes = 35 * np.sign(np.sin(2 * np.pi * ((label + 1) * rows + rng.uniform())))
    picture: NDArray[np.uint8] = (
        (np.asarray(blotches, np.float64) + stripes[:, None, None]).clip(0, 255).astype(np.uint8)
    )
    gray: NDArray[np.uint8] = picture.mean(axis=2, keepdims=True).astype(np.uint8)
    return picture if channels == 3 else gray


def near_copy(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the same photograph as the web would give it: a little smaller, brighter and flatter."""
    small = Image.fromarray(picture).resize((picture.shape[1] * 9 // 10, picture.shape[0] * 9 // 10))
    copy: NDArray[np.uint8] = (np.asarray(small, np.float64) * 0.9 + 20).clip(0, 255).astype(np.uint8)
    return copy


def save(path: Path, picture: NDArray[np.uint8]) -> Path:
    """Write a picture, in the format that its suffix says, and return where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture if picture.shape[2] == 3 else picture[:, :, 0]).save(path)
    return path


def write_folders(
    root: Path,
    counts: Mapping[str, int] | int = 6,
    splits: Sequence[str] = ("",),
    seed: int = 0,
    suffix: str = ".png",
) -> Path:
    """Write ``<root>/[<split>/]<class>/<number><suffix>`` and return ``root``.

    Args:
        root: folder, made if it does not exist.
        counts: images of each class by folder name, in label order; a number means so many of each of the seven.
        splits: folders above the classes; ``""`` for none.
        seed: another one gives other pictures.
        suffix: ``.png`` or ``.jpg``.
    """
    rng = np.random.default_rng(seed)
    for split in splits:
        for label, (name, count) in enumerate(_counts(counts).items()):
            for number in range(count):
                save(root / split / name / f"{number}{suffix}", draw(label, rng))
    return root


def _counts(counts: Mapping[str, int] | int) -> Mapping[str, int]:
    return dict.fromkeys(SEVEN_NAMES, counts) if isinstance(counts, int) else counts


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """Write rows as a CSV file with the keys of the first one as its header, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_people(root: Path, people: int = 12, seed: int = 0) -> Path:
    """Write images of people and ``manifest.csv``, and return the table's path.

    Everybody has one image of each of the seven expressions (``subject``). Every fourth person's first image stands
    there once more as an exact copy under the next person's name, every fourth one's second as a near-copy without a
    name, and every third image has a synthetic child (``kind``, ``parent``) without a name.
    """
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []

    def add(name: str, label: int, picture: NDArray[np.uint8], subject: str, parent: str = "") -> None:
        save(root / name, picture)
        kind = "synthetic" if parent else "real"
        rows.append({"path": name, "label": SEVEN_NAMES[label], "kind": kind, "subject": subject, "parent": parent})

    for person in range(people):
        for label in range(7):
            name, picture = f"images/{person}_{label}.png", draw(label, rng)
            add(name, label, picture, f"p{person}")
            if person % 4 == 0 and label == 0:
                add(f"images/{person}_copy.png", label, picture, f"p{person + 1}")
            if person % 4 == 2 and label == 1:
                add(f"images/{person}_near.png", label, near_copy(picture), "")
            if (person + label) % 3 == 0:
                add(f"images/{person}_{label}_child.png", label, np.ascontiguousarray(picture[:, ::-1]), "", name)
    return write_table(root / "manifest.csv", rows)
