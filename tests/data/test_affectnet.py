from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.files.listing import Listing
from fer_lightning.data.sets.affectnet import affectnet_layouts
from fer_lightning.data.sets.affectnet.affectnet import AffectNetDataModule, is_affectnet, list_affectnet
from fer_lightning.emotions import AFFECTNET_CODES, EIGHT, SEVEN
from fer_lightning.errors import ConfigError, LabelError
from tests.contracts.datamodule import DataModuleContract
from tests.helpers.proposals import proposed
from tests.helpers.published_sets import (
    AFFECTNET,
    affect,
    write_affectnet,
    write_npy,
    write_picture,
)

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


class TestAffectNet(DataModuleContract):
    @pytest.fixture(autouse=True)
    def _roots(self, sets: dict[str, Path]) -> None:
        self.sets = sets

    def make(self, **options: Any) -> EmotionDataModule:
        return AffectNetDataModule(
            str(self.sets["annotations"]), **{"image_size": 24, "channels": 1, "num_workers": 0, **options}
        )


def by_number(listing: Listing) -> dict[int, str]:
    """Return the expression of each image by the number in its name."""
    names = np.array(listing.class_names)[listing.labels]
    numbers = ["".join(filter(str.isdigit, Path(path).stem)) for path in listing.paths.tolist()]
    return dict(zip(map(int, numbers), names.tolist(), strict=True))


def test_the_codes_are_those_of_the_authors() -> None:
    assert [AFFECTNET_CODES[code] for code in range(8)] == list(AFFECTNET[:8])


@pytest.mark.parametrize("form", FORMS)
def test_every_layout_gives_the_same_labels_and_splits(sets: dict[str, Path], form: str) -> None:
    listing = list_affectnet(sets[form], classes=8)
    expected = {5 * code + row + 1: AFFECTNET[code] for code in range(8) for row in range(5)}
    expected |= {55 + 2 * code + row + 1: AFFECTNET[code] for code in range(8) for row in range(2)}
    assert by_number(listing) == expected
    assert listing.class_names == EIGHT.class_names
    assert Counter(listing.splits.tolist()) == {"train": 40, "val": 16}
    assert all((sets[form] / path).is_file() for path in listing.paths.tolist())


def test_folders_of_no_expression_are_left_out_each_for_its_reason(tmp_path: Path) -> None:
    wanted = {
        "None": "none",
        "uncertain": "uncertain",
        "no-face": "no face",
        "Non-Face": "no face",
        "noface": "no face",
    }
    for row, name in enumerate([*AFFECTNET[:8], *wanted]):
        write_picture(tmp_path / "train" / name / f"{row}.jpg", row)
    found = {path.split("/")[1]: reason.split(" (")[0] for path, reason in list_affectnet(tmp_path, classes=8).left_out}
    assert found == wanted


@pytest.mark.parametrize("form", FORMS)
def test_what_is_left_out_is_counted_by_kind(sets: dict[str, Path], form: str) -> None:
    listing = list_affectnet(sets[form], classes=7)
    assert listing.class_names == SEVEN.class_names
    assert len(listing.paths) == 49
    reasons = Counter(reason.split(" (")[0] for _, reason in listing.left_out)
    assert reasons == {"contempt is not among the classes": 7, "none": 7, "uncertain": 7, "no face": 7}
    for path, reason in listing.left_out:
        number = int("".join(filter(str.isdigit, Path(path).stem)))
        code = (number - 1) // 5 if number <= 55 else (number - 56) // 2
        assert reason.startswith({7: "contempt", 8: "none", 9: "uncertain", 10: "no face"}[code])


@pytest.mark.parametrize("form", ["annotations", "lists"])
def test_valence_and_arousal_are_columns(sets: dict[str, Path], form: str) -> None:
    listing = list_affectnet(sets[form], classes=8)
    numbers = list(by_number(listing))
    names = listing.class_names
    for row in (0, 17, len(numbers) - 1):
        valence, arousal = affect(AFFECTNET.index(names[listing.labels[row]]), numbers[row])
        assert listing.columns["valence"][row] == float(valence)
        assert listing.columns["arousal"][row] == float(arousal)
    assert sorted(set(listing.sources.tolist())) == ["affectnet/training", "affectnet/validation"]


def test_minus_two_is_unknown_and_whole_parts_may_lack_affect(copy: Callable[[str], Path]) -> None:
    root = copy("annotations")
    write_npy(root / "train_set/annotations/1_val.npy", "-2")
    for path in root.glob("val_set/annotations/*_aro.npy"):
        path.unlink()
    listing = list_affectnet(root)
    assert np.isnan(listing.columns["valence"][listing.paths == "train_set/images/1.jpg"]).all()
    assert np.isfinite(listing.columns["arousal"][listing.splits == "train"]).all()
    assert np.isnan(listing.columns["arousal"][listing.splits == "val"]).all()


def test_the_face_box_is_cut_out(sets: dict[str, Path]) -> None:
    listing = list_affectnet(sets["lists"])
    assert listing.boxes is not None
    first = listing.paths.tolist().index("Manually_Annotated_Images/2/0001ab.jpg")
    assert listing.boxes[first].tolist() == [1, 5, 40, 41]
    table = AffectNetDataModule(str(sets["lists"]), image_size=24).table
    assert table.columns["width"].tolist() == [40] * len(table)
    assert list_affectnet(sets["annotations"]).boxes is None


def test_the_images_may_stand_a_folder_deeper(copy: Callable[[str], Path]) -> None:
    root = copy("lists")
    (root / "Manually_Annotated").mkdir()
    (root / "Manually_Annotated_Images").rename(root / "Manually_Annotated/Manually_Annotated_Images")
    listing = list_affectnet(root)
    assert (root / str(listing.paths[0])).is_file()


@pytest.mark.parametrize("form", FORMS)
def test_the_official_validation_set_can_be_the_test_set(sets: dict[str, Path], form: str) -> None:
    data = AffectNetDataModule(str(sets[form]), official_val="test", image_size=24)
    table = data.table
    assert len(table.rows("test")) == 14
    assert table.class_counts("val") == dict.fromkeys(SEVEN.class_names, 1)
    assert table.class_counts("train") == dict.fromkeys(SEVEN.class_names, 4)


def test_folders_may_be_named_by_expression_and_stand_alone(tmp_path: Path) -> None:
    for number, name in enumerate(("Anger", "contempt", "happy", "none")):
        write_picture(tmp_path / name / f"{number}.png", number)
    listing = list_affectnet(tmp_path)
    assert by_number(listing) == {0: "angry", 2: "happy"}
    assert listing.left_out[0] == ("contempt/1.png", "contempt is not among the classes")
    assert list_affectnet(tmp_path, classes=8).labels.tolist() == [0, 7, 3]


@pytest.mark.parametrize("balance", ["cap:2", "oversample", "weighted"])
def test_balanced_variants(copy: Callable[[str], Path], balance: str) -> None:
    root = copy("annotations")
    for number in (1, 2):  # two of the five neutral ones
        (root / f"train_set/images/{number}.jpg").unlink()
        for kind in ("exp", "val", "aro"):
            (root / f"train_set/annotations/{number}_{kind}.npy").unlink()
    data = AffectNetDataModule(str(root), balance=balance, image_size=24, batch_size=1, num_workers=0, seed=1)
    labels = np.concatenate([batch["label"].numpy() for batch in data.train_dataloader()])
    counts = np.bincount(labels, minlength=7).tolist()
    if balance == "weighted":
        assert sum(counts) == 33
        assert max(counts) - min(counts) <= 1
    else:
        assert counts == [{"cap:2": 2, "oversample": 5}[balance]] * 7


def test_annotations_are_read_once(sets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = list_affectnet(sets["annotations"], cache_dir=tmp_path)

    def refuse(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(affectnet_layouts, "_npy_text", refuse)
    again = list_affectnet(sets["annotations"], cache_dir=tmp_path)
    assert (first.paths == again.paths).all()
    assert (first.columns["valence"] == again.columns["valence"]).all()
    with pytest.raises(AssertionError, match="read again"):
        list_affectnet(sets["annotations"], cache_dir=tmp_path / "other")


def test_a_missing_part_is_told(copy: Callable[[str], Path], caplog: pytest.LogCaptureFixture) -> None:
    root = copy("annotations")
    shutil.rmtree(root / "val_set")
    assert set(list_affectnet(root).splits.tolist()) == {"train"}
    assert "val_set/ is missing" in caplog.text


def test_folders_named_by_code_need_something_that_proves_the_codes(sets: dict[str, Path], tmp_path: Path) -> None:
    root = shutil.copytree(sets["folders"], tmp_path / "data")
    (told,) = list_affectnet(root).remarks
    assert told.startswith("codes of class folders: 0 neutral, 1 happy, 2 sad")
    assert told.endswith("(code and name stand side by side in classes.csv)")
    (root / "classes.csv").unlink()
    with pytest.raises(LabelError) as caught:
        list_affectnet(root)
    options = dict.fromkeys(option.partition("=")[2] for option in proposed(str(caught.value)))
    assert len(options) == 5
    listings = [list_affectnet(root, classes=8, mapping=yaml.safe_load(option)) for option in options]
    assert len({tuple(listing.labels.tolist()) for listing in listings}) == 5
    assert "as data.mapping says" in listings[0].remarks[0]
    with pytest.raises(ConfigError, match="mapping is for class folders"):
        list_affectnet(sets["lists"], mapping={"0": "angry"})


def test_layouts_are_recognised(sets: dict[str, Path], tmp_path: Path) -> None:
    assert {form: is_affectnet(root) for form, root in sets.items()} == {
        "annotations": True, "lists": True, "folders": False,
    }  # fmt: skip
    write_picture(tmp_path / "train/happy/a.jpg", 1)
    assert not is_affectnet(tmp_path)
