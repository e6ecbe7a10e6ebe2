from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fer_lightning.data.files.tree import split_of
from fer_lightning.data.storage.description import StoredSet, check_files, describe_files, parse_metadata
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
