from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_lightning.data.files_datamodule import IMAGENET_MEAN
from fer_lightning.data.sets.manifest import ManifestDataModule, list_manifest
from fer_lightning.data.splitting.near_duplicates import near_duplicates
from fer_lightning.data.storage.convert import convert_table
from fer_lightning.data.storage.description import METADATA
from fer_lightning.data.table.label_columns import COLUMNS
from fer_lightning.data.table.manifest_file import (
    ManifestFile,
    has_label_columns,
    manifest_text,
    read_manifest,
    rows_to_keep,
)
from fer_lightning.data.table.samples import SPLITS, SamplesTable, content_digests
from fer_lightning.errors import DataError, LabelError
from tests.contracts.datamodule import DataModuleContract
from tests.helpers.data import stripes_table
from tests.helpers.folders import SEVEN_NAMES, draw, save, write_folders, write_people, write_table


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("people"))


def module(root: Path, **options: Any) -> ManifestDataModule:
    return ManifestDataModule(str(root), **{"image_size": 24, "num_workers": 0, "batch_size": 8} | options)


class TestManifest(DataModuleContract):
    @pytest.fixture(autouse=True)
    def _people(self, people: Path) -> None:
        self.root = people

    def make(self, **options: Any) -> ManifestDataModule:
        return module(self.root, **options)


def text(folder: Path, *lines: str, name: str = "set.csv", end: str = "\n") -> Path:
    path = folder / name
    path.write_text(end.join(lines) + end, encoding="utf-8", newline="")
    return path


def read(folder: Path, *lines: str) -> ManifestFile:
    return read_manifest(text(folder, *lines))


def test_columns_are_texts_by_name(tmp_path: Path) -> None:
    manifest = read(tmp_path, " Path ,LABEL,split", "a.png,happy,train", "", 'b.png,"sad, very",')
    assert {name: column.tolist() for name, column in manifest.columns.items()} == {
        "path": ["a.png", "b.png"],
        "label": ["happy", "sad, very"],
        "split": ["train", ""],
    }
    assert manifest.lines.tolist() == [2, 4]
    assert manifest.place(1).endswith("set.csv, line 4")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_delimiters_line_ends_and_byte_order_marks(tmp_path: Path, delimiter: str, end: str, mark: str) -> None:
    lines = (f"{mark}path{delimiter}label", f"Größe.png{delimiter}sad")
    manifest = read_manifest(text(tmp_path, *lines, end=end))
    assert manifest.columns["path"].tolist() == ["Größe.png"]
    assert manifest.columns["label"].tolist() == ["sad"]


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"Path": ["a.png", "b.png"], "label": [3, 4], "valence": [0.5, None], "subject": ["x", None]}
    packed = pyarrow.table({**columns, "image": [b"\0\1", b"\2"], "landmarks": [[1.0], [2.0]]})
    parquet.write_table(packed, tmp_path / "set.parquet")
    manifest = read_manifest(tmp_path / "set.parquet")
    assert list(manifest.columns) == ["path", "label", "valence", "subject"]  # bytes and lists are not texts
    assert manifest.columns["label"].tolist() == ["3", "4"]
    assert manifest.columns["subject"].tolist() == ["x", ""]
    assert np.array_equal(manifest.numbers("valence"), [0.5, np.nan], equal_nan=True)
    assert manifest.place(1).endswith("set.parquet, row 2")
    assert has_label_columns(tmp_path / "set.parquet")
    parquet.write_table(pyarrow.table({"path": ["a", "a"], "label": ["sad", "sad"]}), tmp_path / "set.parquet")
    with pytest.raises(DataError, match=r"set.parquet, row 2: 'a' stands in row 1 too"):
        list_manifest(read_manifest(tmp_path / "set.parquet"), tmp_path)
    both = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 3, names=["path", "label", "Label"])
    parquet.write_table(both, tmp_path / "set.parquet")
    with pytest.raises(DataError, match="column 'label' stands more than once"):
        read_manifest(tmp_path / "set.parquet")


def test_a_header_tells_a_manifest(tmp_path: Path) -> None:
    assert has_label_columns(text(tmp_path, "split;LABEL;Path"))
    assert not has_label_columns(text(tmp_path, "emotion,pixels,Usage"))
    assert not has_label_columns(tmp_path / "nowhere.csv")
    (tmp_path / "set.csv").write_bytes(b"\xff\xfe\0")
    assert not has_label_columns(tmp_path / "set.csv")


def test_columns_become_a_listing(tmp_path: Path) -> None:
    header = "path,label,split,source,kind,valence,gender,mood"
    manifest = read(tmp_path, header, "a.png,joy,Valid,lab,real,0.5,f,1", "b.png,sad,,,,,,", "c.png,other,train,,,,,")
    listing = list_manifest(manifest, tmp_path / "images", mapping={"other": None})
    assert listing.paths.tolist() == ["a.png", "b.png"]
    assert [listing.class_names[label] for label in listing.labels] == ["happy", "sad"]
    assert listing.splits.tolist() == ["val", ""]
    assert listing.sources.tolist() == ["lab", "set"]
    assert listing.boxes is None
    assert {name: column.tolist() for name, column in listing.columns.items() if name != "valence"} == {
        "kind": ["real", ""], "gender": ["f", ""], "mood": ["1", ""],
    }  # fmt: skip
    assert np.array_equal(listing.columns["valence"], [0.5, np.nan], equal_nan=True)
    assert listing.left_out == (("c.png", "class 'other' is left out"),)
    assert list_manifest(manifest, tmp_path, mapping={"other": "fear"}, source="mine").sources.tolist() == [
        "lab", "mine", "mine",
    ]  # fmt: skip


def test_codes_are_mapped_by_name(tmp_path: Path) -> None:
    manifest = read(tmp_path, "path,label", "a.png,0", "b.png,1")
    with pytest.raises(LabelError, match=r"--data.mapping '{0: angry, 1: disgust}'; AffectNet"):
        list_manifest(manifest, tmp_path)
    mappings: list[Any] = [{0: "neutral", 1: "happy"}, {"0": "neutral", "1": "happy"}]  # as YAML reads {0: ..., 1: ...}
    for mapping in mappings:
        listing = list_manifest(manifest, tmp_path, mapping=mapping)
        assert [listing.class_names[label] for label in listing.labels] == ["neutral", "happy"]


def test_faces_of_one_photograph_are_rows_of_their_own(tmp_path: Path) -> None:
    save(tmp_path / "group.png", draw(3, np.random.default_rng(0)))
    rows = [{"path": "group.png", "label": "sad", "x": x, "y": 0, "w": 16.4, "h": 20} for x in (0, 20)]
    listing = list_manifest(read_manifest(write_table(tmp_path / "set.csv", rows)), tmp_path)
    assert listing.boxes is not None
    assert listing.boxes.tolist() == [[0, 0, 16, 20], [20, 0, 16, 20]]
    data = module(tmp_path / "set.csv", val_fraction=0)
    assert data.table.columns["width"].tolist() == [16, 16]
    assert len(np.unique(data.table.digests, axis=0)) == 2
    with pytest.raises(DataError, match="line 3: 'group.png' stands in line 2 too"):
        list_manifest(read_manifest(write_table(tmp_path / "set.csv", [rows[0], rows[0]])), tmp_path)


def test_rows_without_a_split_are_not_used_where_others_have_one(tmp_path: Path) -> None:
    write_folders(tmp_path, 4)
    rows = [
        {"path": f"{name}/{i}.png", "label": name, "split": "train" if i else ""}
        for name in SEVEN_NAMES
        for i in range(4)
    ]
    data = module(write_table(tmp_path / "set.csv", rows), val_fraction=0.34)
    assert {split: len(data.table.rows(split)) for split in (*SPLITS, "")} == {"train": 14, "val": 7, "test": 0, "": 7}


def test_images_may_lie_elsewhere(tmp_path: Path) -> None:
    write_folders(tmp_path / "images", 2)
    rows = [{"path": f"{name}/{i}.png", "label": name} for name in SEVEN_NAMES for i in range(2)]
    table = write_table(tmp_path / "tables" / "set.csv", rows)
    data = module(table, images=str(tmp_path / "images"))
    assert data.table.root == tmp_path / "images"
    assert len(data.table) == 14
    absolute = [{**row, "path": str(tmp_path / "images" / str(row["path"]))} for row in rows]
    data = module(write_table(table, absolute), images=str(tmp_path / "images"))
    assert len(data.table) == 14


class TestConverted:
    """A table that was written with a converted set knows what the set knows."""

    NAMES = ("yawn", "wink", "stare")

    @pytest.fixture
    def table(self) -> SamplesTable:
        images = np.random.default_rng(0).integers(0, 256, (30, 1, 20, 20)).astype(np.uint8)
        rows = np.arange(30)
        return SamplesTable(
            class_names=self.NAMES,
            images=images,
            labels=rows % 2,  # nobody stares
            splits=np.repeat(["train", "val", "test", ""], [15, 6, 6, 3]),
            sources=np.full(30, "drawn"),
            files=np.char.add(rows.astype(str), ".png"),
            digests=content_digests(images),
        )

    @pytest.fixture
    def root(self, table: SamplesTable, tmp_path: Path) -> Path:
        convert_table(table, tmp_path / "set", "folders", encoding="png")
        return tmp_path / "set" / "manifest.csv"

    def test_no_option_is_needed(self, table: SamplesTable, root: Path) -> None:
        data = ManifestDataModule(str(root))
        train = table.images[table.rows("train")] / 255
        assert (data.class_names, data.image_size, data.channels) == (self.NAMES, 20, 1)
        assert data.preprocessing["mean"] == pytest.approx([train.mean()], abs=1e-5)
        assert data.preprocessing["std"] == pytest.approx([train.std()], abs=1e-5)
        assert {s: data.table.fingerprint(s) for s in SPLITS} == {s: table.fingerprint(s) for s in SPLITS}
        assert (data.table.images[np.arange(30)] == table.images[np.arange(30)]).all()
        assert (ManifestDataModule.native_size, ManifestDataModule.native_channels) == (224, 3)  # of other tables

    def test_what_is_given_counts(self, root: Path) -> None:
        given: dict[str, Any] = {"image_size": 16, "channels": 3, "mean": [0.1], "std": [0.2]}
        data = ManifestDataModule(str(root), class_names=["stare", "wink", "yawn"], **given)
        assert data.class_names == ("stare", "wink", "yawn")
        assert data.table.images.shape == (30, 3, 16, 16)
        assert (data.preprocessing["mean"], data.preprocessing["std"]) == ([0.1] * 3, [0.2] * 3)
        again = ManifestDataModule(str(root), mapping={"yawn": "neutral", "wink": None})
        assert again.class_names == SEVEN_NAMES
        assert again.image_size == 20

    def test_a_table_of_ones_own_beside_it_is_another_one(self, root: Path) -> None:
        rows = [f"train/yawn/0000{row:02}.png,sad" for row in (0, 2, 4)]
        own = text(root.parent, "path,label", *rows, name="own.csv")
        data = ManifestDataModule(str(own), val_fraction=0)
        assert (data.class_names, data.image_size, data.channels) == (SEVEN_NAMES, 224, 3)
        assert data.preprocessing["mean"] == list(IMAGENET_MEAN)

    def test_a_damaged_description_is_told(self, root: Path) -> None:
        (root.parent / METADATA).write_text("{")
        with pytest.raises(DataError, match=f"{METADATA}: expected the description of a converted set"):
            ManifestDataModule(str(root))


def crossings(table: SamplesTable, first: NDArray[Any], second: NDArray[Any]) -> int:
    """Return how many of some pairs of rows stand in two parts; ``""`` is none."""
    one, other = table.splits[first], table.splits[second]
    return int(((one != other) & (one != "") & (other != "")).sum())


@pytest.mark.parametrize("seed", range(6))
def test_nobody_stands_in_two_parts(people: Path, seed: int) -> None:
    options = {"test_per_class": 2} if seed % 2 else {"test_fraction": 0.1 + 0.1 * seed}
    table = module(people, val_fraction=0.1 + 0.1 * seed, split_seed=seed, **options).table
    subjects, parents = table.columns["subject"], table.columns["parent"]
    for subject in set(subjects.tolist()) - {""}:
        assert len(set(table.splits[subjects == subject]) - {""}) == 1
    row_of = {name: row for row, name in enumerate(table.files.tolist())}
    children = np.flatnonzero(parents != "")
    assert len(children) > 20
    assert crossings(table, children, np.array([row_of[str(name)] for name in parents[children]])) == 0
    assert table.thumbnails is not None
    near = near_duplicates(table.thumbnails)
    assert len(near) >= 6
    assert crossings(table, near.first, near.second) == 0
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert len(table.overlap(one, other)) == 0
    assert len(table.rows("test")) > 0
    if seed % 2:
        assert set(table.class_counts("test").values()) == {2}
        spare = table.files[table.splits == ""].tolist()
        assert [place for place, _ in table.left_out] == spare
    else:
        assert "" not in table.splits


def test_without_the_columns_the_same_people_are_divided(people: Path, tmp_path: Path) -> None:
    manifest = read_manifest(people)
    rows = [
        {"path": str(path), "label": str(label)}
        for path, label in zip(manifest.columns["path"], manifest.columns["label"], strict=True)
    ]
    table = module(write_table(tmp_path / "bare.csv", rows), images=str(people.parent), val_fraction=0.4).table
    subjects = manifest.columns["subject"]
    assert any(len(set(table.splits[subjects == name])) > 1 for name in set(subjects.tolist()) - {""})


def test_shuffled_rows_give_the_same_split(people: Path, tmp_path: Path) -> None:
    manifest = read_manifest(people)
    order = np.random.default_rng(0).permutation(len(manifest.lines))
    shuffled = [{name: str(column[row]) for name, column in manifest.columns.items()} for row in order]
    path = write_table(tmp_path / "shuffled.csv", shuffled)
    first, again = module(people, test_fraction=0.2), module(path, images=str(people.parent), test_fraction=0.2)
    expected = dict(zip(first.table.files.tolist(), first.table.splits.tolist(), strict=True))
    assert dict(zip(again.table.files.tolist(), again.table.splits.tolist(), strict=True)) == expected
    other = module(people, test_fraction=0.2, split_seed=5).table
    assert dict(zip(other.files.tolist(), other.splits.tolist(), strict=True)) != expected


def test_what_is_written_reads_the_same(people: Path, tmp_path: Path) -> None:
    table = module(people, test_fraction=0.2).table
    valence = np.where(np.arange(len(table)) % 2, np.nan, 0.25)
    table = replace(table, columns={**table.columns, "valence": valence})
    path = people.parent / "again.csv"
    path.write_text(manifest_text(table, table.files, {"note": np.full(len(table), 'a "b", c')}))
    header = path.read_text().split("\n", 1)[0].split(",")
    assert header[:6] == [name for name in COLUMNS if name in header]
    again = module(path).table
    path.unlink()
    assert again.splits.tolist() == table.splits.tolist()
    assert again.sources.tolist() == table.sources.tolist()
    assert set(again.columns) == {*table.columns, "note"}
    for name, column in table.columns.items():
        assert np.array_equal(again.columns[name], column, equal_nan=column.dtype.kind == "f")
    assert {s: again.fingerprint(s) for s in SPLITS} == {s: table.fingerprint(s) for s in SPLITS}


def test_a_manifest_names_the_rows_to_keep(tmp_path: Path) -> None:
    files = stripes_table({"train": 5}).files
    path = text(tmp_path, "path", "stripes/3", "stripes/0")
    assert rows_to_keep(path, files).tolist() == [True, False, False, True, False]
    with pytest.raises(
        DataError, match="1 of 2 paths are not in the data set, the first: 'stripes/9'; the manifest belongs"
    ):
        rows_to_keep(text(tmp_path, "path", "stripes/9", "stripes/0"), files)


def test_a_number_is_a_number(tmp_path: Path) -> None:
    manifest = read(tmp_path, "path,label,arousal", "a.png,sad,", "b.png,sad, -1e-1 ", "c.png,sad,low")
    with pytest.raises(DataError, match="line 4: expected a number in column 'arousal', found 'low'"):
        manifest.numbers("arousal")
