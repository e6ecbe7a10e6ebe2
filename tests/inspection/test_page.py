"""What an inspection leaves in its folder, and that its page can be opened from there."""

from __future__ import annotations

import csv
import json
import shutil
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fer_lightning.data.splitting.dedupe import Duplicates, find_duplicates
from fer_lightning.data.splitting.near_duplicates import Pairs
from fer_lightning.data.table.samples import SamplesTable, content_digests
from fer_lightning.errors import ConfigError, DataError, MissingExtraError
from fer_lightning.inspection import page as data_page
from fer_lightning.inspection.page import SCHEMA, inspect_table
from tests.helpers.data import stripes_table

VOID = {"meta", "img", "br", "link", "hr"}
NASTY = '<script>alert("x")</script>&amp; faces'


class Page(HTMLParser):
    """Checks that tags are balanced, and collects texts, links and ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, "" if value is None else value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without a beginning"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"] and data.strip():
            self.texts.append(data.strip())

    def values(self, tag: str, attribute: str) -> list[str]:
        return [value for t, name, value in self.attributes if (t, name) == (tag, attribute)]


def rich_table(seed: int = 0) -> SamplesTable:
    """Return a table with everything there is to tell: leaks, conflicts, blanks, sizes, groups, votes."""
    table = stripes_table({"train": 70, "val": 21, "test": 14}, seed)
    images = np.asarray(table.images).copy()
    images[75] = images[3]  # val repeats train, with another label
    images[10] = images[11]
    images[20] = 7
    count, rng = len(table), np.random.default_rng(seed)
    soft = rng.dirichlet(np.ones(7), count).astype(np.float32)
    files = table.files.astype("<U60")
    files[20] = f"{NASTY}.png"
    columns = {
        "kind": np.where(np.arange(count) % 3 == 0, "web", "real"),
        "gender": np.array(["female", "male", ""])[np.arange(count) % 3],
        "valence": np.where(np.arange(count) < 50, rng.uniform(-1, 1, count), np.nan),
        "subject": np.array([f"person {row}" for row in range(count)]),
        "width": rng.integers(10, 90, count),
        "height": rng.integers(10, 90, count),
    }
    return replace(
        table, images=images, digests=content_digests(images), soft_labels=soft, columns=columns, files=files
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def inspected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("inspected") / "new" / "folder"
    notes = [(f"{NASTY}.jpg", "0 bytes"), ("cut.png", "ends in the middle")]
    return out, inspect_table(rich_table(), out, name=NASTY, notes=notes, seed=3)


def test_the_page_is_balanced_and_stands_alone(inspected: tuple[Path, dict[str, Any]]) -> None:
    out, _ = inspected
    text = (out / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "http" not in text
    assert "@import" not in text
    assert "url(" not in text
    sources = page.values("img", "src")
    assert len(sources) == len(set(sources)) == len(list((out / "pictures").iterdir()))
    assert all(source.startswith("data:image/webp;base64,") for source in sources)
    widths = [Image.open(BytesIO(b64decode(source.partition(",")[2]))).width for source in sources]
    assert max(widths) == 1040  # as wide as the page; the files in pictures/ have all pixels
    assert len(text.encode()) < 600_000
    for target in page.values("a", "href"):
        if target.startswith("#"):
            assert target[1:] in page.values("section", "id")
        else:
            assert (out / target).is_file()
    assert all(page.values("img", "alt"))


def test_names_of_files_are_text_in_the_page(inspected: tuple[Path, dict[str, Any]]) -> None:
    page = Page((inspected[0] / "index.html").read_text(encoding="utf-8"))
    joined = "\n".join(page.texts)
    assert NASTY in page.texts  # the headline, with its "&amp;" as it is written
    assert f"{NASTY}.jpg" in joined


def test_the_page_tells_every_part(inspected: tuple[Path, dict[str, Any]]) -> None:
    page = Page((inspected[0] / "index.html").read_text(encoding="utf-8"))
    sections = ["look", "classes", "faces", "pixels", "duplicates", "columns", "files", "votes"]
    assert page.values("section", "id") == sections
    said = " ".join(page.texts)
    for part in (
        "70",
        "images in train",
        "1 image of val also stands in train",
        "gender",
        "Mean entropy",
        "ends in the",
    ):
        assert part in said, part


def test_pictures_can_be_opened(inspected: tuple[Path, dict[str, Any]]) -> None:
    stems = {path.stem for path in (inspected[0] / "pictures").iterdir()}
    expected = {"counts", "mean_faces", "samples", "histogram", "light", "extremes", "blank", "sizes"}
    assert expected <= stems <= {*expected, "duplicates"}
    for path in (inspected[0] / "pictures").iterdir():
        with Image.open(path) as image:
            image.load()
            assert image.width > 300


def test_the_json_is_what_was_returned(inspected: tuple[Path, dict[str, Any]]) -> None:
    out, report = inspected
    assert json.loads((out / "inspect.json").read_text(encoding="utf-8")) == report
    assert list(report) == [
        "schema",
        "version",
        "name",
        "seed",
        "images",
        "image_shape",
        "scheme",
        "class_names",
        "part",
        "remarks",
        "findings",
        "unreadable",
        "splits",
        "class_weights",
        "columns",
        "subjects",
        "pixels",
        "sizes",
        "soft_labels",
        "duplicates",
    ]
    assert (report["schema"], report["images"], report["image_shape"]) == (SCHEMA, 105, [1, 16, 16])
    assert report["class_weights"] == pytest.approx(dict.fromkeys(report["class_names"], 1.0))
    assert report["duplicates"]["shared"]["val in train"]["exact"] == 1
    assert report["pixels"]["blank"]["images"] == 1
    assert report["unreadable"][1] == {"file": "cut.png", "reason": "ends in the middle"}
    assert any("stand" in sentence for sentence in report["findings"])


def test_lists_are_written_as_tables(inspected: tuple[Path, dict[str, Any]]) -> None:
    out, report = inspected
    counts = rows_of(out / "counts.csv")
    assert [row["class"] for row in counts] == report["class_names"]
    assert sum(int(row["train"]) for row in counts) == 70
    assert [(row["row"], row["file"]) for row in rows_of(out / "blank.csv")] == [("20", f"{NASTY}.png")]
    assert [row["reason"] for row in rows_of(out / "unreadable.csv")] == ["0 bytes", "ends in the middle"]
    same: dict[str, set[int]] = {}
    for row in rows_of(out / "duplicates.csv"):
        same.setdefault(row["identical"], set()).add(int(row["row"]))
    assert {frozenset(rows) for rows in same.values() if len(rows) > 1} == {frozenset({3, 75}), frozenset({10, 11})}


def test_near_duplicates_are_counted_and_shown(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 48)] * 2))
    waves = [np.sin((rng.uniform(3, 30, 2)[:, None, None] * grid).sum(0) + rng.uniform(0, 6)) for _ in range(70)]
    images = np.stack([127 + 100 * wave * rng.uniform(0.5, 1) for wave in waves]).astype(np.uint8)[:, None]
    images = np.concatenate([images, np.clip(images[:1] * 0.9 + 6, 0, 255).astype(np.uint8)])
    table = stripes_table({"train": 70, "val": 1})
    table = replace(table, images=images, digests=content_digests(images))
    report = inspect_table(table, tmp_path, name="waves")
    assert report["duplicates"]["shared"]["val in train"] == {"exact": 0, "near": 1}
    assert (tmp_path / "pictures" / "duplicates.png").is_file()
    assert {"0", "70"} <= {row["row"] for row in rows_of(tmp_path / "duplicates.csv")}


def test_the_same_data_and_seed_give_the_same_files(tmp_path: Path) -> None:
    table = stripes_table({"train": 21, "val": 7})
    for name in ("one", "two"):
        inspect_table(table, tmp_path / name, name="stripes", near=False)
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name).rglob("*.*")} for name in ("one", "two"))
    assert first == second


def test_what_an_earlier_inspection_left_is_removed(tmp_path: Path, inspected: tuple[Path, dict[str, Any]]) -> None:
    shutil.copytree(inspected[0], tmp_path, dirs_exist_ok=True)
    assert {"blank.csv", "unreadable.csv", "duplicates.csv"} <= {path.name for path in tmp_path.iterdir()}
    (tmp_path / "mine.csv").write_text("mine")
    inspect_table(stripes_table({"train": 14}), tmp_path, name="plain", near=False)
    left = {path.name for path in tmp_path.rglob("*.*")}
    assert not {"blank.csv", "unreadable.csv", "duplicates.csv", "blank.png", "sizes.png"} & left
    assert {"mine.csv", "counts.csv", "index.html", "inspect.json", "counts.png"} <= left


def test_nothing_is_written_if_the_work_is_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> Sequence[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(data_page, "_add_examples", interrupted)
    with pytest.raises(KeyboardInterrupt):
        inspect_table(stripes_table({"train": 14}), tmp_path / "out", name="stripes", near=False)
    assert not (tmp_path / "out").exists()


def test_a_set_without_a_training_part_is_shown_whole(tmp_path: Path) -> None:
    table = stripes_table({"test": 14})
    report = inspect_table(table, tmp_path, name="test only", near=False)
    assert (report["part"], report["class_weights"], report["duplicates"]["near"]) == ("all", None, False)
    Page((tmp_path / "index.html").read_text(encoding="utf-8"))


def test_an_empty_table_is_refused(tmp_path: Path) -> None:
    table = stripes_table({"train": 7}).select(np.empty(0, np.int64))
    with pytest.raises(DataError, match="^nothing here: there is no image to inspect$"):
        inspect_table(table, tmp_path / "out", name="nothing here")
    assert not (tmp_path / "out").exists()


def test_a_map_of_the_pixels_on_demand(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    table = stripes_table({"train": 42, "val": 7})
    inspect_table(table, tmp_path, name="stripes", near=False, tsne=True, tsne_samples=28)
    rows = rows_of(tmp_path / "tsne.csv")
    assert len(rows) == 28
    assert {row["split"] for row in rows} == {"train"}
    assert [row["label"] for row in rows] == [table.class_names[table.labels[int(row["row"])]] for row in rows]
    assert "map" in Page((tmp_path / "index.html").read_text(encoding="utf-8")).values("section", "id")
    with pytest.raises(ConfigError, match="t-SNE of 4 images"):
        inspect_table(table, tmp_path, name="stripes", near=False, tsne=True, tsne_samples=4)


class Asked:
    """Stands for the functions that draw: keeps what each is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given: dict[str, list[tuple[Any, ...]]] = {}
        for name in ("counts", "faces", "histogram", "light", "samples", "sizes", "strip"):
            monkeypatch.setattr(data_page, f"{name}_figure", self.recorder(name))
        monkeypatch.setattr(data_page, "pairs_picture", self.recorder("pairs"))
        monkeypatch.setattr(data_page, "figure_pixels", lambda _: np.zeros((2, 2, 3), np.uint8))

    def recorder(self, name: str) -> Callable[..., None]:
        return lambda *given: self.given.setdefault(name, []).append(given)

    def one(self, name: str) -> tuple[Any, ...]:
        [given] = self.given[name]
        return given


def wide_table(seed: int = 0) -> SamplesTable:
    """Return images 16 wide and 12 high with classes of unequal size, 20 of them blank, a few of no split."""
    table = stripes_table({"train": 120, "val": 20, "": 5}, seed)
    labels = np.where(np.arange(145) % 3 == 0, 0, table.labels)
    images = np.asarray(table.images)[:, :, :12].copy()
    images[40:60] = 90
    columns = {"width": np.arange(145) % 50, "height": np.arange(145) % 40 * 2}
    return replace(table, labels=labels, images=images, digests=content_digests(images), columns=columns)


def test_each_picture_is_given_its_own_images_and_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, asked = wide_table(), Asked(monkeypatch)
    images, names = np.asarray(table.images), table.class_names
    report = inspect_table(table, tmp_path, name="wide", near=False, seed=5)
    train = np.flatnonzero(table.splits == "train")
    counts, _ = asked.one("counts")
    assert counts == {
        split: {
            name: int(((table.splits == stored) & (table.labels == label)).sum()) for label, name in enumerate(names)
        }
        for split, stored in (("train", "train"), ("val", "val"), ("unused", ""))
    }
    assert report["class_weights"]["angry"] == pytest.approx(
        report["class_weights"]["sad"] * counts["train"]["sad"] / counts["train"]["angry"]
    )
    brightness, contrast, labels, _, title = asked.one("light")
    np.testing.assert_allclose(brightness, images[train].mean(axis=(1, 2, 3)) / 255)
    np.testing.assert_allclose(contrast, images[train].std(axis=(1, 2, 3)) / 255, atol=1e-9)
    assert (labels.tolist(), title) == (table.labels[train].tolist(), "Light, train")
    mean, std, support, _, _ = asked.one("faces")
    of_sad = images[train][table.labels[train] == 4] / 255
    np.testing.assert_allclose(mean[4], of_sad.mean(axis=0))
    np.testing.assert_allclose(std[4], of_sad.std(axis=0), atol=1e-7)
    assert support == list(counts["train"].values())
    width, height, stored, _ = asked.one("sizes")
    known = (table.columns["width"] > 0) & (table.columns["height"] > 0)
    assert (width.tolist(), height.tolist()) == tuple(
        table.columns[side][known].tolist() for side in ("width", "height")
    )
    assert stored == (12, 16)


def test_the_examples_are_drawn_by_class_and_the_extremes_are_the_darkest_and_brightest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, asked = wide_table(), Asked(monkeypatch)
    images, train = np.asarray(table.images), np.flatnonzero(table.splits == "train")
    inspect_table(table, tmp_path, name="wide", near=False, seed=5)
    row_of = {image.tobytes(): row for row, image in enumerate(images)}
    shown, title = asked.one("samples")
    assert title == "Samples, train"
    places: dict[str, list[int]] = {}
    for label, name in enumerate(table.class_names):
        of_class = train[table.labels[train] == label].tolist()
        rows = [row_of[image.tobytes()] for image in shown[name] if image.std()]  # the blank ones are all alike
        places[name] = [of_class.index(row) for row in rows]
        assert len(shown[name]) == 8
    assert places["sad"] != places["happy"]  # each class has a draw of its own
    (extremes, captions, _, columns), (blank, blank_captions, blank_title) = asked.given["strip"]
    brightness = images.mean(axis=(1, 2, 3)) / 255
    order = [row for row in np.argsort(brightness, kind="stable") if images[row].std()]
    expected = [*order[:8], *order[::-1][:8]]
    np.testing.assert_array_equal(extremes, images[expected])
    assert captions == [f"{row}\n{brightness[row]:.3f}" for row in expected]
    assert columns == 8
    assert (len(blank), blank_title) == (16, "Blank images (16 of 20)")
    assert blank_captions[:2] == [
        f"40\ntrain, {table.class_names[table.labels[40]]}",
        f"41\ntrain, {table.class_names[table.labels[41]]}",
    ]
    fewer = table.select(np.flatnonzero((table.labels != 0) | (np.arange(145) > 30)))
    inspect_table(fewer, tmp_path, name="wide", near=False, seed=5)
    np.testing.assert_array_equal(asked.given["samples"][1][0]["sad"], shown["sad"])


def test_pairs_across_splits_come_first_then_other_labels_then_the_closest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, asked = stripes_table({"train": 60, "val": 40}), Asked(monkeypatch)
    labels, splits = np.zeros(100, np.int64), table.splits.copy()
    first, second = np.arange(0, 40, 2), np.arange(1, 41, 2)
    splits[second[:6]] = "val"  # pairs 0 to 5 across splits
    labels[second[6:12]] = 1  # pairs 6 to 11 of different labels; 12 to 19 are alike in both
    digests = table.digests.copy()
    digests[second[12]] = digests[first[12]]  # identical: not shown
    digests[second[13], 1:] = digests[first[13], 1:]  # different in one byte only
    distance = np.linspace(0.1, 0.01, 20, dtype=np.float32)
    groups = np.arange(100)
    groups[second] = groups[first]
    table = replace(table, labels=labels, splits=splits, digests=digests)
    pairs = Pairs(first, second, distance, np.zeros(20, bool))
    found = replace(find_duplicates(table, near=False), pairs=pairs, near_groups=groups)
    data_page._add_pairs(data_page._Output(), table, found)
    _, _, shown, title = asked.one("pairs")
    assert shown.tolist() == [5, 4, 3, 2, 11, 10, 9, 8, 19, 18, 17, 16]
    assert title == "Near-duplicates (12 of 19 pairs)"
    few = replace(found, pairs=Pairs(first[2:14], second[2:14], distance[2:14], np.zeros(12, bool)))
    data_page._add_pairs(data_page._Output(), table, few)
    assert asked.given["pairs"][1][2].tolist() == [3, 2, 1, 0, 9, 8, 7, 6, 11, 5, 4]  # too few alike: more of others


def test_lists_number_their_groups_and_name_rows_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Asked(monkeypatch)
    monkeypatch.setattr(data_page, "embedding_figure", lambda *_: None)
    table = wide_table()
    images = np.asarray(table.images).copy()
    images[30], images[125], images[7] = images[3], images[3], images[100]
    table = replace(table, images=images, digests=content_digests(images))
    monkeypatch.setattr(data_page, "embed_pixels", lambda *_: (np.array([2, 9]), np.array([[0.5, -1.25], [3.0, 4.0]])))
    inspect_table(table, tmp_path, name="wide", near=False, tsne=True)
    rows = [tuple(row.values()) for row in rows_of(tmp_path / "duplicates.csv")]
    name = [table.class_names[label] for label in table.labels]
    assert [row[:5] for row in rows if row[0] != "3"] == [
        ("1", "1", "3", "stripes/3", "train"),
        ("1", "1", "30", "stripes/30", "train"),
        ("1", "1", "125", "stripes/125", "val"),
        ("2", "2", "7", "stripes/7", "train"),
        ("2", "2", "100", "stripes/100", "train"),
    ]
    assert [row[2] for row in rows if row[0] == "3"] == [str(row) for row in range(40, 60)]  # the blank ones
    [first, second] = rows_of(tmp_path / "tsne.csv")
    assert list(first.values()) == ["2", "stripes/2", "train", name[2], "0.50000", "-1.25000"]
    assert list(second.values()) == ["9", "stripes/9", "train", name[9], "3.00000", "4.00000"]
    counts = {row["class"]: row for row in rows_of(tmp_path / "counts.csv")}
    assert list(counts["sad"]) == ["class", "train", "val", "unused"]
    assert [int(counts["angry"][split]) for split in ("train", "val")] == [
        int(((table.labels == 0) & (table.splits == split)).sum()) for split in ("train", "val")
    ]


def test_the_large_numbers_count_copies_and_leaks_into_train() -> None:
    def part(images: int, ratio: float | None = None) -> dict[str, Any]:
        return {"images": images, "imbalance_ratio": ratio, "absent": []}

    def group(rows: int, groups: int) -> dict[str, Any]:
        return {"exact": {"rows": rows, "groups": groups}}

    report: dict[str, Any] = {
        "splits": {"train": part(1200, 7.25), "val": part(0), "test": part(40), "unused": part(0)},
        "duplicates": {
            "within": {"train": group(9, 4), "test": group(2, 1)},
            "shared": {
                pair: {"exact": n} for n, pair in enumerate(("val in train", "train in val", "test in train"), 3)
            },
        },
        "pixels": {"blank": {"images": 17}},
        "unreadable": [None] * 1001,
    }
    assert data_page._cards(report) == [
        ("1,200", "images in train"),
        ("0", "images in val"),
        ("40", "images in test"),
        ("7.2 : 1", "largest to smallest class of train"),
        ("8", "images of val and test that train has, too"),
        ("6", "identical copies within the splits"),
        ("17", "blank images"),
        ("1,001", "files left out"),
    ]
    report["splits"]["train"]["absent"], report["class_names"] = ["fear"], ["fear", "sad", "happy"]
    shown = ("7.2 : 1", "largest to smallest class of train; 1 of 3 have no image")
    assert shown in data_page._cards(report)
    report["splits"] |= {"train": part(0), "unused": part(5)}
    told = data_page._cards(report)
    assert told[3:5] == [("5", "images in unused"), ("n/a", "largest to smallest class of train")]


def test_everything_that_an_inspection_can_leave_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(monkeypatch)
    (tmp_path / "pictures").mkdir()
    tables = {"duplicates.csv", "blank.csv", "unreadable.csv", "tsne.csv"}
    pictures = {f"{stem}.png" for stem in ("extremes", "blank", "duplicates", "sizes", "tsne")}
    for name in (*tables, *(f"pictures/{picture}" for picture in pictures)):
        (tmp_path / name).write_text("old")
    inspect_table(stripes_table({"train": 14}), tmp_path, name="plain", near=False)
    left = {path.name: path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert not (tables | pictures - {"extremes.png"}) & set(left)
    assert left["extremes.png"].startswith(b"\x89PNG")
    assert "sizes" not in asked.given


def test_a_missing_library_for_the_map_is_told_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: int) -> None:
        raise MissingExtraError("t-SNE needs it")

    monkeypatch.setattr(data_page, "check_tsne", missing)
    monkeypatch.setattr(data_page, "measure_pixels", lambda _: pytest.fail("it was read"))
    with pytest.raises(MissingExtraError):
        inspect_table(stripes_table({"train": 14}), tmp_path, name="plain", tsne=True)


@pytest.mark.parametrize(("near", "mirrored"), [(True, False), (True, True), (False, False)])
def test_what_is_looked_for_is_what_was_asked_for(
    near: bool, mirrored: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Asked(monkeypatch)
    options: list[dict[str, bool]] = []
    plain = find_duplicates(stripes_table({"train": 14}), near=False)

    def look(_: SamplesTable, **given: bool) -> Duplicates:
        options.append(given)
        return plain

    monkeypatch.setattr(data_page, "find_duplicates", look)
    inspect_table(stripes_table({"train": 14}), tmp_path, name="plain", near=near, mirrored=mirrored)
    assert options == [{"near": near, "mirrored": mirrored}]
