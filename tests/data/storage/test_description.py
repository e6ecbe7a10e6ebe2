from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fer_lightning.data.files.tree import split_of
from fer_lightning.data.storage.description import StoredSet, check_files, describe_files, parse_metadata, read_metadata
from fer_lightning.data.storage.encoding import Encoder
from fer_lightning.data.storage.pixel_csv import check_pixel_csv
from fer_lightning.errors import ConfigError, DataError
from tests.helpers.data import stripes_table

STORED = StoredSet("arrow", ("a", "b"), "custom", 8, 1, "png", 92, 2, {}, {}, (0.5,), (0.25,))


def test_a_description_of_the_next_form_is_refused() -> None:
    assert parse_metadata(STORED.to_json(), "a set") == STORED
    later = {**json.loads(STORED.to_json()), "version": STORED.version + 1}
    with pytest.raises(DataError, match="a set: written in format 2, this program reads up to 1: update it"):
        parse_metadata(json.dumps(later), "a set")


def test_files_are_compared_by_size_always_and_by_content_when_asked(tmp_path: Path) -> None:
    file = tmp_path / "data.arrow"
    file.write_bytes(b"12345")
    stored = replace(STORED, files=describe_files(tmp_path, [file.name]))
    check_files(tmp_path, stored, verify=True)
    file.write_bytes(b"12346")
    check_files(tmp_path, stored)
    with pytest.raises(DataError, match="its checksum is wrong"):
        check_files(tmp_path, stored, verify=True)
    for content, found in ((b"1234", 4), (b"123456", 6)):
        file.write_bytes(content)
        with pytest.raises(DataError, match=f"expected 5 bytes, found {found}"):
            check_files(tmp_path, stored)
    locked = replace(STORED, files={"data.arrow/x": {"bytes": 5}})
    with pytest.raises(DataError, match=r"data\.arrow/x: cannot be read \(Not a directory\); copy or convert"):
        check_files(tmp_path, locked)
    file.unlink()
    with pytest.raises(DataError, match="is missing; copy or convert the set again"):
        check_files(tmp_path, stored)


def test_the_pixel_form_knows_its_classes_in_their_order() -> None:
    table = stripes_table({"train": 7})
    check_pixel_csv(table, 1)
    with pytest.raises(ConfigError, match="knows the classes angry, .* only, not neutral, .*angry"):
        check_pixel_csv(replace(table, class_names=table.class_names[::-1]), 1)


@pytest.mark.parametrize("encoding", ["jpeg", "webp"])
def test_a_lower_quality_makes_smaller_files(encoding: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32)).astype(np.uint8)
    sizes = [len(Encoder(encoding, quality).encode(image)[0]) for quality in (10, 50, 92)]  # type: ignore[arg-type]  # is one
    assert sizes == sorted(set(sizes))


def test_names_stand_for_one_split_or_none() -> None:
    names = ("PublicTest", "PrivateTest", "valid", "dev", "train_and_test", "trainval", "faces", "test_set")
    assert [split_of(name) for name in names] == ["val", "test", "val", "val", None, None, None, "test"]


@pytest.mark.parametrize(
    "wrong",
    [
        *({"class_names": []}, {"size": 0}, {"channels": 2}, {"images": -1}, {"version": "x"}, {"mood": 3}),
        *({"mean": 3}, {"format": ...}, {"std": ...}, {"version": ...}),
    ],
)
def test_a_description_with_other_values_is_refused(wrong: dict[str, object]) -> None:
    content = {**json.loads(STORED.to_json()), **wrong}
    text = json.dumps({name: value for name, value in content.items() if value is not ...})
    with pytest.raises(DataError) as caught:
        parse_metadata(text, "a set")
    assert str(caught.value) == (
        "a set: expected the description of a converted set, found something else; convert it again"
    )


def test_an_empty_set_and_colour_are_fine() -> None:
    stored = replace(STORED, images=0, channels=3, groups=("subject",))
    assert parse_metadata(stored.to_json().encode(), "a set") == stored


def test_a_folder_that_is_no_set_of_the_form_is_told_apart(tmp_path: Path) -> None:
    def said(folder: Path, *formats: str) -> str:
        with pytest.raises(DataError) as caught:
            read_metadata(folder, formats)
        return str(caught.value).replace(f"{tmp_path}/", "")

    how = "made by `fer data convert --to shards`"
    assert said(tmp_path / "none", "shards").endswith(f"expected a folder {how}, found no folder")
    (tmp_path / "set").mkdir()
    assert f"expected a set {how}, found no fer_dataset.json in it; " in said(tmp_path / "set", "shards", "arrow")
    (tmp_path / "set/fer_dataset.json").write_text(STORED.to_json())
    assert read_metadata(tmp_path / "set", ("shards", "arrow")) == STORED
    assert said(tmp_path / "set", "shards").endswith(f"expected a set {how}, found one of format 'arrow'")
