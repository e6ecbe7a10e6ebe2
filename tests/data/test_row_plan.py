from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_lightning.data.splitting.row_plan import RowPlan
from fer_lightning.data.table.samples import content_digests
from fer_lightning.errors import ConfigError
from tests.helpers.data import pixels, stripes_table

TABLE = stripes_table({"train": 84, "val": 28, "test": 14})
EVERY = np.arange(len(TABLE))


def kept(tmp_path: Path, rows: Any) -> Path:
    path = tmp_path / "keep.csv"
    path.write_text("path\n" + "\n".join(TABLE.files[rows].tolist()) + "\n")
    return path


def made(*splits: str) -> Any:
    return lambda of_rows: splits


@pytest.mark.parametrize(
    ("options", "alone"),
    [({}, True), ({"folds": 2}, False), ({"focus_fraction": 0.1}, False), ({"cap": 1, "per_class": 1}, True)],
)
def test_only_the_kept_rows_are_needed_where_the_others_decide_nothing(
    tmp_path: Path, options: dict[str, Any], alone: bool
) -> None:
    rows = EVERY[EVERY % 3 > 0]
    plan = RowPlan(keep=kept(tmp_path, rows), **options)
    found = plan.alone(TABLE.files, TABLE.splits, made())
    assert (found is not None) is alone
    assert found is None or found.tolist() == rows.tolist()
    assert plan.alone(TABLE.files, TABLE.splits, made("val")) is None
    assert RowPlan(**options).alone(TABLE.files, TABLE.splits, made()) is None  # all rows are used
    assert plan.kept(TABLE).splits.tolist() == np.where(EVERY % 3 > 0, TABLE.splits, "").tolist()
    named, all_used = plan.named(TABLE.files), RowPlan().named(TABLE.files)
    assert all_used is None
    assert named is not None
    assert named.tolist() == (EVERY % 3 > 0).tolist()


def test_rows_of_no_split_are_training_rows_only_where_none_has_one(tmp_path: Path) -> None:
    splits = np.where(EVERY < 84, "", TABLE.splits)
    plan = RowPlan(keep=kept(tmp_path, EVERY[:84]))  # of these none has a split, and alone they would be training rows
    assert plan.alone(TABLE.files, splits, made()) is None
    assert plan.alone(TABLE.files, np.full(len(TABLE), ""), made()) is not None
    split_made = made("val")
    assert plan.alone(TABLE.files, splits, lambda of_rows: split_made(of_rows) if len(of_rows) == 84 else ()) is None


def test_what_is_not_validated_or_tested_on_any_more_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    RowPlan(keep=kept(tmp_path, EVERY[2:])).kept(TABLE)
    assert not caplog.text  # fewer training images need no word
    plan = RowPlan(keep=kept(tmp_path, [*range(85, 112), *range(115, 126)]))
    plan.alone(TABLE.files, TABLE.splits, made())
    told = "data.keep: val has 27 of 28 images and test has 11 of 14 images: scores are not comparable"
    assert told in caplog.text
    caplog.clear()
    plan.kept(TABLE)
    assert told in caplog.text


def test_the_smaller_limit_counts_and_both_follow_the_seed() -> None:
    def train(**options: Any) -> list[int]:
        seed = options.pop("seed", 0)
        rows: list[int] = RowPlan(**options).apply(TABLE, TABLE.splits == "train", seed=seed).rows("train").tolist()
        return rows

    assert len(train(cap=5)) == len(train(per_class=5)) == len(train(cap=5, per_class=9)) == 35
    assert train(cap=5) == train(per_class=5) == train(cap=9, per_class=5)
    assert train(cap=5) != train(cap=5, seed=1)
    assert train(cap=12) == list(range(84))


def test_shared_images_leave_training_before_it_is_limited() -> None:
    images = pixels(TABLE).copy()
    images[:7] = images[84:91]  # one training image of each class stands in validation
    table = replace(TABLE, images=images, digests=content_digests(images))
    rows = RowPlan(drop_overlap=True, per_class=11).apply(table, table.splits == "train").rows("train")
    assert rows.tolist() == list(range(7, 84))
    assert RowPlan(per_class=12).apply(table, table.splits == "train").rows("train").tolist() == list(range(84))


def test_the_focus_part_is_taken_of_what_is_left() -> None:
    table = RowPlan(per_class=10, focus_fraction=0.2).apply(TABLE, TABLE.splits == "train")
    assert table.class_counts("focus") == dict.fromkeys(TABLE.class_names, 2)
    assert table.class_counts("train") == dict.fromkeys(TABLE.class_names, 8)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"per_class": 0}, "data.per_class must be at least 1, not 0"),
        ({"focus_fraction": 1.0}, "data.focus_fraction must be at least 0 and below 1, not 1"),
        ({"focus_fraction": -0.1}, "not -0.1"),
        ({"folds": 1}, "data.folds must be at least 2"),
        ({"fold_seed": 3}, "data.fold_seed 3 needs data.folds"),
        ({"fold": 1}, "data.fold 1 needs data.folds"),
        ({"folds": 3, "fold": 3}, "data.fold must be 0 to 2 for 3 folds, not 3"),
    ],
)
def test_a_wrong_number_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RowPlan(**options)
