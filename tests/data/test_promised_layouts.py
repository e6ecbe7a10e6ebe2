"""Every layout that docs/data.md names in its table is read here, by the data module that it names."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_lightning import data
from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.detect import detect_datamodule
from fer_lightning.data.storage.convert import convert_table
from tests.data.test_ferplus import write_generated, write_pixels
from tests.data.test_hugging_face import named, saved
from tests.helpers.data import stripes_table
from tests.helpers.fer2013 import csv_lines, fake_rows, write_fer2013
from tests.helpers.folders import SEVEN_NAMES, draw, save, write_folders, write_people, write_table
from tests.helpers.published_sets import AFFECTNET, write_affectnet, write_ck_plus, write_raf_db

DOCS = Path(__file__).parents[2] / "docs" / "data.md"


def train_csv(root: Path) -> Path:
    lines = csv_lines(fake_rows({"Training": 70}))
    (root / "train.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    return root / "train.csv"


def ferplus(root: Path) -> Path:
    write_fer2013(root, "csv")
    return write_fer2013(root, "ferplus")


def ferplus_pixels(root: Path) -> Path:
    return write_pixels(root / "pixels.csv", [*range(8)] * 3)


def ckextended(root: Path) -> Path:
    pixels = " ".join(map(str, np.arange(2304) % 256))
    rows = [f"{code},{pixels},{usage}" for usage in ("Training", "PublicTest") for code in range(8)]
    (root / "ckextended.csv").write_text("\n".join(["emotion,pixels,Usage", *rows]) + "\n")
    return root / "ckextended.csv"


def tables(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for label, name in enumerate(SEVEN_NAMES):
            save(root / part / f"{name}0.png", draw(label, rng))
        write_table(root / f"{part}_labels.csv", [{"image": f"{name}0.png", "label": name} for name in SEVEN_NAMES])
    return root


def hugging_face(root: Path) -> Path:
    write_folders(root / "faces", 2)
    rows = [{"file_name": f"faces/{name}/{k}.png", "label": name} for name in SEVEN_NAMES for k in range(2)]
    write_table(root / "metadata.csv", rows)
    shutil.move(root / "faces", root / "images")
    return root


def converted(root: Path) -> Path:
    convert_table(stripes_table({"train": 14, "val": 7}), root / "set", "arrow")
    return root / "set"


def named_affectnet(root: Path) -> Path:
    write_affectnet(root, "folders", 2, 1, 8)
    for part in ("train", "val"):
        for code in range(8):
            (root / part / str(code)).rename(root / part / AFFECTNET[code])
    return root


LAYOUTS: dict[tuple[str, str], Callable[[Path], Path]] = {
    ("FER2013DataModule", "fer2013.csv"): lambda root: write_fer2013(root, "csv"),
    ("FER2013DataModule", "icml_face_data.csv"): lambda root: write_fer2013(root, "icml"),
    ("FER2013DataModule", "train.csv"): train_csv,
    ("FER2013DataModule", "emotion,pixels"): train_csv,
    ("FER2013DataModule", "train/<emotion>/"): lambda root: write_fer2013(root, "folder"),
    ("FER2013DataModule", "test/<emotion>/"): lambda root: write_fer2013(root, "folder"),
    ("FERPlusDataModule", "fer2013new.csv"): ferplus,
    ("FERPlusDataModule", "FER2013Train/label.csv"): write_generated,
    ("FERPlusDataModule", "FER2013Valid/"): write_generated,
    ("FERPlusDataModule", "FER2013Test/"): write_generated,
    ("FERPlusDataModule", "emotion,pixels,Usage"): ferplus_pixels,
    ("AffectNetDataModule", "train_set/annotations/*.npy"): lambda root: write_affectnet(root, "annotations", 2, 1),
    ("AffectNetDataModule", "Manually_Annotated_file_lists/*.csv"): lambda root: write_affectnet(root, "lists", 2, 1),
    ("AffectNetDataModule", "<class>"): named_affectnet,
    ("AffectNetDataModule", "<class>/ alone"): lambda root: named_affectnet(root) / "train",
    ("RAFDBDataModule", "basic/EmoLabel/list_patition_label.txt"): lambda root: write_raf_db(root, "official", 2, 1),
    ("RAFDBDataModule", "1"): lambda root: write_raf_db(root, "folders", 2, 1),
    ("RAFDBDataModule", "7"): lambda root: write_raf_db(root, "folders", 2, 1),
    ("CKPlusDataModule", "cohn-kanade-images/"): lambda root: write_ck_plus(root, "official"),
    ("CKPlusDataModule", "Emotion/"): lambda root: write_ck_plus(root, "official"),
    ("CKPlusDataModule", "CK+48"): lambda root: write_ck_plus(root, "ck48"),
    ("CKPlusDataModule", "ckextended.csv"): ckextended,
    ("ImageFolderDataModule", "<class>/"): lambda root: write_folders(root, 2),
    ("ImageFolderDataModule", "<split>/<class>/"): lambda root: write_folders(root, 1, ("train", "val", "test")),
    ("ManifestDataModule", "path,label"): lambda root: write_people(root, 2),
    ("ManifestDataModule", "train_labels.csv"): tables,
    ("ManifestDataModule", "metadata.csv"): hugging_face,
    ("ManifestDataModule", "train-00000-of-00001.parquet"): named,
    ("ManifestDataModule", "dataset_dict.json"): saved,
    ("ArrowDataModule", "fer data convert"): converted,
}
NOT_DETECTED = {"FERPlusDataModule": "FER2013DataModule", "AffectNetDataModule": "ImageFolderDataModule"}
"""Where the layout alone does not tell: votes beside FER2013, AffectNet's names of expressions."""


def promised() -> set[tuple[str, str]]:
    """Return (data module, layout) of the first table: what stands in back quotes in its third column."""
    rows = [line.split("|") for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    found = set()
    for cells in rows:
        module = re.search(r"`(\w+DataModule)`", cells[2]) if len(cells) > 4 else None
        if module is not None:
            found |= {(module[1], layout) for layout in re.findall(r"`([^`]+)`", cells[3])}
    return found


def test_each_promise_of_the_docs_is_kept_below() -> None:
    assert promised() <= set(LAYOUTS)


@pytest.mark.parametrize(("module", "layout"), LAYOUTS)
def test_it_is_read(module: str, layout: str, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    root = LAYOUTS[module, layout](tmp_path / "set")
    assert detect_datamodule(root)[0] in (module, NOT_DETECTED.get(module))
    kind: type[EmotionDataModule] = getattr(data, module)
    options: dict[str, Any] = (
        {"root": str(root), "image_size": 24} if module != "ArrowDataModule" else {"root": str(root)}
    )
    table = kind(**options).table
    counts = table.class_counts("train")
    assert sum(counts.values()) >= 5
    assert sum(count > 0 for count in counts.values()) >= 5  # CK+48 has no neutral faces, and validation is held out
