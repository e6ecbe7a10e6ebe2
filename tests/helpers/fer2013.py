"""Tiny fake FER2013 data sets in every layout, and the real one where it is at hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
VOTE_COLUMNS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
VOTE_COLUMN_OF_LABEL = (4, 5, 6, 1, 3, 2, 0)
COUNTS = {"Training": 70, "PublicTest": 14, "PrivateTest": 14}
SHARED = Path(__file__).resolve().parents[2].parent / "shared"
SIDE = 48


@dataclass(frozen=True)
class FakeRows:
    """Rows of a fake data set, in the order of the file.

    Attributes:
        images: uint8 ``(N, 48, 48)``.
        labels: int64 ``(N,)``, all seven in each usage of at least seven rows.
        usages: names of the official parts, ``N`` of them.
        votes: int64 ``(N, 10)``, columns as in ``VOTE_COLUMNS``; none for an expression in the first row of a usage.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    usages: list[str]
    votes: NDArray[np.int64]


def fake_rows(counts: Mapping[str, int] = COUNTS, seed: int = 0) -> FakeRows:
    """Draw rows: an image shows horizontal stripes, as many as its label plus one, with noise; flips do not matter."""
    rng = np.random.default_rng(seed)
    usages = [usage for usage, count in counts.items() for _ in range(count)]
    labels = np.concatenate([rng.permutation(np.arange(count) % 7) for count in counts.values()]).astype(np.int64)
    height = np.arange(SIDE) / SIDE
    phase, contrast = rng.uniform(0, 1, (len(labels), 1)), rng.uniform(50, 90, (len(labels), 1))
    stripes = contrast * np.sin(2 * np.pi * ((labels[:, None] + 1) * height + phase))
    noisy = 128 + stripes[:, :, None] + rng.normal(0, 15, (len(labels), SIDE, SIDE))
    votes = rng.multinomial(3, np.full(10, 0.1), len(labels))
    votes[np.arange(len(labels)), np.array(VOTE_COLUMN_OF_LABEL)[labels]] += 7
    for usage in counts:
        if usage in usages:
            votes[usages.index(usage)] = [0, 0, 0, 0, 0, 0, 0, 2, 5, 3]
    return FakeRows(noisy.clip(0, 255).astype(np.uint8), labels, usages, votes.astype(np.int64))


def csv_lines(rows: FakeRows, form: str = "csv") -> list[str]:
    """Return header and rows of a CSV file, without line ends; ``form`` is ``csv`` or ``icml``."""
    lines = ["emotion,pixels,Usage" if form == "csv" else "emotion, Usage, pixels"]
    for image, label, usage in zip(rows.images, rows.labels, rows.usages, strict=True):
        pixels = " ".join(map(str, image.ravel().tolist()))
        lines.append(f"{label},{pixels},{usage}" if form == "csv" else f"{label},{usage},{pixels}")
    return lines


def write_fer2013(root: Path, form: str, counts: Mapping[str, int] = COUNTS, seed: int = 0) -> Path:
    """Write a fake data set, the same one in every form, and return ``root``.

    Args:
        root: folder, made if it does not exist.
        form: ``csv`` (fer2013.csv), ``icml`` (icml_face_data.csv), ``folder`` (train/ and test/), or ``ferplus``
            (fer2013new.csv: the votes that belong to any of them).
        counts: rows of each usage, in the order of the file.
        seed: another seed gives other images, labels and votes.
    """
    root.mkdir(parents=True, exist_ok=True)
    rows = fake_rows(counts, seed)
    if form == "folder":
        for number, (image, label, usage) in enumerate(zip(rows.images, rows.labels, rows.usages, strict=True)):
            folder = root / ("train" if usage == "Training" else "test") / EMOTIONS[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{usage}_{number}.png")
        return root
    if form == "ferplus":
        lines = [f"Usage,Image name,{','.join(VOTE_COLUMNS)}"]
        for number, (usage, votes) in enumerate(zip(rows.usages, rows.votes.tolist(), strict=True)):
            lines.append(f"{usage},fer{number:07}.png,{','.join(map(str, votes))}")
    elif form in ("csv", "icml"):
        lines = csv_lines(rows, form)
    else:
        raise ValueError(f"unknown form '{form}'")
    name = {"csv": "fer2013.csv", "icml": "icml_face_data.csv", "ferplus": "fer2013new.csv"}[form]
    (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def unpack_real_fer2013(out: Path, form: str, usages: Sequence[str] = ("Training", "PublicTest")) -> Path:
    """Lay the real images out in a form and return ``out``; skip the test where they are not at hand."""
    script = SHARED / "bin" / "fer2013-unpack"
    if not script.exists() or not (SHARED / "data" / "fer2013").is_dir():
        pytest.skip(f"the real FER2013 is not in {SHARED}")
    subprocess.run([sys.executable, script, out, "--form", form, "--usage", *usages], check=True, capture_output=True)
    return out
