from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fer_lightning.data.files_datamodule import FilesDataModule
from fer_lightning.data.sets.affectnet.affectnet import AffectNetDataModule
from fer_lightning.data.sets.ck_plus import CKPlusDataModule
from fer_lightning.data.sets.raf_db import RAFDBDataModule
from fer_lightning.data.sets.raw_codes import code_of, is_coded_tree, list_code_folders, scheme_with
from fer_lightning.emotions import EIGHT, SEVEN
from fer_lightning.errors import ConfigError, DataError, LabelError
from tests.helpers.published_sets import write_affectnet, write_ck_plus, write_picture, write_raf_db

CODES = {0: "sad", 1: "happy", 2: "contempt"}


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


def test_a_coded_tree_has_all_codes_and_no_names(tmp_path: Path) -> None:
    root = tree(tmp_path, "train/0", "train/1", "test/0")
    assert is_coded_tree(root, {0: "sad", 1: "happy"})
    assert not is_coded_tree(root, CODES)
    assert not is_coded_tree(root / "none", CODES)
    assert not is_coded_tree(tree(root, "train/sad"), {0: "sad"})


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
    root, other = tree(tmp_path / "set", "train/0"), tree(tmp_path / "other", "more", "more")
    (root / "train/0/more").symlink_to(other / "more")
    inside = list_code_folders(root, CODES, SEVEN.class_names, "set")
    assert inside.paths.tolist() == ["train/0/0.png", "train/0/more"]  # the link, which whoever opens it refuses
    outside = list_code_folders(root, CODES, SEVEN.class_names, "set", allow_outside=True)
    assert outside.paths.tolist() == ["train/0/0.png", "train/0/more/0.png", "train/0/more/1.png"]


@pytest.mark.parametrize(
    ("write", "module", "folder"),
    [
        (write_affectnet, AffectNetDataModule, "train/3"),
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


def test_codes_beside_names_and_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'0' is named by code, 'Fear' by expression"):
        list_code_folders(tree(tmp_path / "a", "0", "Fear"), CODES, SEVEN.class_names, "set")
    with pytest.raises(LabelError, match="unknown class folder '3', expected names of expressions or the codes 0 sad"):
        list_code_folders(tree(tmp_path / "b", "3"), CODES, SEVEN.class_names, "set")
