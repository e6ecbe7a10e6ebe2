from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fer_lightning.data.detect import detect_datamodule
from fer_lightning.data.storage.convert import Format, convert_table
from fer_lightning.errors import DataError
from tests.helpers.data import stripes_table
from tests.helpers.fer2013 import write_fer2013
from tests.helpers.folders import write_folders, write_people, write_table
from tests.helpers.published_sets import write_affectnet, write_ck_plus, write_raf_db


@pytest.mark.parametrize("form", ["csv", "icml", "folder"])
def test_fer2013(form: str, tmp_path: Path) -> None:
    assert detect_datamodule(write_fer2013(tmp_path, form)) == ("FER2013DataModule", tmp_path)


def test_tables_as_files(tmp_path: Path) -> None:
    table = write_fer2013(tmp_path / "fer", "csv") / "fer2013.csv"
    assert detect_datamodule(table) == ("FER2013DataModule", table)
    write_fer2013(tmp_path / "fer", "ferplus")
    assert detect_datamodule(table.parent) == ("FER2013DataModule", table.parent)  # votes beside it change nothing
    manifest = write_people(tmp_path / "people", 1)
    assert detect_datamodule(manifest) == ("ManifestDataModule", manifest)


@pytest.mark.parametrize(
    ("name", "reader"), [("ckextended.csv", "CKPlusDataModule"), ("faces.csv", "FER2013DataModule")]
)
def test_pixels_of_ck_plus_are_told_by_the_name_of_the_file(name: str, reader: str, tmp_path: Path) -> None:
    table = tmp_path / name
    table.write_text(f"emotion,pixels,Usage\n0,{' '.join(['1'] * 2304)},Training\n")
    assert detect_datamodule(table) == (reader, table)


@pytest.mark.parametrize("splits", [("",), ("train", "val", "test"), ("Training", "Validation")])
def test_image_folders(splits: tuple[str, ...], tmp_path: Path) -> None:
    write_folders(tmp_path, 1, splits)
    assert detect_datamodule(tmp_path) == ("ImageFolderDataModule", tmp_path)


@pytest.mark.parametrize("form", ["annotations", "lists"])
def test_affectnet(form: str, tmp_path: Path) -> None:
    assert detect_datamodule(write_affectnet(tmp_path, form, 1, 1)) == ("AffectNetDataModule", tmp_path)


@pytest.mark.parametrize("form", ["official", "folders"])
def test_raf_db(form: str, tmp_path: Path) -> None:
    assert detect_datamodule(write_raf_db(tmp_path, form, 1, 1)) == ("RAFDBDataModule", tmp_path)


@pytest.mark.parametrize("form", ["official", "ck48"])
def test_ck_plus(form: str, tmp_path: Path) -> None:
    assert detect_datamodule(write_ck_plus(tmp_path, form, 2, 3)) == ("CKPlusDataModule", tmp_path)


@pytest.mark.parametrize(
    ("form", "name", "reader", "root"),
    [
        ("arrow", "set", "ArrowDataModule", "set"),
        ("shards", "set", "ShardsDataModule", "set"),
        ("folders", "set", "ManifestDataModule", "set/manifest.csv"),
        ("parquet", "set.parquet", "ArrowDataModule", "set.parquet"),
    ],
)
def test_converted_sets(form: Format, name: str, reader: str, root: str, tmp_path: Path) -> None:
    convert_table(stripes_table({"train": 7, "val": 7}), tmp_path / name, form)
    assert detect_datamodule(tmp_path / name) == (reader, tmp_path / root)


def test_parquet_of_paths_is_a_manifest(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    path = tmp_path / "faces.parquet"
    pa.parquet.write_table(pa.table({"Path": ["a.png"], "Label": ["happy"]}), path)
    assert detect_datamodule(path) == ("ManifestDataModule", path)
    assert detect_datamodule(tmp_path) == ("ManifestDataModule", path)


class TestFoldersWithTables:
    """A folder with manifests in it."""

    ROWS = ({"path": "a.png", "label": "happy"},)

    def test_manifest_goes_before_class_folders(self, tmp_path: Path) -> None:
        write_folders(tmp_path, 1)
        table = write_table(tmp_path / "manifest.csv", self.ROWS)
        assert detect_datamodule(tmp_path) == ("ManifestDataModule", table)

    def test_tables_of_other_names_go_after_class_folders(self, tmp_path: Path) -> None:
        write_folders(tmp_path, 1)
        write_table(tmp_path / "labels.csv", self.ROWS)
        assert detect_datamodule(tmp_path) == ("ImageFolderDataModule", tmp_path)

    def test_a_single_table_of_another_name(self, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        write_table(tmp_path / "notes.csv", [{"name": "a.png", "text": "happy"}])
        table = write_table(tmp_path / "web.csv", self.ROWS)
        assert detect_datamodule(tmp_path) == ("ManifestDataModule", table)

    def test_two_tables_of_other_names_are_refused(self, tmp_path: Path) -> None:
        for name in ("a.csv", "b.csv"):
            write_table(tmp_path / name, self.ROWS)
        with pytest.raises(
            DataError, match=r"several tables of labels \(a\.csv, b\.csv\): name one of them, such as .*a\.csv"
        ):
            detect_datamodule(tmp_path)


class TestArchives:
    """What lies in an archive is told like what lies in a folder."""

    @staticmethod
    def pack(folder: Path, form: str = "zip") -> Path:
        return Path(shutil.make_archive(str(folder), form, folder.parent, folder.name))

    def test_the_archive_is_what_is_shown(self, tmp_path: Path) -> None:
        folders = self.pack(write_folders(tmp_path / "faces", 1), "gztar")
        assert detect_datamodule(folders) == ("ImageFolderDataModule", folders)
        raf = self.pack(write_raf_db(tmp_path / "raf", "official", 1, 1))
        assert detect_datamodule(raf) == ("RAFDBDataModule", raf)

        fer = self.pack(write_fer2013(tmp_path / "fer", "csv"))
        assert detect_datamodule(fer) == ("FER2013DataModule", fer)
        people = self.pack(write_people(tmp_path / "people", 1).parent)
        assert detect_datamodule(people) == ("ManifestDataModule", people)


class TestNothingKnown:
    """One line that names the path and what was expected."""

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("notes.txt", "hello", "not a data set that is known"),
            ("table.xls", "a,b\n1,2\n", "columns emotion, pixels, Usage or path, label"),
            ("broken.zip", "PK", "broken.zip"),
        ],
    )
    def test_files(self, name: str, content: str, message: str, tmp_path: Path) -> None:
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match=message) as caught:
            detect_datamodule(tmp_path / name)
        assert "\n" not in str(caught.value)

    def test_missing_path(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="nowhere does not exist"):
            detect_datamodule(tmp_path / "nowhere")

    def test_name_that_is_too_long(self) -> None:
        with pytest.raises(DataError, match="cannot be read"):
            detect_datamodule(Path("x" * 300))

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_folder_without_permission(self, tmp_path: Path) -> None:
        (tmp_path / "closed").mkdir(mode=0)
        with pytest.raises(DataError, match="cannot be read"):
            detect_datamodule(tmp_path / "closed")

    def test_description_of_another_form(self, tmp_path: Path) -> None:
        (tmp_path / "fer_dataset.json").write_text("{}")
        with pytest.raises(DataError, match="description of a converted set"):
            detect_datamodule(tmp_path)
