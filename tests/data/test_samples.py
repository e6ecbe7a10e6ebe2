from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_lightning.data.files.file_images import ResizedImages
from fer_lightning.data.table.images import ConcatImages, SubsetImages
from fer_lightning.data.table.samples import SamplesTable, concatenate, content_digests, with_classes
from fer_lightning.data.table.summary import table_summary
from fer_lightning.errors import DataError, LabelError
from tests.helpers.data import pixels, stripes_table

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


def test_the_fingerprint_of_known_samples_has_not_changed(table: SamplesTable) -> None:
    assert [table.fingerprint(split) for split in COUNTS] == [
        "20ff233ca1c83203",
        "1022c47fdc99eb21",
        "c9f9042c9537fe2a",
    ]


def test_overlap_finds_identical_images(table: SamplesTable) -> None:
    images = pixels(table).copy()
    train, val = table.rows("train"), table.rows("val")
    images[val[3]] = images[train[5]]
    changed = replace(table, images=images, digests=content_digests(images))
    assert changed.overlap("val", "train").tolist() == [val[3]]
    assert changed.overlap("train", "val").tolist() == [train[5]]
    assert len(table.overlap("val", "train")) == 0
    images[train[6]] = images[train[5]]
    summary = table_summary(replace(table, images=images, digests=content_digests(images)))
    assert summary["overlap_with_train"] == {"val": 1, "test": 0}  # of val, although two of train are in it


@pytest.mark.parametrize(
    ("column", "value", "error", "message"),
    [
        ("files", np.array(["a"]), DataError, "column 'files' has 1 rows, labels have 42"),
        ("images", np.zeros((42, 4, 4), np.uint8), DataError, r"uint8 \(N, C, H, W\)"),
        ("images", np.zeros((42, 1, 4, 4), np.float32), DataError, "not float32"),
        ("labels", np.full(42, 9), LabelError, r"stripes/0: label 9 is outside 0\.\.6"),
        ("labels", np.full(42, 7), LabelError, r"label 7 is outside 0\.\.6 \(angry, disgust, .*neutral\)"),
        ("labels", np.full(42, -1), LabelError, "label -1 is outside"),
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


def test_some_rows_keep_all_columns(table: SamplesTable) -> None:
    ages = np.arange(42)
    full = replace(
        table, soft_labels=np.eye(7, dtype=np.float32)[table.labels], columns={"age": ages},
        thumbnails=table.images[np.arange(42)][:, 0], left_out=(("a", "bad"),),
    )  # fmt: skip
    rows = np.array([40, 3, 3], np.int64)
    some = full.select(rows)
    assert np.array_equal(some.images[np.arange(3)], full.images[rows])
    for name in ("labels", "splits", "sources", "files", "digests", "soft_labels", "thumbnails"):
        assert np.array_equal(getattr(some, name), getattr(full, name)[rows]), name
    assert some.columns["age"].tolist() == [40, 3, 3]
    assert some.left_out == (("a", "bad"),)
    assert some.fingerprint("train") != full.fingerprint("train")


def test_images_that_are_not_in_memory_stay_where_they_are(table: SamplesTable) -> None:
    lazy = replace(table, images=ResizedImages(table.images, 8, 3))
    rows = np.array([5, 1], np.int64)
    some = lazy.select(rows)
    assert isinstance(some.images, SubsetImages)
    assert np.array_equal(some.images[np.array([1])], lazy.images[np.array([1])])
    both = concatenate([lazy, some])
    assert isinstance(both.images, ConcatImages)
    assert np.array_equal(both.images[np.array([42, 43, 5])], lazy.images[np.array([5, 1, 5])])


def test_tables_are_put_together(table: SamplesTable) -> None:
    count = len(table)
    soft = np.full((count, 7), 1 / 7, np.float32)
    first = replace(table, columns={"subject": np.full(count, "p1"), "age": np.arange(count)})
    told: dict[str, Any] = {"left_out": (("b", "bad"),), "remarks": ("r",)}
    second = replace(table, soft_labels=soft, columns={"valence": np.ones(count)}, **told)
    both = concatenate([first, second])
    assert isinstance(both.images, np.ndarray)
    assert np.array_equal(both.images, np.concatenate([table.images, table.images]))
    assert both.columns["subject"].tolist() == ["p1"] * count + [""] * count
    assert np.isnan(both.columns["age"][count:]).all()
    assert both.columns["age"][:count].tolist() == list(range(count))
    assert np.isnan(both.columns["valence"][:count]).all()
    assert both.soft_labels is not None
    assert np.array_equal(both.soft_labels[:count], np.eye(7)[table.labels])
    assert np.array_equal(both.soft_labels[count:], soft)
    assert both.thumbnails is None
    assert both.left_out == (("b", "bad"),)
    assert concatenate([second, second]).remarks == ("r",)
    small = replace(table, thumbnails=table.images[np.arange(42)][:, 0])
    assert len(concatenate([small, small]).thumbnails) == 2 * count  # type: ignore[arg-type]
    mixed = concatenate([first, replace(table, columns={"age": np.full(count, "old")})])
    assert mixed.columns["age"][[1, count]].tolist() == ["1", "old"]


def test_what_tables_do_not_share_is_not_kept(table: SamplesTable) -> None:
    one, two = (replace(table, root=Path(name), remarks=("both", name)) for name in ("a", "b"))
    assert concatenate([one, two]).root is None
    assert concatenate([one, one]).root == Path("a")
    assert concatenate([one, two, one]).remarks == ("both", "a", "b")
    assert concatenate([replace(table, remarks=()), two]).remarks == ("both", "b")


def test_tables_that_do_not_go_together_are_refused(table: SamplesTable) -> None:
    with pytest.raises(DataError, match="nothing to put together"):
        concatenate([])
    with pytest.raises(DataError, match="classes a, b, c, d, e, f, g and angry, .* do not go together"):
        concatenate([table, replace(table, class_names=tuple("abcdefg"))])
    with pytest.raises(DataError, match=r"images \(3, 8, 8\) and \(1, 16, 16\) do not go together"):
        concatenate([table, replace(table, images=ResizedImages(table.images, 8, 3))])


def test_thumbnails_are_a_column_too(table: SamplesTable) -> None:
    with pytest.raises(DataError, match="column 'thumbnails' has 3 rows, labels have 42"):
        replace(table, thumbnails=np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(DataError, match="column 'age' has 2 rows"):
        replace(table, columns={"age": np.zeros(2)})


def test_other_classes_are_matched_by_name_and_synonym(table: SamplesTable) -> None:
    names = ("anger", *table.class_names[1:])
    soft = np.zeros((len(table), 7), np.float32)
    soft[:, 0], soft[:, 1] = 0.25, 0.75
    soft[table.labels == 3] = np.eye(7, dtype=np.float32)[4]  # of a class that is left out
    found = with_classes(replace(table, class_names=names, soft_labels=soft), ("happy", "angry"))
    old = np.flatnonzero(np.isin(table.labels, [0, 3]))
    assert found.files.tolist() == table.files[old].tolist()
    assert found.labels.tolist() == [1 if label == 0 else 0 for label in table.labels[old]]
    assert found.soft_labels is not None
    np.testing.assert_array_equal(found.soft_labels, np.eye(2, dtype=np.float32)[found.labels])
    assert len(found.left_out) == len(table) - len(old)
    assert found.left_out[0] == (table.files[np.argmax(table.labels == 1)], "class 'disgust' is not used")


def test_soft_labels_of_classes_that_become_one_are_added(table: SamplesTable) -> None:
    soft = np.tile(np.array([0.125, 0.25, 0.0, 0.5, 0.125, 0.0, 0.0], np.float32), (len(table), 1))
    names = ("angry", "anger", *table.class_names[2:])
    found = with_classes(replace(table, class_names=names, soft_labels=soft), ("angry", "happy", "sad"))
    assert found.soft_labels is not None
    assert np.unique(found.soft_labels, axis=0).tolist() == [[0.375, 0.5, 0.125]]


def test_images_in_memory_and_elsewhere_are_put_together() -> None:
    first, second = stripes_table({"train": 7}), stripes_table({"val": 5}, seed=1)
    lazy = replace(second, images=SubsetImages(second.images, np.arange(5)))
    for tables in ((first, lazy), (lazy, first)):
        both = concatenate(tables)
        assert both.images[np.array([0, 11, 6, 4])].tolist() == (
            np.concatenate([pixels(table) for table in tables])[[0, 11, 6, 4]].tolist()
        )
