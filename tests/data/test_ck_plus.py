from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.detect import detect_datamodule
from fer_lightning.data.sets.ck_plus import CKPlusDataModule, is_ck_plus, list_ck_plus
from fer_lightning.data.sets.ck_plus_csv import find_ck_csv, is_ck_csv
from fer_lightning.data.sets.fer2013.fer2013 import FER2013DataModule
from fer_lightning.data.table.samples import SPLITS
from fer_lightning.emotions import CKPLUS_CODES, EIGHT, SEVEN
from fer_lightning.errors import ConfigError, DataError, LabelError
from tests.contracts.datamodule import DataModuleContract
from tests.helpers.proposals import proposed
from tests.helpers.published_sets import CK_PLUS, SUBJECTS, write_ck_plus, write_picture, write_text

FORMS = ("official", "ck48")
IMAGES = "cohn-kanade-images"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("ck_plus")
    return {form: write_ck_plus(folder / form, form) for form in FORMS}


@pytest.fixture
def copy(sets: dict[str, Path], tmp_path: Path) -> Path:
    """Return a small copy of the official layout, to be damaged."""
    root = tmp_path / "data"
    for inner in (IMAGES, "Emotion"):
        shutil.copytree(sets["official"] / inner / "S005", root / inner / "S005")
    return root


class TestCKPlus(DataModuleContract):
    @pytest.fixture(autouse=True)
    def _roots(self, sets: dict[str, Path]) -> None:
        self.sets = sets

    def make(self, **options: Any) -> EmotionDataModule:
        root = str(self.sets["official"])
        return CKPlusDataModule(root, **{"image_size": 24, "channels": 1, "num_workers": 0, **options})


def test_the_codes_are_those_of_the_authors() -> None:
    assert [CKPLUS_CODES[code] for code in range(8)] == list(CK_PLUS)


def test_the_last_frames_carry_the_label_and_the_first_is_neutral(sets: dict[str, Path]) -> None:
    listing = list_ck_plus(sets["official"], classes=8)
    names = np.array(listing.class_names)[listing.labels]
    rows = np.flatnonzero(listing.columns["sequence"] == "S010/003")
    assert [Path(path).stem[-2:] for path in listing.paths[rows].tolist()] == ["01", "03", "04", "05"]
    assert names[rows].tolist() == ["neutral", "disgust", "disgust", "disgust"]
    assert Counter(names.tolist()) == {"neutral": 42, **dict.fromkeys(CK_PLUS[1:], 18)}
    assert set(listing.splits.tolist()) == {""}
    assert sorted(set(listing.columns["subject"].tolist())) == list(SUBJECTS)


@pytest.mark.parametrize(("peak_frames", "neutral", "frames"), [(1, False, "5"), (2, True, "145"), (4, True, "12345")])
def test_which_frames_are_taken(sets: dict[str, Path], peak_frames: int, neutral: bool, frames: str) -> None:
    listing = list_ck_plus(sets["official"], peak_frames=peak_frames, neutral=neutral)
    first = listing.paths[listing.columns["sequence"] == "S005/001"].tolist()
    assert "".join(Path(path).stem[-1] for path in first) == frames
    assert ("neutral" in np.array(listing.class_names)[listing.labels]) == neutral


def test_contempt_and_unlabelled_sequences_are_counted(sets: dict[str, Path]) -> None:
    listing = list_ck_plus(sets["official"])
    assert listing.class_names == SEVEN.class_names
    assert Counter(reason for _, reason in listing.left_out) == {
        "contempt is not among the classes": 6,
        "the sequence has no emotion label": 6,
    }
    assert len(listing.paths) == 6 * 6 * 4
    small = list_ck_plus(sets["ck48"])
    assert Counter(reason for _, reason in small.left_out) == {"contempt is not among the classes": 18}


def test_ck48_tells_the_subject_by_the_name(sets: dict[str, Path]) -> None:
    listing = list_ck_plus(sets["ck48"], classes=8)
    assert listing.class_names == EIGHT.class_names
    names = np.array(listing.class_names)[listing.labels]
    assert Counter(names.tolist()) == dict.fromkeys(CK_PLUS[1:], 18)
    sequences = listing.columns["sequence"]
    assert (names == np.array(CK_PLUS)[[int(sequence[-1]) for sequence in sequences.tolist()]]).all()
    assert (listing.columns["subject"] == [sequence[:4] for sequence in sequences.tolist()]).all()
    inside = list_ck_plus(sets["ck48"] / "CK+48", classes=8)
    assert (inside.labels == listing.labels).all()


@pytest.mark.parametrize("form", FORMS)
def test_no_subject_stands_in_two_splits(sets: dict[str, Path], form: str) -> None:
    data = CKPlusDataModule(
        str(sets[form]),
        test_fraction=0.2,
        val_fraction=0.25,
        image_size=24,
        allow_empty_class=True,
    )
    subjects = {
        split: set(data.table.columns["subject"][data.table.rows(split)].tolist()) for split in ("train", "val", "test")
    }
    assert [len(subjects[split]) for split in ("train", "val", "test")] == [4, 1, 1]
    assert len(set.union(*subjects.values())) == 6


def test_the_names_of_the_archives_are_accepted(copy: Path) -> None:
    expected = list_ck_plus(copy).labels.tolist()
    (copy / IMAGES).rename(copy / "extended-cohn-kanade-images")
    (copy / "Emotion").rename(copy / "Emotion_labels")
    assert list_ck_plus(copy).labels.tolist() == expected
    for outer, inner in (("extended-cohn-kanade-images", IMAGES), ("Emotion_labels", "Emotion")):
        (copy / outer).rename(copy / "x")
        (copy / outer).mkdir()
        (copy / "x").rename(copy / outer / inner)
    listing = list_ck_plus(copy)
    assert listing.labels.tolist() == expected
    assert (copy / str(listing.paths[0])).is_file()


def test_the_label_tells_the_peak(copy: Path) -> None:
    write_picture(copy / IMAGES / "S005/001/S005_001_00000006.png", 1)
    listing = list_ck_plus(copy)
    first = listing.paths[listing.columns["sequence"] == "S005/001"].tolist()
    assert [Path(path).stem[-1] for path in first] == ["1", "3", "4", "5"]


def test_without_neutral_the_class_is_empty_and_said_so(sets: dict[str, Path]) -> None:
    data = CKPlusDataModule(str(sets["official"]), neutral=False, image_size=24)
    with pytest.raises(DataError, match="no training image of neutral; add some or pass --data.allow_empty_class true"):
        data.setup("fit")


LABEL = "Emotion/S005/001/S005_001_00000005_emotion.txt"


def text(place: str, value: str) -> Callable[[Path], None]:
    return lambda root: write_text(root / place, value)


def rename(old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / old).rename(root / new)

    return change


def remove(place: str) -> Callable[[Path], None]:
    return lambda root: shutil.rmtree(root / place)


BAD_SETS: dict[str, tuple[Callable[[Path], object], str]] = {
    "code 8": (text(LABEL, "   8.0000000e+00\n"), "unknown expression code '8.0000000e+00', expected one of 0 neutral"),
    "fraction": (text(LABEL, "1.5"), "S005_001_00000005_emotion.txt: unknown expression code '1.5'"),
    "NaN": (text(LABEL, "nan"), "unknown expression code 'nan'"),
    "word": (text(LABEL, "angry"), "S005/001: S005_001_00000005_emotion.txt: expected a number, found 'angry'"),
    "empty": (text(LABEL, ""), "S005_001_00000005_emotion.txt: expected a number, found ''"),
    "two numbers": (text(LABEL, "1 2"), "expected a number, found '1 2'"),
    "two labels": (
        text("Emotion/S005/001/S005_001_00000004_emotion.txt", "1"),
        "S005/001: expected one label, found S005_001_00000004_emotion.txt and S005_001_00000005_emotion.txt",
    ),
    "other label file": (rename(LABEL, "Emotion/S005/001/label.txt"), "_emotion.txt, found 'label.txt'"),
    "no peak frame": (
        rename(f"{IMAGES}/S005/001/S005_001_00000005.png", f"{IMAGES}/S005/001/S005_001_00000009.png"),
        "S005/001: the label is for S005_001_00000005, which is not among the 5 frames",
    ),
    "label of another": (
        rename(LABEL, "Emotion/S005/001/S005_002_00000005_emotion.txt"),
        "S005/001: the label is for S005_002_00000005, which is not among",
    ),
    "frame of another": (
        lambda root: write_picture(root / IMAGES / "S005/001/S006_001_00000003.png", 1),
        "S005/001: expected frames S005_001_<number>.png, found S006_001_00000003.png",
    ),
    "other frame": (
        lambda root: write_picture(root / IMAGES / "S005/001/frame3.png", 1),
        "S005/001: expected frames S005_001_<number>.png, found frame3.png",
    ),
    "no images of a label": (remove(f"{IMAGES}/S005/001"), "Emotion/S005/001: the sequence has a label but no images"),
    "no labels at all": (remove("Emotion/S005"), "S005_001_00000011_emotion.txt, found no label"),
    "no labels folder": (remove("Emotion"), "expected Emotion/ or Emotion_labels/, found neither"),
    "two labels folders": (text("Emotion_labels/a.txt", "1"), "Emotion/ or Emotion_labels/, found Emotion and"),
    "two images folders": (
        lambda root: write_ck_plus(root, "ck48", subjects=1),
        "holds CK+ more than once (cohn-kanade-images, CK+48)",
    ),
    "no images folder": (remove(IMAGES), "expected cohn-kanade-images/ with Emotion/, or anger/S010_004_00000017.png"),
    "damaged frame": (
        text(f"{IMAGES}/S005/001/S005_001_00000005.png", "GIF89a"),
        "cohn-kanade-images/S005/001/S005_001_00000005.png: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), BAD_SETS.values(), ids=BAD_SETS)
def test_a_bad_set_is_refused_in_one_line(copy: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(copy)
    with pytest.raises(DataError) as caught:
        _ = CKPlusDataModule(str(copy), image_size=24).table
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_short_sequences_are_refused_or_skipped(copy: Path) -> None:
    for number in (1, 2):
        (copy / IMAGES / f"S005/003/S005_003_0000000{number}.png").unlink()
    with pytest.raises(
        DataError, match="S005/003: has 3 frames up to its peak, 4 are needed; pass a smaller data.peak"
    ):
        list_ck_plus(copy)
    listing = list_ck_plus(copy, on_error="skip")
    assert len(listing.paths) == 5 * 4
    assert listing.left_out[-1][0] == "S005/003"
    assert len(list_ck_plus(copy, peak_frames=2).paths) == 6 * 3


def test_a_set_that_is_mostly_bad_is_refused_even_when_skipping(copy: Path) -> None:
    for session in (1, 3, 4, 5):
        shutil.rmtree(copy / "Emotion/S005" / f"00{session}")
        write_text(copy / f"Emotion/S005/00{session}/x_emotion.txt", "1")
    with pytest.raises(DataError, match="4 of 7 rows are bad, too many to skip"):
        list_ck_plus(copy, on_error="skip")


def test_a_name_without_subject_is_named(sets: dict[str, Path], tmp_path: Path) -> None:
    root = Path(shutil.copytree(sets["ck48"], tmp_path / "copy"))
    write_picture(root / "CK+48/fear/image7.png", 1)
    with pytest.raises(DataError, match="fear/image7.png: expected a name like S010_004_00000017.png"):
        list_ck_plus(root)
    assert list_ck_plus(root, on_error="skip").left_out[-1][0] == "fear/image7.png"
    write_picture(root / "CK+48/anger/0.png", 1)  # before all others
    listing = list_ck_plus(root, classes=8, on_error="skip")
    shown = [CK_PLUS[int(sequence[-1])] for sequence in listing.columns["sequence"].tolist()]
    assert np.array(listing.class_names)[listing.labels].tolist() == shown
    assert len(shown) == 7 * 18


def test_frames_come_by_number_and_hidden_files_are_none(copy: Path) -> None:
    folder = copy / IMAGES / "S005/001"
    for number in range(1, 6):
        (folder / f"S005_001_{number:08}.png").rename(folder / f"S005_001_{number + 7}.png")
    (copy / LABEL).rename(copy / "Emotion/S005/001/S005_001_12_emotion.txt")
    write_text(folder / "._S005_001_9.png", "")
    write_picture(copy / IMAGES / ".trash/001/S006_001_00000001.png", 1)
    listing = list_ck_plus(copy)
    first = listing.paths[listing.columns["sequence"] == "S005/001"].tolist()
    assert [Path(path).stem for path in first] == [f"S005_001_{number}" for number in (8, 10, 11, 12)]


@pytest.mark.parametrize("options", [{}, {"classes": 8}, {"peak_frames": 1}, {"neutral": False}, {"on_error": "skip"}])
def test_the_module_lists_what_its_options_say(copy: Path, options: dict[str, Any]) -> None:
    if "on_error" in options:
        write_text(copy / LABEL, "x")
    listing = list_ck_plus(copy, **options)
    found = CKPlusDataModule(str(copy), **options).list_files()
    assert (found.class_names, found.paths.tolist()) == (listing.class_names, listing.paths.tolist())
    assert len(listing.left_out) == 1 + ("classes" not in options) + ("on_error" in options)


def test_wrong_arguments_and_folders(sets: dict[str, Path], tmp_path: Path) -> None:
    for options, message in (
        ({"peak_frames": 0}, "data.peak_frames must be at least 1, not 0"),
        ({"classes": 9}, "data.classes must be 7 or 8"),
        ({"on_error": "ignore"}, "on_error must be"),
    ):
        with pytest.raises(ConfigError, match=message):
            list_ck_plus(sets["official"], **options)
    with pytest.raises(DataError, match="does not exist"):
        list_ck_plus(tmp_path / "none")
    write_picture(tmp_path / "anger/face.png", 1)
    assert not is_ck_plus(tmp_path)
    assert is_ck_plus(sets["official"])
    assert is_ck_plus(sets["ck48"])


class TestPixels(DataModuleContract):
    """``ckextended.csv``: eight classes, FER2013's codes and contempt as 7, its own usages."""

    USAGES = (("Training", 4), ("PublicTest", 2), ("PrivateTest", 1))

    @pytest.fixture(autouse=True)
    def _table(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        lines = ["emotion,pixels,Usage"]
        for usage, count in self.USAGES:
            for code in range(8):
                lines += [f"{code},{' '.join(map(str, rng.integers(0, 256, 2304)))},{usage}" for _ in range(count)]
        self.path = tmp_path / "ckextended.csv"
        self.path.write_text("\n".join(lines) + "\n")

    def make(self, **options: Any) -> CKPlusDataModule:
        return CKPlusDataModule(str(self.path), **{"classes": 8, "num_workers": 0} | options)

    @pytest.mark.parametrize("classes", [7, 8])
    def test_codes_are_those_of_the_file(self, classes: Literal[7, 8]) -> None:
        table = self.make(classes=classes).table
        names = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt")[:classes]
        assert table.class_names == names
        for split, (_, count) in zip(SPLITS, self.USAGES, strict=True):
            assert table.class_counts(split) == dict.fromkeys(names, count)
        first = table.files.tolist().index("ckextended.csv#2")
        assert table.class_names[table.labels[first]] == "angry"
        assert len(table.left_out) == 7 * (8 - classes)
        assert table.remarks == (
            "codes of expressions: 0 angry, 1 disgust, 2 fear, 3 happy, 4 sad, 5 surprise, 6 neutral, 7 contempt "
            "(CK+'s ckextended.csv)",
        )

    def test_it_is_detected_in_its_folder_and_its_images_are_small(self) -> None:
        assert detect_datamodule(self.path) == ("CKPlusDataModule", self.path)
        assert detect_datamodule(self.path.parent) == ("CKPlusDataModule", self.path)
        assert self.make().table.images.shape[1:] == (1, 48, 48)
        assert (self.make().image_size, self.make().channels) == (48, 1)

    def test_another_table_beside_it_or_in_its_place_is_not_taken_for_it(self) -> None:
        other = self.path.with_name("a.csv")
        other.write_bytes(self.path.read_bytes())
        assert find_ck_csv(self.path.parent) == self.path
        assert (is_ck_csv(other), find_ck_csv(other)) == (False, other)  # a path may name it
        other.write_text("path,label\n")
        assert find_ck_csv(other) is None
        upper = self.path.rename(self.path.with_name("CKextended.csv"))
        assert is_ck_csv(upper)

    def test_bad_rows_are_skipped_where_asked_and_never_taken_for_good(self, caplog: pytest.LogCaptureFixture) -> None:
        lines = self.path.read_text().splitlines()
        self.path.write_text("\n".join([lines[0], f"x{lines[1][1:]}", *lines[2:]]) + "\n")
        for _ in range(2):
            caplog.clear()
            table = self.make(on_error="skip").table
            assert "skipped 1 bad row" in caplog.text
            assert [table.class_names[label] for label in table.labels[:2]] == ["angry", "angry"]
            assert "unknown emotion code 'x'" in table.left_out[0][1]
            with pytest.raises(LabelError, match="unknown emotion code 'x'"):
                _ = self.make().table

    def test_fer2013_names_the_module_that_reads_it(self) -> None:
        with pytest.raises(LabelError, match="'7' is no class of FER2013") as caught:
            _ = FER2013DataModule(str(self.path)).table
        assert proposed(str(caught.value)) == ["--data=FERPlusDataModule", "--data=CKPlusDataModule"]
