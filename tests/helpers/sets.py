"""A tiny fake data set for each file in ``configs/data``, in its real layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from fer_lightning.data.storage.convert import convert_table
from tests.helpers.data import stripes_table
from tests.helpers.fer2013 import SIDE, csv_lines, fake_rows, write_fer2013
from tests.helpers.folders import draw, write_folders, write_people
from tests.helpers.published_sets import write_affectnet, write_ck_plus, write_raf_db

_FRAGMENTS = {
    "BalancedFER2013DataModule": "balanced",
    "FER2013DataModule": "fer2013",
    "HybridDataModule": "hybrid",
}
"""Data modules that complete configs name themselves, and the fragments that read the same sets."""


def set_of(config: Path) -> str:
    """Return the stem of the file in ``configs/data`` that reads the set of a complete config."""
    data = yaml.safe_load(config.read_text())["data"]
    return Path(data).stem if isinstance(data, str) else _FRAGMENTS[data["class_path"]]


def write_set(stem: str, root: Path) -> list[str]:
    """Write the data set that ``configs/data/<stem>.yaml`` reads and return the flags that name it.

    Args:
        stem: name of the config.
        root: folder to write into.
    """
    if stem in ("sketch", "quickstart"):
        return ["--data.train=14", "--data.val=7", "--data.test=7"]
    if stem == "hybrid":
        people = write_people(root / "web")
        sources = f"{{studio: {{path: {write_folders(root / 'studio', 6)}}}, web: {{path: {people}, kind: web}}}}"
        return [f"--data.sources={sources}", "--data.min_side=0"]
    if stem == "affectnet":
        return [f"--data.root={write_affectnet(root)}"]
    if stem == "raf_db":
        return [f"--data.root={write_raf_db(root)}"]
    if stem == "ck_plus":
        return [f"--data.root={write_ck_plus(root)}"]
    if stem == "image_folder":
        return [f"--data.root={write_folders(root, 6)}"]
    if stem == "manifest":
        return [f"--data.root={write_people(root)}"]
    if stem in ("arrow", "shards"):
        table = stripes_table({"train": 28, "val": 14, "test": 14})
        convert_table(table, root / stem, "arrow" if stem == "arrow" else "shards")
        return [f"--data.root={root / stem}"]
    if stem.startswith("fer2013"):
        return [f"--data.root={_write_photographs(root)}"]
    write_fer2013(root, "csv")
    if stem == "ferplus":
        write_fer2013(root, "ferplus")
        return [f"--data.root={root}", "--data.allow_empty_class=true"]
    return [f"--data.root={root}", *(["--data.at_least=12"] if stem == "balanced" else [])]


def _write_photographs(root: Path) -> Path:
    """Write FER2013 with pictures that are no near-duplicates of each other, so that a focus part can be set apart."""
    rows, rng = fake_rows(), np.random.default_rng(0)
    pictures = [Image.fromarray(draw(label, rng, 1)[:, :, 0]).resize((SIDE, SIDE)) for label in rows.labels.tolist()]
    rows = replace(rows, images=np.stack([np.asarray(picture) for picture in pictures]))
    root.mkdir(parents=True, exist_ok=True)
    (root / "fer2013.csv").write_text("\n".join(csv_lines(rows)) + "\n")
    return root
