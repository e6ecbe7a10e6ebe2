from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import fer_lightning.data.splitting.links as module
from fer_lightning.data.files.file_images import FileImages
from fer_lightning.data.files.listing import Listing, read_listing
from fer_lightning.data.splitting.links import linked_groups
from fer_lightning.data.splitting.near_duplicates import THUMBNAIL_SIDE, near_duplicates
from fer_lightning.data.splitting.splits import complete_splits
from fer_lightning.data.table.bad_rows import BadRows, contents, reason_counts, reasons_text
from fer_lightning.data.table.images import SubsetImages
from fer_lightning.data.table.label_columns import Header, one_hot_columns, place_columns
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError, DataError
from tests.helpers.folders import draw, save


def listing_of(root: Path, names: list[str], **columns: Any) -> Listing:
    count = len(names)
    return Listing(
        root=root,
        class_names=SEVEN.class_names,
        paths=np.array(names, np.str_),
        labels=np.arange(count, dtype=np.int64) % 7,
        splits=np.full(count, "", "<U5"),
        sources=np.full(count, "made"),
        **columns,
    )


@pytest.fixture
def listing(tmp_path: Path) -> Listing:
    rng = np.random.default_rng(0)
    names = [f"{number}.png" for number in range(6)]
    for number, name in enumerate(names):
        picture = np.asarray(Image.fromarray(draw(number, rng)).resize((20 + 10 * number, 40)))
        save(tmp_path / name, picture)
    return listing_of(tmp_path, names, columns={"subject": np.array(list("aabbcc"))})


def read(listing: Listing, **options: Any) -> SamplesTable:
    usual: dict[str, Any] = {"size": 16, "channels": 3, "cache_dir": listing.root / "cache"}
    return read_listing(listing, **usual | options)


def test_good_files_become_a_table(listing: Listing) -> None:
    table = read(listing)
    assert table.files.tolist() == listing.paths.tolist()
    assert table.images.shape == (6, 3, 16, 16)
    assert isinstance(table.images, FileImages)  # nothing is selected where nothing is left out
    assert table.columns["subject"].tolist() == list("aabbcc")
    assert table.columns["width"].tolist() == [20, 30, 40, 50, 60, 70]
    assert set(table.columns["height"].tolist()) == {40}
    assert {"upscaled", "frames"}.isdisjoint(table.columns)
    assert table.thumbnails is not None
    assert (table.root, table.left_out) == (listing.root, ())


def test_bad_files_stop_or_are_left_out(listing: Listing, caplog: pytest.LogCaptureFixture) -> None:
    (listing.root / "4.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"4\.png: expected an image, found an empty file"):
        read(listing)
    table = read(replace(listing, left_out=(("notes.txt", "not an image by its name"),)), on_error="skip")
    assert table.files.tolist() == [f"{number}.png" for number in (0, 1, 2, 3, 5)]
    assert table.labels.tolist() == [0, 1, 2, 3, 5]
    assert isinstance(table.images, SubsetImages)
    assert np.array_equal(table.images[np.array([4])], read(listing, on_error="skip").images[np.array([4])])
    assert [place for place, _ in table.left_out] == ["notes.txt", "4.png"]
    assert "left out 2 rows: 1 not an image by its name; 1 expected an image, found an empty file" in caplog.text


def test_half_a_set_may_be_bad_but_not_more(listing: Listing) -> None:
    for number in range(3):
        (listing.root / f"{number}.png").write_bytes(b"")
    assert len(read(listing, on_error="skip")) == 3
    (listing.root / "3.png").write_bytes(b"")
    with pytest.raises(DataError, match="4 of 6 images are bad, too many to skip; the first: .*0.png: expected"):
        read(listing, on_error="skip")


def test_small_images_are_rejected_or_marked(listing: Listing) -> None:
    table = read(listing, min_side=40)
    assert table.columns["width"].tolist() == [40, 50, 60, 70]
    assert table.left_out[0] == ("0.png", "20x40 pixels, below the least side of 40")
    kept = read(listing, min_side=40, small="upscale")
    assert kept.columns["upscaled"].tolist() == ["yes", "yes", "no", "no", "no", "no"]
    assert len(kept.left_out) == 0
    with pytest.raises(DataError, match=r"every image is below data.min_side \(41 pixels\)"):
        read(listing, min_side=41)


def test_the_side_of_a_box_counts_not_that_of_its_photograph(listing: Listing) -> None:
    boxes = np.array([[0, 0, 10 + number, 30] for number in range(6)], np.int64)
    table = read(replace(listing, boxes=boxes), min_side=12)
    assert table.columns["width"].tolist() == [12, 13, 14, 15]
    assert isinstance(table.images, SubsetImages)


def test_nothing_is_an_error(tmp_path: Path) -> None:
    empty = listing_of(tmp_path, [])
    with pytest.raises(DataError, match="expected images, found none$"):
        read(empty)
    told = (("a.txt", "not an image by its name"), ("b.txt", "not an image by its name"))
    with pytest.raises(DataError, match=r"found none \(left out: 2 not an image by its name\)"):
        read(replace(empty, left_out=told))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"small": "grow"}, "data.small must be 'reject' or 'upscale', not 'grow'"),
        ({"min_side": -1}, "data.min_side must not be negative, not -1"),
        ({"on_error": "stop"}, "on_error must be 'raise' or 'skip', not 'stop'"),
    ],
)
def test_a_wrong_argument_is_named(listing: Listing, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(listing, **options)


def random_table(seed: int, count: int = 60) -> SamplesTable:
    """Return rows with copies, near-copies, people, parents and children at random."""
    rng = np.random.default_rng(seed)
    small = np.stack([_thumbnail(rng) for _ in range(count)])
    digests = rng.integers(0, 256, (count, 16), dtype=np.uint8)
    for copy, original in rng.integers(0, count, (count // 8, 2)).tolist():
        digests[copy], small[copy] = digests[original], small[original]
    for near, original in rng.integers(0, count, (count // 8, 2)).tolist():
        small[near] = (small[original] * 0.9 + 12).astype(np.uint8)
    files = np.array([f"{row}.png" for row in range(count)])
    parents = np.where(rng.random(count) < 0.15, rng.permutation(np.append(files[1:], "not here.png")), "")
    subjects = np.where(rng.random(count) < 0.3, rng.permutation(np.arange(count) // 3).astype(np.str_), "")
    return SamplesTable(
        class_names=SEVEN.class_names,
        images=np.zeros((count, 1, 8, 8), np.uint8),
        labels=rng.integers(0, 3, count),
        splits=np.full(count, "", "<U5"),
        sources=np.full(count, "made"),
        files=files,
        digests=digests,
        columns={"subject": subjects, "parent": parents},
        thumbnails=small,
    )


def _thumbnail(rng: np.random.Generator) -> NDArray[np.uint8]:
    blotches = Image.fromarray(rng.integers(20, 236, (5, 5)).astype(np.uint8))
    return np.asarray(blotches.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BICUBIC))


def links(table: SamplesTable) -> NDArray[np.bool_]:
    """Return which rows must stay together, ``(N, N)``, by looking at each pair."""
    subject, parent = table.columns["subject"], table.columns["parent"]
    linked: NDArray[np.bool_] = (table.digests[:, None] == table.digests[None]).all(axis=2)
    linked |= (subject[:, None] == subject[None]) & (subject[:, None] != "")
    linked |= (parent[:, None] == parent[None]) & (parent[:, None] != "")
    linked |= (parent[:, None] == table.files[None]) | (table.files[:, None] == parent[None])
    assert table.thumbnails is not None
    near = near_duplicates(table.thumbnails)
    linked[near.first, near.second] = linked[near.second, near.first] = True
    return linked


@pytest.mark.parametrize("seed", range(25))
def test_nothing_that_is_linked_is_divided(seed: int, tmp_path: Path) -> None:
    table = random_table(seed)
    linked = links(table)
    assert linked.sum() > len(table) + 10  # there is something to get wrong
    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {"val_fraction": rng.uniform(0, 0.6), "test_fraction": rng.uniform(0, 0.6), "seed": seed}
    if seed % 3 == 0:
        options = {"val_fraction": 0.3, "test_per_class": 3, "seed": seed}
    groups = linked_groups(table, cache_dir=tmp_path)
    splits = complete_splits(table.splits, table.labels, groups, **options)
    used = (splits[:, None] != "") & (splits[None] != "")
    assert not (linked & used & (splits[:, None] != splits[None])).any()
    if seed % 3 == 0:
        assert np.bincount(table.labels[splits == "test"]).tolist() == [3, 3, 3]


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_rows_changes_nothing(seed: int, tmp_path: Path) -> None:
    table = random_table(seed)
    order = np.random.default_rng(seed).permutation(len(table))
    groups = linked_groups(table, cache_dir=tmp_path)
    assert np.array_equal(linked_groups(table.select(order), cache_dir=tmp_path), groups[order])


def test_parent_child_and_grandchild_hang_together(tmp_path: Path) -> None:
    table = random_table(0, count=16)
    parents = np.full(16, "", "<U12")
    parents[[3, 9]] = ["0.png", "3.png"]
    table = replace(table, columns={"parent": parents})
    groups = [name.tobytes() for name in linked_groups(table, near=False)]
    assert groups[0] == groups[3] == groups[9]
    assert len(set(groups)) == len({digest.tobytes() for digest in table.digests}) - 2


def test_near_duplicates_are_looked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = random_table(1)
    groups = linked_groups(table, cache_dir=tmp_path)
    assert len(np.unique(groups, axis=0)) < len(np.unique(linked_groups(table, near=False), axis=0))
    monkeypatch.setattr(module, "near_duplicates", lambda *_: pytest.fail("looked again"))
    assert np.array_equal(linked_groups(table, cache_dir=tmp_path), groups)
    assert len(linked_groups(replace(table, thumbnails=None), cache_dir=tmp_path)) == len(table)


def test_the_first_six_names_in_a_folder_are_told(tmp_path: Path) -> None:
    assert contents(tmp_path) == "nothing"
    for name in "fdbace":
        (tmp_path / name).touch()
    assert contents(tmp_path) == "a, b, c, d, e, f"
    (tmp_path / "aa").mkdir()
    assert contents(tmp_path) == "a, aa/, b, c, d, e, ..."


def test_one_column_of_marks_is_no_label() -> None:
    assert one_hot_columns(Header(("path", "happy")), [["a", "1"], ["b", "0"]]) == []
    assert one_hot_columns(Header(("path", "happy", "sad")), [["a", "1", "0"], ["b", "0", "1.0"]]) == [1, 2]
    assert one_hot_columns(Header(("path", "happy", "sad")), [["a", "2", "0"]]) == []
    assert one_hot_columns(Header(("label", "happy", "sad")), [["a", "1", "0"]]) == []
    assert one_hot_columns(Header(("1", "2", "3"), present=False), [["a", "1", "0"]]) == []


def test_a_column_is_named_by_its_number_and_a_label_has_several_values() -> None:
    header = Header(("image", "same", "feeling", "many"))
    rows = [[f"{number}.png", "a", "xy"[number % 2], str(number)] for number in range(16)]
    assert place_columns("t", header, rows)["label"] == 2
    for at in (1, 4):
        assert place_columns("t", header, rows, ("label",), {"label": at})["label"] == at - 1
    for at in (0, 5):
        with pytest.raises(ConfigError, match=f"t has no column '{at}'; it has image, same, feeling, many"):
            place_columns("t", header, rows, given={"label": at})
    unknown = Header(("image", "same", "mood", "many"))
    with pytest.raises(DataError, match=r"expected a column 'label', .*pass --data.columns '\{label: mood\}' if"):
        place_columns("t", unknown, rows)  # neither that of one value nor that of sixteen
    several = [[f"{number}.png", f"class {number}"] for number in range(15)]
    with pytest.raises(DataError, match=r"pass --data.columns '\{label: mood\}' if"):
        place_columns("t", Header(("image", "mood")), several)
    with pytest.raises(DataError, match=r"name the columns with --data.columns '\{path: ..., label: ...\}'"):
        place_columns("t", Header(("image", "mood")), [*several, ["15.png", "class 15"]])
    letters = Header(("image", "letter", "mood"))  # expressions go before a column that is nearer
    named = [[row[0], row[2], "happy" if row[2] == "x" else "sad"] for row in rows]
    with pytest.raises(DataError, match=r"pass --data.columns '\{label: mood\}' if"):
        place_columns("t", letters, named)


def test_three_reasons_are_told_and_how_many_more_there_are(caplog: pytest.LogCaptureFixture) -> None:
    left_out = [*[("a", "first")] * 4, ("b", "second 1"), ("b", "second 2"), *[("c", c) for c in ("third", "fourth")]]
    assert reasons_text(left_out) == "4 first; 2 second #; 1 third; and 1 more reason"
    assert reasons_text([*left_out, ("d", "fifth")]).endswith("; and 2 more reasons")
    assert reasons_text(left_out[:7]) == "4 first; 2 second #; 1 third"
    bad = BadRows("set/", "skip")
    for number in range(5):
        bad.add(f"line {number}", DataError("no"))
    bad.check_share(10)
    bad.warn()
    assert "set/skipped 5 bad rows: line 0: no; line 1: no; line 2: no; ..." in caplog.text
    with pytest.raises(DataError, match="set/5 of 9 rows are bad, too many to skip; the first: line 0: no"):
        bad.check_share(9)
    caplog.clear()
    fewer = BadRows("", "skip")
    for number in range(3):
        fewer.note(f"line {number}", "no")
    fewer.warn()
    assert caplog.messages == ["skipped 3 bad rows: line 0: no; line 1: no; line 2: no"]


def test_reasons_are_counted_and_numbers_in_them_do_not_matter() -> None:
    reasons = ["10x20 pixels", "class '7' is left out", "30x20 pixels", "blank", "class '7' is left out", "9x9 pixels"]
    counts = reason_counts((f"{row}.png", reason) for row, reason in enumerate(reasons))
    assert list(counts.items()) == [("#x# pixels", 3), ("class '7' is left out", 2), ("blank", 1)]
    assert reason_counts([]) == {}
