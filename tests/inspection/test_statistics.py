"""Numbers of a data set against numpy, numbers counted by hand, and the known ones of FER2013."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_lightning.data.files.file_images import FileImages
from fer_lightning.data.sets.fer2013.fer2013 import scan_fer2013
from fer_lightning.data.storage.encoded_images import EncodedImages
from fer_lightning.data.table.images import ImageArray
from fer_lightning.data.table.samples import SamplesTable, content_digests
from fer_lightning.inspection import statistics as data_statistics
from fer_lightning.inspection.statistics import (
    PixelStatistics,
    column_summary,
    mean_faces,
    measure_pixels,
    pixel_summary,
    size_summary,
    soft_label_summary,
    split_names,
    split_summary,
    subject_summary,
    train_or_all,
)
from tests.helpers.data import stripes_table
from tests.helpers.fer2013 import unpack_real_fer2013

NAMES = ("happy", "sad")


def noise(labels: list[int], splits: list[str], channels: int = 1, seed: int = 0) -> SamplesTable:
    """Return a table of noise with 2 classes, images of 4 x 6 pixels."""
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), channels, 4, 6), dtype=np.uint8)
    return SamplesTable(
        class_names=NAMES,
        images=images,
        labels=np.array(labels, np.int64),
        splits=np.array(splits),
        sources=np.full(len(labels), "noise"),
        files=np.array([f"{row}.png" for row in range(len(labels))]),
        digests=content_digests(images),
    )


class CountingImages:
    """An array that is read by rows only and remembers how many were asked for at most, and in all."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.images, self.shape, self.dtype = images, images.shape, images.dtype
        self.most = self.total = 0

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]:
        assert rows.dtype == np.int64
        self.most, self.total = max(self.most, len(rows)), self.total + len(rows)
        return self.images[rows]


def test_counts_and_imbalance_of_each_split() -> None:
    table = noise([0, 0, 0, 1, 1, 0, 0], ["train", "train", "train", "train", "val", "test", ""])
    summary = split_summary(table)
    assert list(summary) == ["train", "val", "test", "unused"]
    train = summary["train"]
    assert (train["images"], train["counts"], train["largest"], train["smallest"]) == (
        4,
        {"happy": 3, "sad": 1},
        "happy",
        "sad",
    )
    assert train["imbalance_ratio"] == 3.0
    assert train["fingerprint"] == table.fingerprint("train")
    assert summary["val"]["absent"] == ["happy"]
    assert summary["val"]["imbalance_ratio"] == 1.0
    assert summary["unused"]["counts"] == {"happy": 1, "sad": 0}
    assert split_names(table) == ["train", "val", "test", "unused"]


def test_an_empty_split_has_no_ratio_and_no_fingerprint() -> None:
    test = split_summary(noise([0, 1], ["train", "train"]))["test"]
    assert (test["images"], test["largest"], test["imbalance_ratio"], test["fingerprint"]) == (0, None, None, None)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_those_of_numpy_whatever_the_chunks(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table = noise([0, 1, 0, 1, 1, 0, 0], ["train", "train", "val", "train", "", "train", "train"], channels)
    monkeypatch.setattr(data_statistics, "_CHUNK_BYTES", 2 * 4 * 6 * channels)
    lazy = CountingImages(np.asarray(table.images))
    pixels = measure_pixels(replace(table, images=lazy))
    assert (lazy.most, lazy.total) == (2, 7)
    values = np.asarray(table.images) / 255.0
    np.testing.assert_allclose(pixels.brightness, values.mean(axis=(1, 2, 3)), atol=1e-12)
    np.testing.assert_allclose(pixels.contrast, np.sqrt(values.var(axis=(2, 3)).mean(axis=1)), atol=1e-9)
    train = values[table.splits == "train"]
    splits = pixel_summary(table, pixels)["splits"]
    assert list(splits) == ["train", "val", "unused"]
    np.testing.assert_allclose(splits["train"]["mean"], train.mean(axis=(0, 2, 3)), atol=1e-12)
    np.testing.assert_allclose(splits["train"]["std"], train.std(axis=(0, 2, 3)), atol=1e-9)
    first = np.asarray(table.images)[table.splits == "train"][:, 0]
    assert splits["train"]["histogram"][0] == [int((first == value).sum()) for value in range(256)]
    mean, std = mean_faces(pixels)
    sad = values[(table.splits == "train") & (table.labels == 1)]
    np.testing.assert_allclose(mean[1], sad.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(std[1], sad.std(axis=0), atol=1e-7)
    np.testing.assert_allclose(mean[2], train.mean(axis=0), atol=1e-12)
    assert pixels.face_rows.tolist() == [3, 2]


def test_faces_of_a_class_without_images_are_not_known() -> None:
    mean, std = mean_faces(measure_pixels(noise([1, 1], ["train", "train"])))
    assert np.isnan(mean[0]).all()
    assert np.isnan(std[0]).all()
    assert np.isfinite(mean[1:]).all()


def test_the_focus_is_on_train_or_else_on_all() -> None:
    assert train_or_all(noise([0, 1, 1], ["val", "train", ""]))[1].tolist() == [1]
    part, rows = train_or_all(noise([0, 1], ["val", ""]))
    assert (part, rows.tolist()) == ("all", [0, 1])


def test_blank_images_and_extremes() -> None:
    table = noise([0, 1, 0, 1, 0], ["train"] * 5, channels=3)
    images = np.asarray(table.images).copy()
    images[0] = 0
    images[1] = 200
    images[1, :, 0, 0] = 203  # a speck on a plain ground
    images[2] = np.array([10, 120, 250], np.uint8)[:, None, None]  # a plain colour is blank, too
    images[3] = images[3] // 8
    images[4] = 255 - images[4] // 8
    pixels = measure_pixels(replace(table, images=images))
    assert pixels.blank.tolist() == [0, 1, 2]
    darkest, brightest = pixels.extremes(8)
    assert (darkest.tolist(), brightest.tolist()) == ([3, 4], [4, 3])
    summary = pixel_summary(table, pixels)
    assert summary["blank"] == {
        "images": 3,
        "one_colour": 2,
        "share": 0.6,
        "threshold": data_statistics.BLANK_CONTRAST,
    }
    assert summary["gray_images"] == 2


def test_brightness_of_classes_is_that_of_train() -> None:
    table = noise([0, 0, 1, 0], ["train", "val", "val", "train"])
    pixels = measure_pixels(table)
    classes = pixel_summary(table, pixels)["classes"]
    happy = np.asarray(table.images)[[0, 3]] / 255.0
    assert classes["happy"] == {
        "images": 2,
        "brightness": pytest.approx(happy.mean()),
        "brightness_std": pytest.approx(happy.mean(axis=(1, 2, 3)).std()),
        "contrast": pytest.approx(happy.std(axis=(1, 2, 3)).mean()),
    }
    assert classes["sad"] == {"images": 0, "brightness": None, "brightness_std": None, "contrast": None}


def test_columns_are_categories_numbers_or_names() -> None:
    count = 30
    table = noise([0, 1] * 15, ["train"] * 20 + ["val"] * 10)
    gender = np.array(["female", "male", ""] * 10)
    valence = np.linspace(-1, 1, count)
    valence[3] = math.nan
    given = {
        "gender": gender,
        "valence": valence,
        "frames": np.array([1, 2] * 15),
        "age": np.arange(count),
        "skin_type": np.array([1.0, 2.0, math.nan] * 10),
        "subject": np.array([f"person {row // 2 * 2 % 26}" for row in range(count - 1)] + [""]),
        "width": np.full(count, 100),
    }
    columns = column_summary(replace(table, columns=given))
    assert list(columns) == ["source", "gender", "valence", "frames", "age", "skin_type", "subject"]
    assert columns["gender"]["unknown"] == 10
    female = columns["gender"]["values"]["female"]
    chosen = gender == "female"
    assert female["images"] == 10
    assert female["counts"] == {"happy": int((table.labels[chosen] == 0).sum()), "sad": int(table.labels[chosen].sum())}
    assert female["splits"] == {"train": 7, "val": 3, "test": 0, "unused": 0}
    assert columns["valence"] == {
        "kind": "numbers",
        "unknown": 1,
        "known": 29,
        "mean": pytest.approx(np.nanmean(valence)),
        "std": pytest.approx(np.nanstd(valence)),
        "min": -1.0,
        "max": 1.0,
    }
    assert list(columns["frames"]["values"]) == ["1", "2"]
    assert (columns["age"]["kind"], columns["age"]["max"]) == ("numbers", 29.0)
    assert {name: part["images"] for name, part in columns["skin_type"]["values"].items()} == {"1": 10, "2": 10}
    assert columns["subject"]["kind"] == "categories"


def test_a_column_of_many_names_is_described() -> None:
    table = noise([0] * 60, ["train"] * 60)
    subjects = np.array([f"s{row}" for row in range(58)] + ["s0", ""])
    assert column_summary(replace(table, columns={"subject": subjects}))["subject"] == {
        "kind": "names",
        "unknown": 1,
        "known": 59,
        "distinct": 58,
        "largest": "s0",
        "images_of_largest": 2,
    }


def test_subjects_in_several_splits() -> None:
    table = noise([0] * 6, ["train", "train", "val", "val", "test", ""])
    subjects = np.array(["a", "b", "a", "c", "", "c"])
    summary = subject_summary(replace(table, columns={"subject": subjects}))
    assert summary == {"subjects": 3, "images": 5, "in_several_splits": 1}
    assert subject_summary(table) is None


def test_sizes_of_files() -> None:
    table = noise([0] * 4, ["train"] * 4)
    columns = {"width": np.array([3, 60, 12, 0]), "height": np.array([40, 30, 4, 0])}
    assert size_summary(replace(table, columns=columns)) == {
        "known": 3,
        "width": {"min": 3.0, "median": 12.0, "max": 60.0},
        "height": {"min": 4.0, "median": 30.0, "max": 40.0},
        "aspect": {"min": 0.075, "median": 2.0, "max": 3.0},
        "smallest": {"file": "0.png", "width": 3, "height": 40},
        "largest": {"file": "1.png", "width": 60, "height": 30},
        "enlarged": 1,  # stored as 6 wide and 4 high
    }
    assert size_summary(table) is None
    thin = size_summary(replace(table, columns={"width": np.array([1, 9, 9, 9]), "height": np.array([9, 9, 1, 9])}))
    assert thin is not None
    assert (thin["known"], thin["width"]["min"], thin["height"]["min"]) == (4, 1.0, 1.0)
    unknown = {"width": np.full(4, math.nan), "height": np.full(4, math.nan)}
    summary = size_summary(replace(table, columns=unknown))
    assert summary is not None
    assert (summary["known"], summary["smallest"]) == (0, None)


def test_files_of_a_converted_set_are_not_enlarged_any_more() -> None:
    columns = {"width": np.array([3, 60, 12, 90]), "height": np.array([40, 30, 4, 90])}
    table = replace(noise([0] * 4, ["train"] * 4), columns=columns)

    def enlarged(images: ImageArray) -> int | None:
        whole = replace(table, images=images)
        summaries = size_summary(whole), size_summary(whole.select(np.arange(4)))
        assert summaries[0] is not None
        assert summaries[0] == summaries[1]
        assert summaries[0]["known"] == 4
        count: int | None = summaries[0]["enlarged"]
        return count

    assert enlarged(FileImages(Path("faces"), table.files, 48, 1)) == 3
    assert enlarged(EncodedImages("set", 4, 1, 48)) is None


def test_soft_labels() -> None:
    soft = np.array([[1.0, 0.0], [0.5, 0.5], [0.75, 0.25]], np.float32)
    summary = soft_label_summary(replace(noise([0, 1, 1], ["train"] * 3), soft_labels=soft))
    quarter = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert summary is not None
    assert summary["entropy"] == pytest.approx((0.0 + math.log(2) + quarter) / 3)
    assert summary["entropy_of_classes"] == {"happy": 0.0, "sad": pytest.approx((math.log(2) + quarter) / 2)}
    assert (summary["unanimous"], summary["disagreeing"]) == (1, 1)
    assert summary["agreement"] == pytest.approx(2 / 3)
    assert soft_label_summary(stripes_table({"train": 7})) is None
    certain = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.75, 0.25]], np.float32)  # as many as no class has
    summary = soft_label_summary(replace(noise([0, 0, 1, 1], ["train"] * 4), soft_labels=certain))
    assert summary is not None
    assert (summary["unanimous"], summary["disagreeing"]) == (3, 2)


@pytest.mark.slow
def test_the_known_numbers_of_fer2013(tmp_path: Path) -> None:
    table = scan_fer2013(unpack_real_fer2013(tmp_path / "csv", "csv"), cache_dir=tmp_path / "cache")
    splits = split_summary(table)
    assert (splits["train"]["images"], splits["val"]["images"]) == (28_709, 3_589)
    assert splits["train"]["counts"] == {
        "angry": 3995,
        "disgust": 436,
        "fear": 4097,
        "happy": 7215,
        "sad": 4830,
        "surprise": 3171,
        "neutral": 4965,
    }
    assert splits["train"]["imbalance_ratio"] == pytest.approx(16.5, abs=0.06)
    pixels = measure_pixels(table)
    train = np.asarray(table.images)[table.splits == "train"] / np.float32(255.0)
    statistics = pixel_summary(table, pixels)["splits"]["train"]
    assert statistics["mean"] == pytest.approx([float(train.mean(dtype=np.float64))], abs=1e-6)
    assert statistics["std"] == pytest.approx([float(train.std(dtype=np.float64))], abs=1e-6)
    blank = pixel_summary(table, pixels)["blank"]
    assert (blank["images"], blank["one_colour"]) == (13, 12)


def test_an_image_at_the_limit_is_not_blank() -> None:
    limit, nothing = data_statistics.BLANK_CONTRAST, np.zeros(0, np.int64)
    contrast = np.array([limit, np.nextafter(limit, 0), limit * 2])
    pixels = PixelStatistics(np.array([0.5, 0.1, 0.4]), contrast, nothing != 0, {}, nothing, nothing, nothing)
    assert pixels.blank.tolist() == [1]
    assert [rows.tolist() for rows in pixels.extremes(1)] == [[2], [0]]
