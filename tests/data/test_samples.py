from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fer_lightning.data.samples import SamplesTable, content_digests
from fer_lightning.errors import DataError, LabelError
from tests.helpers.data import stripes_table

COUNTS = {"train": 21, "val": 14, "test": 7}


@pytest.fixture
def table() -> SamplesTable:
    return stripes_table(COUNTS)


def test_rows_and_counts(table: SamplesTable) -> None:
    assert len(table) == 42
    assert {split: len(table.rows(split)) for split in COUNTS} == COUNTS
    assert table.class_counts("train") == dict.fromkeys(table.class_names, 3)
    assert table.scheme == "fer7"


def test_digests_tell_images_apart() -> None:
    images = np.zeros((3, 1, 4, 4), np.uint8)
    images[1, 0, 0, 0] = 1
    digests = content_digests(images)
    assert (digests[0] == digests[2]).all()
    assert (digests[0] != digests[1]).any()


def test_fingerprint_knows_content_not_order(table: SamplesTable) -> None:
    order = np.random.default_rng(0).permutation(len(table))
    columns = ("images", "labels", "splits", "sources", "files", "digests")
    shuffled = replace(table, **{name: getattr(table, name)[order] for name in columns})
    assert shuffled.fingerprint("train") == table.fingerprint("train")
    labels = table.labels.copy()
    labels[0] = (labels[0] + 1) % 7
    assert replace(table, labels=labels).fingerprint("train") != table.fingerprint("train")
    assert table.fingerprint("val") != table.fingerprint("train")


def test_overlap_finds_identical_images(table: SamplesTable) -> None:
    images = table.images.copy()
    train, val = table.rows("train"), table.rows("val")
    images[val[3]] = images[train[5]]
    changed = replace(table, images=images, digests=content_digests(images))
    assert changed.overlap("val", "train").tolist() == [val[3]]
    assert changed.overlap("train", "val").tolist() == [train[5]]
    assert len(table.overlap("val", "train")) == 0


@pytest.mark.parametrize(
    ("column", "value", "error", "message"),
    [
        ("files", np.array(["a"]), DataError, "column 'files' has 1 rows, labels have 42"),
        ("images", np.zeros((42, 4, 4), np.uint8), DataError, r"uint8 \(N, C, H, W\)"),
        ("images", np.zeros((42, 1, 4, 4), np.float32), DataError, "not float32"),
        ("labels", np.full(42, 9), LabelError, r"stripes/0: label 9 is outside 0\.\.6"),
        ("splits", np.full(42, "dev"), DataError, "unknown split 'dev'"),
        ("soft_labels", np.zeros((42, 7), np.float32), DataError, "stripes/0: soft label sums to 0"),
        ("soft_labels", np.ones((42, 3), np.float32), DataError, r"expected \(N, 7\)"),
    ],
)
def test_a_wrong_column_is_named(
    table: SamplesTable, column: str, value: Any, error: type[DataError], message: str
) -> None:
    with pytest.raises(error, match=message):
        replace(table, **{column: value})
