from __future__ import annotations

import io
import itertools
import json
import os
import pickle
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fer_lightning.data.sets.fer2013.fer2013 import UsageSplits, scan_fer2013
from fer_lightning.data.storage import convert as convert_module
from fer_lightning.data.storage.columns import arrow_columns, table_of_columns
from fer_lightning.data.storage.convert import Format, _statistics, check_target, convert_table
from fer_lightning.data.storage.description import METADATA, StoredSet
from fer_lightning.data.storage.encoded_images import EncodedImages
from fer_lightning.data.storage.encoding import Encoder, encoded_chunks
from fer_lightning.data.table.images import ImageArray
from fer_lightning.data.table.manifest_file import read_manifest
from fer_lightning.data.table.samples import SamplesTable, content_digests
from fer_lightning.emotions import EIGHT
from fer_lightning.errors import ConfigError, DataError, FERError, MissingExtraError
from tests.helpers.data import stripes_table

LARGE = ("arrow", "parquet", "shards")
NAMES: dict[Format, str] = {
    "arrow": "a", "shards": "s", "folders": "f", "parquet": "p.parquet", "csv": "c.csv",
}  # fmt: skip


@pytest.fixture(autouse=True)
def packages() -> None:
    for name in ("pyarrow", "datasets", "litdata"):
        pytest.importorskip(name, reason="converted sets need the extra 'large'")


def small_table(soft: bool = False) -> SamplesTable:
    """Return 42 rows: five of them are in no split, with texts, numbers and gaps beside them."""
    table = stripes_table({"train": 21, "val": 7, "test": 9, "": 5}, soft=soft)
    rows = np.arange(len(table))
    return replace(
        table,
        columns={
            "kind": np.where(rows % 3 == 0, "synthetic", "real"),
            "subject": np.where(rows % 5 == 0, "", np.char.add("Zoë ", (rows % 4).astype(str))),
            "valence": np.where(rows % 4 == 0, np.nan, rows / 50),
            "frames": rows,
        },
        thumbnails=np.ascontiguousarray(table.images[rows][:, 0, ::2, ::2]),
    )


class Watched:
    """Images that note the largest request, and fail when told."""

    dtype = np.dtype(np.uint8)

    def __init__(self, count: int, size: int, fail_at: int = -1, error: BaseException | None = None) -> None:
        self.shape = (count, 1, size, size)
        self.largest = 0
        self.fail_at = fail_at
        self.error = error

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        self.largest = max(self.largest, len(rows))
        if self.error is not None and self.fail_at in rows:
            raise self.error
        return np.full((len(rows), *self.shape[1:]), 7, np.uint8)


def watched_table(images: ImageArray) -> SamplesTable:
    count = len(images)
    return replace(stripes_table({"train": count}), images=images, digests=np.zeros((count, 16), np.uint8))


def test_folders_hold_every_image_under_its_class_and_a_manifest(tmp_path: Path) -> None:
    table = small_table(soft=True)
    summary = convert_table(table, tmp_path / "f", "folders", encoding="png")
    manifest = read_manifest(tmp_path / "f" / "manifest.csv")
    paths = manifest.columns["path"].tolist()
    assert paths[0] == "train/angry/000000.png"
    assert paths[-1].startswith("unused/")
    for row, path in enumerate(paths):
        with Image.open(tmp_path / "f" / path) as image:
            assert (np.asarray(image) == table.images[np.array([row])][0, 0]).all()
    assert list(manifest.columns)[:6] == ["path", "label", "split", "source", "kind", "subject"]
    assert manifest.columns["split"].tolist() == table.splits.tolist()
    assert manifest.columns["subject"].tolist() == table.columns["subject"].tolist()
    assert np.allclose(manifest.numbers("valence"), table.columns["valence"], equal_nan=True, atol=1e-6)
    assert manifest.columns["digest"][3] == bytes(table.digests[3]).hex() == manifest.columns["source_digest"][3]
    assert np.allclose(manifest.numbers("soft_disgust"), np.eye(7)[table.labels][:, 1])
    assert summary["counts"] == {"train": 21, "val": 7, "test": 9, "": 5}
    assert summary["bytes"] == sum(p.stat().st_size for p in (tmp_path / "f").rglob("*") if p.is_file())


def test_a_csv_is_read_back_as_fer2013(tmp_path: Path) -> None:
    table = small_table()
    summary = convert_table(table, tmp_path / "c.csv", "csv", size=48)
    read = scan_fer2013(tmp_path / "c.csv", cache_dir=tmp_path / "cache")
    assert (summary["images"], summary["left_out"]) == (37, 5)
    assert read.splits.tolist() == [split for split in table.splits.tolist() if split]
    assert read.labels.tolist() == table.labels[table.splits != ""].tolist()
    assert {split: read.fingerprint(split) for split in ("train", "val", "test")} == summary["fingerprints"]


def test_a_csv_of_48_pixels_keeps_them_all(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (14, 1, 48, 48)).astype(np.uint8)
    table = replace(stripes_table({"train": 14}), images=images, digests=content_digests(images))
    convert_table(table, tmp_path / "c.csv", "csv")
    read = scan_fer2013(tmp_path / "c.csv", UsageSplits(val="none", test="none"), cache_dir=tmp_path / "cache")
    assert (read.images[np.arange(14)] == images).all()


@pytest.mark.parametrize("to", NAMES)
def test_a_destination_in_use_is_left_alone(to: Format, tmp_path: Path) -> None:
    out = tmp_path / NAMES[to]
    if "." in out.name:
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "mine").write_text("mine")
    with pytest.raises(ConfigError, match="exists") as caught:
        convert_table(small_table(), out, to)
    assert caught.value.exit_code == 2
    assert (out if out.is_file() else out / "mine").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("to", ["arrow", "shards", "folders"])
def test_an_empty_folder_is_a_fine_destination(to: Format, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    convert_table(small_table(), tmp_path / "out", to)
    assert (tmp_path / "out" / METADATA).exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), DataError("bad image")], ids=["Ctrl-C", "bad image"])
@pytest.mark.parametrize("to", NAMES)
def test_nothing_is_left_of_a_conversion_that_did_not_end(to: Format, error: BaseException, tmp_path: Path) -> None:
    table = watched_table(Watched(600, 8, fail_at=599, error=error))
    with pytest.raises(type(error)):
        convert_table(table, tmp_path / "sub" / NAMES[to], to)
    assert list((tmp_path / "sub").iterdir()) == []


def test_a_destination_is_checked_without_a_table(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    assert check_target(tmp_path / "new", "folders") == tmp_path / "new"
    assert check_target(tmp_path / "new.csv", "csv") == tmp_path / "new.csv"
    with pytest.raises(ConfigError, match="exists and is not empty"):
        check_target(tmp_path / "full", "folders")
    with pytest.raises(ConfigError, match="ends in .csv"):
        check_target(tmp_path / "new", "csv")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def killed(part: Path, hours: float, hours_within: float | None = None) -> Path:
    """Write what a killed conversion leaves: a file, or a folder in whose depth something was changed later."""
    times = [time.time() - 3600 * age for age in (hours, hours if hours_within is None else hours_within)]
    if hours_within is None:
        part.write_text("half")
    else:
        (part / "train" / "sad").mkdir(parents=True)
        (part / "train" / "sad" / "0.png").touch()
        for path in part.rglob("*"):
            os.utime(path, (times[0], times[0]))
        os.utime(part / "train" / "sad" / "0.png", (times[1], times[1]))
    os.utime(part, (times[0], times[0]))
    return part


@pytest.mark.parametrize("to", ["folders", "csv"])
def test_what_killed_conversions_left_is_removed_after_a_day(to: Format, tmp_path: Path) -> None:
    out = tmp_path / NAMES[to]
    code = "0123456789ab"
    for hours in (23, 25):
        killed(tmp_path / f".{out.name}.{code[:10]}{hours}.part", hours)
        killed(tmp_path / f".{out.name}.{code[2:]}{hours}.part", hours, hours)
    kept = [
        f".{out.name}.{code[:10]}23.part",
        f".{out.name}.{code[2:]}23.part",
        killed(tmp_path / f".{out.name}.{code}.part", 25, 1).name,  # somebody is still at it
        killed(tmp_path / f".{out.name}.mine.{code}.part", 25).name,  # of another destination
        killed(tmp_path / f".{out.name}.mine.part", 25).name,
    ]
    convert_table(small_table(), out, to)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, out.name])


def test_a_full_disk_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(convert_module, "describe_files", full)
    with pytest.raises(FERError, match=r"out: cannot be written \(No space left on device\)"):
        convert_table(small_table(), tmp_path / "out", "folders")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", NAMES)
def test_images_are_read_in_chunks(to: Format, tmp_path: Path) -> None:
    images = Watched(600, 8)
    written = convert_table(watched_table(images), tmp_path / NAMES[to], to)
    assert images.largest == 512
    assert (written["images"], written["left_out"], written["counts"]) == (600, 0, {"train": 600})


def test_chunks_of_large_images_are_smaller(tmp_path: Path) -> None:
    images = Watched(20, 1024)
    convert_table(watched_table(images), tmp_path / "out", "folders")
    assert images.largest == 16  # of one mebibyte each


@pytest.mark.parametrize("encoding", ["jpeg", "webp"])
def test_lossy_digests_are_those_of_what_is_read_back(encoding: Any, tmp_path: Path) -> None:
    table = small_table()
    summary = convert_table(table, tmp_path / "f", "folders", encoding=encoding, quality=80)
    manifest = read_manifest(tmp_path / "f" / "manifest.csv")
    with Image.open(tmp_path / "f" / str(manifest.columns["path"][0])) as image:
        read = np.asarray(image.convert("L"))
    assert manifest.columns["digest"][0] == bytes(content_digests(read[None, None])[0]).hex()
    assert manifest.columns["digest"][0] != manifest.columns["source_digest"][0]
    assert summary["fingerprints"]["train"] != table.fingerprint("train")


def test_size_and_channels_can_be_changed(tmp_path: Path) -> None:
    convert_table(small_table(), tmp_path / "f", "folders", size=24, channels=3, encoding="png")
    with Image.open(tmp_path / "f" / "train" / "angry" / "000000.png") as image:
        assert (image.size, image.mode) == ((24, 24), "RGB")
    stored = json.loads((tmp_path / "f" / METADATA).read_text())
    assert (stored["size"], stored["channels"], len(stored["mean"])) == (24, 3, 3)


def test_the_description_says_what_is_in_the_set(tmp_path: Path) -> None:
    table = small_table()
    convert_table(table, tmp_path / "f", "folders", encoding="png", description={"datamodule": "Stripes"})
    stored = json.loads((tmp_path / "f" / METADATA).read_text())
    train = table.images[table.rows("train")] / 255
    assert stored["mean"] == pytest.approx([train.mean()], abs=1e-5)
    assert stored["std"] == pytest.approx([train.std()], abs=1e-5)
    assert stored["counts"]["train"] == table.class_counts("train")
    assert stored["fingerprints"]["val"] == table.fingerprint("val")
    assert stored["source"] == {"datamodule": "Stripes"}
    assert (stored["scheme"], stored["encoding"], stored["format"]) == ("fer7", "png", "folders")


@pytest.mark.parametrize(
    ("to", "out", "options", "message"),
    [
        ("zip", "x", {}, "to must be one of"),
        ("csv", "x", {}, "ends in .csv"),
        ("parquet", "x.csv", {}, "ends in .parquet"),
        ("csv", "x.csv", {"channels": 3}, "gray images only"),
        ("arrow", "x", {"size": 4}, "size must be at least 8"),
        ("arrow", "x", {"channels": 2}, "channels must be 1"),
        ("arrow", "x", {"quality": 0}, "quality must be 1 to 100"),
        ("arrow", "x", {"quality": 101}, "quality must be 1 to 100"),
        ("arrow", "x", {"encoding": "gif"}, "encoding must be one of"),
    ],
)
def test_bad_arguments_are_named(to: Any, out: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        convert_table(small_table(), tmp_path / out, to, **options)
    assert list(tmp_path.iterdir()) == []


def test_eight_classes_do_not_fit_into_the_pixel_form(tmp_path: Path) -> None:
    table = replace(small_table(), class_names=EIGHT.class_names)
    with pytest.raises(ConfigError, match="knows the classes angry"):
        convert_table(table, tmp_path / "x.csv", "csv")


@pytest.mark.parametrize("to", LARGE)
def test_a_missing_package_is_told_with_what_to_install(
    to: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pyarrow", "litdata"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fer_lightning\[large\]'"):
        convert_table(small_table(), tmp_path / NAMES[to], to)
    assert list(tmp_path.iterdir()) == []


def test_a_column_may_not_take_the_name_of_ours(tmp_path: Path) -> None:
    table = replace(small_table(), columns={"digest": np.zeros(42)})
    with pytest.raises(DataError, match="may not be called 'digest'"):
        convert_table(table, tmp_path / "a", "arrow")


def test_an_empty_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to convert"):
        convert_table(small_table().select(np.empty(0, np.int64)), tmp_path / "a", "arrow")


def test_png_keeps_every_pixel_of_colour() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 9, 9)).astype(np.uint8)
    _, digest = Encoder("png").encode(image)
    assert (digest == content_digests(image[None])[0]).all()


def test_columns_hold_the_digests_before_and_after(tmp_path: Path) -> None:
    table = stripes_table({"train": 7})
    stored = np.arange(7 * 16, dtype=np.uint8).reshape(7, 16)
    columns = arrow_columns(table, np.array([3, 1]), stored[:2])
    assert columns["digest"].to_pylist() == [row.tobytes() for row in stored[:2]]
    assert columns["source_digest"].to_pylist() == [table.digests[row].tobytes() for row in (3, 1)]
    assert columns["label"].to_pylist() == [3, 1]


def test_every_chunk_is_encoded_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fer_lightning.data.storage.encoding._CHUNK_ROWS", 40)
    images = np.repeat(np.arange(100, dtype=np.uint8), 64).reshape(100, 1, 8, 8)
    rows = np.random.default_rng(0).permutation(100)
    chunks = list(encoded_chunks(images, rows, Encoder("png"), 2))
    assert [len(chunk.rows) for chunk in chunks] == [40, 40, 20]
    assert np.concatenate([chunk.rows for chunk in chunks]).tolist() == rows.tolist()
    for chunk in chunks:
        assert (chunk.digests == content_digests(images[chunk.rows])).all()
        assert [np.asarray(Image.open(io.BytesIO(file)))[0, 0] for file in chunk.files] == chunk.rows.tolist()


@pytest.mark.parametrize("to", ["folders", "csv"])
def test_a_destination_that_somebody_else_has_made_meanwhile_stays(
    to: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / NAMES[to]

    class Slow(Watched):
        def __getitem__(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            if to == "csv":
                target.write_text("of another")
            else:
                (target / "of").mkdir(parents=True, exist_ok=True)
            return super().__getitem__(rows)

    with pytest.raises(ConfigError, match="was made by somebody else meanwhile"):
        convert_table(watched_table(Slow(20, 8)), target, to)
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert target.read_text() == "of another" if to == "csv" else [path.name for path in target.iterdir()] == ["of"]


def test_mean_and_deviation_are_of_each_channel_of_training_images_alone() -> None:
    images = np.zeros((30, 3, 8, 8), np.uint8)
    images[:20] = (np.arange(20)[:, None] * np.array([1, 5, 12]))[:, :, None, None]
    images[20:] = 255
    mean, std = _statistics(images, np.arange(20))
    shares = images[:20] / 255
    assert mean == tuple(shares.mean(axis=(0, 2, 3)).round(6))
    assert std == tuple(shares.std(axis=(0, 2, 3)).round(6))
    assert _statistics(images, np.empty(0, np.int64)) == ((0.5,) * 3, (0.5,) * 3)
    assert _statistics(images, np.arange(20, 30)) == ((1.0,) * 3, (1.0,) * 3)  # of one colour


def test_of_many_training_images_ten_thousand_are_measured_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert_module, "_MEASURED", 3)
    images = np.array([10, 0, 40, 255, 100], np.uint8)[:, None, None, None] * np.ones((1, 1, 8, 8), np.uint8)
    assert _statistics(images, np.arange(5))[0] == pytest.approx((50 / 255,), abs=1e-6)  # the first, middle and last


def test_what_is_left_out_and_how_large_it_is(tmp_path: Path) -> None:
    written = convert_table(small_table(), tmp_path / "c.csv", "csv")
    assert (written["images"], written["left_out"], written["path"]) == (37, 5, str(tmp_path / "c.csv"))
    assert written["bytes"] == (tmp_path / "c.csv").stat().st_size
    assert written["counts"] == {"train": 21, "val": 7, "test": 9}
    lines = (tmp_path / "c.csv").read_text().splitlines()
    assert [line.rpartition(",")[2] for line in lines[1:]] == ["Training"] * 21 + ["PublicTest"] * 7 + [
        "PrivateTest"
    ] * 9
    written = convert_table(small_table(), tmp_path / "f", "folders", encoding="webp")
    assert written["bytes"] == sum(path.stat().st_size for path in (tmp_path / "f").rglob("*") if path.is_file())
    assert written["counts"] == {"train": 21, "val": 7, "test": 9, "": 5}
    assert list(written["fingerprints"]) == ["train", "val", "test"]
    assert len(list((tmp_path / "f/unused").rglob("*.webp"))) == 5


def test_a_set_of_other_rows_than_it_says_is_damaged() -> None:
    table = stripes_table({"train": 7})
    columns = pytest.importorskip("pyarrow").table(arrow_columns(table, np.arange(7), table.digests))
    stored = StoredSet("arrow", table.class_names, "fer7", 16, 1, "png", 92, 7, {}, {}, (0.5,), (0.5,))
    read = table_of_columns(columns, table.images, stored, None, "a set")
    assert read.labels.tolist() == table.labels.tolist()
    for images, rows, count in ((table.images[np.arange(6)], columns, 7), (table.images, columns.slice(0, 6), 6)):
        with pytest.raises(DataError) as caught:
            table_of_columns(rows, images, stored, None, "a set")
        said = f"a set: expected 7 rows, found {count}: the set is damaged; convert it again"
        assert str(caught.value) == said
    with pytest.raises(DataError) as caught:
        table_of_columns(columns.drop_columns(["split"]), table.images, stored, None, "a set")
    assert str(caught.value) == "a set: the column 'split' is missing: the set is damaged; convert it again"
    with pytest.raises(DataError, match="the column 'subject' is missing"):
        table_of_columns(columns, table.images, replace(stored, groups=("subject",)), None, "a set")
    later = columns.slice(3, 4)  # whose buffers begin before it
    part = table_of_columns(later, table.images[np.arange(3, 7)], replace(stored, images=4), None, "a set")
    assert (part.digests == table.digests[3:]).all()


class Files(EncodedImages):
    """Images in memory, encoded."""

    def encoded(self, rows: np.ndarray[Any, Any]) -> list[bytes]:
        return [self.place.encode("latin-1") for _ in rows]


def test_an_image_of_another_size_is_named_with_its_row() -> None:
    out = io.BytesIO()
    Image.fromarray(np.zeros((9, 7), np.uint8)).save(out, "png")
    images = Files("a set", 20, 1, 8)
    with pytest.raises(DataError) as caught:
        images.decoded(out.getvalue(), 12)
    assert str(caught.value) == "a set, row 12: expected 8x8 pixels, found 7x9"
    with pytest.raises(DataError, match=r"^a set, row 3: .*; copy or convert the set again$"):
        images.decoded(b"nothing", 3)


def test_open_files_belong_to_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    images, numbers = Files("a set", 20, 1, 8), itertools.count(1)
    monkeypatch.setattr(Files, "_open", lambda self: next(numbers))
    assert [images.opened, images.opened] == [1, 1]
    monkeypatch.setattr(os, "getpid", lambda: -7)
    assert [images.opened, images.opened] == [2, 2]
    assert pickle.loads(pickle.dumps(images)).opened == 3
