from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tqdm import tqdm

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.sets.arrow import ArrowDataModule
from fer_lightning.data.sets.fer2013.fer2013 import FER2013DataModule
from fer_lightning.data.sets.image_folder import ImageFolderDataModule
from fer_lightning.data.sets.manifest import ManifestDataModule
from fer_lightning.data.sets.shards import ShardsDataModule
from fer_lightning.data.table.samples import SPLITS
from tests.commands.test_data import FORMS, SMALL, files_in, one_line_error
from tests.helpers.cli import TINY, fer
from tests.helpers.fer2013 import write_fer2013
from tests.helpers.folders import SEVEN_NAMES, near_copy, save, write_folders, write_people, write_table
from tests.helpers.parts import Recorder

MODULE_OF: dict[str, Callable[[Path], EmotionDataModule]] = {
    "arrow": lambda path: ArrowDataModule(root=str(path)),
    "shards": lambda path: ShardsDataModule(root=str(path)),
    "folders": lambda path: ManifestDataModule(root=str(path / "manifest.csv")),
    "parquet": lambda path: ArrowDataModule(root=str(path)),
    "csv": lambda path: FER2013DataModule(root=str(path)),
}


def train(*args: str) -> int:
    """Run ``fer fit`` for one epoch of the tiny network on a data set that the arguments name."""
    return fer(
        "fit",
        *TINY[1:],
        "--data.channels=1",
        "--trainer.max_epochs=1",
        "--trainer.callbacks+=tests.helpers.parts.Recorder",
        *args,
    )


def write_planted(root: Path) -> Path:
    """Write three splits of 3 images of each class, with copies, leaks, contradictions and a blank image."""
    write_folders(root, 3, ("train", "val", "test"))

    def copy(source: str, target: str) -> None:
        shutil.copy(root / source, root / target)

    copy("train/angry/0.png", "train/angry/copy.png")
    copy("train/happy/0.png", "test/happy/leak.png")
    copy("train/sad/0.png", "train/neutral/tie.png")
    copy("train/disgust/0.png", "train/disgust/again.png")
    copy("train/disgust/0.png", "train/surprise/outvoted.png")
    save(root / "val/fear/near.png", near_copy(np.asarray(Image.open(root / "train/fear/0.png"))))
    save(root / "train/neutral/blank.png", np.full((50, 50, 3), 128, np.uint8))
    return root


class TestDedupe:
    """On a set in which it is known what stands twice."""

    @pytest.fixture
    def planted(self, tmp_path: Path) -> Path:
        return write_planted(tmp_path / "planted")

    @staticmethod
    def removed(out: Path) -> dict[str, str]:
        with (out / "removed.csv").open(newline="") as file:
            return {row["file"]: row["reason"] for row in csv.DictReader(file)}

    def test_files_and_numbers(self, planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "out"
        assert fer("data", "dedupe", str(planted), f"--out={out}", SMALL) == 0
        assert files_in(out) == [
            "conflicts.png",
            "dedupe.json",
            "duplicates.csv",
            "manifest.csv",
            "near_duplicates.png",
            "removed.csv",
        ]
        assert self.removed(out) == {
            "train/angry/copy.png": "same image as train/angry/0.png",
            "train/disgust/again.png": "same image as train/disgust/0.png",
            "train/happy/0.png": "same image as test/happy/leak.png in test",
            "train/fear/0.png": "near-duplicate of val/fear/near.png in val",
            "train/sad/0.png": "conflicting labels: 1 sad, 1 neutral",
            "train/neutral/tie.png": "conflicting labels: 1 sad, 1 neutral",
            "train/surprise/outvoted.png": "conflicting labels: 2 disgust, 1 surprise",
            "train/neutral/blank.png": "blank image",
        }
        summary = json.loads((out / "dedupe.json").read_text())
        assert summary["within"]["train"] == {"exact": {"groups": 3, "rows": 7}, "near": {"groups": 0, "rows": 0}}
        assert summary["shared"]["train in test"] == {"exact": 1, "near": 0}
        assert summary["shared"]["train in val"] == {"exact": 0, "near": 1}
        assert summary["conflicts"]["exact"] == {"groups": 2, "rows": 5}
        assert summary["blank"] == 1
        assert {split: (part["rows"], part["kept"]) for split, part in summary["splits"].items()} == {
            "train": (26, 18),
            "val": (22, 22),
            "test": (22, 22),
        }
        assert summary["removed"]["by_reason"] == {
            "conflicting labels": 3,
            "same image": 2,
            "same image in another split": 1,
            "near-duplicate in another split": 1,
            "blank image": 1,
        }
        assert summary["options"] == {"near": True, "mirrored": False, "conflicts": "majority", "blank": False}
        printed = capsys.readouterr().out
        lines = [" ".join(line.split()) for line in printed.splitlines()]
        for line in (
            "in train 7 in 3 groups -",
            "train in test 1 -",
            "train in val - 1 more",
            "different labels 5 in 2 groups -",
            "of one colour 1",
            f"train 26 18 {summary['splits']['train']['fingerprint_kept']}",
            "left out: 8",
            "3 for conflicting labels",
            "2 as an image that is kept already",
            "1 as an image that is kept in another split",
            "1 as near-duplicates of images in another split",
            "1 for being of one colour",
        ):
            assert line in lines
        assert f"--data.keep {out / 'manifest.csv'}" in printed

    @pytest.mark.parametrize(
        ("options", "removed"),
        [
            (["--conflicts=drop"], 9),  # disgust/0 goes as well
            (["--conflicts=keep"], 7),  # one of the two that contradict each other stays
            (["--blank=true"], 7),
            (["--near=false"], 7),
        ],
    )
    def test_policies(
        self, options: list[str], removed: int, planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert fer("data", "dedupe", str(planted), f"--out={tmp_path / 'out'}", SMALL, *options) == 0
        assert len(self.removed(tmp_path / "out")) == removed
        assert ("near-duplicates were not looked for" in capsys.readouterr().out) == ("--near=false" in options)

    def test_pictures_of_an_earlier_call_go(self, planted: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        assert fer("data", "dedupe", str(planted), f"--out={out}", SMALL) == 0
        assert fer("data", "dedupe", str(planted), f"--out={out}", SMALL, "--near=false") == 0
        assert not [name for name in files_in(out) if name.endswith(".png")]

    def test_training_on_what_is_kept(
        self, planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert fer("data", "dedupe", str(planted), f"--out={tmp_path / 'out'}", SMALL) == 0
        manifest = tmp_path / "out" / "manifest.csv"
        data = ["--data=ImageFolderDataModule", f"--data.root={planted}", SMALL, f"--data.keep={manifest}"]
        rows: list[list[int]] = []
        monkeypatch.setattr(Recorder, "rows", rows)
        assert train(*data, "--data.batch_size=3", f"--trainer.default_root_dir={tmp_path / 'runs'}") == 0
        with manifest.open(newline="") as file:
            kept = {row["path"] for row in csv.DictReader(file) if row["split"] == "train"}
        table = ImageFolderDataModule(root=str(planted), image_size=32, keep=str(manifest)).table
        seen = [str(table.files[row]) for batch in rows for row in batch]
        assert len(seen) == len(kept) == 18
        assert set(seen) == kept

        capsys.readouterr()
        other = write_folders(tmp_path / "other", {"joy": 3, "sadness": 3}, seed=1)
        assert fer("data", "dedupe", str(other), f"--data.keep={manifest}", SMALL, f"--out={tmp_path / 'no'}") == 2
        assert "the manifest belongs to another one" in one_line_error(capsys.readouterr())
        assert not (tmp_path / "no").exists()


class TestConvert:
    """To each form and back."""

    @staticmethod
    def target(root: Path, form: str) -> Path:
        return root / (f"set.{form}" if form in ("parquet", "csv") else "set")

    @pytest.mark.parametrize("form", FORMS)
    def test_nothing_is_lost(self, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        source = write_fer2013(tmp_path / "fer", "folder")
        stored = self.target(tmp_path / "new", form)
        assert fer("data", "convert", str(source), f"--to={form}", f"--out={stored}") == 0
        printed = capsys.readouterr().out
        assert f"{form}: {stored} (98 images, " in printed
        before, after = FER2013DataModule(root=str(source)).table, MODULE_OF[form](stored).table
        for split in SPLITS:
            assert after.fingerprint(split) == before.fingerprint(split)
            assert after.class_counts(split) == before.class_counts(split)
        assert files_in(tmp_path / "new") == [name for name in files_in(tmp_path / "new") if not name.startswith(".")]

    @pytest.mark.parametrize("form", ["arrow", "folders"])
    def test_the_printed_flags_train(self, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        stored = tmp_path / "set"
        source = write_fer2013(tmp_path / "fer", "csv")
        assert fer("data", "convert", str(source), f"--to={form}", f"--out={stored}") == 0
        flags = capsys.readouterr().out.strip().rpartition("fer fit ... ")[2].split()
        read = {"arrow": ("ArrowDataModule", stored), "folders": ("ManifestDataModule", stored / "manifest.csv")}
        assert flags == ["--data", read[form][0], "--data.root", str(read[form][1])]
        assert train(*flags, "--trainer.fast_dev_run=true", "--data.num_workers=0") == 0

    @pytest.mark.usefixtures("blank_pictures")
    def test_classes_of_ones_own(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        source, stored = write_folders(tmp_path / "faces", {"yawn": 4, "wink": 4}), tmp_path / "set"
        classes = "--data.class_names=[yawn, wink]"
        assert fer("data", "convert", str(source), "--to=folders", f"--out={stored}", classes, SMALL) == 0
        flags = capsys.readouterr().out.strip().rpartition("fer fit ... ")[2].split()
        assert flags == ["--data", "ManifestDataModule", "--data.root", str(stored / "manifest.csv")]
        assert train(*flags, "--trainer.fast_dev_run=true", "--data.channels=1", "--data.num_workers=0") == 0
        assert fer("data", "inspect", str(stored), f"--out={tmp_path / 'page'}") == 0
        result = json.loads((tmp_path / "page" / "inspect.json").read_text())
        assert (result["class_names"], result["image_shape"]) == (["yawn", "wink"], [3, 32, 32])

    def test_size_channels_and_quality(self, tmp_path: Path) -> None:
        source = write_folders(tmp_path / "faces", 2)
        options = ["--size=24", "--channels=1", "--encoding=jpeg", "--quality=80"]
        stored = tmp_path / "set"
        assert fer("data", "convert", str(source), "--to=arrow", f"--out={stored}", *options) == 0
        module = ArrowDataModule(root=str(stored))
        assert (module.image_size, module.channels) == (24, 1)
        assert module.table.images.shape == (14, 1, 24, 24)
        assert module.describe()["stored"]["encoding"] == "jpeg"

    def test_an_existing_destination_stays(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        source = write_fer2013(tmp_path / "fer", "csv")
        for form in FORMS:
            stored = self.target(tmp_path, form)
            if stored.suffix:
                stored.write_text("mine")
            else:
                stored.mkdir(exist_ok=True)
                (stored / "mine").touch()
            before = files_in(tmp_path)
            assert fer("data", "convert", str(source), f"--to={form}", f"--out={stored}") == 2
            assert "exists" in one_line_error(capsys.readouterr())
            assert files_in(tmp_path) == before

    @pytest.mark.parametrize("verb", ["convert", "balance"])
    def test_a_destination_in_use_is_told_before_the_set_is_read(
        self, verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source = write_folders(tmp_path / "faces", 2)
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "mine").touch()
        monkeypatch.setattr(ImageFolderDataModule, "scan", lambda _: pytest.fail("read"))
        form = ["--to=folders"] if verb == "convert" else []
        assert fer("data", verb, str(source), *form, f"--out={tmp_path / 'full'}", SMALL) == 2
        assert "exists and is not empty" in one_line_error(capsys.readouterr())

    @pytest.mark.parametrize("form", FORMS)
    def test_ctrl_c_leaves_nothing(
        self, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source = write_fer2013(tmp_path / "fer", "csv")

        class Interrupted(tqdm):  # type: ignore[type-arg]  # generic in its stubs only
            def update(self, n: float | None = 1) -> bool | None:
                raise KeyboardInterrupt

        for module in ("convert", "pixel_csv"):
            monkeypatch.setattr(f"fer_lightning.data.storage.{module}.tqdm", Interrupted)
        (tmp_path / "new").mkdir()
        stored = self.target(tmp_path / "new", form)
        assert fer("data", "convert", str(source), f"--to={form}", f"--out={stored}") == 130
        assert "interrupted" in capsys.readouterr().err
        assert list((tmp_path / "new").iterdir()) == []


class TestBalance:
    """Children are added to training, and stay with their parents."""

    @pytest.fixture
    def balanced(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
        root = write_people(tmp_path / "people")
        out = tmp_path / "balanced"
        assert fer("data", "balance", str(root), f"--out={out}", "--at_least=20", SMALL) == 0
        printed = capsys.readouterr().out
        assert "of them are synthetic" in printed
        assert f"manifest: {out / 'manifest.csv'}" in printed
        return out

    @staticmethod
    def rows(manifest: Path) -> list[dict[str, str]]:
        with manifest.open(newline="") as file:
            return list(csv.DictReader(file))

    def test_classes_reach_the_number_and_parents_stand_in_training(self, balanced: Path) -> None:
        rows = self.rows(balanced / "manifest.csv")
        counts = {name: sum(row["label"] == name and row["split"] == "train" for row in rows) for name in SEVEN_NAMES}
        assert counts == dict.fromkeys(SEVEN_NAMES, 20)
        by_path = {row["path"]: row for row in rows}
        children = [row for row in rows if row["parent"]]
        made = [row for row in children if "~" in row["file"]]
        assert made
        assert {row["kind"] for row in children} == {"synthetic"}
        assert {row["split"] for row in made} == {"train"}
        for row in children:
            parent = by_path[row["parent"]]
            assert (parent["label"], parent["split"], parent["parent"]) == (row["label"], row["split"], "")
            assert (balanced / row["path"]).is_file()

    def test_no_child_leaves_its_parent_when_splits_are_made_anew(self, balanced: Path) -> None:
        rows = self.rows(balanced / "manifest.csv")
        bare = [{key: value for key, value in row.items() if key not in ("split", "subject")} for row in rows]
        table = ManifestDataModule(
            root=str(write_table(balanced / "again.csv", bare)),
            image_size=32,
            val_fraction=0.3,
            test_fraction=0.3,
            near_duplicates=False,
        ).table
        split_of = dict(zip(table.files.tolist(), table.splits.tolist(), strict=True))
        assert set(split_of.values()) == set(SPLITS)
        assert sum(split_of[row["path"]] == "val" and row["parent"] != "" for row in rows)
        assert all(split_of[row["path"]] == split_of[row["parent"]] for row in rows if row["parent"])

    def test_the_set_trains(self, balanced: Path) -> None:
        data = ["--data=ManifestDataModule", f"--data.root={balanced / 'manifest.csv'}", "--data.num_workers=0"]
        assert train(*data, "--trainer.fast_dev_run=true") == 0

    def test_classes_that_have_enough_stay(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        source = write_fer2013(tmp_path / "fer", "csv")
        assert fer("data", "balance", str(source), f"--out={tmp_path / 'out'}", "--at_least=3") == 0
        assert "0 of them are synthetic" in capsys.readouterr().out
        before, after = FER2013DataModule(root=str(source)).table, MODULE_OF["folders"](tmp_path / "out").table
        assert {split: after.fingerprint(split) for split in SPLITS} == {s: before.fingerprint(s) for s in SPLITS}

    def test_a_set_that_balances_itself_is_written_as_it_is(self, tmp_path: Path) -> None:
        source = write_fer2013(tmp_path / "fer", "csv")
        data = ["--data=BalancedFER2013DataModule", f"--data.root={source}", "--data.at_least=12"]
        assert fer("data", "balance", *data, f"--out={tmp_path / 'out'}") == 0
        assert set(MODULE_OF["folders"](tmp_path / "out").class_counts.values()) == {12}
