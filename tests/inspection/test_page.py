"""What an inspection leaves in its folder, and that its page can be opened from there."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fer_lightning.data.table.samples import SamplesTable, content_digests
from fer_lightning.errors import ConfigError, DataError
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
    for target in (*sources, *page.values("a", "href")):
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
