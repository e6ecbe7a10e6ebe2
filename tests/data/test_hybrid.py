from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.sets.hybrid import HybridDataModule, HybridSource
from fer_lightning.data.storage.convert import convert_table
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError, LabelError
from tests.contracts.datamodule import DataModuleContract
from tests.helpers.data import StripesDataModule
from tests.helpers.folders import write_folders
from tests.helpers.proposals import proposed


def face(rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """Return a smooth random picture ``(side, side, 3)``: two of them are never near-duplicates."""
    small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))


def write_tree(root: Path, per_class: int, seed: int, side: int = 64) -> Path:
    """Write ``<root>/<emotion>/<n>.png``."""
    rng = np.random.default_rng(seed)
    for name in SEVEN.class_names:
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            Image.fromarray(face(rng, side)).save(root / name / f"{number}.png")
    return root


def write_manifest(root: Path, per_class: int, seed: int) -> Path:
    """Write ``<root>/web.csv`` and its images, three to a subject."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    lines = ["path,label,kind,subject,gender,age_group"]
    for row in range(7 * per_class):
        Image.fromarray(face(rng, 80)).save(root / f"{row}.jpg", quality=95)
        lines.append(f"{row}.jpg,{SEVEN.class_names[row % 7]},,s{row // 3},{'fm'[row % 2]},adult")
    (root / "web.csv").write_text("\n".join(lines))
    return root / "web.csv"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("hybrid")
    return {"studio": str(write_tree(root / "studio", 6, 1)), "web": str(write_manifest(root / "web", 6, 2))}


def make(sources: dict[str, str], **options: Any) -> HybridDataModule:
    kinds = {"studio": "real", "web": "web"}
    named = {name: HybridSource(path=path, kind=kinds[name]) for name, path in sources.items()}
    return HybridDataModule(named, **{"image_size": 32, "num_workers": 0, **options})


class TestHybrid(DataModuleContract):
    @pytest.fixture(autouse=True)
    def _sources(self, sources: dict[str, str]) -> None:
        self.sources = sources

    def make(self, **options: Any) -> EmotionDataModule:
        return make(self.sources, **{"channels": 1, **options})


def test_every_row_says_where_it_comes_from(sources: dict[str, str]) -> None:
    described = make(sources).describe()
    assert {name: sum(counts.values()) for name, counts in described["by_source"].items()} == {"studio": 42, "web": 42}
    assert {name: sum(counts.values()) for name, counts in described["by_kind"].items()} == {"real": 42, "web": 42}
    table = make(sources).table
    assert table.files[0].startswith("studio/")
    assert set(table.columns["subject"][table.sources == "web"]) == {f"web/s{number}" for number in range(14)}
    assert table.images.shape == (84, 3, 32, 32)


def test_the_native_size_is_256(sources: dict[str, str]) -> None:
    data = make(sources, image_size=None)
    assert data.image_size == 256
    assert data.table.images[np.array([0])].shape == (1, 3, 256, 256)


def test_no_subject_and_no_image_stands_in_two_splits(sources: dict[str, str], tmp_path: Path) -> None:
    copy = tmp_path / "copies"
    for number, file in enumerate(sorted(Path(sources["studio"]).rglob("*.png"))):
        target = copy / file.parent.name
        target.mkdir(parents=True, exist_ok=True)
        with Image.open(file) as image:  # recompressed: a near-duplicate, not the same pixels
            image.resize((96, 96)).save(target / f"copy{number}.jpg", quality=80)
    named = {name: HybridSource(path=path) for name, path in sources.items()}
    named["copies"] = HybridSource(path=str(copy), kind="web")
    for seed in range(3):
        table = HybridDataModule(named, image_size=32, test_fraction=0.2, split_seed=seed).table
        assert all(len(table.rows(split)) > 5 for split in ("train", "val", "test"))
        studio, copies = np.flatnonzero(table.sources == "studio"), np.flatnonzero(table.sources == "copies")
        order = sorted(range(len(studio)), key=lambda row: table.files[studio[row]])
        copied = sorted(copies, key=lambda row: int(str(table.files[row]).split("copy")[1].removesuffix(".jpg")))
        assert [table.splits[studio[row]] for row in order] == [table.splits[row] for row in copied]
        subjects = table.columns["subject"]
        for subject in np.unique(subjects[subjects != ""]):
            assert len(set(table.splits[subjects == subject])) == 1


def test_the_same_seed_gives_the_same_split_elsewhere(sources: dict[str, str], tmp_path: Path) -> None:
    again = {"studio": str(write_tree(tmp_path / "a", 6, 1)), "web": str(write_manifest(tmp_path / "b", 6, 2))}
    first, second = make(sources), make(dict(reversed(again.items())))
    one = dict(zip(first.table.files.tolist(), first.table.splits.tolist(), strict=True))
    two = dict(zip(second.table.files.tolist(), second.table.splits.tolist(), strict=True))
    assert one == two
    other = make(sources, split_seed=1).table
    assert other.splits.tolist() != first.table.splits.tolist()


def test_a_balanced_test_part_has_so_many_of_each_class(sources: dict[str, str]) -> None:
    table = make({"studio": sources["studio"]}, test_per_class=2).table
    assert set(table.class_counts("test").values()) == {2}
    assert len(table.rows("val")) > 0


def test_a_source_can_be_left_out_for_testing(sources: dict[str, str], tmp_path: Path) -> None:
    mixed = write_tree(tmp_path / "mixed", 3, 5)
    leaked = sorted(Path(sources["studio"]).rglob("*.png"))[0]
    (mixed / "happy" / "leaked.png").write_bytes(leaked.read_bytes())
    named = {"studio": HybridSource(path=sources["studio"]), "mixed": HybridSource(path=str(mixed))}
    data = HybridDataModule(named, image_size=32, leave_out="studio")
    table = data.table
    assert set(table.splits[table.sources == "studio"]) == {"test"}
    assert "test" not in set(table.splits[table.sources == "mixed"])
    assert table.splits[table.files.tolist().index("mixed/happy/leaked.png")] == ""
    assert data.describe()["left_out"]["by_reason"] == {"also in 'studio', which is left out": 1}


def test_what_is_linked_to_a_left_out_source_is_looked_for_in_the_given_cache(
    sources: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_CACHE_DIR", str(tmp_path / "other"))
    data = make(sources, leave_out="web", cache_dir=str(tmp_path / "cache"))
    assert len(data.table) == 84
    assert len(list((tmp_path / "cache").glob("near-*.npz"))) == 2  # of all rows, and of those that are not left out
    assert not (tmp_path / "other").exists()


def test_another_data_module_can_be_a_source(sources: dict[str, str]) -> None:
    named = {"stripes": HybridSource(data=StripesDataModule(), kind="synthetic"), "web": HybridSource(sources["web"])}
    data = HybridDataModule(named, image_size=32)
    assert data.describe()["by_kind"]["synthetic"]["train"] > 80
    assert data.table.images[np.array([0, len(data.table) - 1])].shape == (2, 3, 32, 32)
    side = StripesDataModule().table.images.shape[2]
    alone = HybridDataModule({"stripes": HybridSource(data=StripesDataModule())}, image_size=32, min_side=side).table
    assert len(alone) == len(StripesDataModule().table)  # as large as the least side is large enough
    assert {*alone.columns["width"].tolist(), *alone.columns["height"].tolist()} == {side}


@pytest.mark.parametrize("small", ["reject", "upscale"])
def test_small_images_are_rejected_or_marked(sources: dict[str, str], tmp_path: Path, small: Any) -> None:
    mixed = write_tree(tmp_path / "mixed", 2, 7, side=90)
    Image.fromarray(face(np.random.default_rng(8), 50)).save(mixed / "sad" / "tiny.png")
    named = {"mixed": HybridSource(str(mixed)), "stripes": HybridSource(data=StripesDataModule())}
    named["web"] = HybridSource(sources["web"])
    data = HybridDataModule(named, image_size=32, min_side=70, small=small)
    if small == "reject":
        assert set(data.table.sources) == {"mixed", "web"}
        assert data.describe()["left_out"]["count"] == 141
        assert "50x50 pixels, below the least side of 70" in str(data.describe()["left_out"]["first"])
    else:
        upscaled = data.table.columns["upscaled"]
        assert set(upscaled[data.table.sources == "stripes"]) == {"yes"}
        assert set(upscaled[data.table.sources == "web"]) == {"no"}
        assert data.table.files[(data.table.sources == "mixed") & (upscaled == "yes")] == ["mixed/sad/tiny.png"]


def test_the_shorter_side_of_another_modules_images_counts() -> None:
    class Sized(StripesDataModule):
        def scan(self) -> SamplesTable:
            table = super().scan()
            sides = np.arange(len(table))
            return replace(table, columns={"width": 100 - sides % 2 * 90, "height": 100 - sides % 3 % 2 * 90})

    data = HybridDataModule({"sized": HybridSource(data=Sized())}, image_size=32, min_side=70)
    rows = np.arange(140)
    assert len(data.table) == np.count_nonzero((rows % 2 != 1) & (rows % 3 != 1))


def test_rows_of_other_classes_are_left_out(sources: dict[str, str]) -> None:
    data = make(sources, class_names=["happy", "sad"])
    assert data.class_names == ("happy", "sad")
    assert len(data.table) == 24
    assert data.describe()["left_out"]["count"] == 60


def test_what_rows_say_themselves_is_kept(tmp_path: Path) -> None:
    """Splits where that is asked for, kinds, subjects and parents, and labels whatever the order of the classes."""
    rng, lines = np.random.default_rng(3), ["path,label,split,kind,subject,parent"]
    for row in range(12):
        Image.fromarray(face(rng, 64)).save(tmp_path / f"{row}.png")
        name, split = ("sad", "happy", "fear")[row % 3], ("train", "val", "test")[row // 3 % 3]
        lines.append(f"{row}.png,{name},{split},{('', 'synthetic')[row % 2]},{('', 's')[row % 2]},{('p', '')[row % 2]}")
    (tmp_path / "set.csv").write_text("\n".join(lines))

    def table(**options: Any) -> SamplesTable:
        named = {"mine": HybridSource(str(tmp_path / "set.csv"), kind="web")}
        options = {"image_size": 16, "class_names": ["sad", "happy"], "allow_empty_class": True, **options}
        return HybridDataModule(named, **options).table

    kept = table(keep_splits=True)
    rows = [int(Path(file).stem) for file in kept.files.tolist()]
    assert kept.files.tolist() == [f"mine/{row}.png" for row in rows]
    assert [kept.class_names[label] for label in kept.labels] == [("sad", "happy")[row % 3] for row in rows]
    assert kept.splits.tolist() == [("train", "val", "test")[row // 3 % 3] for row in rows]
    assert kept.columns["kind"].tolist() == [("web", "synthetic")[row % 2] for row in rows]
    assert kept.columns["subject"].tolist() == [("", "mine/s")[row % 2] for row in rows]
    assert kept.columns["parent"].tolist() == [("mine/p", "")[row % 2] for row in rows]
    assert sorted(place for place, _ in kept.left_out) == sorted(f"mine/{row}.png" for row in (2, 5, 8, 11))
    assert "test" not in table().splits.tolist()


@pytest.mark.parametrize(
    ("named", "options", "message"),
    [
        ({}, {}, "names no source"),
        ({"a": HybridSource()}, {}, "data.sources.a: expected either a path or a data module"),
        ({"a": HybridSource("x", StripesDataModule())}, {}, "data.sources.a: expected either a path or a data module"),
        ({"a": HybridSource(path="x", kind="fake")}, {}, "kind must be one of real, web, synthetic, not 'fake'"),
        ({"a": HybridSource(path="x")}, {"leave_out": "b"}, "there is no source 'b'"),
    ],
)
def test_bad_sources_are_named(named: dict[str, HybridSource], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HybridDataModule(named, **options)


def test_a_source_named_by_codes_stops_and_its_mapping_goes_on(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "digits", {str(code): 2 for code in range(7)})

    def hybrid(**options: Any) -> HybridDataModule:
        return HybridDataModule({"web": HybridSource(path=str(root), **options)}, image_size=24, min_side=0)

    with pytest.raises(LabelError, match=r"the source data.sources.web takes it as a key") as caught:
        _ = hybrid().table
    mapping = yaml.safe_load(proposed(str(caught.value))[0].partition("=")[2])
    (told,) = hybrid(mapping={str(code): name for code, name in mapping.items()}).table.remarks
    assert told.startswith("web: codes of class folders: 0 angry, 1 disgust")


@pytest.mark.parametrize("form", ["zip", "gztar", "folder of a zip"])
def test_sources_in_archives(form: str, sources: dict[str, str], tmp_path: Path) -> None:
    packed = {}
    for name, place in sources.items():
        folder = Path(place) if name == "studio" else Path(place).parent
        to = tmp_path / f"{name} packed" / name
        shutil.make_archive(str(to), form if form != "folder of a zip" else "zip", folder.parent, folder.name)
        packed[name] = str(to.parent if form == "folder of a zip" else next(to.parent.iterdir()))
    found, expected = make(packed).table, make(sources).table
    assert sorted(found.files.tolist()) == sorted(expected.files.tolist())
    assert found.class_counts("train") == expected.class_counts("train")


def test_a_converted_folder_is_a_source(sources: dict[str, str], tmp_path: Path) -> None:
    convert_table(make(sources).table, tmp_path / "set", "folders")
    again = HybridDataModule({"set": HybridSource(path=str(tmp_path / "set"))}, min_side=0).table
    assert len(again) == len(make(sources).table)
    assert "subject" in again.columns
