"""One door for paths: what is inspected is trained on, in a folder, an archive, or whatever was put around either."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fer_lightning.data import (
    AffectNetDataModule,
    ArrowDataModule,
    BalancedFER2013DataModule,
    CKPlusDataModule,
    EmotionDataModule,
    FER2013DataModule,
    FERPlusDataModule,
    ImageFolderDataModule,
    ManifestDataModule,
    RAFDBDataModule,
    ShardsDataModule,
)
from fer_lightning.data.detect import detect_datamodule
from fer_lightning.data.files.archives import open_root
from fer_lightning.data.storage.convert import convert_table
from fer_lightning.errors import DataError
from tests.data.test_ferplus import write_generated
from tests.helpers.cli import fer
from tests.helpers.data import stripes_table
from tests.helpers.fer2013 import write_fer2013
from tests.helpers.folders import write_folders, write_people
from tests.helpers.published_sets import write_affectnet, write_ck_plus, write_raf_db

SMALL = {"image_size": 24, "channels": 1}


def converted(form: Any) -> Callable[[Path], object]:
    return lambda root: convert_table(stripes_table({"train": 7, "val": 7}), root, form)


def ferplus(root: Path) -> None:
    write_fer2013(root, "csv")
    write_fer2013(root, "ferplus")


def ckextended(root: Path) -> None:
    (write_fer2013(root, "csv") / "fer2013.csv").rename(root / "ckextended.csv")


SETS: dict[str, tuple[Callable[..., EmotionDataModule], Callable[[Path], object], dict[str, Any]]] = {
    "fer2013.csv": (FER2013DataModule, lambda root: write_fer2013(root, "csv"), {}),
    "FER2013 as a folder": (FER2013DataModule, lambda root: write_fer2013(root, "folder"), {}),
    "FER+": (FERPlusDataModule, ferplus, {}),
    "FER+ by its script": (FERPlusDataModule, write_generated, {}),
    "balanced": (BalancedFER2013DataModule, lambda root: write_fer2013(root, "csv"), {"at_least": 3}),
    "class folders": (ImageFolderDataModule, lambda root: write_folders(root, 2), SMALL),
    "splits": (ImageFolderDataModule, lambda root: write_folders(root, 1, ("train", "test")), SMALL),
    "manifest": (ManifestDataModule, lambda root: write_people(root, 2), SMALL),
    "AffectNet": (AffectNetDataModule, lambda root: write_affectnet(root, "annotations", 2, 1), SMALL),
    "AffectNet's lists": (AffectNetDataModule, lambda root: write_affectnet(root, "lists", 2, 1), SMALL),
    "AffectNet as folders": (AffectNetDataModule, lambda root: write_affectnet(root, "folders", 2, 1), SMALL),
    "RAF-DB": (RAFDBDataModule, lambda root: write_raf_db(root, "official", 2, 1), SMALL),
    "RAF-DB as folders": (RAFDBDataModule, lambda root: write_raf_db(root, "folders", 2, 1), SMALL),
    "CK+": (CKPlusDataModule, lambda root: write_ck_plus(root, "official", 2), SMALL),
    "CK+48": (CKPlusDataModule, lambda root: write_ck_plus(root, "ck48", 2), SMALL),
    "ckextended.csv": (CKPlusDataModule, ckextended, {"classes": 8}),
    "Arrow": (ArrowDataModule, converted("arrow"), {}),
    "shards": (ShardsDataModule, converted("shards"), {}),
    "converted to folders": (ManifestDataModule, converted("folders"), {}),
}
"""Every layout that docs/data.md names: who reads it, how it is written, options."""


def wrapped(root: Path, place: Path) -> Path:
    shutil.copytree(root, place / "archive (1)/the set")
    (place / "README.md").write_text("Thanks to everybody.")
    return place


def packed(root: Path, place: Path, form: str = "gztar") -> Path:
    return Path(shutil.make_archive(str(place / "set"), form, root.parent, root.name))


def renamed(root: Path, place: Path) -> Path:
    return packed(root, place, "tar").rename(place / "fer2013.csv")


def in_a_folder(root: Path, place: Path) -> Path:
    packed(root, place, "zip")
    (place / "LICENSE").write_text("Research only.")
    (place / ".hidden").mkdir()
    return place


def in_each_other(root: Path, place: Path) -> Path:
    inner = packed(root, place / "inner")
    return packed(inner.parent, place, "zip")


FORMS: dict[str, Callable[[Path, Path], Path]] = {
    "in folders": wrapped,
    ".tar.gz": packed,
    ".tgz": lambda root, place: packed(root, place).rename(place / "set.tgz"),
    "a tar called fer2013.csv": renamed,
    "a folder with a zip": in_a_folder,
    "a tar.gz in a zip": in_each_other,
}


@pytest.mark.parametrize("case", SETS)
def test_each_set_is_read_through_one_door(case: str, tmp_path: Path) -> None:
    module, write, options = SETS[case]
    root = tmp_path / "data"
    write(root)
    plain = module(str(root), **options).table
    name, _ = detect_datamodule(root)
    # the forms take turns, so that each set is tried in two and each form with several sets
    turn = list(SETS).index(case)
    for form in [list(FORMS)[turn % len(FORMS)], list(FORMS)[(turn + 2) % len(FORMS)]]:
        place = tmp_path / form
        place.mkdir()
        path = FORMS[form](root, place)
        found = module(str(path), **options).table
        assert (found.labels == plain.labels).all()
        assert (found.splits == plain.splits).all()
        assert (found.digests == plain.digests).all()
        assert found.files.tolist() == plain.files.tolist()
        assert detect_datamodule(path) == (name, path)


def test_every_module_is_among_them() -> None:
    import fer_lightning.data as data

    modules = {name for name in data.__all__ if name.endswith("DataModule")}
    others = {"EmotionDataModule", "HybridDataModule", "SketchDataModule"}  # no path, or those of other modules
    assert modules - others == {module.__name__ for module, _, _ in SETS.values()}


def test_a_compressed_table_and_votes_beside_an_archive(tmp_path: Path) -> None:
    plain = FER2013DataModule(str(write_fer2013(tmp_path / "plain", "csv"))).table
    for name in ("fer2013.csv.gz", "fer2013.csv"):
        place = tmp_path / name
        place.mkdir()
        (place / name).write_bytes(gzip.compress((tmp_path / "plain/fer2013.csv").read_bytes()))
        assert (FER2013DataModule(str(place / name)).table.digests == plain.digests).all()
        assert open_root(place / name) == open_root(place)
    place = tmp_path / "votes"
    packed(tmp_path / "plain", place)
    write_fer2013(place, "ferplus")
    for root in (place, place / "set.tar.gz"):
        assert len(FERPlusDataModule(str(root)).table)


def test_several_archives_stop_and_one_can_be_named(tmp_path: Path) -> None:
    packed(write_folders(tmp_path / "data", 1), tmp_path / "both", "zip").rename(tmp_path / "both/a.zip")
    packed(tmp_path / "data", tmp_path / "both", "tar").rename(tmp_path / "both/b.tar")
    with pytest.raises(
        DataError, match=r"holds several archives \(a.zip, b.tar\).* name one of them, such as (.*)"
    ) as caught:
        detect_datamodule(tmp_path / "both")
    named = Path(str(caught.value).rpartition("such as ")[2])
    assert detect_datamodule(named) == ("ImageFolderDataModule", named)


@pytest.mark.parametrize("name", ["model.ckpt", "numbers.npz", "notes.txt", "table.csv"])
def test_files_of_programs_and_texts_are_no_archives(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04" if name[0] in "mn" and name != "notes.txt" else b"Rare are they\n")
    assert open_root(tmp_path / name) == tmp_path / name
    assert open_root(tmp_path) == tmp_path


@pytest.mark.parametrize("inner", ["happy", "3", "train", "Validation", "images", "CK+48"])
def test_a_class_a_split_and_a_part_of_a_set_are_not_stepped_into(inner: str, tmp_path: Path) -> None:
    (tmp_path / inner / "more").mkdir(parents=True)
    assert open_root(tmp_path) == tmp_path


def test_links_and_empty_folders_are_not_stepped_into(tmp_path: Path) -> None:
    (tmp_path / "one/empty").mkdir(parents=True)
    assert open_root(tmp_path) == tmp_path / "one"
    (tmp_path / "two").mkdir()
    (tmp_path / "two/link").symlink_to(tmp_path / "one")
    assert open_root(tmp_path / "two") == tmp_path / "two"


@pytest.mark.usefixtures("blank_pictures")
def test_fit_opens_what_inspect_opens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "download"
    packed(write_fer2013(tmp_path / "fer2013", "csv"), place)
    assert fer("data", "inspect", str(place), f"--out={tmp_path / 'out'}") == 0
    assert "read by FER2013DataModule" in capsys.readouterr().out
    tiny = ["--model.backbone=tests.helpers.parts.TinyBackbone", "--trainer.accelerator=cpu"]
    tiny += ["--trainer.enable_progress_bar=false", f"--trainer.default_root_dir={tmp_path}", "--name=packed"]
    assert fer("fit", "--data=FER2013DataModule", f"--data.root={place}", "--trainer.fast_dev_run=true", *tiny) == 0
