"""A tiny fake data set for each file in ``configs/data``, in its real layout."""

from __future__ import annotations

from pathlib import Path

from fer_lightning.data.storage.convert import convert
from tests.helpers.data import stripes_table
from tests.helpers.fer2013 import write_fer2013
from tests.helpers.folders import write_folders, write_people
from tests.helpers.published_sets import write_affectnet, write_ck_plus, write_raf_db


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
        convert(table, root / stem, "arrow" if stem == "arrow" else "shards")
        return [f"--data.root={root / stem}"]
    write_fer2013(root, "csv")
    if stem == "ferplus":
        write_fer2013(root, "ferplus")
        return [f"--data.root={root}", "--data.allow_empty_class=true"]
    return [f"--data.root={root}", *(["--data.at_least=12"] if stem == "balanced" else [])]
