from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fer_lightning.data.files.decode import decode
from fer_lightning.data.files.file_images import FileImages, ResizedImages
from fer_lightning.data.table.images import ConcatImages, SubsetImages, is_in_memory, to_picture, to_planes
from fer_lightning.errors import DataError
from fer_lightning.preprocessing import resized_picture
from tests.helpers.folders import draw, save

ROWS = np.array([2, 0, 2], np.int64)


def array(*rows: int) -> NDArray[np.int64]:
    return np.array(rows, np.int64)


def numbered(count: int, channels: int = 1, side: int = 4, start: int = 0) -> NDArray[np.uint8]:
    """Return images whose every pixel is their number."""
    numbers = np.arange(start, start + count, dtype=np.uint8)[:, None, None, None]
    images: NDArray[np.uint8] = np.broadcast_to(numbers, (count, channels, side, side)).copy()
    return images


@pytest.fixture
def files(tmp_path: Path) -> NDArray[np.str_]:
    rng = np.random.default_rng(0)
    names = [f"sub/{number}.png" for number in range(3)]
    for name in names:
        save(tmp_path / name, draw(2, rng))
    return np.array(names)


@pytest.mark.parametrize("channels", [1, 3])
def test_files_are_decoded_and_resized_when_asked_for(tmp_path: Path, files: NDArray[np.str_], channels: int) -> None:
    images = FileImages(tmp_path, files, 24, channels)
    assert images.shape == (3, channels, 24, 24)
    assert images.dtype == np.uint8
    assert len(images) == 3
    assert not is_in_memory(images)
    decoded = [decode(tmp_path / str(files[row]), channels=channels) for row in ROWS]
    expected = [resized_picture(picture, 24).transpose(2, 0, 1) for picture in decoded]
    got = images[ROWS]
    assert isinstance(got, np.ndarray)
    assert np.array_equal(got, np.stack(expected))
    assert images[array()].shape == (0, channels, 24, 24)
    assert images[ROWS].flags.writeable


def test_a_box_is_cut_out_before_resizing(tmp_path: Path, files: NDArray[np.str_]) -> None:
    boxes = np.array([[1, 2, 30, 20]] * 3, np.int64)
    picture = decode(tmp_path / str(files[1]), channels=3)
    got = to_picture(FileImages(tmp_path, files, 16, 3, boxes)[array(1)][0])
    expected = cv2.resize(picture[2:22, 1:31].astype(np.float32), (16, 16), interpolation=cv2.INTER_AREA)
    assert np.abs(got - expected).max() <= 0.502
    by_pillow = Image.fromarray(picture[2:22, 1:31]).resize((16, 16), Image.Resampling.BILINEAR)
    older = FileImages(tmp_path, files, 16, 3, boxes, interpolation="bilinear")
    assert np.abs(to_picture(older[array(1)][0]) - np.asarray(by_pillow, np.int64)).max() <= 1


def test_a_file_that_has_gone_is_named(tmp_path: Path, files: NDArray[np.str_]) -> None:
    images = FileImages(tmp_path, files, 16, 3)
    (tmp_path / "sub" / "1.png").unlink()
    with pytest.raises(DataError, match=r"sub/1\.png: expected an image, found no file"):
        images[array(0, 1)]


def test_other_images_are_resized_and_recoloured() -> None:
    rng = np.random.default_rng(1)
    colour = rng.integers(0, 256, (4, 3, 20, 20), dtype=np.uint8)
    gray = ResizedImages(colour, 10, 1)
    assert gray.shape == (4, 1, 10, 10)
    by_pillow = np.asarray(Image.fromarray(to_picture(colour[3])).convert("L"), np.float64)
    means = by_pillow.reshape(10, 2, 10, 2).mean(axis=(1, 3))
    assert np.array_equal(gray[array(3)][0, 0], np.floor(means + 0.5))
    tripled = ResizedImages(colour[:, :1], 20, 3)[array(0, 1)]
    assert np.array_equal(tripled, np.repeat(colour[:2, :1], 3, axis=1))


def test_planes_and_pictures_undo_each_other() -> None:
    picture = draw(1, np.random.default_rng(3))
    assert to_planes(picture).shape == (3, *picture.shape[:2])
    assert np.array_equal(to_picture(to_planes(picture)), picture)
    assert to_picture(to_planes(picture)).flags.c_contiguous


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.data())
def test_parts_read_like_one_array(sizes: list[int], data: st.DataObject) -> None:
    total = sum(sizes)
    whole = numbered(total)
    ends = np.cumsum(sizes)
    parts = [whole[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    joined = ConcatImages(parts)
    assert joined.shape == (total, 1, 4, 4)
    rows = data.draw(st.lists(st.integers(0, total - 1), max_size=12) if total else st.just([]))
    assert np.array_equal(joined[array(*rows)], whole[array(*rows)])
    chosen = array(*rows)
    subset = SubsetImages(joined, chosen)
    assert len(subset) == len(rows)
    again = np.arange(len(rows))[::-1].astype(np.int64)
    assert np.array_equal(subset[again], whole[chosen][again])


def test_parts_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="images of one shape"):
        ConcatImages([numbered(2), numbered(2, side=5)])


def test_lazy_images_travel_to_loader_processes(tmp_path: Path, files: NDArray[np.str_]) -> None:
    images = SubsetImages(ConcatImages([FileImages(tmp_path, files, 8, 1), numbered(2, side=8)]), ROWS)
    assert np.array_equal(pickle.loads(pickle.dumps(images))[array(0, 1, 2)], images[array(0, 1, 2)])
    assert is_in_memory(numbered(1))


def test_each_file_has_a_box_of_its_own(tmp_path: Path, files: NDArray[np.str_]) -> None:
    boxes = array(0, 0, 20, 20, 5, 3, 16, 16, 10, 12, 24, 24).reshape(3, 4)
    images = FileImages(tmp_path, files, 16, 1, boxes)
    for row, (x, y, width, height) in enumerate(boxes.tolist()):
        part = decode(tmp_path / str(files[row]), channels=1)[y : y + height, x : x + width]
        np.testing.assert_array_equal(images[array(row)][0], to_planes(resized_picture(part, 16)))
