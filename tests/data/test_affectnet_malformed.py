"""Malformed AffectNets: each is refused with one line that names file and place."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_lightning.data.sets.affectnet.affectnet import AffectNetDataModule, list_affectnet
from fer_lightning.data.sets.affectnet.affectnet_layouts import read_annotations
from fer_lightning.errors import ConfigError, DataError, FERError, LabelError
from tests.helpers.published_sets import LIST_HEADER, LISTS, write_affectnet, write_npy, write_picture

FORMS = ("annotations", "lists", "folders")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("affectnet")
    return {form: write_affectnet(folder / form, form) for form in FORMS}


@pytest.fixture
def copy(sets: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that gives a copy of a set, to be damaged."""

    def make(form: str) -> Path:
        root = tmp_path / "data"
        shutil.copytree(sets[form], root)
        return root

    return make


def as_npy(value: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array(value, **options), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "value",
    [
        as_npy("6"),
        as_npy(b"6"),
        as_npy(6),
        as_npy(6.0),
        as_npy(["6"]),
        as_npy("6", dtype="<U9"),
        as_npy("6", dtype=">U1"),
    ],
)
def test_values_may_be_stored_in_any_type(tmp_path: Path, value: bytes) -> None:
    (tmp_path / "7_exp.npy").write_bytes(value)
    assert read_annotations(tmp_path).codes.tolist() == [6]


class Evil:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch evil",)


BAD_NPY = {
    "object": (as_npy(Evil(), dtype=object), "expected one value, found Python objects, which are not loaded"),
    "unknown code": (as_npy("11"), "unknown expression code '11', expected 0..7, 8 none, 9 uncertain or 10 no face"),
    "negative": (as_npy("-1"), "unknown expression code '-1'"),
    "fraction": (as_npy("1.5"), "unknown expression code '1.5'"),
    "not a number": (as_npy("nan"), "unknown expression code 'nan'"),
    "word": (as_npy("happy"), "expected a number as expression, found 'happy'"),
    "empty text": (as_npy(""), "expected"),
    "many": (as_npy(["1", "2"]), "expected one value, found an array of 2 <U1"),
    "none": (as_npy([]), "expected one value, found an array of 0 float64"),
    "record": (as_npy((1, 2), dtype=[("a", "i4"), ("b", "i4")]), "expected one value"),
    "landmarks": (as_npy(np.zeros(1000)), "expected one value, found a file of more than 4 kB"),
    "empty": (b"", "expected a .npy file, found an empty file"),
    "HTML": (b"<html>", "expected a .npy file, found an HTML page"),
    "cut off": (as_npy("123456")[:-8], "damaged or cut off"),
    "header cut off": (as_npy("1")[:40], "header is damaged"),
    "header of rubbish": (b"\x93NUMPY\x01\x00\x10\x00" + b"{[(((((((((((((\n" * 4, "header is damaged"),
    "version 9": (b"\x93NUMPY\x09" + as_npy("1")[7:], "header is damaged"),
}


@pytest.mark.parametrize(("content", "message"), BAD_NPY.values(), ids=BAD_NPY)
def test_a_bad_annotation_is_named(copy: Callable[[str], Path], content: bytes, message: str) -> None:
    root = copy("annotations")
    (root / "train_set/annotations/3_exp.npy").write_bytes(content)
    with pytest.raises(DataError, match="train_set/images/3.jpg: 3_exp.npy: ") as caught:
        list_affectnet(root)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    listing = list_affectnet(root, on_error="skip")
    assert len(listing.paths) == 48
    assert listing.left_out[-1][0] == "train_set/images/3.jpg"
    assert not (Path.cwd() / "evil").exists()


def unlink(place: str) -> Callable[[Path], None]:
    return lambda root: (root / place).unlink()


def remove(place: str) -> Callable[[Path], None]:
    return lambda root: shutil.rmtree(root / place)


def npy(place: str, value: object) -> Callable[[Path], None]:
    return lambda root: write_npy(root / place, value)


def line(number: int, old: str, new: str, part: str = "training") -> Callable[[Path], None]:
    """Replace a text in one line of a list."""

    def change(root: Path) -> None:
        path = root / LISTS / f"{part}.csv"
        lines = path.read_text().splitlines()
        assert old in lines[number - 1]
        lines[number - 1] = lines[number - 1].replace(old, new, 1)
        path.write_text("\n".join(lines) + "\n")

    return change


def content(place: str, data: bytes) -> Callable[[Path], object]:
    return lambda root: (root / place).write_bytes(data)


def repeat_line(code: str) -> Callable[[Path], None]:
    """Add line 2 once more, with a code."""

    def change(root: Path) -> None:
        path = root / LISTS / "training.csv"
        second = path.read_text().splitlines()[1].split(",")
        second[6] = code
        path.write_text(path.read_text() + ",".join(second) + "\n")

    return change


BAD_SETS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no annotation": (
        "annotations",
        unlink("train_set/annotations/7_exp.npy"),
        "train_set/images/7.jpg: annotations/7_exp.npy is missing (55 images, 54 annotations)",
    ),
    "no image": (
        "annotations",
        unlink("val_set/images/60.jpg"),
        "val_set/annotations/60_exp.npy: images/60.jpg is missing (21 images, 22 annotations)",
    ),
    "no valence": (
        "annotations",
        unlink("train_set/annotations/7_val.npy"),
        "train_set/images/7.jpg: 7_val.npy: is missing",
    ),
    "valence out of range": (
        "annotations",
        npy("train_set/annotations/7_val.npy", "3"),
        "7_val.npy: expected valence in -1..1, or -2 for none, found '3'",
    ),
    "arousal not a number": (
        "annotations",
        npy("train_set/annotations/7_aro.npy", "nan"),
        "7_aro.npy: expected arousal in -1..1, or -2 for none, found 'nan'",
    ),
    "two images of a number": (
        "annotations",
        lambda root: write_picture(root / "train_set/images/7.png", 7),
        "train_set/images/7.png: expected one image of this number, found 7.jpg too",
    ),
    "no images folder": ("annotations", remove("train_set/images"), "annotations/, images/ is missing"),
    "both official layouts": (
        "annotations",
        lambda root: write_affectnet(root, "lists", 1, 1),
        "holds AffectNet more than once (train_set/annotations/, Manually_Annotated_file_lists/training.csv)",
    ),
    "folders beside": (
        "annotations",
        lambda root: write_picture(root / "train/0/a.jpg", 1),
        "holds AffectNet more than once (train_set/annotations/, train/)",
    ),
    "list: unknown code": ("lists", line(2, ",0,-0.4", ",12,-0.4"), "line 2: unknown expression code '12'"),
    "list: word": ("lists", line(2, ",0,-0.4", ",happy,-0.4"), "expected a number as expression, found 'happy'"),
    "list: NaN box": (
        "lists",
        line(3, ",2,5,40,42,", ",nan,5,40,42,"),
        "line 3: expected a face box x, y, width, height in pixels, found 'nan, 5, 40, 42'",
    ),
    "list: no box": ("lists", line(3, ",2,5,40,42,", ",NULL,5,40,42,"), "expected a number as face box, found 'NULL'"),
    "list: empty box": ("lists", line(3, ",2,5,40,42,", ",2,5,0,42,"), "line 3: expected a face box"),
    "list: endless box": ("lists", line(3, ",2,5,40,42,", ",2,5,inf,42,"), "line 3: expected a face box"),
    "list: no path": ("lists", line(2, "2/0001ab.jpg", ""), "line 2: expected the path of an image, found nothing"),
    "list: column missing": ("lists", line(4, ",3,5", ",3"), "line 4: expected 9 columns, found 8"),
    "list: arousal": ("lists", line(2, "0.010000", "x"), "line 2: expected a number as arousal, found 'x'"),
    "list: no header": ("lists", line(1, "expression", "emotion"), "line 1: expected a column 'expression', found"),
    "list: two expressions": (
        "lists",
        repeat_line("3"),
        "training.csv, line 57: the image stands in Manually_Annotated_file_lists/training.csv, line 2 with another",
    ),
    "list: quotes": ("lists", line(5, "4,5", '"4"x,5'), "training.csv, line 5: "),
    "list: latin-1": (
        "lists",
        content(f"{LISTS}/training.csv", LIST_HEADER.encode() + b"\n1/\xe9.jpg,1,1,9,9,1,0,0,0\n"),
        "training.csv: expected UTF-8 text",
    ),
    "list: empty": ("lists", content(f"{LISTS}/training.csv", b""), "expected a CSV file, found an empty file"),
    "list: header only": ("lists", content(f"{LISTS}/training.csv", LIST_HEADER.encode()), "holds no row"),
    "list: archive": ("lists", content(f"{LISTS}/training.csv", b"PK\x03\x04" + b"1" * 90), "found a ZIP archive"),
    "list: twice": ("lists", content("training.csv", b"x"), "holds training.csv more than once"),
    "list: no images": ("lists", remove("Manually_Annotated_Images"), "Manually_Annotated_Images/, found neither"),
    "list: image missing": (
        "lists",
        unlink("Manually_Annotated_Images/2/0001ab.jpg"),
        "Manually_Annotated_Images/2/0001ab.jpg: ",
    ),
    "list: path leads out": ("lists", line(2, "2/0001ab.jpg", "../../../etc/x.jpg"), "leads out of"),
    "folders: unknown": (
        "folders",
        lambda root: write_picture(root / "train/11/a.jpg", 1),
        "the codes 11 stand for",
    ),
    "folders: mixed": (
        "folders",
        lambda root: write_picture(root / "val/happyy/a.jpg", 1),
        "unknown class names 'happyy'",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("form", "damage", "message"), BAD_SETS.values(), ids=BAD_SETS)
def test_a_bad_set_is_refused_in_one_line(
    copy: Callable[[str], Path], form: str, damage: Callable[[Path], object], message: str
) -> None:
    root = copy(form)
    damage(root)
    with pytest.raises(DataError) as caught:
        _ = AffectNetDataModule(str(root), image_size=24).table
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_rows_can_be_skipped_and_are_counted(copy: Callable[[str], Path]) -> None:
    root = copy("annotations")
    for change in ("no annotation", "no image"):
        BAD_SETS[change][1](root)
    (root / "train_set/images/readme.txt").write_text("x")
    listing = list_affectnet(root, on_error="skip")
    assert len(listing.paths) == 47
    assert listing.left_out[0] == ("train_set/images/readme.txt", "not an image by its name")
    assert [place for place, _ in listing.left_out[-2:]] == ["train_set/images/7.jpg", "val_set/annotations/60_exp.npy"]


def test_the_automatic_part_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "Automatically_Annotated").mkdir()
    with pytest.raises(DataError, match="automatically annotated part is not used"):
        list_affectnet(tmp_path)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"classes": 6}, ConfigError, "data.classes must be 7 or 8"),
        ({"official_val": "train"}, ConfigError, "data.official_val must be 'val' or 'test', not 'train'"),
        ({"on_error": "ignore"}, ConfigError, "on_error must be"),
    ],
)
def test_wrong_arguments(sets: dict[str, Path], options: Any, error: type[FERError], message: str) -> None:
    with pytest.raises(error, match=message):
        list_affectnet(sets["folders"], **options)


def test_a_tree_with_its_own_test_set_refuses_a_second(copy: Callable[[str], Path]) -> None:
    root = copy("folders")
    write_picture(root / "test/0/a.jpg", 1)
    with pytest.raises(ConfigError, match="has a test folder of its own"):
        list_affectnet(root, official_val="test")


def test_an_empty_or_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected train_set/images/ .* found nothing"):
        list_affectnet(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        list_affectnet(tmp_path / "none")


def test_unknown_class_folders_are_label_errors(copy: Callable[[str], Path]) -> None:
    root = copy("folders")
    write_picture(root / "train/12/a.jpg", 1)
    with pytest.raises(LabelError, match="the codes 12 stand for"):
        list_affectnet(root)


def test_a_row_that_stands_twice_counts_once(copy: Callable[[str], Path]) -> None:
    root = copy("lists")
    repeat_line("0")(root)
    listing = list_affectnet(root)
    assert len(listing.paths) == 49
    assert (f"{LISTS}/training.csv, line 57", "the same image stands above") in listing.left_out
