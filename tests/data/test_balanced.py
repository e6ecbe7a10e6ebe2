from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from jsonargparse import ArgumentParser
from PIL import Image

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.sets.balanced import BalancedFER2013DataModule, injected_table
from fer_lightning.data.sets.fer2013.fer2013 import scan_fer2013
from fer_lightning.data.storage.convert import convert_table
from fer_lightning.data.table.images import SubsetImages
from fer_lightning.data.table.samples import SamplesTable, concatenate, content_digests
from fer_lightning.data.table.synthesis import REPORT_RECIPE, Recipe, parent_rows
from fer_lightning.emotions import EIGHT, SEVEN
from fer_lightning.errors import ConfigError, DataError, LabelError
from tests.contracts.datamodule import DataModuleContract
from tests.helpers.fer2013 import EMOTIONS, fake_rows, write_fer2013

BACKWARDS = EIGHT.class_names[::-1]
AT_LEAST = 14
REPORT_CLASSES = ("angry", "disgust", "surprise")


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ten training images of each expression, and two for validation and test."""
    return write_fer2013(tmp_path_factory.mktemp("fer2013"), "csv")


def colour_table(train: int = 24, val: int = 8, seed: int = 0, lazily: bool = False) -> SamplesTable:
    """Return 64x64 colour images of eight expressions in an order of their own, three of each for training."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (train + val, 3, 64, 64)).astype(np.uint8)
    labels = np.arange(train + val, dtype=np.int64) % 8
    return SamplesTable(
        class_names=BACKWARDS,
        images=SubsetImages(images, np.arange(train + val)) if lazily else images,
        labels=labels,
        splits=np.repeat(["train", "val"], [train, val]),
        sources=np.repeat(["colours/train", "colours/val"], [train, val]),
        files=np.array([f"{row}.jpg" for row in range(train + val)]),
        digests=content_digests(images),
        columns={
            "subject": np.array([f"p{row}" for row in range(train + val)]),
            "valence": np.linspace(-1, 1, len(labels)),
        },
    )


class Colours(EmotionDataModule):
    """A data module with a given table.

    Args:
        given: the table.
    """

    class_names = BACKWARDS
    native_size = 64
    native_channels = 3

    def __init__(self, given: SamplesTable | None = None) -> None:
        super().__init__()
        self.given = colour_table() if given is None else given
        self.class_names = self.given.class_names

    def scan(self) -> SamplesTable:
        return self.given


def balanced(root: Path, given: SamplesTable | None = None, **options: Any) -> BalancedFER2013DataModule:
    return BalancedFER2013DataModule(root=str(root), inject=Colours(given), **{"at_least": AT_LEAST, **options})


class TestBalanced(DataModuleContract):
    @pytest.fixture(autouse=True)
    def _root(self, root: Path) -> None:
        self.root = root

    def make(self, **options: Any) -> EmotionDataModule:
        return balanced(self.root, **options)


def test_classes_are_filled_up_from_the_other_set_and_then_by_synthesis(root: Path) -> None:
    data = balanced(root)
    assert data.class_counts == dict.fromkeys(EMOTIONS, AT_LEAST)
    table = data.table
    for name in EMOTIONS:
        rows = table.rows("train")[table.labels[table.rows("train")] == EMOTIONS.index(name)]
        sources = table.sources[rows][table.columns["kind"][rows] == "real"].tolist()
        assert sources.count("fer2013/Training") == 10
        assert sources.count("colours/train") == (3 if name in REPORT_CLASSES else 0)
    for split, usage in (("val", "fer2013/PublicTest"), ("test", "fer2013/PrivateTest")):
        assert set(table.sources[table.rows(split)]) == {usage}
        assert len(table.rows(split)) == 14
    assert table.images.shape == (98 + 7 * 4, 1, 48, 48)
    assert isinstance(table.images, np.ndarray)


def test_the_description_counts_by_source_and_kind(root: Path) -> None:
    data = balanced(root)
    description = data.describe()
    assert description["by_kind"]["real"] == {"train": 79, "val": 14, "test": 14}
    assert description["by_kind"]["synthetic"] == {"train": 19, "val": 0, "test": 0}
    by_source = {source: counts["train"] for source, counts in description["by_source"].items()}
    assert by_source["fer2013/PublicTest"] == by_source["fer2013/PrivateTest"] == 0
    assert by_source["fer2013/Training"] + by_source["colours/train"] == 98
    assert description["training_images_without_children"] == 0
    assert description["left_out"]["count"] == 0


def test_injected_images_are_gray_copies_with_their_own_columns(root: Path) -> None:
    table = balanced(root, at_least=0).table
    added = np.flatnonzero(table.sources == "colours/train")
    given = colour_table()
    assert len(added) == 9
    for row in added.tolist():
        number = int(table.files[row].removesuffix(".jpg"))
        assert SEVEN.class_names[table.labels[row]] == BACKWARDS[given.labels[number]]
        assert table.columns["subject"][row] == f"p{number}"
        assert table.columns["valence"][row] == pytest.approx(given.columns["valence"][number])
        picture = Image.fromarray(given.images[np.array([number])][0].transpose(1, 2, 0))
        whole = np.asarray(picture.convert("L"), np.float32)
        gray = cv2.resize(whole, (48, 48), interpolation=cv2.INTER_AREA)
        assert np.abs(table.images[np.array([row])][0, 0] - gray).max() <= 2
    np.testing.assert_array_equal(table.digests[added], content_digests(table.images[added]))
    assert set(table.columns["kind"]) == {"real"}
    assert set(table.columns["subject"][: added[0]]) == {""}


def test_the_kind_of_an_injected_image_is_kept(root: Path) -> None:
    given = colour_table()
    given = replace(given, columns={"kind": np.where(np.arange(32) % 2, "web", "")})
    table = balanced(root, given, at_least=0, inject_classes=("angry", "happy")).table
    added = np.flatnonzero(table.sources == "colours/train")
    expected = ["web" if int(file.removesuffix(".jpg")) % 2 else "real" for file in table.files[added]]
    assert table.columns["kind"][added].tolist() == expected
    assert {"web", "real"} == set(expected)


@pytest.mark.parametrize("lazily", [False, True])
def test_a_limit_takes_the_same_images_whatever_their_order(root: Path, lazily: bool) -> None:
    given = colour_table(train=80, lazily=lazily)
    mixed = given.select(np.random.default_rng(0).permutation(len(given)))
    first, second = (balanced(root, one, inject_limit=4, at_least=0).table for one in (given, mixed))
    assert first.files.tolist() == second.files.tolist()
    np.testing.assert_array_equal(first.images[np.arange(len(first))], second.images[np.arange(len(second))])
    assert len(first) == 98 + 12
    other = balanced(root, given, inject_limit=4, at_least=0, synthesis_seed=1).table
    assert set(other.files.tolist()) != set(first.files.tolist())


def test_lazy_images_are_converted_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = balanced(root, colour_table(lazily=True), cache_dir=str(tmp_path)).table
    reads: list[int] = []
    monkeypatch.setattr(SubsetImages, "__getitem__", lambda self, rows: reads.append(len(rows)))
    again = balanced(root, colour_table(lazily=True), cache_dir=str(tmp_path)).table
    assert reads == []
    assert again.fingerprint("train") == first.fingerprint("train")
    with pytest.raises(TypeError):  # other images are not in the cache, so that reading is tried
        _ = balanced(root, colour_table(seed=1, lazily=True), cache_dir=str(tmp_path)).table


def held_image(root: Path, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> SamplesTable:
    """Return colour images; the first of disgust is made of an image that FER2013 validates on."""
    given = colour_table()
    row = int(np.flatnonzero(given.labels == BACKWARDS.index("disgust"))[0])
    images = given.images[np.arange(len(given))]
    fer2013 = scan_fer2013(root)
    images = images[:, :, :48, :48].copy()
    images[row] = change(fer2013.images[fer2013.rows("val")[:1]][0])
    return replace(given, images=images, digests=content_digests(images))


def test_images_that_are_measured_on_are_not_injected(root: Path) -> None:
    given = held_image(root, lambda gray: np.repeat(gray, 3, axis=0))  # the same pixels in colour
    data = balanced(root, given)
    left_out = [(file, reason) for file, reason in data.table.left_out if "also stands in" in reason]
    assert left_out == [("6.jpg", "also stands in validation or test")]
    assert "6.jpg" not in data.table.files.tolist()
    held = {bytes(data.table.digests[row]) for split in ("val", "test") for row in data.table.rows(split)}
    assert not held & {bytes(data.table.digests[row]) for row in data.table.rows("train")}
    assert data.class_counts["disgust"] == AT_LEAST
    assert data.describe()["left_out"]["count"] == 1
    limited = balanced(root, given, inject_limit=2, at_least=0)  # the next images take its place
    assert limited.class_counts["disgust"] == 12


def test_images_that_are_stored_larger_are_known_by_their_own_pixels(root: Path) -> None:
    given = colour_table()
    digests = given.digests.copy()
    fer2013 = scan_fer2013(root)
    digests[6] = fer2013.digests[fer2013.rows("test")[0]]  # a file of 48x48 pixels, read at 64x64
    data = balanced(root, replace(given, digests=digests), at_least=0)
    assert data.table.left_out == (("6.jpg", "also stands in validation or test"),)
    assert data.class_counts["disgust"] == 12


def test_rows_of_fer2013_that_are_measured_on_are_not_injected(root: Path) -> None:
    fer2013 = scan_fer2013(root)
    changed = 255 - fer2013.images[np.arange(len(fer2013))]  # other pixels, the same rows
    other = replace(fer2013, images=changed, digests=content_digests(changed), splits=np.full(len(fer2013), "train"))
    added = injected_table(fer2013, other, ("angry",))
    assert set(added.sources) == {"fer2013/Training"}
    assert len(added) == 10
    assert len(added.left_out) == 4
    part = other.select(fer2013.rows("train"))
    with pytest.raises(DataError, match="two different images of source 'fer2013/Training' are called"):
        _ = balanced(root, part).table


def test_children_in_the_other_set_are_not_injected(root: Path) -> None:
    given = colour_table()
    parents = np.where(np.arange(32) == 6, "elsewhere.jpg", "")
    table = balanced(root, replace(given, columns={"parent": parents}), at_least=0).table
    assert "6.jpg" not in table.files.tolist()
    assert "14.jpg" in table.files.tolist()


def test_no_child_has_a_parent_that_is_measured_on(tmp_path: Path) -> None:
    rows = fake_rows()
    images = rows.images.copy()
    train, val = (
        np.flatnonzero((np.array(rows.usages) == usage) & (rows.labels == 1)) for usage in ("Training", "PublicTest")
    )
    images[train[0]] = images[val[0]]
    lines = ["emotion,pixels,Usage"]
    for image, label, usage in zip(images, rows.labels, rows.usages, strict=True):
        lines.append(f"{label},{' '.join(map(str, image.ravel().tolist()))},{usage}")
    (tmp_path / "fer2013.csv").write_text("\n".join(lines) + "\n")
    data = BalancedFER2013DataModule(root=str(tmp_path), at_least=40)
    table, parents = data.table, parent_rows(data.table)
    assert set(table.splits[parents[parents >= 0]]) == set(table.splits[parents >= 0]) == {"train"}
    assert train[0] not in parents
    assert data.describe()["training_images_without_children"] == 1
    assert data.describe()["overlap_with_train"] == {"val": 1, "test": 0}
    dropped = BalancedFER2013DataModule(root=str(tmp_path), at_least=40, drop_overlap=True)
    assert dropped.describe()["overlap_with_train"] == {"val": 0, "test": 0}
    assert dropped.class_counts == dict.fromkeys(EMOTIONS, 40)  # what was dropped is made up for


def test_rows_that_are_not_kept_have_no_children_and_what_is_added_stays(root: Path, tmp_path: Path) -> None:
    fer2013 = scan_fer2013(root)
    kept = np.setdiff1d(np.arange(98), fer2013.rows("train")[:5])
    lines = ["path,label", *(f"{fer2013.files[row]},{EMOTIONS[fer2013.labels[row]]}" for row in kept)]
    (tmp_path / "keep.csv").write_text("\n".join(lines) + "\n")
    data = balanced(root, keep=str(tmp_path / "keep.csv"))
    assert data.class_counts == dict.fromkeys(EMOTIONS, AT_LEAST)
    assert set(data.table.splits[:5]) == {""}
    assert not set(range(5)) & set(parent_rows(data.table).tolist())
    assert (data.table.sources == "colours/train").sum() >= 9


def test_votes_go_by_name(tmp_path: Path) -> None:
    write_fer2013(tmp_path, "csv")
    write_fer2013(tmp_path, "ferplus")
    given = colour_table()
    votes = np.zeros((32, 8), np.float32)
    votes[:, BACKWARDS.index("disgust")] = 0.3
    votes[:, BACKWARDS.index("contempt")] = 0.4
    votes[:, BACKWARDS.index("sad")] = 0.3
    votes[6] = np.eye(8)[BACKWARDS.index("contempt")]
    table = balanced(tmp_path, replace(given, soft_labels=votes), soft_labels=True, inject_classes=("disgust",)).table
    assert table.soft_labels is not None
    named = dict(zip(table.files.tolist(), table.soft_labels, strict=True))
    np.testing.assert_allclose(named["14.jpg"], [0, 0.5, 0, 0, 0.5, 0, 0])
    np.testing.assert_allclose(named["6.jpg"], [0, 1, 0, 0, 0, 0, 0])  # its votes name no class of ours
    children = np.flatnonzero(parent_rows(table) >= 0)
    np.testing.assert_array_equal(table.soft_labels[children], table.soft_labels[parent_rows(table)[children]])
    plain = balanced(tmp_path, given, soft_labels=True, at_least=0).table
    assert plain.soft_labels is not None
    np.testing.assert_array_equal(plain.soft_labels[-9:], np.eye(7)[plain.labels[-9:]])
    assert balanced(tmp_path, replace(given, soft_labels=votes)).table.soft_labels is None


def test_what_is_written_is_what_is_trained_on(root: Path, tmp_path: Path) -> None:
    online = balanced(root)
    convert_table(balanced(root).table, tmp_path / "offline", "folders", encoding="png")
    with (tmp_path / "offline" / "manifest.csv").open(encoding="utf-8", newline="") as handle:
        written = list(csv.DictReader(handle))
    train = [line for line in written if line["split"] == "train"]
    pixels = [np.asarray(Image.open(tmp_path / "offline" / line["path"]))[None] for line in train]
    digests = content_digests(np.stack(pixels))
    seen = {}
    for batch in online.train_dataloader():
        for row, digest in zip(batch["index"].tolist(), content_digests(batch["image"].numpy()), strict=True):
            seen[row] = bytes(digest)
    rows = online.table.rows("train")
    assert set(seen) == set(rows.tolist())
    assert sorted(map(bytes, digests)) == sorted(seen.values())
    named = {line["path"]: line for line in written} | {line["file"]: line for line in written}
    synthetic = [line for line in train if line["kind"] == "synthetic"]
    assert len(synthetic) == 19
    for line in synthetic:
        parent = named[line["parent"]]
        assert (parent["split"], parent["label"], parent["kind"]) == ("train", line["label"], "real")
    assert all(line["parent"] == "" for line in written if line["kind"] != "synthetic")


def test_two_modules_and_every_layout_give_the_same_set(tmp_path: Path) -> None:
    roots = [write_fer2013(tmp_path / form, form) for form in ("csv", "icml", "folder")]
    assert len({balanced(root).table.fingerprint("train") for root in roots}) == 1


def test_nothing_is_injected_or_made_where_nothing_is_asked_for(root: Path) -> None:
    plain = BalancedFER2013DataModule(root=str(root), at_least=0).table
    assert plain.fingerprint("train") == scan_fer2013(root).fingerprint("train")
    assert len(balanced(root, inject_classes=(), at_least=0).table) == 98


def test_a_part_of_training_may_be_held_out(root: Path) -> None:
    data = BalancedFER2013DataModule(root=str(root), at_least=12, val="holdout", holdout_fraction=0.2)
    table, parents = data.table, parent_rows(data.table)
    assert len(table.rows("val")) == 14
    assert data.class_counts == dict.fromkeys(EMOTIONS, 12)
    assert set(table.splits[parents[parents >= 0]]) == {"train"}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"at_least": -1}, ConfigError, "data.at_least must not be negative"),
        ({"inject_limit": 0}, ConfigError, "data.inject_limit must be at least 1"),
        ({"inject_classes": ("angri",)}, LabelError, "did you mean 'angry'"),
        ({"inject_classes": ("contempt",)}, LabelError, "not part of the label scheme"),
    ],
)
def test_bad_arguments_are_named(root: Path, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        balanced(root, **options)


def test_a_class_that_the_other_set_lacks_is_named(root: Path) -> None:
    given = colour_table()
    names = tuple("hidden" if name == "disgust" else name for name in BACKWARDS)
    with pytest.raises(DataError, match="data.inject has no class 'disgust'"):
        _ = balanced(root, replace(given, class_names=names)).table
    splits = np.where(given.labels == BACKWARDS.index("surprise"), "val", given.splits)
    with pytest.raises(DataError, match="data.inject has no training image of 'surprise'"):
        _ = balanced(root, given.with_splits(splits)).table


def test_any_name_of_an_expression_is_understood(root: Path) -> None:
    table = balanced(root, inject_classes=("anger", "angry", "disgusted"), at_least=0).table
    assert (table.sources == "colours/train").sum() == 6


def test_a_config_sets_the_recipe_and_the_other_set(root: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(EmotionDataModule, "data")
    config = Path(__file__).parents[2] / "configs" / "data" / "balanced.yaml"
    data = parser.instantiate_classes(
        parser.parse_args(
            [
                f"--data={config}",
                f"--data.root={root}",
                "--data.recipe.rotation=5",
                "--data.at_least=12",
                "--data.inject=tests.data.test_balanced.Colours",
                "--data.inject_classes=[happy]",
            ]
        )
    ).data
    assert isinstance(data, BalancedFER2013DataModule)
    assert data.recipe == replace(REPORT_RECIPE, rotation=5)
    assert data.class_counts == {**dict.fromkeys(EMOTIONS, 12), "happy": 13}


def test_the_recipe_is_the_reports_and_may_be_another(root: Path) -> None:
    assert Recipe() == REPORT_RECIPE == Recipe(rotation=15, shift=0.1, zoom=0.1, flip=True)
    still = balanced(root, recipe=Recipe(rotation=0, shift=0, zoom=0, flip=False)).table
    children = np.flatnonzero(parent_rows(still) >= 0)
    np.testing.assert_array_equal(still.digests[children], still.digests[parent_rows(still)[children]])


def test_an_image_twice_in_the_other_set_is_its_own_parent_once(root: Path) -> None:
    twice = concatenate([colour_table(), colour_table()])
    table = balanced(root, twice, at_least=30).table
    children = np.flatnonzero(parent_rows(table) >= 0)
    assert len({bytes(table.digests[row]) for row in children}) == len(children)


def test_what_is_made_depends_on_the_seed_of_the_synthesis_alone(root: Path) -> None:
    def made(**options: Any) -> list[bytes]:
        table = BalancedFER2013DataModule(str(root), at_least=12, **options).table
        return [bytes(digest) for digest in table.digests[parent_rows(table) >= 0]]

    assert made() == made(seed=1)
    assert not set(made()) & set(made(synthesis_seed=1))
