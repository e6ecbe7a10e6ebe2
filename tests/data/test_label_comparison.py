"""Class folders with tables of labels beside them, and folders that are no classes."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from fer_lightning.data.detect import detect_datamodule
from fer_lightning.data.files.listing import Listing
from fer_lightning.data.sets.image_folder import ImageFolderDataModule
from fer_lightning.data.sets.labels.compared import compared_with_tables
from fer_lightning.data.sets.raf_db import RAFDBDataModule
from fer_lightning.errors import DataError
from tests.helpers.cli import fer
from tests.helpers.folders import SEVEN_NAMES, save, write_folders, write_table
from tests.helpers.images import picture
from tests.helpers.proposals import proposed
from tests.helpers.published_sets import write_raf_db


def write_beside(root: Path, wrong: int = 3, name: str = "labels.csv") -> Path:
    """Write class folders, and beside them AffectNet's table as it circulates, which contradicts some of them."""
    write_folders(root, 4)
    rows: list[dict[str, object]] = []
    for label in SEVEN_NAMES:
        for k in range(4):
            said = "surprise" if label == "angry" and k < wrong else label
            rows.append({"": len(rows), "pth": f"{label}/{k}.png", "label": said, "relFCs": 0.7})
    return write_table(root / name, rows)


@pytest.mark.usefixtures("blank_pictures")
def test_a_table_that_contradicts_the_folders_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = tmp_path / "data", tmp_path / "out"
    table = write_beside(root)
    assert detect_datamodule(root) == ("ImageFolderDataModule", root)
    assert fer("data", "inspect", str(root), f"--out={out}", "--data.image_size=16") == 0
    found = json.loads((out / "inspect.json").read_text())
    message = found["findings"][0]
    assert message.startswith(
        "labels.csv beside the class folders has labels, too, which are not used: 3 of 28 are others than those of the "
        "folders (the first: angry/0.png, angry in the folders, surprise in the table); pass "
    )
    assert f"- {message}" in capsys.readouterr().out
    assert found["splits"]["train"]["counts"]["angry"] + found["splits"]["val"]["counts"]["angry"] == 4
    options = proposed(message)
    assert options == ["--data=ManifestDataModule", f"--data.root={table}"]
    assert fer("data", "inspect", *options, f"--out={out}", "--data.image_size=16") == 0
    splits = json.loads((out / "inspect.json").read_text())["splits"]
    assert sum(part["counts"]["angry"] for part in splits.values()) == 1


def test_one_that_agrees_is_told_too(tmp_path: Path) -> None:
    write_beside(tmp_path, wrong=0)
    remarks = ImageFolderDataModule(str(tmp_path), image_size=16).table.remarks
    assert remarks == ("labels.csv beside the class folders has the same labels for all 28 images in both",)
    assert ImageFolderDataModule(str(tmp_path), image_size=16).describe()["remarks"] == list(remarks)


def test_codes_of_the_table_stand_for_the_folders_of_most_of_their_images(tmp_path: Path) -> None:
    root = write_raf_db(tmp_path, "folders", 3, 2)
    for part in ("train", "test"):
        images = sorted((root / "DATASET" / part).rglob("*.jpg"))
        with (root / f"{part}_labels.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "label"])
            for row, path in enumerate(images):
                code = path.parent.name if row or part == "test" else "7"
                writer.writerow([path.name, code])
    remarks = RAFDBDataModule(str(root), image_size=16).table.remarks
    assert any(remark.startswith("test_labels.csv beside the class folders has the same labels") for remark in remarks)
    assert any(
        re.match("train_labels.csv .* 1 of 21 are others .* surprise in the folders, neutral", r) for r in remarks
    )


@pytest.mark.parametrize(
    ("labels", "mapping", "said"),
    [
        # 7 stands for happy, 1 for angry: of most images of each, not of the first or the rarest
        (["7", "1", "1", "7", "7", "1"], {}, (2, "angry/a0.png, angry in the folders, happy in the table")),
        (["3", "angry", "angry", *["happy"] * 3], {}, (1, "angry/a0.png, angry in the folders, 3 in the table")),
        ([" Cross ", *["cross"] * 2, *["HAPPINESS"] * 3], {" CROSS": "angry"}, (0, "")),
        ([" anger", "Angry ", "angry", *["happy"] * 2, "sad"], {}, (1, "happy/h2.png, happy in the folders, sad in")),
        (
            ["angry"] * 3 + ["cross", "cross", "happy"],
            {},
            (2, "happy/h0.png, happy in the folders, cross in the table"),
        ),
    ],
)
def test_what_a_table_says_is_compared_by_its_meaning(
    labels: list[str], mapping: dict[str, str | None], said: tuple[int, str], tmp_path: Path
) -> None:
    paths = [f"{name}/{name[0]}{number}.png" for name in ("angry", "happy") for number in range(3)]
    rows = [{"path": path, "label": label} for path, label in zip(paths, labels, strict=True)]
    for path in [*paths, "sad/s0.png"]:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    write_table(tmp_path / "mine.csv", [*rows, {"path": "sad/s0.png", "label": "angry"}])  # left out of the folders
    order = ("happy", "angry")
    numbers = np.array([order.index(path.partition("/")[0]) for path in paths])
    nothing = np.full(len(paths), "")
    listing = Listing(tmp_path, order, np.array(paths), numbers, nothing, nothing)
    (told,) = compared_with_tables(tmp_path, listing, mapping)
    if not said[0]:
        assert told == "mine.csv beside the class folders has the same labels for all 6 images in both"
        return
    assert told.startswith(
        f"mine.csv beside the class folders has labels, too, which are not used: {said[0]} of 6 are others than those "
        f"of the folders (the first: {said[1]}"
    )
    assert told.endswith(f"; pass --data ManifestDataModule --data.root {tmp_path / 'mine.csv'} to use the table")


def test_a_table_that_cannot_be_compared_is_told(tmp_path: Path) -> None:
    write_folders(tmp_path, 2)
    write_table(tmp_path / "labels.csv", [{"image": "0.png", "label": "happy"}])
    (remark,) = ImageFolderDataModule(str(tmp_path), image_size=16).table.remarks
    assert remark.startswith("labels.csv beside the class folders has labels, too, but cannot be compared: ")
    assert "may be angry/0.png or disgust/0.png" in remark


@pytest.mark.parametrize(
    "folders",
    [
        ("images", "labels"),
        ("train/images", "train/annotations", "test/images"),
        ("FER2013Train/images", "FER2013Valid/images"),
        ("train", "test"),
        ("JPEGImages", "Annotations"),
        ("train/train", "test/test"),
        ("data/other",),
    ],
)
def test_names_of_splits_and_of_kinds_of_files_are_never_offered_as_classes(
    folders: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in folders:
        save(tmp_path / "set" / name / "p1.png", picture())
    assert fer("data", "inspect", str(tmp_path / "set"), f"--out={tmp_path / 'out'}") == 2
    message = capsys.readouterr().err
    assert "mapping" not in message
    assert "class_names" not in message
    assert "expected folders named after expressions" in message
    assert "--data ManifestDataModule" in message or f"name {tmp_path / 'set' / 'data'}" in message


def test_split_folders_under_their_usual_names(tmp_path: Path) -> None:
    root = write_folders(tmp_path, 1, ("FER2013Train", "Valid_Set", "test-images"))
    table = ImageFolderDataModule(str(root), image_size=16).table
    assert {split: len(table.rows(split)) for split in ("train", "val", "test")} == {"train": 7, "val": 7, "test": 7}


def test_a_list_called_like_affectnets_is_a_users_own(tmp_path: Path) -> None:
    paths = sorted(path.relative_to(tmp_path) for path in write_folders(tmp_path / "faces", 2).rglob("*.png"))
    for part, chosen in (("training", paths[::2]), ("validation", paths[1::2])):
        rows = [{"file": str(path), "emotion": path.parent.name} for path in chosen]
        write_table(tmp_path / f"{part}.csv", rows)
    assert detect_datamodule(tmp_path) == ("ManifestDataModule", tmp_path)


def test_the_first_layout_in_the_message_is_a_folder_to_name(tmp_path: Path) -> None:
    write_folders(tmp_path / "archive", 1)
    save(tmp_path / "cover.png", picture())  # else the only folder is opened
    with pytest.raises(DataError, match="found archive/; name .*archive if they lie there") as caught:
        ImageFolderDataModule(str(tmp_path))
    place = re.search("name (.*) if they", str(caught.value))
    assert place is not None
    assert len(ImageFolderDataModule(place[1], image_size=16).table) == 7
