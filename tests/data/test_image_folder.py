from __future__ import annotations

import os
import random
import shutil
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fer_lightning.data.batches.dataset import spare_cores
from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.detect import detect_datamodule
from fer_lightning.data.files import image_index
from fer_lightning.data.files.decode import decode_with_facts
from fer_lightning.data.files.tree import walk_images
from fer_lightning.data.files_datamodule import FilesDataModule
from fer_lightning.data.sets.image_folder import ImageFolderDataModule, class_folders, list_image_folder
from fer_lightning.data.splitting.near_duplicates import near_duplicates
from fer_lightning.data.splitting.row_plan import RowPlan
from fer_lightning.data.table.samples import SPLITS
from fer_lightning.emotions import EIGHT, SEVEN
from fer_lightning.errors import ConfigError, DataError, LabelError
from fer_lightning.types import Batch
from tests.contracts.datamodule import DataModuleContract
from tests.helpers.cli import fer
from tests.helpers.folders import SEVEN_NAMES, draw, near_copy, save, write_folders, write_table
from tests.helpers.proposals import proposed


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("tree") / "faces", 6)


def module(root: Path, **options: Any) -> ImageFolderDataModule:
    return ImageFolderDataModule(str(root), **{"image_size": 24, "num_workers": 0, "batch_size": 8} | options)


class TestImageFolder(DataModuleContract):
    @pytest.fixture(autouse=True)
    def _tree(self, tree: Path) -> None:
        self.root = tree

    def make(self, **options: Any) -> ImageFolderDataModule:
        return module(self.root, **options)


def split_of(data: ImageFolderDataModule) -> dict[str, str]:
    return dict(zip(data.table.files.tolist(), data.table.splits.tolist(), strict=True))


def test_a_tree_without_splits_gets_them(tree: Path) -> None:
    table = module(tree, test_fraction=0.2).table
    assert {split: set(table.class_counts(split).values()) for split in SPLITS} == {
        "train": {4},
        "val": {1},
        "test": {1},
    }
    assert set(table.sources.tolist()) == {"faces"}
    assert [path.split("/")[0] for path in table.files] == [table.class_names[label] for label in table.labels]


def test_splits_of_the_tree_stay(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "set", 2, splits=("Training", "valid", "test"))
    data = module(root)
    assert set(split_of(data).items()) == {
        (f"{folder}/{name}/{number}.png", split)
        for folder, split in (("Training", "train"), ("valid", "val"), ("test", "test"))
        for name in SEVEN_NAMES
        for number in range(2)
    }
    shutil.rmtree(root / "valid")
    counts = {split: len(module(root).table.rows(split)) for split in SPLITS}
    assert counts == {"train": 7, "val": 7, "test": 14}


@pytest.mark.parametrize(("split", "option"), [("val", "val_fraction"), ("test", "test_fraction")])
def test_a_missing_split_says_what_makes_one(split: str, option: str, tree: Path) -> None:
    with pytest.raises(DataError, match=f"needs the {split} split") as caught:
        module(tree, **{option: 0}).check("fit" if split == "val" else split)
    assert proposed(str(caught.value)) == [f"--data.{option}=0.2"]
    module(tree, **{option: 0.2}).check("fit" if split == "val" else split)


def test_contempt_makes_eight_classes_and_others_can_be_named(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "set", {**dict.fromkeys(SEVEN_NAMES, 1), "Contemptuous": 1})
    assert module(root).class_names == EIGHT.class_names
    assert module(root, mapping={"contemptuous": None}).class_names == SEVEN.class_names
    root = write_folders(tmp_path / "own", {"Bored": 2, "joy": 2, "flow": 2})
    data = module(root, class_names=["flow", "bored", "happy"])
    assert data.class_names == ("flow", "bored", "happy")
    assert data.table.class_counts("train") == {"flow": 1, "bored": 1, "happy": 1}
    assert data.table.scheme == "custom"


@pytest.mark.parametrize(
    "form", ["{code}_{name}", "{code}-{name}", "{name}_{code}", "0{code} {name}", "{code}. {name}"]
)
def test_numbered_names_are_read_by_the_name(form: str, tmp_path: Path) -> None:
    order = ("neutral", "Happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
    write_folders(tmp_path / "faces", {form.format(code=code, name=name): 2 for code, name in enumerate(order)})
    assert detect_datamodule(tmp_path) == ("ImageFolderDataModule", tmp_path)
    table = module(tmp_path).table
    expected = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")
    for file, label in zip(table.files.tolist(), table.labels.tolist(), strict=True):
        assert expected[int("".join(filter(str.isdigit, file.split("/")[0])))] == table.class_names[label]


def test_unknown_names_stop_with_a_mapping(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "set", {"Very_Happy": 2, "sad": 2, "7": 2})
    with pytest.raises(LabelError, match=r"--data.mapping '{7: null, Very_Happy: happy}' after checking it"):
        module(root)
    data = module(root, mapping={"very_happy": "joy", "7": None}, allow_empty_class=True)
    assert data.class_counts["happy"] == 1
    assert data.table.left_out == (("7/0.png", "class '7' is left out"), ("7/1.png", "class '7' is left out"))


def test_what_lies_about_is_left_out_and_counted(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "set", 2, splits=("train", "val"))
    rng = np.random.default_rng(5)
    save(root / "loose.png", draw(0, rng))
    save(root / "train" / "loose.png", draw(0, rng))
    save(root / "train" / "sad" / "by day" / "Größe 1.PNG", draw(0, rng))
    (root / "train" / "sad" / "list.txt").write_text("0.png")
    for ignored in (".hidden.png", "Thumbs.db", ".cache/0.png", ".DS_Store", "__MACOSX/._0.png"):
        (root / "train" / "sad" / ignored).parent.mkdir(exist_ok=True)
        (root / "train" / "sad" / ignored).write_bytes(b"no image")
    (root / "README.md").write_text("about")
    (root / ".git" / "sad").mkdir(parents=True)
    (root / "__MACOSX" / "sad").mkdir(parents=True)
    listing = list_image_folder(root)
    assert listing.left_out == (
        ("loose.png", "not in a class folder"),
        ("train/loose.png", "not in a class folder"),
        ("train/sad/list.txt", "not an image by its name"),
    )
    assert "train/sad/by day/Größe 1.PNG" in listing.paths
    assert len(listing.paths) == 2 * 2 * 7 + 1


def test_linked_folders_are_followed_inside_and_named_outside(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "set", 2)
    other = write_folders(tmp_path / "other", {"sad": 3}, seed=1)
    (root / "happy" / "link").symlink_to(root / "sad")
    assert len(module(root).table) == 16
    (root / "happy" / "link").unlink()
    (root / "sad" / "far").symlink_to(other / "sad")
    with pytest.raises(DataError, match=r"sad/far: expected an image, found a path or link that leads out"):
        _ = module(root).table
    assert len(module(root, allow_outside=True).table) == 17


def test_a_whole_class_may_be_a_link(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "set", 2)
    (root / "sad").rename(tmp_path / "sad")
    (root / "sad").symlink_to(tmp_path / "sad")
    with pytest.raises(DataError, match="set/sad: expected an image, found a path or link that leads out"):
        _ = module(root).table
    assert len(module(root, allow_outside=True).table) == 14


def test_circles_of_links_are_named(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "set", 2)
    (root / "sad" / "again").symlink_to(root)
    with pytest.raises(DataError, match="sad/again/sad: expected a folder, found a link to one that it lies in"):
        list(walk_images(root / "sad"))


def test_an_archive_is_unpacked_once(tree: Path, tmp_path: Path) -> None:
    packed = Path(shutil.make_archive(str(tmp_path / "faces"), "zip", tree))
    data = module(packed, cache_dir=str(tmp_path / "cache"))
    assert data.describe()["fingerprints"] == module(tree).describe()["fingerprints"]
    assert set(data.table.sources.tolist()) == {"faces.zip"}
    assert [path.parent.name for path in (tmp_path / "cache").rglob("angry")] == [data.table.root.name]  # type: ignore[union-attr]
    before = sorted((tmp_path / "cache").rglob("*"))
    _ = module(packed, cache_dir=str(tmp_path / "cache")).table
    assert sorted((tmp_path / "cache").rglob("*")) == before


def test_a_file_and_a_mixed_tree_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataError, match="file is a file; expected a folder"):
        class_folders(tmp_path / "file")
    for name in ("train", "happy"):
        (tmp_path / "set" / name).mkdir(parents=True)
    with pytest.raises(DataError, match="'happy/' stands beside 'train/'; expected splits or classes"):
        class_folders(tmp_path / "set")


def test_a_root_that_cannot_be_written_is_no_matter(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "set", 2)
    for folder in (root, *root.iterdir()):
        folder.chmod(0o555)
    before = sorted(root.rglob("*"))
    assert len(module(root, cache_dir=str(tmp_path / "none" / "here")).table) == 14
    assert sorted(root.rglob("*")) == before
    for folder in (root, *root.iterdir()):
        folder.chmod(0o755)


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree in which every third image has a copy and every fourth a near-copy, in other folders."""
    root = write_folders(tmp_path_factory.mktemp("doubled") / "set", 0)
    rng = np.random.default_rng(3)
    for number in range(84):
        picture = draw(number % 7, rng)
        save(root / SEVEN_NAMES[number % 7] / f"{number}.png", picture)
        if number % 3 == 0:
            save(root / SEVEN_NAMES[(number + 1) % 7] / f"copy of {number}.bmp", picture)
        if number % 4 == 0:
            save(root / SEVEN_NAMES[(number + 2) % 7] / f"like {number}.jpg", near_copy(picture))
    return root


@pytest.mark.parametrize("seed", range(4))
def test_no_image_and_no_near_copy_crosses_a_split_that_is_made(doubled: Path, seed: int) -> None:
    options = {"test_per_class": 4} if seed % 2 else {"test_fraction": 0.1 * seed + 0.1}
    table = module(doubled, val_fraction=0.15 + 0.1 * seed, split_seed=seed, **options).table
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert len(table.rows(one)) > 0
        assert len(table.overlap(one, other)) == 0
    assert table.thumbnails is not None
    near = near_duplicates(table.thumbnails)
    assert len(near) >= 84 // 3 + 84 // 4
    assert (table.splits[near.first] == table.splits[near.second]).all()


def test_a_split_follows_content_and_seed_alone(doubled: Path, tmp_path: Path) -> None:
    first = module(doubled, test_fraction=0.2)
    copy = tmp_path / "elsewhere" / "other name"
    names = [path.relative_to(doubled) for path in doubled.rglob("*.*")]
    random.Random(0).shuffle(names)  # the order in which a folder lists its files is that of writing, on some systems
    for number, name in enumerate(names):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(doubled / name, copy / name)
        os.utime(copy / name, (number, number))
    again = module(copy, test_fraction=0.2, cache_dir=str(tmp_path / "cache"))
    assert split_of(again) == split_of(first)
    assert again.describe()["fingerprints"] == first.describe()["fingerprints"]
    for number, path in enumerate(sorted(copy.rglob("*.*"))):  # other names, so another order
        path.rename(path.with_name(f"{(number * 7919) % 1000:03}{path.suffix}"))
    renamed = module(copy, test_fraction=0.2, cache_dir=str(tmp_path / "cache"))
    assert renamed.table.files.tolist() != again.table.files.tolist()
    assert renamed.describe()["fingerprints"] == first.describe()["fingerprints"]
    other = module(doubled, test_fraction=0.2, split_seed=1)
    assert other.describe()["fingerprints"]["test"] != first.describe()["fingerprints"]["test"]


def test_near_copies_may_part_where_that_is_asked_for(doubled: Path) -> None:
    table = module(doubled, near_duplicates=False, val_fraction=0.4).table
    assert table.thumbnails is not None
    near = near_duplicates(table.thumbnails)
    assert (table.splits[near.first] != table.splits[near.second]).any()
    assert len(table.overlap("train", "val")) == 0


def epoch(data: ImageFolderDataModule, number: int = 0) -> list[Batch]:
    data._position = lambda: (number, 0)  # type: ignore[method-assign]
    return list(data.train_dataloader())


@pytest.mark.parametrize("workers", [1, 2])
def test_loader_processes_change_nothing(tree: Path, workers: int) -> None:
    options = {"transform": "thesis_enhanced", "seed": 4}
    alone, shared = (epoch(module(tree, num_workers=count, **options), 1) for count in (0, workers))
    assert len(alone) == len(shared) == 4
    for one, other in zip(alone, shared, strict=True):
        assert one.keys() == other.keys() == {"image", "label", "index", "key"}
        assert all(torch.equal(one[name], other[name]) for name in one)  # type: ignore[literal-required]


def images_by_row(batches: list[Batch]) -> dict[int, torch.Tensor]:
    return {int(row): image for batch in batches for row, image in zip(batch["index"], batch["image"], strict=True)}


def test_draws_differ_between_samples_epochs_and_seeds_and_repeat(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in SEVEN_NAMES:  # one picture only, so that whatever differs was drawn
        for number in range(8):
            save(root / name / f"{number}.png", draw(2, np.random.default_rng(0)))
        save(root / name / "other.png", draw(2, np.random.default_rng(1)))
    options = {"transform": "strong", "near_duplicates": False}
    data = module(root, **options, seed=1)
    data._table = data.scan().with_splits(np.full(63, "train"))
    first, second = images_by_row(epoch(data, 0)), images_by_row(epoch(data, 1))
    assert len({image.numpy().tobytes() for image in first.values()}) > 50
    both = set(first) & set(second)
    assert sum(not torch.equal(first[row], second[row]) for row in both) > 40
    repeated = images_by_row(epoch(data, 0))
    assert all(torch.equal(image, repeated[row]) for row, image in first.items())
    seeded = module(root, **options, seed=2)
    seeded._table = data.table
    assert (
        sum(
            not torch.equal(image, first[row]) for row, image in images_by_row(epoch(seeded, 0)).items() if row in first
        )
        > 40
    )


def test_validation_is_not_transformed(tree: Path) -> None:
    plain, transformed = (module(tree, transform=name) for name in ("none", "strong"))
    one, other = (torch.cat([batch["image"] for batch in data.val_dataloader()]) for data in (plain, transformed))
    assert torch.equal(one, other)


def test_files_are_read_by_processes_of_their_own(tree: Path) -> None:
    data = module(tree, num_workers=None)
    assert data.train_dataloader().num_workers == data.val_dataloader().num_workers == spare_cores() >= 1


def test_the_index_is_decoded_once_for_all_sizes(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = module(tree).table
    monkeypatch.setattr("fer_lightning.data.files.image_index.decode_with_facts", lambda *_, **__: pytest.fail("again"))
    again = module(tree, image_size=32, channels=1).table
    assert again.images.shape == (42, 1, 32, 32)
    assert np.array_equal(again.digests, first.digests)


@pytest.mark.parametrize(
    ("splits", "kept", "options", "decoded"),
    [
        ("train val test", "train val", {}, 8),
        ("train val test", "train val", {"drop_overlap": True, "per_class": 1}, 8),
        ("train test", "train", {"val_fraction": 0.0}, 4),
        ("train val test", "train", {}, 12),  # else a validation part would be made
        ("train test", "train", {}, 8),  # a validation part is made of all images
        ("train val", "train", {"folds": 2}, 8),
        ("train val", "train val", {"focus_fraction": 0.3}, 8),
        ("train val", "train val", {"test_fraction": 0.2}, 8),
    ],
)
def test_what_is_not_kept_is_not_decoded_where_no_split_depends_on_it(
    splits: str,
    kept: str,
    options: dict[str, Any],
    decoded: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    root = write_folders(tmp_path / "faces", {"angry": 2, "sad": 2}, splits.split())
    files = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.png"))]
    rows = [{"path": file} for file in files if file.startswith(tuple(kept.split()))]
    options |= {"keep": str(write_table(tmp_path / "keep.csv", rows)), "allow_empty_class": True}
    looked_at = []

    def counted(path: Path, **more: Any) -> Any:
        looked_at.append(path)
        return decode_with_facts(path, **more)

    monkeypatch.setattr(image_index, "decode_with_facts", counted)
    data = module(root, cache_dir=str(tmp_path / "one"), **options)
    table, told = data.table, caplog.text
    assert len(looked_at) == decoded
    monkeypatch.setattr(RowPlan, "alone", lambda *_: None)
    caplog.clear()
    full = module(root, cache_dir=str(tmp_path / "two"), **options)
    reference = full.table
    assert len(looked_at) - decoded == len(files)
    assert {split: reference.fingerprint(split) for split in SPLITS} == {s: table.fingerprint(s) for s in SPLITS}
    assert split_of(data).items() <= split_of(full).items()
    assert ("test has 0 of 4 images" in told) == ("test" in splits)
    assert ("test has 0 of 4 images" in caplog.text) == ("test" in splits)
    if data.plan.folds is None:
        for one, other in zip(epoch(data), epoch(full), strict=True):
            assert torch.equal(one["image"], other["image"])


def test_keep_must_name_files_that_are_there(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "faces", 1, ("train", "val"))
    table = write_table(tmp_path / "keep.csv", [{"path": "elsewhere/0.png"}])
    with pytest.raises(DataError, match="1 of 1 paths are not in the data set"):
        _ = module(root, keep=str(table)).table


def test_options_of_the_base_are_named(tree: Path) -> None:
    with pytest.raises(ConfigError, match="must be two different names or more, not happy"):
        module(tree, class_names=["happy"])


def test_every_option_is_read_from_the_command_line(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "set", {**dict.fromkeys(SEVEN_NAMES, 8), "joyful": 2, "7": 2})
    keep = tmp_path / "keep.csv"
    keep.write_text("path\n" + "\n".join(path.relative_to(root).as_posix() for path in root.rglob("[a-z]*/*.png")))
    transforms = "[{class_path: HorizontalFlip}, {class_path: Rotate, init_args: {limit: [-5, 5], p: 1.0}}]"
    options = {
        "root": root, "mapping": "{joyful: happy, 7: null}", "source": "mine", "on_error": "skip", "min_side": 20,
        "small": "upscale", "val_fraction": 0.3, "test_fraction": 0.1, "test_per_class": 1, "split_seed": 3,
        "near_duplicates": "false", "max_pixels": 10000, "allow_outside": "true", "batch_size": 4,
        "num_workers": "null", "image_size": 16, "channels": 1, "mean": "[0.5]", "std": "[0.25]",
        "interpolation": "bilinear", "transform": transforms,
        "augment": "BatchAugment", "mix": "BatchMix", "balance": "oversample",
        "class_multipliers": "{disgust: 2, anger: 1.5}", "per_class": 5, "keep": keep,
        "drop_overlap": "true", "folds": 2, "fold": 1, "fold_seed": 3, "focus_fraction": 0.2,
        "allow_empty_class": "true", "seed": 4,
        "cache_dir": tmp_path / "cache",
    }  # fmt: skip
    arguments = [f"--data.{name}={value}" for name, value in options.items()]
    model = ["--model.backbone=tests.helpers.parts.TinyBackbone", "--trainer.accelerator=cpu"]
    quick = ["--trainer.fast_dev_run=true", "--trainer.precision=32-true", "--trainer.enable_progress_bar=false"]
    assert fer("fit", "--data=ImageFolderDataModule", *arguments, *model, *quick) == 0
    parameters = [*signature(ImageFolderDataModule).parameters, *signature(FilesDataModule).parameters]
    known = {*parameters, *signature(EmotionDataModule).parameters} - {"options"}
    # groups of people, and a file of soft labels, their weight and what they are for, have their own tests
    others = {"eval_batch_size", "soft_label_file", "soft_label_role", "soft_label_weight", "groups", "group_balance"}
    assert known - {"class_names"} - set(options) == others


def test_small_images_are_left_out_or_enlarged_as_asked_for(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "faces", 4)
    save(root / SEVEN_NAMES[0] / "tiny.png", draw(0, np.random.default_rng(1))[:12, :12])
    for small, count in (("reject", 28), ("upscale", 29)):
        table = module(root, min_side=16, small=small, test_per_class=1).table
        assert len(table) == count
        assert ("upscaled" in table.columns) is (small == "upscale")
