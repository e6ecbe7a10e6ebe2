"""Parquet with images inside and folders of ``save_to_disk``, as Hugging Face has them."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fer_lightning import data
from fer_lightning.data.detect import detect_datamodule
from fer_lightning.data.sets.hybrid import HybridDataModule, HybridSource
from fer_lightning.data.sets.manifest import ManifestDataModule
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.errors import DataError, LabelError, MissingExtraError
from tests.helpers.cli import fer

pa = pytest.importorskip("pyarrow", reason="Parquet needs the extra 'large'")
parquet = pytest.importorskip("pyarrow.parquet")

ALPHABETICAL = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
FEATURES = {"label": {"names": list(ALPHABETICAL), "_type": "ClassLabel"}, "image": {"_type": "Image"}}


def picture(seed: int, form: str = "PNG") -> bytes:
    """Return a file of noise."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 255, (12, 12), np.uint8)
    Image.fromarray(noise).save(buffer, form)
    return buffer.getvalue()


def columns(seed: int = 0, each: int = 2, form: str = "PNG") -> dict[str, list[Any]]:
    """Return ``each`` images of each code, the names of their files the same in every row."""
    codes = [code for code in range(7) for _ in range(each)]
    images = [{"bytes": picture(seed + row, form), "path": "image.png"} for row in range(len(codes))]
    return {"image": images, "label": codes}


def save(path: Path, values: dict[str, list[Any]], features: dict[str, Any] | None = FEATURES) -> Path:
    """Write a Parquet file, or the stream of Arrow's that ``datasets`` writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(values)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=5)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table, 5)
    return path


def named(root: Path) -> Path:
    for seed, split in enumerate(("train", "validation", "test")):
        for part in range(2):
            save(root / "data" / f"{split}-0000{part}-of-00002.parquet", columns(100 * seed + 30 * part))
    (root / "README.md").write_text("faces")
    return root


def in_folders(root: Path) -> Path:
    for seed, split in enumerate(("train", "validation", "test")):
        save(root / "default" / split / "0000.parquet", columns(100 * seed, 4))
    return root


def saved(root: Path) -> Path:
    for seed, split in enumerate(("train", "validation", "test")):
        save(root / split / "data-00000-of-00001.arrow", columns(100 * seed, 4), None)
        (root / split / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))
        (root / split / "state.json").write_text("{}")
    (root / "dataset_dict.json").write_text('{"splits": ["train", "validation", "test"]}')
    return root


def cached(root: Path) -> Path:
    for seed, split in enumerate(("train", "validation", "test")):
        save(root / f"faces-{split}.arrow", columns(100 * seed, 4))
    save(root / "cache-0123.arrow", {"x": [1]})
    return root


def read(root: Path, tmp_path: Path, **options: Any) -> SamplesTable:
    name, place = detect_datamodule(root)
    assert name == "ManifestDataModule"
    return ManifestDataModule(str(place), image_size=12, channels=1, cache_dir=str(tmp_path / "c"), **options).table


@pytest.mark.parametrize("write", [named, in_folders, saved, cached])
def test_splits_and_labels(write: Callable[[Path], Path], tmp_path: Path) -> None:
    samples = read(write(tmp_path / "set"), tmp_path)
    assert {split: len(samples.rows(split)) for split in ("train", "val", "test")} == dict.fromkeys(
        ("train", "val", "test"), 28
    )
    assert samples.class_counts("test") == dict.fromkeys(samples.class_names, 4)
    assert any("says of 'label': 0 angry, 1 disgust, 2 fear, 3 happy, 4 neutral" in text for text in samples.remarks)


def test_each_row_has_its_own_picture(tmp_path: Path) -> None:
    values = columns() | {"age": [30 + row for row in range(14)], "split": ["x"] * 14}
    samples = read(save(tmp_path / "train.parquet", values), tmp_path, columns={"split": None})
    assert [samples.class_names[label] for label in samples.labels] == [ALPHABETICAL[code] for code in values["label"]]
    assert samples.columns["age"].tolist() == [str(30 + row) for row in range(14)]
    for row in range(14):
        expected = np.asarray(Image.open(io.BytesIO(picture(row))))
        assert np.array_equal(samples.images[np.array([row])][0, 0], expected)


def test_names_of_files_stay_where_they_differ(tmp_path: Path) -> None:
    values = columns(form="JPEG")
    for row, image in enumerate(values["image"]):
        image["path"] = f"C:\\faces\\..\\Training_{row}.jpg"
    table = save(tmp_path / "train.parquet", values, None)
    samples = read(table, tmp_path)  # FER2013's names prove its codes
    assert samples.files[3] == "00000-train/000/Training_3.jpg"
    assert samples.class_names[samples.labels[-1]] == "neutral"


def test_bytes_alone_and_names_of_classes(tmp_path: Path) -> None:
    values = columns(form="GIF")
    faces = {"face": [one["bytes"] for one in values["image"]], "emotion": [ALPHABETICAL[c] for c in values["label"]]}
    samples = read(save(tmp_path / "faces.parquet", faces, None), tmp_path)
    assert samples.files[0].endswith(".gif")
    assert [samples.class_names[label] for label in samples.labels] == faces["emotion"]


def test_the_readme_tells_the_names(tmp_path: Path) -> None:
    save(tmp_path / "data" / "train.parquet", columns(), None)
    names = "".join(f"          '{code}': {name}\n" for code, name in enumerate(ALPHABETICAL))
    label = f"  - name: label\n    dtype:\n      class_label:\n        names:\n{names}"
    (tmp_path / "README.md").write_text(f"---\ndataset_info:\n  features:\n{label}---\n# Faces\n")
    samples = read(tmp_path, tmp_path)
    assert samples.class_names[samples.labels[8]] == "neutral"
    assert any("README.md says of 'label'" in text for text in samples.remarks)


def test_rows_without_image_or_label_are_counted(tmp_path: Path) -> None:
    values = columns()
    values["image"][0]["bytes"] = None
    values["label"][1:3] = [-1, None]
    samples = read(save(tmp_path / "train.parquet", values), tmp_path)
    assert len(samples) == 11
    assert sorted(reason for _, reason in samples.left_out) == ["no image", "no label", "no label"]


def test_a_bad_image_is_named(tmp_path: Path) -> None:
    values = columns()
    values["image"][3]["bytes"] = b""
    table = save(tmp_path / "train.parquet", values)
    with pytest.raises(DataError, match=r"0000003.png: expected an image, found an empty file \(0 bytes\); --data"):
        read(table, tmp_path)
    assert len(read(table, tmp_path, on_error="skip")) == 13


def test_codes_that_nothing_proves_are_asked_for(tmp_path: Path) -> None:
    table = save(tmp_path / "train.parquet", columns(), None)
    with pytest.raises(LabelError, match=r"train.parquet: the codes 0, 1, .* FER2013: --data.mapping"):
        read(table, tmp_path)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    table = save(tmp_path / "train.parquet", columns())
    first = read(table, tmp_path).digests
    save(table, columns(50))
    assert not np.isin(read(table, tmp_path).digests, first).all(axis=1).any()


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
def test_what_is_damaged_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"no table")
    with pytest.raises(DataError, match="expected (a )?(Parquet|Arrow)"):
        read(tmp_path / name, tmp_path)


@pytest.mark.parametrize("write", [named, saved])
def test_without_pyarrow_the_command_is_told(
    write: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path / "set")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fer_lightning\[large\]'") as caught:
        read(root, tmp_path)
    assert "\n" not in str(caught.value)


def test_what_datasets_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    labels = datasets.ClassLabel(names=list(ALPHABETICAL))
    features = datasets.Features({"image": datasets.Image(), "label": labels})
    parts = {
        name: datasets.Dataset.from_dict(columns(s), features=features) for s, name in enumerate(("train", "test"))
    }
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    parts["train"].to_parquet(str(tmp_path / "train.parquet"))
    for root in (tmp_path / "saved", tmp_path / "train.parquet"):
        samples = read(root, tmp_path)
        assert samples.class_names[samples.labels[8]] == "neutral"
    assert detect_datamodule(tmp_path / "saved" / "train")[0] == "ManifestDataModule"


@pytest.mark.usefixtures("blank_pictures")
def test_the_verbs_open_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = named(tmp_path / "set")
    assert fer("data", "inspect", str(root), "--out", str(tmp_path / "page")) == 0
    assert "read by ManifestDataModule" in capsys.readouterr().out


@pytest.mark.parametrize("write", [named, saved])
def test_an_archive_and_a_source_of_a_hybrid_set(write: Callable[[Path], Path], tmp_path: Path) -> None:
    root = write(tmp_path / "set")
    packed = shutil.make_archive(str(tmp_path / "packed" / "set"), "zip", root.parent, root.name)
    for place in (Path(packed), Path(packed).parent):
        assert len(read(place, tmp_path)) == 84
    source = HybridSource(path=packed)
    hybrid = HybridDataModule({"hub": source}, min_side=0, cache_dir=str(tmp_path / "c"), keep_splits=True)
    assert {split: len(hybrid.table.rows(split)) for split in ("train", "val", "test")} == dict.fromkeys(
        ("train", "val", "test"), 28
    )


def test_labels_may_be_decimal_numbers(tmp_path: Path) -> None:
    values = columns()
    values["label"] = [float(code) for code in values["label"]]
    samples = read(save(tmp_path / "train.parquet", values), tmp_path)
    assert [samples.class_names[label] for label in samples.labels] == [n for n in ALPHABETICAL for _ in range(2)]


@pytest.mark.parametrize(
    "module", ["AffectNet", "RAFDB", "CKPlus", "ImageFolder", "FER2013", "FERPlus", "Arrow", "Shards"]
)
def test_every_other_module_says_what_reads_it(module: str, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"(fer data inspect PATH tells what reads it|read by --data ManifestDataModule)$"
    ):
        _ = getattr(data, f"{module}DataModule")(root=str(named(tmp_path / "set"))).table
