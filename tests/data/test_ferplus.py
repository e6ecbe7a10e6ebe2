from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.detect import detect_datamodule
from fer_lightning.data.sets.fer2013.fer2013 import FER2013DataModule
from fer_lightning.data.sets.fer2013.ferplus import FERPlusDataModule, Target, label_votes
from fer_lightning.data.table.samples import SPLITS
from fer_lightning.emotions import EIGHT, FERPLUS_COLUMNS
from fer_lightning.errors import ConfigError, DataError, LabelError
from tests.contracts.datamodule import DataModuleContract
from tests.helpers.cli import fer
from tests.helpers.fer2013 import csv_lines, fake_rows, unpack_real_fer2013, write_fer2013
from tests.helpers.proposals import proposed


def votes(**counts: int) -> NDArray[np.int64]:
    """Return one row of votes, by column name."""
    return np.array([[counts.get(name, 0) for name in FERPLUS_COLUMNS]], np.int64)


def name_of(label: int) -> str:
    return "left out" if label < 0 else EIGHT.class_names[label]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ferplus")
    write_fer2013(folder, "csv")
    return write_fer2013(folder, "ferplus")


class TestFERPlus(DataModuleContract):
    @pytest.fixture(autouse=True)
    def _root(self, root: Path) -> None:
        self.root = root

    def make(self, **options: Any) -> EmotionDataModule:
        return FERPlusDataModule(str(self.root), **{"channels": 1, "allow_empty_class": True, **options})


@pytest.mark.parametrize(
    ("row", "options", "expected"),
    [
        (votes(happiness=7, neutral=3), {}, "happy"),
        (votes(contempt=6, sadness=4), {}, "contempt"),
        (votes(anger=5, fear=5), {}, "left out"),
        (votes(anger=5, fear=5), {"ties": "first"}, "angry"),
        (votes(anger=5, fear=5), {"ties": "fer2013", "fer2013_labels": np.array([2])}, "fear"),
        (votes(anger=5, fear=5), {"ties": "fer2013", "fer2013_labels": np.array([3])}, "left out"),
        (votes(unknown=5, happiness=4), {}, "left out"),
        (votes(unknown=5, happiness=5), {}, "left out"),
        (votes(NF=9, happiness=1), {}, "left out"),
        (votes(sadness=1, fear=1, neutral=2), {}, "neutral"),
        (votes(sadness=1), {}, "left out"),
        (votes(sadness=1), {"single_votes": True}, "sad"),
        (votes(), {}, "left out"),
    ],
)
def test_the_winner_follows_the_policy(row: NDArray[np.int64], options: dict[str, Any], expected: str) -> None:
    assert name_of(int(label_votes(row, **options).labels[0])) == expected


def test_reasons_tell_unknown_from_not_a_face_and_ties() -> None:
    rows = np.concatenate([votes(unknown=6, fear=4), votes(NF=6, fear=4), votes(fear=5, sadness=5), votes(fear=9)])
    voted = label_votes(rows)
    assert voted.reasons.tolist() == ["most votes say unknown", "most votes say not a face", "the votes are tied", ""]
    assert (voted.soft_labels[:3] == 0).all()


def test_soft_labels_are_the_distribution_without_single_votes() -> None:
    row = votes(happiness=6, neutral=3, fear=1)
    soft = label_votes(row, "soft").soft_labels[0]
    assert soft[EIGHT.index("happy")] == pytest.approx(6 / 9)
    assert soft[EIGHT.index("neutral")] == pytest.approx(3 / 9)
    assert soft.sum() == pytest.approx(1)
    counted = label_votes(row, "soft", single_votes=True).soft_labels[0]
    assert counted[EIGHT.index("fear")] == pytest.approx(0.1)


def test_multi_shares_between_those_with_enough_votes() -> None:
    soft = label_votes(votes(anger=4, disgust=3, sadness=3), "multi", share=0.3, ties="first").soft_labels[0]
    assert soft[EIGHT.index("angry")] == soft[EIGHT.index("disgust")] == pytest.approx(1 / 3)
    alone = label_votes(votes(anger=8, disgust=2), "multi").soft_labels[0]
    assert alone[EIGHT.index("angry")] == 1
    assert label_votes(votes(anger=6, fear=4), "multi").soft_labels[0].max() == 0.5
    assert label_votes(votes(anger=6, fear=4), "multi", share=1).soft_labels[0].max() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "best"}, "data.target must be majority, soft or multi"),
        ({"ties": "random"}, "data.ties must be drop, fer2013 or first"),
        ({"share": 0.0}, "data.share"),
        ({"share": 1.01}, "data.share"),
        ({"ties": "fer2013"}, "needs FER2013's labels"),
    ],
)
def test_unknown_policies_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        label_votes(votes(anger=5, fear=5), **options)


def test_rows_without_a_label_are_counted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = FERPlusDataModule(str(root))
    described = data.describe()
    assert described["left_out"]["count"] + len(data.table) == 98
    assert described["left_out"]["by_reason"]["most votes say unknown"] >= 3  # the first row of each usage
    assert "left out" in caplog.text
    assert data.table.soft_labels is None


@pytest.mark.parametrize(
    "options",
    [
        {"target": "multi"},
        {"target": "multi", "share": 0.75},
        {"single_votes": True, "target": "soft"},
        {"ties": "first"},
    ],
)
def test_the_module_labels_as_its_options_say(root: Path, options: dict[str, Any]) -> None:
    rows = fake_rows()
    voted = label_votes(rows.votes, **options)
    keep = np.flatnonzero(voted.labels >= 0)
    table = FERPlusDataModule(str(root), **options).table
    assert 70 < len(keep) < 98
    assert table.labels.tolist() == voted.labels[keep].tolist()
    assert table.sources.tolist() == [f"fer2013/{rows.usages[row]}" for row in keep]
    assert [reason for _, reason in table.left_out] == [reason for reason in voted.reasons if reason]
    if "target" in options:
        assert table.soft_labels is not None
        assert np.array_equal(table.soft_labels, voted.soft_labels[keep])


def test_bad_rows_and_rows_without_votes_are_left_out_together(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "copy")
    lines = csv_lines(fake_rows())
    (tmp_path / "copy" / "fer2013.csv").write_text("\n".join([*lines[:31], "x" + lines[31][1:], *lines[32:]]) + "\n")
    table = FERPlusDataModule(str(tmp_path / "copy"), on_error="skip").table
    assert "unknown emotion code 'x'" in table.left_out[0][1]
    assert len(table) + len(table.left_out) == 98
    assert len(FERPlusDataModule(str(root), val="holdout", folds=2, fold=0).scan().rows("val")) == 0
    (tmp_path / "copy" / "fer2013.csv").write_text("\n".join(lines) + "\n")
    votes = (tmp_path / "copy" / "fer2013new.csv").read_text().splitlines()
    unknown = [f"{line.rsplit(',', 10)[0]},0,0,0,0,0,0,0,0,10,0" for line in votes[1:]]
    (tmp_path / "copy" / "fer2013new.csv").write_text("\n".join([votes[0], *unknown]) + "\n")
    with pytest.raises(DataError, match="no row has votes for an expression"):
        _ = FERPlusDataModule(str(tmp_path / "copy")).table


def test_soft_targets_reach_the_batches(root: Path) -> None:
    data = FERPlusDataModule(str(root), target="soft", batch_size=8)
    batch = next(iter(data.train_dataloader()))
    assert batch["soft_label"].shape == (8, 8)
    assert (batch["soft_label"].argmax(dim=1) == batch["label"]).all()


def test_the_votes_must_be_there(tmp_path: Path) -> None:
    write_fer2013(tmp_path, "csv")
    with pytest.raises(DataError, match=r"no fer2013new.csv in"):
        _ = FERPlusDataModule(str(tmp_path)).table


@pytest.mark.slow
def test_the_real_votes_leave_what_is_known(tmp_path: Path) -> None:
    unpack_real_fer2013(tmp_path, "csv")
    unpack_real_fer2013(tmp_path, "ferplus")
    data = FERPlusDataModule(str(tmp_path))
    counts = data.table.class_counts("train")
    assert sum(counts.values()) > 24_000  # Barsoum et al. keep about 25,000 of 28,709
    assert max(counts, key=counts.__getitem__) == "neutral"
    assert data.describe()["left_out"]["by_reason"]["most votes say not a face"] > 100


def write_generated(root: Path, rows: int = 24) -> Path:
    """Write what FER+'s ``generate_training_data.py`` writes: eight votes for one class, two for the next."""
    rng = np.random.default_rng(0)
    for part, folder in enumerate(("FER2013Train", "FER2013Valid", "FER2013Test")):
        (root / folder).mkdir(parents=True)
        lines = []
        for row in range(rows):
            name = f"fer{part * rows + row:07}.png"
            Image.fromarray(rng.integers(0, 256, (48, 48), np.uint8)).save(root / folder / name)
            counts = [0] * 10
            counts[row % 8], counts[(row + 1) % 8] = 8, 2
            lines.append(f'{name},"(0, 0, 48, 48)",{",".join(map(str, counts))}')
        (root / folder / "label.csv").write_text("\n".join(lines) + "\n")
    return root


class TestGenerated(DataModuleContract):
    """The folders of FER+'s own script."""

    @pytest.fixture(autouse=True)
    def _generated(self, tmp_path: Path) -> None:
        self.root = write_generated(tmp_path / "data")

    def make(self, **options: Any) -> EmotionDataModule:
        return FERPlusDataModule(str(self.root), **{"channels": 1, "num_workers": 0} | options)

    def test_votes_and_parts_are_those_of_the_folders(self) -> None:
        assert detect_datamodule(self.root) == ("FERPlusDataModule", self.root)
        table = self.make(target="soft").table
        assert table.files[0] == "FER2013Train/fer0000000.png"
        order = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")
        assert [table.class_names[label] for label in table.labels[:8]] == list(order)
        assert {split: len(table.rows(split)) for split in SPLITS} == dict.fromkeys(SPLITS, 24)
        assert table.soft_labels is not None
        assert table.soft_labels[0, EIGHT.index("neutral")] == pytest.approx(0.8)
        picture = np.asarray(Image.open(self.root / "FER2013Train/fer0000005.png"))
        assert np.array_equal(table.images[np.array([5])][0, 0], picture)

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("fer0000000.png,1,2", "label.csv, line 1 .fer0000000.png.: expected name, box and 10 numbers of votes"),
            (f"fer0000000.png,box{',x' * 10}", "expected numbers of votes, found 'x, x"),
            (f"nowhere.png,box{',1' * 10}", "expected an image, found no file"),
            (f"fer0000000.png,box{',1.5' * 10}", "expected numbers of votes, found '1.5, 1"),
            (f"fer0000000.png,box{',-1' * 10}", "expected numbers of votes, found '-1, -1"),
        ],
    )
    def test_bad_lines_are_named_and_can_be_skipped(
        self, line: str, message: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = self.root / "FER2013Train" / "label.csv"
        path.write_text("\n".join([line, *path.read_text().splitlines()[1:]]) + "\n")
        with pytest.raises(DataError, match=message):
            _ = self.make().table
        caplog.clear()
        assert len(self.make(on_error="skip").table) == 71
        assert "skipped 1 bad row" in caplog.text
        with pytest.raises(DataError, match=message):  # what was skipped is not taken for good
            _ = self.make().table

    def test_spaces_and_empty_lines_do_not_matter_nor_does_a_missing_part(self) -> None:
        path = self.root / "FER2013Train" / "label.csv"
        lines = "\n\n".join(f" {line.replace('.png', '.png ')}" for line in path.read_text().splitlines())
        path.write_text(f"{lines.strip()}\n\n", encoding="utf-8-sig")  # as Excel writes it
        (self.root / "FER2013Test" / "label.csv").unlink()
        table = self.make().table
        assert {split: len(table.rows(split)) for split in SPLITS} == {"train": 24, "val": 24, "test": 0}

    def test_ties_that_need_fer2013_say_what_to_pass(self) -> None:
        with pytest.raises(ConfigError, match="needs FER2013's labels") as caught:
            _ = self.make(ties="fer2013").table
        assert proposed(str(caught.value)) == ["--data.ties=drop", "--data.ties=first"]


def write_pixels(path: Path, labels: Sequence[object]) -> Path:
    """Write a CSV in FER2013's form, a row for each label, the usages in turn."""
    usages = ("Training", "PublicTest", "PrivateTest")
    lines = [
        f"{label},{' '.join(str((7 * row + pixel) % 256) for pixel in range(2304))},{usages[row % 3]}"
        for row, label in enumerate(labels)
    ]
    path.write_text("\n".join(["emotion,pixels,Usage", *lines]) + "\n")
    return path


class TestPixels:
    """A CSV in FER2013's form with FER+'s codes in place of the votes."""

    NAMES = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")

    @pytest.mark.parametrize("target", ["majority", "soft"])
    @pytest.mark.parametrize("names", [False, True])
    def test_codes_and_names(self, names: bool, target: Target, tmp_path: Path) -> None:
        root = write_pixels(tmp_path / "fer.csv", list(self.NAMES if names else range(8)) * 3)
        table = FERPlusDataModule(str(root), target=target, cache_dir=str(tmp_path / "c")).table
        assert [table.class_names[label] for label in table.labels] == [*self.NAMES * 3]
        assert {split: len(table.rows(split)) for split in ("train", "val", "test")} == dict.fromkeys(
            ("train", "val", "test"), 8
        )
        assert "0 neutral, 1 happy" in table.remarks[0]
        assert table.files[1] == "fer.csv#3"
        if target == "soft":
            assert table.soft_labels is not None
            assert np.array_equal(table.soft_labels, np.eye(8, dtype=np.float32)[table.labels])

    def test_bad_rows_are_skipped_where_asked_and_never_taken_for_good(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        root = write_pixels(tmp_path / "fer.csv", [*range(8), *range(8), "x"])
        for _ in range(2):
            caplog.clear()
            data = FERPlusDataModule(str(root), cache_dir=str(tmp_path / "c"), on_error="skip")
            assert len(data.table) == 16
            assert "skipped 1 bad row" in caplog.text
            with pytest.raises(LabelError, match="line 18: unknown emotion code 'x'"):
                _ = FERPlusDataModule(str(root), cache_dir=str(tmp_path / "c")).table

    def test_without_contempt_the_votes_are_missed(self, tmp_path: Path) -> None:
        root = write_pixels(tmp_path / "fer.csv", list(range(7)) * 3)
        with pytest.raises(DataError, match="need the FER\\+ votes: no fer2013new.csv"):
            _ = FERPlusDataModule(str(root), cache_dir=str(tmp_path / "c")).table

    @pytest.mark.parametrize(("labels", "codes"), [(NAMES, NAMES), (range(8), EIGHT.class_names)])
    @pytest.mark.usefixtures("blank_pictures")
    def test_each_way_out_of_the_message_works(
        self, labels: Sequence[object], codes: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = write_pixels(tmp_path / "fer.csv", [label for label in labels for _ in range(3)])
        options = [f"--data.root={root}", f"--data.cache_dir={tmp_path / 'c'}", f"--out={tmp_path / 'page'}"]
        if labels == range(8):  # else the rows of contempt are left out, and counted
            assert fer("data", "inspect", "--data=FER2013DataModule", *options) == 2
        with pytest.raises(LabelError) as caught:
            _ = FER2013DataModule(str(root), cache_dir=str(tmp_path / "c")).table
        ways = proposed(str(caught.value))
        assert ways[:2] == ["--data=FERPlusDataModule", "--data=CKPlusDataModule"]
        own = codes == EIGHT.class_names
        assert fer("data", "inspect", ways[own], *options, *(["--data.classes=8"] if own else [])) == 0
        counts = [
            line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.startswith(EIGHT.class_names)
        ]
        assert counts == [["1", "1", "1"]] * 8
