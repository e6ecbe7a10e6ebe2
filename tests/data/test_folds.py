from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.sets.arrow import ArrowDataModule
from fer_lightning.data.sets.balanced import BalancedFER2013DataModule
from fer_lightning.data.sets.fer2013.fer2013 import FER2013DataModule
from fer_lightning.data.sets.image_folder import ImageFolderDataModule
from fer_lightning.data.sets.shards import ShardsDataModule
from fer_lightning.data.splitting.folds import assign_folds, check_folds, fold_splits
from fer_lightning.data.splitting.links import linked_groups
from fer_lightning.data.storage.convert import convert_table
from fer_lightning.data.table.samples import SamplesTable, content_digests
from fer_lightning.data.table.synthesis import synthesise, with_kinds
from fer_lightning.errors import ConfigError, DataError
from tests.helpers.data import StripesDataModule, pixels, stripes_table
from tests.helpers.fer2013 import write_fer2013
from tests.helpers.folders import write_folders


def names(groups: list[int]) -> NDArray[np.uint8]:
    """Return a content hash for each number, uint8 ``(N, 16)``."""
    return content_digests(np.array(groups, np.int64).view(np.uint8).reshape(len(groups), -1))


def shown(table: SamplesTable, split: str) -> set[bytes]:
    return {bytes(table.digests[row]) for row in table.rows(split)}


def divided(table: SamplesTable, folds: int, **options: Any) -> list[SamplesTable]:
    candidates = options.pop("candidates", table.splits == "train")
    return [table.with_splits(fold_splits(table, folds, fold, candidates, **options)) for fold in range(folds)]


rows_of = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=30, max_size=120)


@given(rows_of, st.integers(2, 5), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_no_group_is_split_and_no_row_is_lost(rows: list[tuple[int, int]], folds: int, seed: int) -> None:
    labels, groups = np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows])
    assume(len(set(groups.tolist())) >= folds)
    assigned = assign_folds(labels, names(groups.tolist()), folds, seed)
    assert set(assigned.tolist()) == set(range(folds))
    for group in set(groups.tolist()):
        assert len(set(assigned[groups == group].tolist())) == 1


@given(st.lists(st.integers(1, 9), min_size=10, max_size=40), st.integers(2, 5), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_classes_are_shared_out_to_within_one_group(sizes: list[int], folds: int, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)) % 3, sizes).astype(np.int64)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    assigned = assign_folds(labels, names(groups.tolist()), folds, seed)
    for label in range(3):
        counts = np.bincount(assigned[labels == label], minlength=folds)
        largest = max(size for group, size in enumerate(sizes) if group % 3 == label)
        assert counts.max() - counts.min() <= largest


@given(rows_of, st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_the_order_of_the_rows_does_not_matter(rows: list[tuple[int, int]], seed: int) -> None:
    labels, groups = np.array([row[0] for row in rows], np.int64), names([row[1] for row in rows])
    assume(len(np.unique(groups, axis=0)) >= 3)
    order = np.random.default_rng(seed).permutation(len(rows))
    assigned = assign_folds(labels, groups, 3, 0)
    assert (assign_folds(labels[order], groups[order], 3, 0) == assigned[order]).all()


def test_single_images_are_shared_out_to_the_row() -> None:
    labels = np.repeat(np.arange(3), [50, 21, 8]).astype(np.int64)
    assigned = assign_folds(labels, names(list(range(len(labels)))), 4, 0)
    for label, count in enumerate((50, 21, 8)):
        found = np.bincount(assigned[labels == label], minlength=4)
        assert set(found.tolist()) <= {count // 4, -(-count // 4)}
    sizes = np.bincount(assigned)
    assert sizes.max() - sizes.min() <= 3


def test_another_seed_gives_other_folds() -> None:
    labels = np.zeros(60, np.int64)
    one, two = (assign_folds(labels, names(list(range(60))), 3, seed) for seed in (0, 1))
    assert (one != two).any()


def test_too_few_groups_are_named() -> None:
    with pytest.raises(DataError, match="data.folds 5: the training images fall into 3 groups"):
        assign_folds(np.zeros(30, np.int64), names([0, 1, 2] * 10), 5, 0)
    with pytest.raises(DataError, match="3 labels but 2 groups"):
        assign_folds(np.zeros(3, np.int64), names([0, 1]), 2, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "data.folds must be at least 2"),
        ({"folds": 3, "fold": 3}, "data.fold must be 0 to 2 for 3 folds, not 3"),
        ({"folds": 3, "fold": -1}, "data.fold must be 0 to 2"),
        ({"fold": 1}, "data.fold 1 needs data.folds"),
        ({"fold_seed": 2}, "data.fold_seed 2 needs data.folds"),
    ],
)
def test_a_fold_that_cannot_be_is_named(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StripesDataModule(**options)
    with pytest.raises(ConfigError, match=message):
        check_folds(options.get("folds"), options.get("fold", 0), options.get("fold_seed", 0))


def test_each_training_row_is_validated_on_once() -> None:
    table = stripes_table({"train": 70, "val": 14, "test": 14})
    tables = divided(table, 5)
    held = np.concatenate([fold.rows("val") for fold in tables])
    assert sorted(held.tolist()) == table.rows("train").tolist()
    for fold in tables:
        assert set(fold.rows("train")) | set(fold.rows("val")) == set(table.rows("train"))
        assert fold.rows("test").tolist() == table.rows("test").tolist()
        assert set(fold.class_counts("val").values()) == {2}


def test_a_shuffled_table_gives_the_same_folds() -> None:
    table = stripes_table({"train": 84, "test": 14})
    mixed = table.select(np.random.default_rng(1).permutation(len(table)))
    for one, two in zip(divided(table, 3), divided(mixed, 3), strict=True):
        assert one.fingerprint("val") == two.fingerprint("val")
        assert one.fingerprint("train") == two.fingerprint("train")


def test_people_and_copies_stay_together() -> None:
    table = stripes_table({"train": 84, "test": 14})
    images = pixels(table).copy()
    images[40:50] = images[:10]
    people = np.array([f"person {row % 28}" if row < 60 else "" for row in range(len(table))])
    table = replace(table, images=images, digests=content_digests(images), columns={"subject": people})
    for fold in divided(table, 3):
        assert not shown(fold, "train") & shown(fold, "val")
        groups = {split: {people[row] for row in fold.rows(split)} - {""} for split in ("train", "val")}
        assert not groups["train"] & groups["val"]


def test_siblings_whose_parent_is_elsewhere_stay_together() -> None:
    parents = np.array(["", "away/1", "away/2", "away/1", "", "away/2", ""])
    table = replace(stripes_table({"train": 7}), columns={"parent": parents})
    groups = [row.tobytes() for row in linked_groups(table, near=False)]
    assert groups[1] == groups[3] != groups[2] == groups[5]
    assert len(set(groups)) == 5


def test_nearly_equal_images_without_thumbnails_stay_together(tmp_path: Path) -> None:
    table = stripes_table({"train": 84})
    images = pixels(table).copy()
    images[40:80] = np.minimum(images[:40] + 3, 255)  # a little brighter
    table = replace(table, images=images, digests=content_digests(images))
    assert table.thumbnails is None
    for fold in divided(table, 3, near=True, cache_dir=tmp_path):
        assert fold.splits[:40].tolist() == fold.splits[40:80].tolist()


def test_what_is_linked_to_a_test_image_is_never_held_out() -> None:
    table = stripes_table({"train": 70, "val": 7, "test": 14})
    images = pixels(table).copy()
    images[table.rows("test")[:4]] = images[:4]
    images[table.rows("val")[0]] = images[20]  # the official validation part is not used: no matter
    table = replace(table, images=images, digests=content_digests(images))
    tables = divided(table, 5)
    held = np.concatenate([fold.rows("val") for fold in tables])
    assert sorted(held.tolist()) == list(range(4, 70))
    assert all(set(range(4)) <= set(fold.rows("train").tolist()) for fold in tables)
    assert all(not len(fold.overlap("val", "test")) for fold in tables)


def test_rows_that_no_split_uses_are_in_no_fold() -> None:
    table = stripes_table({"train": 42, "": 21, "test": 7})
    every = np.ones(70, bool)
    for fold, own in zip(divided(table, 3, candidates=every), divided(table, 3), strict=True):
        assert fold.splits.tolist() == own.splits.tolist()
        assert fold.rows("").tolist() == list(range(42, 63))


def test_synthetic_images_leave_training_with_their_parents() -> None:
    table = with_kinds(stripes_table({"train": 35, "val": 7, "test": 7}))
    made = synthesise(table, 9)
    parents = made.columns["parent"]
    assert (parents != "").sum() == 28
    plain = divided(table, 5)
    for fold, bare in zip(divided(made, 5, candidates=(made.splits == "train") & (parents == "")), plain, strict=True):
        assert fold.fingerprint("val") == bare.fingerprint("val")  # arms with and without them are comparable
        held = set(fold.files[fold.rows("val")])
        assert not held & set(parents[fold.rows("train")])
        assert set(parents[fold.rows("val")]) == {""}
        kept = [row for row in np.flatnonzero(parents != "") if parents[row] not in held]
        near = set(np.flatnonzero(parents != "")) - set(kept)
        assert near <= set(np.flatnonzero(fold.splits == ""))


def test_images_that_are_added_for_training_leave_it_if_they_show_what_is_held_out() -> None:
    table = stripes_table({"train": 84})
    images = pixels(table).copy()
    images[70:] = images[:14]
    table = replace(table, images=images, digests=content_digests(images))
    own = np.arange(84) < 70
    for fold in divided(table, 3, candidates=own):
        assert fold.rows("val").max() < 70
        assert not shown(fold, "train") & shown(fold, "val")
        assert not len(set(fold.rows("train")) & {70 + row for row in fold.rows("val") if row < 14})


def test_a_subset_is_taken_of_the_rest_only() -> None:
    whole, small = (StripesDataModule(folds=3, fold=1, per_class=most).table for most in (None, 2))
    assert whole.fingerprint("val") == small.fingerprint("val")
    assert set(small.class_counts("train").values()) == {2}
    assert set(small.rows("train")) <= set(whole.rows("train"))


def test_the_folds_do_not_follow_the_seed_of_the_run() -> None:
    prints = {StripesDataModule(folds=3, seed=seed).table.fingerprint("val") for seed in (0, 1, 2)}
    assert len(prints) == 1
    assert StripesDataModule(folds=3, fold_seed=5).table.fingerprint("val") not in prints


def test_no_validation_part_is_carved_where_folds_are(tmp_path: Path) -> None:
    write_fer2013(tmp_path / "fer", "csv")
    folders = write_folders(tmp_path / "set", 9)
    made: list[tuple[EmotionDataModule, EmotionDataModule]] = [
        (
            FER2013DataModule(str(tmp_path / "fer"), val="holdout", folds=2),
            FER2013DataModule(str(tmp_path / "fer"), val="none"),
        ),
        (ImageFolderDataModule(str(folders), folds=3), ImageFolderDataModule(str(folders), val_fraction=0.0)),
    ]
    for folded, plain in made:
        table = folded.table
        assert len(table.rows("train")) + len(table.rows("val")) == len(plain.table.rows("train"))
        assert len(table.rows("val")) > 0


def test_fer2013_is_validated_on_the_same_images_with_and_without_synthetic_ones(tmp_path: Path) -> None:
    write_fer2013(tmp_path, "csv")
    for fold in (0, 1):
        plain = FER2013DataModule(str(tmp_path), folds=2, fold=fold)
        filled = BalancedFER2013DataModule(str(tmp_path), at_least=16, folds=2, fold=fold)
        assert plain.table.fingerprint("val") == filled.table.fingerprint("val")
        assert len(filled.table.rows("train")) > len(plain.table.rows("train"))
        assert {str(source) for source in filled.table.sources[filled.table.rows("val")]} == {"fer2013/Training"}


def test_converted_sets_have_the_same_folds_and_shards_refuse(tmp_path: Path) -> None:
    table = stripes_table({"train": 42, "val": 14, "test": 14})
    convert_table(table, tmp_path / "arrow", "arrow", encoding="png")
    convert_table(table, tmp_path / "shards", "shards", encoding="png")
    arrow = ArrowDataModule(str(tmp_path / "arrow"), folds=3, fold=2, num_workers=0)
    arrow.setup("fit")
    assert arrow.table.fingerprint("val") == divided(table, 3)[2].fingerprint("val")
    with pytest.raises(ConfigError, match=r"data.folds cannot be had of shards.*--to arrow"):
        ShardsDataModule(str(tmp_path / "shards"), folds=3)


def test_the_largest_groups_are_placed_first() -> None:
    labels = np.zeros(20, np.int64)
    groups = [0] * 10 + list(range(1, 11))  # ten of one subject, ten single images
    for seed in range(5):
        assert np.bincount(assign_folds(labels, names(groups), 2, seed)).tolist() == [10, 10]


def test_a_rare_class_counts_as_much_as_a_common_one_where_groups_mix_them() -> None:
    labels = np.array([0] * 20 + [0] * 15 + [1] * 3 + [0] * 5 + [1], np.int64)
    assigned = assign_folds(labels, names([0] * 20 + [1] * 18 + [2] * 6), 2, 0)
    assert assigned[0] != assigned[20]
    # 20 common rows against 15 and 3 of the 4 rare ones: shares of 20 * 5 / 40 and 15 * 5 / 40 + 3 * 1 / 4
    assert assigned[-1] == assigned[0]


def test_the_folds_of_known_rows_have_not_changed() -> None:
    rng = np.random.default_rng(0)
    labels, groups = rng.choice(4, 60, p=[0.6, 0.2, 0.15, 0.05]), rng.integers(0, 25, 60)
    found = {seed: "".join(map(str, assign_folds(labels, names(groups.tolist()), 3, seed))) for seed in (0, 1)}
    assert found == {
        0: "010101202122212001210220111010010220200122101102011222001102",
        1: "110100212022212011200220122010110220201202101112110220001012",
    }
