"""Labels in names, in texts beside images and in tables that travelled: which rule holds; no image is opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fer_lightning.data.sets.labels.file_names import known_names, read_file_names
from fer_lightning.data.sets.labels.whereabouts import locate
from fer_lightning.data.sets.labels.yolo import is_yolo, read_yolo
from fer_lightning.errors import DataError


def touched(root: Path, *names: str) -> Path:
    """Make empty files and return their folder."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    ("names", "known"),
    [
        (("a_happy.jpg", "b_sad.jpg"), True),
        (("a_happy.jpg", "b_happiness.jpg"), False),  # one expression alone is none
        (("a_happy.jpg", "b_sad.jpg", "c.jpg"), False),  # each name tells
        (("a_happy_sad.jpg", "b_sad.jpg"), False),  # and tells one
        (("a_happy_joy.jpg", "B_SAD.JPG"), True),
        (("KA.AN1.39.tiff", "ka.an2.40.tiff"), False),
        (("KA.AN1.39.tiff", "ka.fe2.40.tiff"), True),
        (("AF01ANS.JPG", "AF01ansFL.JPG"), False),
        ((), False),
    ],
)
def test_names_tell_expressions_where_each_tells_one_and_they_differ(
    names: tuple[str, ...], known: bool, tmp_path: Path
) -> None:
    assert (known_names(touched(tmp_path, *names)) is not None) is known


@pytest.mark.parametrize(
    ("names", "labels", "subjects"),
    [
        (("KA.AN1.39.tiff", "ka.fe2.40.tiff", "KM-SU3-11.tif"), ["angry", "surprise", "fear"], ["KA", "KM", "ka"]),
        (("AF01ANS.JPG", "am02afHL.jpg", "BF03SUFR.JPG"), ["angry", "surprise", "fear"], ["F01", "F03", "m02"]),
    ],
)
def test_codes_in_names_are_read_in_any_case(
    names: tuple[str, ...], labels: list[str], subjects: list[str], tmp_path: Path
) -> None:
    root = touched(tmp_path, *names, "note.txt")
    pattern = known_names(root)
    assert pattern is not None
    read, left_out = read_file_names(root, pattern)
    assert read.columns["path"].tolist() == sorted(names)
    assert read.columns["label"].tolist() == labels
    assert read.columns["subject"].tolist() == subjects
    assert "split" not in read.columns
    assert (read.lines.tolist(), left_out) == ([1, 2, 3], ())


def test_the_split_is_that_of_the_nearest_folder_above_that_is_one(tmp_path: Path) -> None:
    names = ("faces/train/old/a_happy.jpg", "faces/valid/b_sad.jpg", "c_fear.jpg", "test/d_angry.jpg", "test/e.jpg")
    read, left_out = read_file_names(touched(tmp_path, *names), "_(?P<label>[a-z]+)[.]")
    found = dict(zip(read.columns["path"].tolist(), read.columns["split"].tolist(), strict=True))
    assert found == {names[0]: "train", names[1]: "val", names[2]: "", names[3]: "test"}
    assert left_out == (("test/e.jpg", "its name does not fit data.pattern"),)
    read, _ = read_file_names(tmp_path, "(?P<split>[a-d])_(?P<label>[a-z]+)")  # the names' own
    assert sorted(read.columns["split"].tolist()) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(("texts", "labelled"), [(1, False), (2, False), (3, True), (4, True)])
def test_texts_beside_more_than_half_of_the_images_are_labels(texts: int, labelled: bool, tmp_path: Path) -> None:
    touched(tmp_path, *(f"{number}.jpg" for number in range(4)), "readme.md")
    for number in range(texts):
        (tmp_path / f"{number}.{'cls' if number else 'txt'}").write_text("happy")
    assert is_yolo(tmp_path) is labelled
    if labelled:
        read, left_out = read_yolo(tmp_path)
        assert read.columns["path"].tolist() == [f"{number}.jpg" for number in range(texts)]
        assert set(read.columns["label"].tolist()) == {"happy"}
        assert left_out == tuple((f"{number}.jpg", "no label") for number in range(texts, 4))


def test_parts_of_images_have_the_parts_of_labels_of_the_same_name(tmp_path: Path) -> None:
    touched(tmp_path, "images/train/a.jpg", "images/val/b.jpg", "images/extra/c.jpg", "images/test/d.jpg")
    (tmp_path / "data.yaml").write_text("names: [sad, happy]")
    for place, code in (("train/a", 0), ("val/b", 1), ("extra/c", 0)):
        (tmp_path / "labels" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"labels/{place}.txt").write_text(f"{code} .5 .5 1 1\n")
    read, left_out = read_yolo(tmp_path)
    rows = zip(*(read.columns[name].tolist() for name in ("path", "label", "split")), strict=True)
    assert sorted(rows) == [("images/train/a.jpg", "sad", "train"), ("images/val/b.jpg", "happy", "val")]
    assert left_out == ()


def located(root: Path, *paths: str, splits: tuple[str, ...] = ()) -> tuple[list[str], tuple[str, ...]]:
    found, remarks = locate(root, np.array(paths), splits or [""] * len(paths), lambda row: f"mine.csv, row {row}")
    return found.tolist(), remarks


def test_images_are_found_by_as_many_parts_of_their_paths_as_the_best_row_has(tmp_path: Path) -> None:
    touched(tmp_path, "set/a/1.png", "set/b/1.png", "set/b/2.png")
    paths = ("/home/me/set/b/1.png", "/home/me/b/2.png", "/home/me/set/a/1.png")
    found, (remark,) = located(tmp_path, *paths)
    assert found == ["set/b/1.png", "/home/me/b/2.png", "set/a/1.png"]  # only two of its parts are there
    assert remark == (
        "mine.csv, row 0: images are not where the table says, but found: '/home/me/set/b/1.png' as set/b/1.png"
    )
    assert located(tmp_path, "b/2/lost.png", *paths)[1] == (remark.replace("row 0", "row 1"),)
    touched(tmp_path, "set/c/img.001.png")
    assert located(tmp_path, "mine/c/img.001")[0] == ["set/c/img.001.png"]  # no suffix of an image
    found, _ = located(tmp_path, "C:\\me\\B\\2", "other/a/1.PNG")  # names without a suffix, in any case
    assert found == ["set/b/2.png", "set/a/1.png"]


def test_two_images_of_one_name_are_told_apart_by_the_split_alone(tmp_path: Path) -> None:
    touched(tmp_path, "train/1.png", "test/1.png", "val/2.png")
    found, _ = located(tmp_path, "x/1.png", "x/1.png", "x/2.png", splits=("train", "test", "train"))
    assert found == ["train/1.png", "test/1.png", "val/2.png"]
    for splits in (("", "test"), ("val", "test")):
        with pytest.raises(DataError, match=r"row 0: 'x/1.png' may be test/1.png or train/1.png in .*; write the fold"):
            located(tmp_path, "x/1.png", "x/1.png", splits=splits)
    for name in ("here/there/2.jpg", ""):
        with pytest.raises(DataError, match=r"row 0: '.*' is not in .*, nor are the others; pass --data.images FOLDER"):
            located(touched(tmp_path / "empty", "note.txt"), name)


def test_what_is_there_is_taken_as_it_is_written(tmp_path: Path) -> None:
    touched(tmp_path, "a/1.png", "b/1.png")
    assert located(tmp_path, "b/1.png", "lost/1.png") == (["b/1.png", "lost/1.png"], ())
    assert located(tmp_path, "b\\1.png", "lost\\1.png") == (["b/1.png", "lost/1.png"], ())
