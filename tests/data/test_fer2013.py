from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fer_lightning.data.sets.fer2013 import fer2013_layout
from fer_lightning.data.sets.fer2013.fer2013 import FER2013DataModule, UsageSplits, scan_fer2013
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError, DataError
from tests.contracts.datamodule import DataModuleContract
from tests.helpers.cli import TINY, fer
from tests.helpers.data import pixels
from tests.helpers.fer2013 import EMOTIONS, csv_lines, fake_rows, unpack_real_fer2013, write_fer2013
from tests.helpers.proposals import proposed

ROWS = fake_rows()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


def write_lines(path: Path, lines: list[str], end: str = "\n") -> Path:
    path.write_bytes((end.join(lines) + end).encode())
    return path


def in_file_order(table: SamplesTable) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the rows of a table of the folder form in the order of the original file."""
    numbers = [int(name.rsplit("_", 1)[1].removesuffix(".png")) for name in table.files.tolist()]
    return np.argsort(numbers)


@pytest.mark.parametrize("form", ["csv", "icml"])
@pytest.mark.parametrize("how", ["folder", "file"])
def test_a_csv_is_read_as_it_was_written(tmp_path: Path, form: str, how: str) -> None:
    write_fer2013(tmp_path, form)
    name = {"csv": "fer2013.csv", "icml": "icml_face_data.csv"}[form]
    table = scan_fer2013(tmp_path if how == "folder" else tmp_path / name)
    assert table.class_names == SEVEN.class_names
    np.testing.assert_array_equal(pixels(table)[:, 0], ROWS.images)
    assert table.labels.tolist() == ROWS.labels.tolist()
    assert table.sources.tolist() == [f"fer2013/{usage}" for usage in ROWS.usages]
    assert table.files.tolist() == [f"{name}#{line}" for line in range(2, 100)]
    assert table.splits.tolist() == ["train"] * 70 + ["val"] * 14 + ["test"] * 14
    assert table.soft_labels is None
    assert table.class_counts("train") == dict.fromkeys(EMOTIONS, 10)


def test_all_forms_give_the_same_samples(tmp_path: Path) -> None:
    tables = [scan_fer2013(write_fer2013(tmp_path / form, form)) for form in ("csv", "icml", "folder")]
    for split in ("train", "val", "test"):
        assert len({table.fingerprint(split) for table in tables}) == 1
    folder = tables[2]
    assert folder.images.shape == (98, 1, 48, 48)
    np.testing.assert_array_equal(pixels(folder)[in_file_order(folder), 0], ROWS.images)
    assert folder.files[0].startswith("test/angry/P")
    assert folder.files.tolist() == sorted(folder.files.tolist())


def test_column_order_spaces_case_bom_line_ends_and_further_columns_do_not_matter(tmp_path: Path) -> None:
    plain = scan_fer2013(write_lines(tmp_path / "plain.csv", csv_lines(ROWS)))
    lines = ["\ufeff note, PIXELS ,usage,Emotion "]
    for line in csv_lines(ROWS)[1:]:
        label, pixels, usage = line.split(",")
        lines.append(f'"say ""hé""","{pixels.replace(" ", "  ", 3)} ",{usage.lower()}, {label}')
    lines.insert(50, "")
    odd = scan_fer2013(write_lines(tmp_path / "odd.csv", lines, end="\r\n"))
    assert odd.fingerprint("train") == plain.fingerprint("train")
    assert odd.files[48:50].tolist() == ["odd.csv#50", "odd.csv#52"]


def test_a_csv_of_any_name_is_found_by_its_header(tmp_path: Path) -> None:
    write_lines(tmp_path / "faces.CSV", csv_lines(ROWS, "icml"))
    write_fer2013(tmp_path, "ferplus")
    (tmp_path / "notes.csv").write_text("day,note\n1,hello\n")
    assert len(scan_fer2013(tmp_path)) == 98


def test_a_last_line_without_line_end_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_text("\n".join(csv_lines(ROWS)))
    assert len(scan_fer2013(tmp_path)) == 98


def test_synonyms_name_class_folders_and_junk_is_left_out(tmp_path: Path) -> None:
    write_fer2013(tmp_path, "folder")
    expected = scan_fer2013(tmp_path)
    (tmp_path / "train" / "angry").rename(tmp_path / "train" / "Anger")
    (tmp_path / "test" / "happy").rename(tmp_path / "test" / "happiness")
    (tmp_path / "test").rename(tmp_path / "Test")
    (tmp_path / "train" / "happy").rename(tmp_path / "train" / "03")
    first = next((tmp_path / "train" / "fear").iterdir())
    first.rename(first.with_suffix(".PNG"))
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    for name in ("train/.DS_Store", "train/sad/Thumbs.db", "train/sad/._Training_1.png", "train/readme.txt", "a.txt"):
        (tmp_path / name).write_bytes(b"junk")
    table = scan_fer2013(tmp_path)
    for split in ("train", "val", "test"):
        assert table.fingerprint(split) == expected.fingerprint(split)


def test_without_prefixes_the_folders_tell_the_usage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_fer2013(tmp_path, "folder")
    for path in sorted(tmp_path.glob("*/*/*.png")):
        usage, number = path.stem.split("_")
        top = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}[usage]
        target = tmp_path / top / path.parent.name / f"im{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    for _ in range(2):  # read, then from the cache
        caplog.clear()
        table = scan_fer2013(tmp_path)
        assert [len(table.rows(split)) for split in ("train", "val", "test")] == [70, 14, 14]
        assert "98 of 98 images" in caplog.text
    write_fer2013(tmp_path / "other", "folder")
    one = next((tmp_path / "other" / "train" / "sad").iterdir())
    one.rename(one.with_name("one.png"))
    scan_fer2013(tmp_path / "other")
    assert "of 1 of 98 images do not begin with Training_" in caplog.text


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1", "I;16", "CMYK"])
def test_other_modes_become_gray(tmp_path: Path, mode: str) -> None:
    gray = np.where(ROWS.images[0] > 127, 255, 0).astype(np.uint8)
    folder = tmp_path / "train" / "fear"
    folder.mkdir(parents=True)
    if mode == "I;16":
        Image.fromarray(gray.astype(np.uint16) * 257).save(folder / "Training_0.png")
    else:
        suffix = "tif" if mode == "CMYK" else "png"
        Image.fromarray(gray).convert("RGB").convert(mode).save(folder / f"Training_0.{suffix}")
    table = scan_fer2013(tmp_path)
    np.testing.assert_array_equal(pixels(table)[0, 0], gray)


def test_what_is_transparent_lies_on_mid_gray(tmp_path: Path) -> None:
    (tmp_path / "train" / "fear").mkdir(parents=True)
    Image.new("LA", (48, 48), (255, 0)).save(tmp_path / "train" / "fear" / "Training_0.png")
    assert np.unique(pixels(scan_fer2013(tmp_path))).tolist() == [128]


def test_usages_are_mapped_as_asked(tmp_path: Path) -> None:
    write_fer2013(tmp_path, "csv")
    table = scan_fer2013(tmp_path, UsageSplits("Training + publictest", "PrivateTest", "none"))
    assert table.splits.tolist() == ["train"] * 84 + ["val"] * 14
    table = scan_fer2013(tmp_path, UsageSplits("", "", "PublicTest+PrivateTest"))
    assert table.splits.tolist() == [""] * 70 + ["test"] * 28


def test_a_usage_that_is_not_there_gives_an_empty_split(tmp_path: Path) -> None:
    write_fer2013(tmp_path, "csv", {"Training": 14, "PublicTest": 7})
    table = scan_fer2013(tmp_path)
    assert len(table.rows("test")) == 0
    assert len(table) == 21


def test_a_holdout_is_stratified_grouped_and_the_same_for_all_forms(tmp_path: Path) -> None:
    rows = csv_lines(fake_rows({"Training": 210, "PublicTest": 14, "PrivateTest": 7}))
    lines = [*rows, *rows[1:71]]  # every third training image twice
    table = scan_fer2013(write_lines(tmp_path / "fer2013.csv", lines), UsageSplits(val="holdout", holdout_fraction=0.2))
    assert len(table.rows("val")) == 56
    assert len(table.overlap("val", "train")) == 0
    for name, count in table.class_counts("val").items():
        assert abs(count - 0.2 * (count + table.class_counts("train")[name])) <= 1
    assert len(table.rows("test")) == 7
    assert sorted(set(table.sources[table.rows("val")].tolist())) == ["fer2013/Training"]
    other = scan_fer2013(tmp_path, UsageSplits(val="holdout", holdout_fraction=0.2, split_seed=1))
    assert other.fingerprint("val") != table.fingerprint("val")
    forms = [write_fer2013(tmp_path / form, form) for form in ("csv", "folder")]
    assert (
        len({scan_fer2013(root, UsageSplits(val=" Holdout ", test=" None ")).fingerprint("val") for root in forms}) == 1
    )


def test_the_module_passes_the_seed_on_and_leaves_all_rows_to_folds(tmp_path: Path) -> None:
    root = str(write_fer2013(tmp_path, "csv"))

    def scanned(**options: Any) -> SamplesTable:
        return FER2013DataModule(root, val="holdout", holdout_fraction=0.5, **options).scan()

    drawn = [scan_fer2013(root, UsageSplits(val="holdout", holdout_fraction=0.5, split_seed=seed)) for seed in (0, 1)]
    assert [scanned(split_seed=seed).splits.tolist() for seed in (0, 1)] == [table.splits.tolist() for table in drawn]
    assert len(scanned(folds=2, fold=0).rows("train")) == 70


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": "Train"}, "train: unknown usage 'Train', expected Training, PublicTest, PrivateTest"),
        ({"test": "PublicTest"}, "usage PublicTest serves both val and test"),
        ({"train": "Training+PrivateTest"}, "usage PrivateTest serves both train and test"),
        ({"test": "holdout"}, "test: unknown usage 'holdout'"),
        ({"val": "Training+"}, "val: unknown usage ''.*'holdout', or 'none'"),
        ({"val": "holdout", "train": "none"}, "val 'holdout' needs a usage to train on"),
        ({"val": "holdout", "holdout_fraction": 1.5}, "above 0 and below 1, not train 'Training' and 1.5"),
        ({"on_error": "ignore"}, "on_error must be 'raise' or 'skip', not 'ignore'"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_read(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FER2013DataModule("/nowhere", **arguments).scan()


@pytest.mark.parametrize("form", ["csv", "folder"])
def test_the_second_start_reads_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    write_fer2013(tmp_path, form)
    first = scan_fer2013(tmp_path)

    def read(*_: object) -> None:
        raise AssertionError("parsed again")

    monkeypatch.setattr(fer2013_layout, f"read_{form}_rows", read)
    second = scan_fer2013(tmp_path, UsageSplits(val="holdout"))
    assert second.files.tolist() == first.files.tolist()
    np.testing.assert_array_equal(second.images, first.images)
    np.testing.assert_array_equal(second.digests, first.digests)


def test_changed_data_is_read_again_and_nothing_is_written_beside_it(tmp_path: Path) -> None:
    for form in ("csv", "folder"):
        root = write_fer2013(tmp_path / form, form)
        before = sorted(os.listdir(root))
        first = scan_fer2013(root).fingerprint("train")
        write_fer2013(root, form, {"Training": 77, "PublicTest": 14, "PrivateTest": 14}, seed=1)
        assert scan_fer2013(root).fingerprint("train") != first
        assert sorted(os.listdir(root)) == before


@pytest.mark.parametrize("form", ["csv", "folder"])
def test_bad_rows_are_skipped_counted_and_reported_at_each_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    write_fer2013(tmp_path, form)
    if form == "csv":
        lines = csv_lines(ROWS)
        for at in (5, 20, 30, 40):
            lines[at] = "9" + lines[at][1:]
        write_lines(tmp_path / "fer2013.csv", lines)
    else:
        for path in sorted((tmp_path / "train" / "sad").iterdir())[:4]:
            path.write_bytes(b"")
    with pytest.raises(DataError):
        scan_fer2013(tmp_path)
    for _ in range(2):
        caplog.clear()
        table = scan_fer2013(tmp_path, on_error="skip")
        assert len(table) == 94
        [record] = caplog.records
        assert record.levelno == logging.WARNING
        assert "skipped 4 bad rows" in record.message
        assert record.message.count("expected") == 3
    with pytest.raises(DataError):  # what was skipped is not taken for good
        scan_fer2013(tmp_path)
    if form == "csv":
        assert "fer2013.csv#6" not in table.files
        assert "line 6: unknown emotion code '9'" in record.message


def test_more_bad_rows_than_good_ones_are_refused(tmp_path: Path) -> None:
    lines = csv_lines(ROWS)
    write_lines(tmp_path / "fer2013.csv", [lines[0], *lines[1:41], *("x," + line for line in lines[41:])])
    with pytest.raises(DataError, match=r"58 of 98 rows are bad, too many to skip; the first: line 42: expected 3 col"):
        scan_fer2013(tmp_path, on_error="skip")


def test_the_real_public_test(tmp_path: Path) -> None:
    root = unpack_real_fer2013(tmp_path, "csv", ["PublicTest"])
    table = scan_fer2013(root)
    assert len(table.rows("val")) == 3589
    assert table.class_counts("val")["disgust"] == 56
    assert table.class_counts("val")["happy"] == 895


@pytest.mark.slow
def test_the_real_data_in_all_forms(tmp_path: Path) -> None:
    tables = []
    for form in ("csv", "icml", "folder"):
        root = unpack_real_fer2013(tmp_path / form, form)
        unpack_real_fer2013(root, "ferplus")
        read, kept = scan_fer2013(root), scan_fer2013(root)
        assert kept.fingerprint("train") == read.fingerprint("train")
        tables.append(scan_fer2013(root, soft_labels=True))
        assert tables[-1].fingerprint("train") == read.fingerprint("train")
        shutil.rmtree(root)
    table = tables[0]
    assert len(table.rows("train")) == 28709
    assert len(table.rows("val")) == 3589
    counts = {
        "angry": 3995,
        "disgust": 436,
        "fear": 4097,
        "happy": 7215,
        "sad": 4830,
        "surprise": 3171,
        "neutral": 4965,
    }
    assert table.class_counts("train") == counts
    assert len(table.overlap("val", "train")) == 279
    np.testing.assert_array_equal(table.images, tables[1].images)
    order = in_file_order(tables[2])
    np.testing.assert_array_equal(table.images, tables[2].images[order])
    np.testing.assert_array_equal(table.labels, tables[2].labels[order])
    assert table.soft_labels is not None
    assert tables[2].soft_labels is not None
    np.testing.assert_array_equal(table.soft_labels, tables[2].soft_labels[order])
    np.testing.assert_allclose(table.soft_labels[0], [3 / 10, 2 / 10, 0, 0, 1 / 10, 0, 4 / 10], rtol=1e-6)


class TestFER2013DataModule(DataModuleContract):
    @pytest.fixture(autouse=True)
    def _data_on_disk(self, tmp_path: Path) -> None:
        self.root = write_fer2013(tmp_path / "fer2013", "csv")

    def make(self, **options: Any) -> FER2013DataModule:
        return FER2013DataModule(root=str(self.root), **options)

    def test_a_missing_private_test_is_told_at_test_only(self, tmp_path: Path) -> None:
        root = write_fer2013(tmp_path / "public", "csv", counts={"Training": 70, "PublicTest": 14})
        data = FER2013DataModule(root=str(root))
        data.setup("fit")
        with pytest.raises(
            DataError, match="'test' needs the test split.*--data.val holdout --data.test PublicTest to set"
        ):
            data.setup("test")
        as_proposed = FER2013DataModule(root=str(root), val="holdout", test="PublicTest")
        as_proposed.setup("fit")
        as_proposed.setup("test")

    def test_a_missing_validation_part_says_what_makes_one(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = write_fer2013(tmp_path / "public", "csv", counts={"Training": 70, "PrivateTest": 14})
        typed = ["fit", *TINY[1:], "--data=FER2013DataModule", f"--data.root={root}", "--trainer.fast_dev_run=true"]
        assert fer(*typed) == 2
        message = capsys.readouterr().err
        assert "needs the val split" in message
        assert proposed(message) == ["--data.val=holdout"]
        assert fer(*typed, *proposed(message)) == 0

    @pytest.mark.usefixtures("blank_pictures")
    def test_a_file_without_usage_is_one_of_training_images(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lines = csv_lines(fake_rows({"Training": 70}))
        path = tmp_path / "train.csv"
        path.write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
        table = FER2013DataModule(str(path)).table
        assert set(table.splits.tolist()) == {"train"}
        assert table.labels.tolist() == fake_rows({"Training": 70}).labels.tolist()
        assert table.remarks[1:] == (f"{path} has no column Usage: all rows are taken for Training",)
        with pytest.raises(DataError, match="needs the val split") as caught:
            FER2013DataModule(str(path)).check("fit")
        assert proposed(str(caught.value)) == ["--data.val=holdout"]
        FER2013DataModule(str(path), val="holdout").check("fit")
        assert fer("data", "inspect", str(path), f"--out={tmp_path / 'out'}") == 0
        assert "read by FER2013DataModule" in capsys.readouterr().out

    def test_usages_can_be_mapped(self) -> None:
        counts = self.make(val="holdout", test="PublicTest+PrivateTest", holdout_fraction=0.2).describe()["counts"]
        assert counts == {"train": 56, "val": 14, "test": 28}
