"""The focus part shares no image with any other split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fer_lightning.data.splitting.focus_part import set_apart
from fer_lightning.data.table.samples import FOCUS, SamplesTable, content_digests
from fer_lightning.data.table.summary import table_summary
from fer_lightning.errors import ConfigError, DataError
from tests.helpers.data import StripesDataModule, pixels, stripes_table


def table(seed: int = 0) -> SamplesTable:
    return stripes_table({"train": 210, "val": 28, "test": 28}, seed)


def repeated(original: SamplesTable, pairs: list[tuple[int, int]]) -> SamplesTable:
    """Return the table with the image of the first row of each pair in the place of the second."""
    images = pixels(original).copy()
    for first, second in pairs:
        images[second] = images[first]
    return replace(original, images=images, digests=content_digests(images))


def test_a_share_of_each_class_is_set_apart() -> None:
    changed = set_apart(table(), 0.2)
    assert set(changed.class_counts(FOCUS).values()) == {6}
    assert set(changed.class_counts("train").values()) == {24}
    assert changed.class_counts("val") == table().class_counts("val")
    assert table_summary(changed)["counts"][FOCUS] == 42


def test_the_part_is_the_same_whatever_the_order_of_the_rows() -> None:
    original = table()
    order = np.random.default_rng(1).permutation(len(original))
    assert set_apart(original, 0.2).fingerprint(FOCUS) == set_apart(original.select(order), 0.2).fingerprint(FOCUS)


def test_equal_images_stay_together() -> None:
    pairs = [(row, row + 7) for row in range(0, 196, 14)]
    changed = set_apart(repeated(table(), pairs), 0.3)
    assert len(changed.overlap(FOCUS, "train")) == 0
    parts = {split: set(changed.rows(split).tolist()) for split in ("train", FOCUS)}
    assert any(first in parts[FOCUS] for first, _ in pairs)
    assert all((first in parts[FOCUS]) == (second in parts[FOCUS]) for first, second in pairs)


def test_nearly_equal_images_stay_together() -> None:
    rng = np.random.default_rng(3)
    smooth = rng.integers(0, 256, (105, 1, 6, 6)).repeat(8, 2).repeat(8, 3)
    brighter = np.clip(smooth * 0.9 + 12, 0, 255)
    images = np.concatenate([smooth, brighter]).astype(np.uint8)
    labels = np.tile(np.arange(105) % 7, 2)
    original = table()
    photos = SamplesTable(
        original.class_names, images, labels, np.full(210, "train"), np.full(210, "x"),
        np.array([f"x/{row}" for row in range(210)]), content_digests(images),
    )  # fmt: skip
    changed = set_apart(photos, 0.2)
    held = changed.splits == FOCUS
    assert held.sum() == 42
    assert (held[:105] == held[105:]).all()


def test_what_stands_in_validation_stays_in_training() -> None:
    train_rows, val_rows = range(0, 28), range(210, 238)
    changed = set_apart(repeated(table(), list(zip(val_rows, train_rows, strict=True))), 0.5)
    assert len(changed.overlap("train", "val")) == 28
    assert len(changed.overlap(FOCUS, "val")) == 0


def test_a_person_is_not_divided() -> None:
    original = table()
    subjects = np.array([f"p{row // 14}" for row in range(len(original))])
    changed = set_apart(replace(original, columns={"subject": subjects}), 0.2)
    held = {subjects[row] for row in changed.rows(FOCUS)}
    assert held
    assert not held & {subjects[row] for row in changed.rows("train")}


def test_a_class_that_can_give_nothing_is_told() -> None:
    original = table()
    subjects = np.where(original.labels == 1, "one person", [f"p{row}" for row in range(len(original))])
    with pytest.raises(DataError, match=r"sets no image of disgust apart: .* use a larger fraction"):
        set_apart(replace(original, columns={"subject": subjects}), 0.2)


def test_a_data_module_trains_on_the_rest() -> None:
    data = StripesDataModule(train=210, focus_fraction=0.2)
    assert set(data.class_counts.values()) == {24}
    drawn = {row for row, _ in data.train_dataloader().sampler}
    assert drawn == set(data.table.rows("train").tolist())


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_a_wrong_fraction_is_named(fraction: float) -> None:
    with pytest.raises(ConfigError, match="focus_fraction must be at least 0 and below 1"):
        StripesDataModule(focus_fraction=fraction)


def test_draws_may_be_chosen_and_the_sampler_follows() -> None:
    data = StripesDataModule(train=84)
    assert set(data.draws.values()) == {12}
    names = data.class_names
    data.set_draws(dict(zip(names, [24, 0, 12, 12, 12, 12, 12], strict=True)))
    sampler = data.train_dataloader().sampler

    def counts() -> list[int]:
        labels = data.table.labels[[row for row, _ in sampler]]
        return [int(count) for count in np.bincount(labels, minlength=7)]

    assert counts() == [24, 0, 12, 12, 12, 12, 12]
    data.set_draws(dict.fromkeys(names, 12))
    assert counts() == [12] * 7


def test_draws_of_other_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="draws of cat, but the classes are angry"):
        StripesDataModule().set_draws({"cat": 3})


def test_the_part_of_known_images_has_not_changed() -> None:
    table = set_apart(stripes_table({"train": 35, "val": 7}), 0.2)
    assert table.rows(FOCUS).tolist() == [1, 3, 4, 7, 13, 16, 26]
