from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.files.listing import Listing
from fer_lightning.data.sets.raf_db import RAFDBDataModule, is_raf_db, list_raf_db
from fer_lightning.emotions import RAFDB_CODES, SEVEN
from fer_lightning.errors import ConfigError, DataError, LabelError
from tests.contracts.datamodule import DataModuleContract
from tests.helpers.published_sets import RAF_DB, write_picture, write_raf_db, write_text

FORMS = ("official", "folders")
LABELS = "EmoLabel/list_patition_label.txt"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("raf_db")
    return {form: write_raf_db(folder / form, form) for form in FORMS}


@pytest.fixture
def basic(sets: dict[str, Path], tmp_path: Path) -> Path:
    """Return a copy of the official layout, to be damaged."""
    return Path(shutil.copytree(sets["official"] / "basic", tmp_path / "basic"))


class TestRAFDB(DataModuleContract):
    @pytest.fixture(autouse=True)
    def _roots(self, sets: dict[str, Path]) -> None:
        self.sets = sets

    def make(self, **options: Any) -> EmotionDataModule:
        root = str(self.sets["official"])
        return RAFDBDataModule(root, **{"image_size": 24, "channels": 1, "num_workers": 0, **options})


def by_name(listing: Listing) -> dict[str, str]:
    """Return the expression of each image by its number."""
    names = np.array(listing.class_names)[listing.labels]
    stems = [Path(path).stem.removesuffix("_aligned") for path in listing.paths.tolist()]
    return dict(zip(stems, names.tolist(), strict=True))


def test_the_codes_are_those_of_the_authors() -> None:
    assert [RAFDB_CODES[code] for code in range(1, 8)] == list(RAF_DB[1:])


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_every_layout_gives_the_same_labels_and_splits(sets: dict[str, Path], form: str, aligned: bool) -> None:
    listing = list_raf_db(sets[form], aligned=aligned)
    expected = {f"train_{row + 1:05}": RAF_DB[row % 7 + 1] for row in range(35)}
    expected |= {f"test_{row + 1:04}": RAF_DB[row % 7 + 1] for row in range(14)}
    assert by_name(listing) == expected
    assert listing.class_names == SEVEN.class_names
    assert Counter(listing.splits.tolist()) == {"train": 35, "test": 14}
    assert all((listing.root / path).is_file() for path in listing.paths.tolist())


def test_the_root_may_be_the_folder_itself_or_the_one_above(sets: dict[str, Path]) -> None:
    for form, inner in (("official", "basic"), ("folders", "DATASET")):
        outside, inside = list_raf_db(sets[form]), list_raf_db(sets[form] / inner)
        assert (outside.paths == inside.paths).all()
        assert is_raf_db(sets[form])
        assert is_raf_db(sets[form] / inner)


def test_the_right_spelling_is_accepted_too(basic: Path) -> None:
    (basic / LABELS).rename(basic / "EmoLabel/list_partition_label.txt")
    assert len(list_raf_db(basic).paths) == 49


def test_validation_is_held_out_of_training(sets: dict[str, Path]) -> None:
    table = RAFDBDataModule(str(sets["official"]), image_size=24).table
    assert table.class_counts("val") == dict.fromkeys(SEVEN.class_names, 1)
    assert table.class_counts("train") == dict.fromkeys(SEVEN.class_names, 4)
    assert len(table.rows("test")) == 14


def test_attributes_are_columns(sets: dict[str, Path]) -> None:
    columns = list_raf_db(sets["official"]).columns
    assert columns["gender"][:3].tolist() == ["male", "female", ""]
    assert columns["race"][:3].tolist() == ["Caucasian", "African-American", "Asian"]
    assert columns["age_group"][:5].tolist() == ["0-3", "4-19", "20-39", "40-69", "70+"]


def test_annotations_may_be_missing_as_a_whole(basic: Path) -> None:
    shutil.rmtree(basic / "Annotation")
    listing = list_raf_db(basic, aligned=False)
    assert listing.columns == {}
    assert listing.boxes is None


def test_the_face_box_of_the_original_is_cut_out(sets: dict[str, Path]) -> None:
    listing = list_raf_db(sets["official"], aligned=False)
    assert listing.boxes is not None
    assert listing.boxes[1].tolist() == [1, 3, 49, 48]  # 1.4 3.0 50.0 51.5
    table = RAFDBDataModule(str(sets["official"]), aligned=False, image_size=24).table
    assert set(table.columns["width"].tolist()) == {46, 47, 48, 49, 50}
    assert list_raf_db(sets["official"]).boxes is None


def label(number: int, new: str) -> Callable[[Path], None]:
    """Replace a line of the list of labels."""

    def change(basic: Path) -> None:
        lines = (basic / LABELS).read_text().splitlines()
        lines[number - 1] = new
        (basic / LABELS).write_text("\n".join(lines) + "\n")

    return change


def content(place: str, data: bytes) -> Callable[[Path], None]:
    def change(basic: Path) -> None:
        (basic / place).write_bytes(data)

    return change


def unlink(place: str) -> Callable[[Path], None]:
    return lambda basic: (basic / place).unlink()


BOX = "Annotation/boundingbox/train_00002_boundingbox.txt"
FACTS = "Annotation/manual/train_00002_manu_attri.txt"
LANDMARKS = b"1.5\t2\n" * 5
BAD_SETS: dict[str, tuple[Callable[[Path], None], str]] = {
    "code 0": (label(2, "train_00002.jpg 0"), "unknown expression code '0', expected one of 1 surprise, 2 fear"),
    "code 8": (label(2, "train_00002.jpg 8"), f"{LABELS}, line 2: unknown expression code '8'"),
    "code word": (label(2, "train_00002.jpg fear"), "line 2: unknown expression code 'fear'"),
    "no code": (label(2, "train_00002.jpg"), "line 2: expected train_<number>.jpg or test_<number>.jpg and a code"),
    "three columns": (label(2, "train_00002.jpg 1 2"), "line 2: expected train_<number>.jpg or test_<number>.jpg"),
    "other name": (label(2, "val_00002.jpg 1"), "line 2: expected train_<number>.jpg or test_<number>.jpg"),
    "path": (label(2, "../train_00002.jpg 1"), "line 2: expected train_<number>.jpg or test_<number>.jpg"),
    "twice": (label(2, "train_00001.jpg 1"), "line 2: train_00001.jpg stands in line 1 too"),
    "not listed": (label(2, "train_99999.jpg 1"), "train_99999.jpg: "),
    "list: empty": (content(LABELS, b""), "list_patition_label.txt: holds no line"),
    "list: binary": (content(LABELS, b"\xff\xfe\0\0"), "list_patition_label.txt: expected text, found UTF-16 text"),
    "list: both spellings": (content("EmoLabel/list_partition_label.txt", b"x"), "partition_label.txt: remove one"),
    "image missing": (unlink("Image/original/train_00002.jpg"), "Image/original/train_00002.jpg: "),
    "image damaged": (content("Image/original/train_00002.jpg", b"\xff\xd8\xff12"), "original/train_00002.jpg: "),
    "images missing": (
        lambda basic: shutil.rmtree(basic / "Image/original"),
        "Image/original/ is missing; unpack Image/original.zip, or pass --data.aligned true",
    ),
    "box: NaN": (content(BOX, b"nan 1 2 3"), "train_00002_boundingbox.txt: expected a face box x1 y1 x2 y2 in pixels"),
    "box: word": (content(BOX, b"a 1 2 3"), "train_00002_boundingbox.txt: expected x1 y1 x2 y2, found 'a 1 2 3'"),
    "box: three": (content(BOX, b"1 2 3"), "train_00002_boundingbox.txt: expected x1 y1 x2 y2, found '1 2 3'"),
    "box: turned round": (content(BOX, b"9 9 1 1"), "expected a face box x1 y1 x2 y2 in pixels, found '9 9 1 1'"),
    "box: half a pixel": (content(BOX, b"0 0 0.5 5"), "expected a face box x1 y1 x2 y2 in pixels, found '0 0 0.5 5'"),
    "box: flat": (content(BOX, b"3 3 9 3"), "expected a face box x1 y1 x2 y2 in pixels, found '3 3 9 3'"),
    "box: far away": (content(BOX, b"0 0 1e9 5"), "expected a face box x1 y1 x2 y2 in pixels"),
    "box: outside": (content(BOX, b"500 500 600 600"), "Image/original/train_00002.jpg: expected a box"),
    "box: missing": (unlink(BOX), "Image/original/train_00002.jpg: train_00002_boundingbox.txt is missing"),
    "facts: missing": (unlink(FACTS), "train_00002_manu_attri.txt is missing"),
    "facts: gender": (content(FACTS, LANDMARKS + b"3\n0\n0\n"), "unknown code '3' for gender, expected 0..2"),
    "facts: race": (content(FACTS, LANDMARKS + b"0\n-1\n0\n"), "unknown code '-1' for race, expected 0..2"),
    "facts: age": (content(FACTS, LANDMARKS + b"0\n0\nold\n"), "unknown code 'old' for age, expected 0..4"),
    "facts: short": (content(FACTS, LANDMARKS), "expected 5 landmarks, gender, race and age, found 5 lines"),
    "facts: binary": (content(FACTS, b"\xff\x00"), "train_00002_manu_attri.txt: expected numbers, found"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), BAD_SETS.values(), ids=BAD_SETS)
def test_a_bad_set_is_refused_in_one_line(basic: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(basic)
    with pytest.raises(DataError) as caught:
        _ = RAFDBDataModule(str(basic), aligned=False, image_size=24).table
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_rows_can_be_skipped_and_are_counted(basic: Path) -> None:
    for damage in ("box: NaN", "code 8"):
        BAD_SETS[damage][0](basic)
    label(4, "train_00004.jpg 9")(basic)
    write_text(basic / "Annotation/manual/train_00006_manu_attri.txt", "1")
    listing = list_raf_db(basic, aligned=False, on_error="skip")
    assert len(listing.paths) == 46
    assert [place.rpartition("/")[2] for place, _ in listing.left_out] == [
        "list_patition_label.txt, line 2", "list_patition_label.txt, line 4", "train_00006.jpg",
    ]  # fmt: skip


def test_the_module_lists_what_its_options_say(
    basic: Path, sets: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    assert RAFDBDataModule(str(basic)).list_files().paths[0] == "Image/aligned/train_00001_aligned.jpg"
    assert RAFDBDataModule(str(basic), aligned=False).list_files().paths[0] == "Image/original/train_00001.jpg"
    (basic / LABELS).write_text("\ufeff" + (basic / LABELS).read_text(), encoding="utf-8")
    assert len(RAFDBDataModule(str(basic)).list_files().paths) == 49
    for number in range(2, 27):
        label(number, f"train_{number:05}.jpg x")(basic)
        if number == 25:
            assert len(RAFDBDataModule(str(basic), on_error="skip").list_files().paths) == 25
            assert "skipped 24 bad rows" in caplog.text
    with pytest.raises(DataError, match="25 of 49 rows are bad, too many to skip"):
        RAFDBDataModule(str(basic), on_error="skip").list_files()
    mapped = RAFDBDataModule(str(sets["folders"]), mapping={"7": None}).list_files()
    assert len(mapped.paths) == 42


def test_aligned_images_need_no_boxes(basic: Path) -> None:
    BAD_SETS["box: NaN"][0](basic)
    assert len(list_raf_db(basic).paths) == 49


def test_two_data_sets_in_one_folder_are_refused(sets: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(sets["official"] / "basic", tmp_path / "basic")
    shutil.copytree(sets["folders"] / "DATASET", tmp_path / "DATASET")
    with pytest.raises(DataError, match=r"holds RAF-DB more than once \(basic, DATASET\)"):
        list_raf_db(tmp_path)


def test_a_folder_without_all_codes_is_not_raf_db(tmp_path: Path) -> None:
    for code in range(1, 7):
        write_picture(tmp_path / "train" / str(code) / "a.jpg", code)
    assert not is_raf_db(tmp_path)
    with pytest.raises(LabelError, match=r"the codes 1, 2, .* RAF-DB: --data.mapping '{1: surprise, 2: fear"):
        list_raf_db(tmp_path)


def test_an_unknown_code_folder_is_named(sets: dict[str, Path], tmp_path: Path) -> None:
    root = shutil.copytree(sets["folders"], tmp_path / "copy")
    write_picture(root / "DATASET/test/8/a.jpg", 8)
    with pytest.raises(LabelError, match="the codes 1, 2, 3, 4, 5, 6, 7, 8 stand for"):
        list_raf_db(root)
    assert len(list_raf_db(root, mapping={"8": None}).left_out) == 1


def test_a_missing_root_and_a_wrong_argument(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        RAFDBDataModule(str(tmp_path / "none")).list_files()
    with pytest.raises(ConfigError, match="on_error must be"):
        list_raf_db(tmp_path, on_error="ignore")  # type: ignore[arg-type]


def test_an_archive_is_unpacked(sets: dict[str, Path], tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "raf"), "zip", sets["official"])
    data = RAFDBDataModule(archive, image_size=24, cache_dir=str(tmp_path / "cache"))
    assert by_name(data.list_files()) == by_name(list_raf_db(sets["official"]))
