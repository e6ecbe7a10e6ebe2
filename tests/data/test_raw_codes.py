from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from fer_lightning.data.files_datamodule import FilesDataModule
from fer_lightning.data.sets.affectnet.affectnet import AffectNetDataModule
from fer_lightning.data.sets.ck_plus import CKPlusDataModule
from fer_lightning.data.sets.code_meanings import Codes
from fer_lightning.data.sets.raf_db import RAFDBDataModule
from fer_lightning.data.sets.raw_codes import is_tree_of, list_code_folders, refuse_mapping, scheme_with
from fer_lightning.emotions import AFFECTNET_CODES, EIGHT, SEVEN, code_of
from fer_lightning.errors import ConfigError, DataError, LabelError
from tests.helpers.published_sets import write_affectnet, write_ck_plus, write_picture, write_raf_db

CODES = Codes("a set", {0: "sad", 1: "happy", 2: "contempt"})
OFFICIAL: dict[str, str | None] = {str(code): name for code, name in AFFECTNET_CODES.items()}
RAF_DB = Codes("RAF-DB", {1: "surprise", 2: "fear"})


def tree(root: Path, *folders: str) -> Path:
    for number, folder in enumerate(folders):
        write_picture(root / folder / f"{number}.png", number)
    return root


def test_seven_or_eight_classes() -> None:
    assert scheme_with(7) is SEVEN
    assert scheme_with(8) is EIGHT
    with pytest.raises(ConfigError, match="must be 7 or 8"):
        scheme_with(2)


@pytest.mark.parametrize(
    ("name", "code"), [("0", 0), ("10", 10), ("007", 7), ("happy", None), ("²", None), ("1" * 9, None)]
)
def test_codes_in_names(name: str, code: int | None) -> None:
    assert code_of(name) == code


def test_a_tree_of_a_set_has_its_codes_and_something_that_proves_them(tmp_path: Path) -> None:
    def raf(folder: str, name: str) -> Path:
        for code in ("1", "2"):
            write_picture(tmp_path / folder / "train" / code / name, 1)
        return tmp_path / folder

    assert is_tree_of(raf("proven", "train_00001_aligned.jpg"), RAF_DB)
    assert not is_tree_of(raf("proven", "train_00001_aligned.jpg"), Codes("CK+", RAF_DB.table))
    assert not is_tree_of(raf("bare", "1.jpg"), RAF_DB)
    assert not is_tree_of(tmp_path / "none", RAF_DB)
    assert not is_tree_of(tree(tmp_path / "proven", "train/sad"), RAF_DB)


def test_a_mapping_is_for_class_folders() -> None:
    refuse_mapping(None, "the list")
    with pytest.raises(ConfigError, match="mapping is for class folders, but the list says what the codes are; remove"):
        refuse_mapping({"0": "sad"}, "the list")


def test_folders_are_mapped_by_name_and_the_rest_is_counted(tmp_path: Path) -> None:
    root = tree(tmp_path, "train/0", "train/1", "val/2", "val/9")
    (root / "train/0/notes.txt").write_text("x")
    listing = list_code_folders(root, CODES, SEVEN.class_names, "set", {"9": "unclear"})
    assert [SEVEN.class_names[label] for label in listing.labels] == ["sad", "happy"]
    assert dict(listing.left_out) == {
        "train/0/notes.txt": "not an image by its name",
        "val/2/2.png": "contempt is not among the classes",
        "val/9/3.png": "unclear",
    }
    assert set(listing.sources.tolist()) == {"set"}


def test_links_that_lead_out_follow_the_rule_for_all_trees(tmp_path: Path) -> None:
    root, other = tree(tmp_path / "set", "train/0", "train/1", "train/2"), tree(tmp_path / "other", "more", "more")
    (root / "train/0/more").symlink_to(other / "more")
    inside = list_code_folders(root, CODES, SEVEN.class_names, "set")
    # with the link, which whoever opens it refuses
    assert inside.paths.tolist() == ["train/0/0.png", "train/0/more", "train/1/1.png"]
    outside = list_code_folders(root, CODES, SEVEN.class_names, "set", allow_outside=True)
    assert outside.paths.tolist()[:3] == ["train/0/0.png", "train/0/more/0.png", "train/0/more/1.png"]


@pytest.mark.parametrize(
    ("write", "module", "folder"),
    [
        (write_affectnet, partial(AffectNetDataModule, mapping=OFFICIAL), "train/3"),
        (write_raf_db, RAFDBDataModule, "DATASET/train/3"),
        (write_ck_plus, CKPlusDataModule, "CK+48/fear"),
    ],
)
def test_published_trees_may_hold_links_that_lead_out(
    write: Callable[[Path, str], Path], module: Callable[..., FilesDataModule], folder: str, tmp_path: Path
) -> None:
    root = write(tmp_path / "set", "ck48" if "CK+48" in folder else "folders")
    options = {"image_size": 24, "channels": 1}
    expected = module(str(root), **options).table.files.tolist()
    (root / folder).rename(tmp_path / "elsewhere")
    (root / folder).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError):
        _ = module(str(root), **options).table
    assert module(str(root), **options, allow_outside=True).table.files.tolist() == expected


def test_codes_that_the_set_does_not_have_are_refused_with_the_tables_that_do(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"the codes 3, 5 stand for .* FER2013: --data.mapping '\{3: happy, 5: surpr"):
        list_code_folders(tree(tmp_path, "3", "5"), CODES, SEVEN.class_names, "set")


def test_names_may_stand_beside_codes_that_are_known(tmp_path: Path) -> None:
    listing = list_code_folders(tree(tmp_path, "0", "1", "2", "Fear"), CODES, EIGHT.class_names, "set")
    assert [EIGHT.class_names[label] for label in listing.labels] == ["sad", "happy", "contempt", "fear"]
    (told,) = listing.remarks
    assert told.startswith("codes of class folders: 0 sad, 1 happy, 2 contempt (the codes of a set, which was named; ")
