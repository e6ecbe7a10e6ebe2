from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fer_lightning.data.table.images import SubsetImages
from fer_lightning.data.table.samples import SamplesTable, concatenate, content_digests
from fer_lightning.data.table.synthesis import (
    Recipe,
    SyntheticImages,
    parent_candidates,
    parent_rows,
    renamed_parents,
    synthesise,
)
from fer_lightning.errors import ConfigError, DataError
from tests.helpers.data import stripes_table

COUNTS = {"train": 42, "val": 14, "test": 14}
STILL = Recipe(rotation=0, shift=0, zoom=0, flip=False)


def lazy(table: SamplesTable) -> SamplesTable:
    """Return the same table with images that are read on access."""
    return replace(table, images=SubsetImages(table.images, np.arange(len(table))))


def with_copy(table: SamplesTable, first: int, second: int) -> SamplesTable:
    """Return the table with the image of row ``first`` in row ``second`` too."""
    images = table.images[np.arange(len(table))]
    images[second] = images[first]
    return replace(table, images=images, digests=content_digests(images))


def children_of(table: SamplesTable) -> NDArray[np.int64]:
    return np.flatnonzero(parent_rows(table) >= 0)


def by_name(table: SamplesTable) -> dict[str, bytes]:
    return {str(file): bytes(digest) for file, digest in zip(table.files, table.digests, strict=True)}


def test_each_class_gets_as_many_as_asked_for_and_larger_ones_stay() -> None:
    table = stripes_table({"train": 45, "val": 14})  # 7 angry, disgust, fear; 6 of the others
    balanced = synthesise(table, 7)
    assert balanced.class_counts("train") == dict.fromkeys(table.class_names, 7)
    assert len(balanced) == len(table) + 4
    assert balanced.class_counts("val") == table.class_counts("val")
    np.testing.assert_array_equal(balanced.images[np.arange(len(table))], table.images[np.arange(len(table))])
    assert synthesise(table, 100).class_counts("train") == dict.fromkeys(table.class_names, 100)


def test_nothing_is_added_where_nothing_lacks() -> None:
    table = replace(stripes_table(COUNTS), thumbnails=np.zeros((70, 4, 4), np.uint8))
    for at_least in (0, 6):
        same = synthesise(table, at_least)
        assert len(same) == 70
        assert same.thumbnails is not None
        assert set(same.columns["kind"]) == {"real"}
        assert set(same.columns["parent"]) == {""}


def test_children_are_spread_evenly() -> None:
    balanced = synthesise(stripes_table(COUNTS), 22)  # 16 children of 6 parents in each class
    families = Counter(parent_rows(balanced)[children_of(balanced)].tolist())
    assert len(families) == 42
    for label in range(7):
        sizes = [size for parent, size in families.items() if balanced.labels[parent] == label]
        assert sorted(sizes) == [2, 2, 3, 3, 3, 3]
    digests = [bytes(balanced.digests[row]) for row in children_of(balanced)]
    assert len(set(digests)) == len(digests) == 7 * 16


def test_children_are_training_rows_with_what_their_parent_has() -> None:
    table = stripes_table(COUNTS, soft=True)
    assert table.soft_labels is not None
    soft = (table.soft_labels * 0.9 + 0.1 / 7).astype(np.float32)
    columns = {"subject": np.array([f"p{row % 5}" for row in range(70)]), "valence": np.linspace(-1, 1, 70)}
    kinds = {"kind": np.array(["web", ""] * 35)}
    balanced = synthesise(replace(table, soft_labels=soft, columns={**columns, **kinds}), 9)
    children, parents = children_of(balanced), parent_rows(balanced)[children_of(balanced)]
    assert len(children) == 21
    assert set(balanced.splits[children]) == set(balanced.splits[parents]) == {"train"}
    for name in ("labels", "sources", "soft_labels"):
        np.testing.assert_array_equal(getattr(balanced, name)[children], getattr(balanced, name)[parents])
    for name in columns:
        np.testing.assert_array_equal(balanced.columns[name][children], balanced.columns[name][parents])
    assert balanced.columns["kind"][:4].tolist() == ["web", "real", "web", "real"]
    assert set(balanced.columns["kind"][children]) == {"synthetic"}
    assert balanced.columns["parent"][children].tolist() == balanced.files[parents].tolist()
    assert set(balanced.columns["parent"][:70]) == {""}
    assert all(
        file.startswith(f"{balanced.files[parent]}~")
        for file, parent in zip(balanced.files[children], parents, strict=True)
    )
    assert len(set(balanced.files.tolist())) == len(balanced)
    np.testing.assert_array_equal(balanced.digests[children], content_digests(balanced.images[children]))
    assert balanced.thumbnails is None


@pytest.mark.parametrize("at_least", [9, 20])
def test_the_order_of_the_rows_does_not_matter(at_least: int) -> None:
    table = with_copy(stripes_table(COUNTS), 0, 7)  # one image twice in a class
    first = synthesise(table, at_least)
    for order in (np.arange(70)[::-1], np.random.default_rng(1).permutation(70)):
        second = synthesise(table.select(order), at_least)
        assert by_name(first) == by_name(second)
        assert first.fingerprint("train") == second.fingerprint("train")
        assert first.files[children_of(first)].tolist() == second.files[children_of(second)].tolist()


def test_the_same_seed_gives_the_same_children_and_another_gives_others() -> None:
    table = stripes_table(COUNTS)
    assert by_name(synthesise(table, 9)) == by_name(synthesise(table, 9))
    assert by_name(synthesise(table, 9, seed=1)).keys() != by_name(synthesise(table, 9)).keys()  # other parents
    ours, theirs = by_name(synthesise(table, 12)), by_name(synthesise(table, 12, seed=1))  # one child each
    assert ours.keys() == theirs.keys()
    children = ours.keys() - by_name(table).keys()
    assert len(children) == 42
    assert all(ours[name] != theirs[name] for name in children)


def test_the_draws_are_these_on_every_machine() -> None:
    images = np.repeat(np.arange(70, dtype=np.uint8), 16 * 16).reshape(70, 1, 16, 16)
    table = lazy(replace(stripes_table(COUNTS), images=images, digests=content_digests(images)))
    balanced = synthesise(table, 7)
    children = children_of(balanced)
    assert balanced.files[children].tolist() == [
        "stripes/28~1",
        "stripes/22~1",
        "stripes/16~1",
        "stripes/3~1",
        "stripes/11~1",
        "stripes/19~1",
        "stripes/34~1",
    ]
    assert bytes(balanced.digests[children[0]]).hex() == "bd6655a223ea04101fc3def14b71c9e8"
    assert bytes(balanced.digests[children[-1]]).hex() == "fd7b6cc2a640d5ef3fb980daab14b2dd"


def test_further_children_may_be_added_later() -> None:
    table = stripes_table(COUNTS)
    assert by_name(synthesise(synthesise(table, 8), 15)) == by_name(synthesise(table, 15))


def test_lazy_images_give_the_same_pixels() -> None:
    table = stripes_table(COUNTS)
    eager, later = synthesise(table, 20), synthesise(lazy(table), 20)
    assert isinstance(eager.images, np.ndarray)
    assert not isinstance(later.images, np.ndarray)
    assert later.files.tolist() == eager.files.tolist()
    rows = np.random.default_rng(0).permutation(len(eager))
    np.testing.assert_array_equal(later.images[rows], eager.images[rows])
    for row in rows[:5]:
        np.testing.assert_array_equal(later.images[np.array([row])], eager.images[np.array([row])])
    children = children_of(later)
    digests = {bytes(later.digests[row]) for row in children}
    assert len(digests) == len(children) == 7 * 14
    again, other = synthesise(lazy(table), 20), synthesise(lazy(table), 20, recipe=Recipe(rotation=5))
    assert again.fingerprint("train") == later.fingerprint("train") != other.fingerprint("train")


def test_what_is_measured_on_has_no_near_copy(caplog: pytest.LogCaptureFixture) -> None:
    table = stripes_table(COUNTS)
    for train, held in ((0, "val"), (7, "test")):
        table = with_copy(table, int(table.rows(held)[0]), train)
    with caplog.at_level(logging.INFO):
        balanced = synthesise(table, 30)
    assert "2 training images that also stand in val or test have none" in caplog.text
    parents = parent_rows(balanced)
    assert not {0, 7} & set(parents.tolist())
    assert set(parents[parents >= 0]) == set(range(42)) - {0, 7}
    held_out = {bytes(balanced.digests[row]) for split in ("val", "test") for row in balanced.rows(split)}
    assert not held_out & {bytes(balanced.digests[row]) for row in parents[parents >= 0]}
    assert balanced.class_counts("train")["angry"] == 30


def test_equal_images_have_children_once_and_contradicting_ones_none() -> None:
    table = with_copy(with_copy(stripes_table(COUNTS), 0, 7), 8, 9)  # both angry; disgust and fear
    candidates = parent_candidates(table)
    assert candidates.tolist() == [row for row in range(42) if row not in (7, 8, 9)]
    balanced = synthesise(table, 30)
    digests = [bytes(balanced.digests[row]) for row in children_of(balanced)]
    assert len(set(digests)) == len(digests)


def test_a_class_without_a_parent_is_named() -> None:
    table = stripes_table(COUNTS)
    empty = table.with_splits(np.where((table.labels == 1) & (table.splits == "train"), "", table.splits))
    with pytest.raises(DataError, match="class 'disgust' has no training image"):
        synthesise(empty, 10)
    assert len(synthesise(empty, 0)) == 70
    rows = np.flatnonzero((table.splits == "train") & (table.labels == 2))
    for row in rows.tolist():
        table = with_copy(table, int(table.rows("val")[2]), row)
    with pytest.raises(DataError, match="class 'fear'.*each of its 6 also stands in validation or test"):
        synthesise(table, 10)


def test_images_of_one_name_are_refused() -> None:
    table = stripes_table(COUNTS)
    files = table.files.copy()
    files[3] = files[4]
    with pytest.raises(DataError, match="two different images of source 'stripes' are called 'stripes/4'"):
        synthesise(replace(table, files=files), 10)
    sources = table.sources.copy().astype("<U9")
    sources[3] = "other"
    balanced = synthesise(replace(table, files=files, sources=sources), 12)
    assert {3, 4} <= set(parent_rows(balanced).tolist())


def test_a_parent_that_is_not_there_has_no_row() -> None:
    balanced = synthesise(stripes_table(COUNTS), 7)
    child = children_of(balanced)[0]
    kept = np.delete(np.arange(len(balanced)), parent_rows(balanced)[child])
    assert (parent_rows(balanced.select(kept))[kept == child] == -1).all()
    assert (parent_rows(stripes_table(COUNTS)) == -1).all()


def test_parents_follow_when_rows_get_new_names() -> None:
    balanced = synthesise(stripes_table(COUNTS), 9)
    names = np.array([f"train/{row:06}.png" for row in range(len(balanced))])
    renamed = replace(balanced, files=names, columns={**balanced.columns, "parent": renamed_parents(balanced, names)})
    np.testing.assert_array_equal(parent_rows(renamed), parent_rows(balanced))
    children = children_of(balanced)
    some = balanced.select(children[:3])  # without their parents
    assert renamed_parents(some, names[children[:3]]).tolist() == some.columns["parent"].tolist()


def test_a_recipe_of_nothing_copies_and_a_flip_mirrors() -> None:
    images = stripes_table({"train": 7}).images
    keys = np.arange(40, dtype=np.int64)
    parents = keys % 7
    np.testing.assert_array_equal(SyntheticImages(images, parents, keys, STILL)[keys], images[parents])
    flipped = SyntheticImages(images, parents, keys, replace(STILL, flip=True))[keys]
    mirrored = (flipped == images[parents][..., ::-1]).all(axis=(1, 2, 3))
    assert (mirrored | (flipped == images[parents]).all(axis=(1, 2, 3))).all()
    assert 8 <= mirrored.sum() <= 32


def test_one_in_two_is_mirrored() -> None:
    keys = np.random.default_rng(0).integers(-(2**62), 2**62, 4000)
    image = np.arange(4, dtype=np.uint8).reshape(1, 1, 2, 2)
    made = SyntheticImages(image, np.zeros(4000, np.int64), keys, replace(STILL, flip=True))[np.arange(4000)]
    assert 0.47 < (made[:, 0, 0, 0] == 1).mean() < 0.53


def test_a_child_is_turned_zoomed_and_moved_within_the_recipe() -> None:
    """Measure a bright spot on each side of the centre: their middle moves, their distance and angle change."""
    side = 101
    image = np.zeros((1, 1, side, side), np.uint8)
    for x in (30, 70):
        cv2.circle(image[0, 0], (x, 50), 4, 255, -1)
    keys = np.random.default_rng(0).integers(-(2**62), 2**62, 300)
    made = SyntheticImages(image, np.zeros(300, np.int64), keys, Recipe(rotation=15, shift=0.1, zoom=0.1, flip=False))
    facts = []
    for planes in made[np.arange(300)]:
        _, _, _, centres = cv2.connectedComponentsWithStats((planes[0] > 127).astype(np.uint8))
        left, right = sorted(centres[1:].tolist())
        across, down = right[0] - left[0], right[1] - left[1]
        middle = [(right[axis] + left[axis]) / 2 - 50 for axis in (0, 1)]
        facts.append([np.degrees(np.arctan2(down, across)), np.hypot(across, down) / 40, *middle])
    angle, scale, right, below = np.array(facts).T
    for values, low, high in ((angle, -15, 15), (scale, 0.9, 1.1), (right, -10.1, 10.1), (below, -10.1, 10.1)):
        slack = 0.02 * (high - low)
        assert low - slack <= values.min() <= low + 5 * slack
        assert high - 5 * slack <= values.max() <= high + slack
    correlations = np.corrcoef([angle, scale, right, below]) - np.eye(4)
    assert np.abs(correlations).max() < 0.2


def test_colour_and_shape_are_kept() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 20, 30)).astype(np.uint8)
    pixels[:, 1] = pixels[:, 0]
    children = SyntheticImages(pixels, np.array([0, 1, 1]), np.array([1, 2, 3]))
    assert children.shape == (3, 3, 20, 30)
    assert len(children) == 3
    made = children[np.array([2, 0])]
    assert made.shape == (2, 3, 20, 30)
    np.testing.assert_array_equal(made[:, 1], made[:, 0])
    assert (made[:, 2] != made[:, 0]).any()
    assert children[np.empty(0, np.int64)].shape == (0, 3, 20, 30)


def test_the_border_is_repeated() -> None:
    white = np.full((1, 1, 24, 24), 255, np.uint8)
    children = SyntheticImages(white, np.zeros(50, np.int64), np.arange(50), Recipe(shift=0.5))
    assert (children[np.arange(50)] == 255).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotation": -1}, "recipe.rotation must be 0 to 180 degrees, not -1"),
        ({"rotation": float("nan")}, "recipe.rotation"),
        ({"shift": 1.0}, "recipe.shift must be at least 0 and below 1, not 1"),
        ({"zoom": -0.1}, "recipe.zoom"),
    ],
)
def test_bad_recipes_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe(**options)


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ConfigError, match="at_least must not be negative"):
        synthesise(stripes_table(COUNTS), -1)


def test_tables_put_together_keep_their_families() -> None:
    first, second = synthesise(stripes_table(COUNTS), 9), stripes_table(COUNTS, seed=1)
    second = replace(second, sources=np.full(70, "other"))
    both = concatenate([second, first])
    np.testing.assert_array_equal(parent_rows(both)[70:], np.where(parent_rows(first) < 0, -1, parent_rows(first) + 70))


def test_a_shift_is_a_share_of_the_side_that_it_goes_along() -> None:
    images = np.zeros((1, 1, 20, 100), np.uint8)
    images[..., 10, 50] = 255
    parents, keys = np.zeros(200, np.int64), np.random.default_rng(0).integers(-(2**62), 2**62, 200)
    shifted = SyntheticImages(images, parents, keys, Recipe(rotation=0, shift=0.25, zoom=0, flip=False))
    peaks = np.array([np.unravel_index(one.argmax(), (20, 100)) for one in shifted[np.arange(200)][:, 0]])
    assert 4 <= np.abs(peaks[:, 0] - 10).max() <= 5
    assert 23 <= np.abs(peaks[:, 1] - 50).max() <= 25
