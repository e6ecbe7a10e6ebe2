from __future__ import annotations

import multiprocessing
import pickle
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.sets import arrow as arrow_module
from fer_lightning.data.sets.arrow import ArrowDataModule, ArrowImages, is_converted, read_description, scan_arrow
from fer_lightning.data.storage.convert import convert_table
from fer_lightning.data.storage.description import METADATA
from fer_lightning.data.storage.encoding import Encoder, encoded_chunks
from fer_lightning.data.storage.writers import ArrowSetWriter
from fer_lightning.data.table.samples import SamplesTable, content_digests
from fer_lightning.errors import DataError, MissingExtraError
from tests.contracts.datamodule import DataModuleContract
from tests.data.storage.test_convert import small_table
from tests.helpers.data import stripes_table

pyarrow = pytest.importorskip("pyarrow", reason="converted sets need the extra 'large'")
datasets = pytest.importorskip("datasets", reason="converted sets need the extra 'large'")


@pytest.fixture(scope="module")
def source() -> SamplesTable:
    return small_table(soft=True)


@pytest.fixture(scope="module")
def folder(source: SamplesTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("arrow") / "set"
    convert_table(source, path, "arrow", encoding="png", description={"datamodule": "Stripes"})
    return path


@pytest.fixture(scope="module")
def parquet(source: SamplesTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parquet") / "set.parquet"
    convert_table(source, path, "parquet", encoding="png")
    return path


@pytest.fixture(scope="module", params=["arrow", "parquet"])
def either(request: pytest.FixtureRequest, folder: Path, parquet: Path) -> Path:
    return folder if request.param == "arrow" else parquet


@pytest.fixture(scope="module")
def trainable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trainable") / "set"
    convert_table(stripes_table({"train": 84, "val": 28, "test": 28}), path, "arrow", encoding="png")
    return path


class TestArrow(DataModuleContract):
    @pytest.fixture(autouse=True)
    def _root(self, trainable: Path) -> None:
        self.root = str(trainable)

    def make(self, **options: Any) -> EmotionDataModule:
        return ArrowDataModule(self.root, **{"num_workers": 0, **options})


def test_every_column_comes_back(either: Path, source: SamplesTable) -> None:
    table = scan_arrow(either, verify=True)
    assert (table.images[np.arange(len(source))] == source.images[np.arange(len(source))]).all()
    for name in ("labels", "splits", "sources", "files", "digests", "soft_labels", "thumbnails"):
        assert np.array_equal(getattr(table, name), getattr(source, name)), name
    assert list(table.columns) == list(source.columns)
    for name, column in source.columns.items():
        assert table.columns[name].dtype.kind == column.dtype.kind
        assert np.array_equal(table.columns[name], column, equal_nan=column.dtype.kind == "f"), name
    assert table.class_names == source.class_names
    assert {s: table.fingerprint(s) for s in ("train", "val")} == {s: source.fingerprint(s) for s in ("train", "val")}


def test_rows_are_read_in_any_order_and_more_than_once(either: Path, source: SamplesTable) -> None:
    rows = np.array([41, 0, 7, 7, 20])
    assert (scan_arrow(either).images[rows] == source.images[rows]).all()
    assert scan_arrow(either).images[np.empty(0, np.int64)].shape == (0, 1, 16, 16)


def test_rows_of_several_groups_of_a_parquet_file_are_found(tmp_path: Path) -> None:
    many = stripes_table({"train": 250})
    many = replace(many, images=np.repeat(np.arange(250, dtype=np.uint8), 64).reshape(250, 1, 8, 8))
    convert_table(many, tmp_path / "a.parquet", "parquet", encoding="png")
    images = scan_arrow(tmp_path / "a.parquet").images
    assert images.opened[1].tolist() == [100, 200, 250]  # type: ignore[attr-defined]  # encoded ones
    rows = np.random.default_rng(0).permutation(250)
    assert images[rows][:, 0, 0, 0].tolist() == rows.tolist()
    assert images[np.array([199, 99, 100, 200, 99])][:, 0, 7, 7].tolist() == [199, 99, 100, 200, 99]


def test_pages_are_let_go_after_so_many_images_and_not_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    advised: list[str] = []
    monkeypatch.setattr(arrow_module, "_advise", lambda mapped, advice: advised.append(advice))
    images = scan_arrow(folder).images
    images[np.array([0])]
    del advised[:]
    for _ in range(2 * 256 - 2):  # one was read before
        images[np.array([3])]
    assert advised == ["MADV_DONTNEED"]
    images[np.array([3, 4])]
    assert advised == ["MADV_DONTNEED"] * 2


def test_a_file_of_another_name_or_program_is_none_of_ours(parquet: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copy(parquet, tmp_path / "a.PARQUET")
    shutil.copy(parquet, tmp_path / "a.txt")
    (tmp_path / "b.parquet").write_text("nothing")
    paths = (
        parquet,
        tmp_path / "a.PARQUET",
        tmp_path / "a.txt",
        tmp_path / "b.parquet",
        folder,
        tmp_path / "gone.parquet",
    )
    assert [is_converted(path) for path in paths] == [True, True, False, False, False, False]
    with pytest.raises(DataError) as caught:
        read_description(tmp_path / "gone.parquet")
    assert str(caught.value).endswith("gone.parquet: expected a Parquet file, found: no file")


def test_a_scan_decodes_nothing(either: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoding(*_: Any, **__: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("fer_lightning.data.storage.encoded_images.decode", decoding)
    table = scan_arrow(either, verify=True)
    with pytest.raises(AssertionError, match="decoded"):
        table.images[np.array([0])]


def test_hugging_face_datasets_open_the_folder(folder: Path, source: SamplesTable) -> None:
    opened = datasets.load_from_disk(str(folder))
    assert len(opened) == len(source)
    assert opened[8]["class_name"] == source.class_names[source.labels[8]]
    assert opened[8]["image"].startswith(b"\x89PNG")


def test_lossy_images_have_the_digests_of_what_is_read(tmp_path: Path, source: SamplesTable) -> None:
    convert_table(source, tmp_path / "set", "arrow", encoding="jpeg", quality=60)
    table = scan_arrow(tmp_path / "set")
    read = table.images[np.arange(len(table))]
    assert np.array_equal(table.digests, content_digests(read))
    assert not np.array_equal(table.digests, source.digests)


def test_many_files_and_batches_are_one_set(tmp_path: Path, folder: Path, source: SamplesTable) -> None:
    writer = ArrowSetWriter(tmp_path, source, file_bytes=1500)
    for rows in np.array_split(np.arange(len(source)), 9):
        for chunk in encoded_chunks(source.images, rows, Encoder("png"), 1):
            writer.add(chunk)
    names = [name for name in writer.finish(source.digests) if name.endswith(".arrow")]
    assert len(names) > 2
    images = ArrowImages(tmp_path, replace(read_description(folder), files={name: {} for name in names}))
    rows = np.random.default_rng(0).permutation(len(source))
    assert (images[rows] == source.images[rows]).all()


def _first(images: Any) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = images[np.array([3, 1])]
    return pixels


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_other_processes_read_as_well(either: Path, source: SamplesTable, method: str) -> None:
    images = scan_arrow(either).images
    mine = _first(images)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        theirs = pool.submit(_first, images).result()
    assert (theirs == mine).all()
    assert (mine == source.images[np.array([3, 1])]).all()


def test_a_copy_is_small(either: Path) -> None:
    images = scan_arrow(either).images
    _ = images[np.array([0])]
    assert len(pickle.dumps(images)) < 2000
    assert (_first(pickle.loads(pickle.dumps(images))) == _first(images)).all()


def test_pages_that_were_let_go_are_read_again(folder: Path, source: SamplesTable, monkeypatch: Any) -> None:
    monkeypatch.setattr(arrow_module, "_FORGET_EVERY", 2)
    images = scan_arrow(folder).images
    for _ in range(3):
        assert (images[np.arange(42)] == source.images[np.arange(42)]).all()


def order(loader: Any) -> list[tuple[list[int], list[int]]]:
    return [(batch["index"].tolist(), batch["key"].tolist()) for batch in loader]


def test_workers_do_not_change_the_order(trainable: Path) -> None:
    none, two = (ArrowDataModule(str(trainable), num_workers=n, batch_size=8, seed=4) for n in (0, 2))
    assert order(none.train_dataloader()) == order(two.train_dataloader())


def test_a_run_goes_on_in_the_middle_of_an_epoch_with_another_worker_count(trainable: Path) -> None:
    whole = ArrowDataModule(str(trainable), num_workers=0, batch_size=8, seed=4)
    whole._position = lambda: (2, 0)  # type: ignore[method-assign]
    rest = ArrowDataModule(str(trainable), num_workers=2, batch_size=8, seed=4)
    rest._position = lambda: (2, 4)  # type: ignore[method-assign]
    assert order(rest.train_dataloader()) == order(whole.train_dataloader())[4:]


def test_two_processes_share_the_training_images(trainable: Path) -> None:
    shares = []
    for rank in (0, 1):
        data = ArrowDataModule(str(trainable), num_workers=0, batch_size=7, seed=4)
        data._rank_and_world = lambda rank=rank: (rank, 2)  # type: ignore[method-assign,misc]
        shares.append(torch.cat([batch["index"] for batch in data.train_dataloader()]).tolist())
    assert len(shares[0]) == len(shares[1]) == 42
    assert sorted(shares[0] + shares[1]) == list(range(84))


def test_the_module_knows_the_set_before_it_is_read(folder: Path) -> None:
    data = ArrowDataModule(str(folder))
    assert (data.native_size, data.native_channels, data.image_size, data.channels) == (16, 1, 16, 1)
    assert tuple(data.preprocessing["mean"]) == data.native_mean != (0.5,)
    assert data._table is None
    assert data.describe()["stored"]["source"] == {"datamodule": "Stripes"}


def test_class_focus_is_possible(trainable: Path) -> None:
    data = ArrowDataModule(str(trainable), num_workers=0, batch_size=12, class_multipliers={"disgust": 6.0})
    labels = torch.cat([batch["label"] for batch in data.train_dataloader()])
    assert int((labels == 1).sum()) > 3 * int((labels == 0).sum())


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


DATA = "data-00000-of-00001.arrow"


def test_a_truncated_file_is_named(copy: Path) -> None:
    content = (copy / DATA).read_bytes()
    (copy / DATA).write_bytes(content[:-100])
    with pytest.raises(DataError, match=rf"{DATA}: expected [\d,]+ bytes, found [\d,]+: the file is truncated"):
        scan_arrow(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / DATA).unlink()
    with pytest.raises(DataError, match=rf"{DATA}: is missing"):
        scan_arrow(copy)


def test_a_flipped_bit_is_found_when_asked(copy: Path) -> None:
    content = bytearray((copy / DATA).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / DATA).write_bytes(content)
    with pytest.raises(DataError, match=rf"{DATA}: its checksum is wrong"):
        scan_arrow(copy, verify=True)


def test_a_damaged_image_is_named_with_its_row(copy: Path) -> None:
    content = (copy / DATA).read_bytes()
    (copy / DATA).write_bytes(content.replace(b"\x89PNG", b"\x89JPG"))
    with pytest.raises(DataError, match=r"row 5: expected an image"):
        scan_arrow(copy).images[np.array([5])]


def test_a_file_that_is_no_arrow_is_one_line(copy: Path) -> None:
    size = (copy / DATA).stat().st_size
    (copy / DATA).write_bytes(b"x" * size)
    with pytest.raises(DataError, match=rf"{DATA}: cannot be read") as caught:
        scan_arrow(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [0, 5, 3000])
def test_a_cut_parquet_file_is_one_line(parquet: Path, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(parquet.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"x.parquet: expected a Parquet file") as caught:
        scan_arrow(path)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_in_parquet_is_found_when_asked(parquet: Path, tmp_path: Path) -> None:
    content = bytearray(parquet.read_bytes())
    content[content.index(b"IDAT") + 6] ^= 1  # inside the first image
    (tmp_path / "x.parquet").write_bytes(content)
    scan_arrow(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="x.parquet: is damaged"):
        scan_arrow(tmp_path / "x.parquet", verify=True)


def test_a_foreign_parquet_file_is_told_apart(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="converted sets need the extra 'large'")
    parquet.write_table(pyarrow.table({"path": ["a.png"], "label": ["happy"]}), tmp_path / "m.parquet")
    with pytest.raises(DataError, match="read by --data ManifestDataModule"):
        ArrowDataModule(str(tmp_path / "m.parquet"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "found something else"),
        ("[]", "found something else"),
        ('{"version": 1}', "found something else"),
        ('{"version": 99}', "written in format 99"),
    ],
)
def test_a_damaged_description_is_one_line(copy: Path, text: str, message: str) -> None:
    (copy / METADATA).write_text(text)
    with pytest.raises(DataError, match=message):
        ArrowDataModule(str(copy))


def test_other_folders_are_told_apart(tmp_path: Path, source: SamplesTable) -> None:
    with pytest.raises(DataError, match="found no folder"):
        ArrowDataModule(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=f"found no {METADATA}"):
        ArrowDataModule(str(tmp_path))
    convert_table(source, tmp_path / "f", "folders")
    with pytest.raises(DataError, match="found one of format 'folders'"):
        ArrowDataModule(str(tmp_path / "f"))


def test_a_missing_package_is_told_with_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fer_lightning\[large\]'"):
        scan_arrow(folder)


def test_a_chunk_keeps_rows_and_files_together(source: SamplesTable) -> None:
    rows = np.array([5, 3, 9])
    chunks = list(encoded_chunks(source.images, rows, Encoder("png"), 2))
    assert chunks[0].rows.tolist() == [5, 3, 9]
    assert np.array_equal(chunks[0].digests, source.digests[rows])
