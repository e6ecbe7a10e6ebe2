from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_lightning.errors import CheckpointError, DataError
from fer_lightning.inference.faces.found import Faces
from fer_lightning.inference.framing import (
    FRAMING,
    Framing,
    crop,
    is_aligned,
    measured,
    nearest,
    read_framing,
    write_framing,
)


def one(left: float, top: float, width: float, height: float) -> Faces:
    eyes = np.array([[[left, top + height / 3], [left + width, top + height / 3]]], np.float32)
    return Faces(np.array([[left, top, width, height]], np.float32), np.ones(1, np.float32), eyes)


def test_a_framing_is_the_median_of_the_faces() -> None:
    found = [one(10, 20, 40, 60), *[one(20, 30, 30, 30)] * 30, Faces.none()]
    framing = measured(found, [(100, 50)] * 31 + [(100, 50)])
    assert framing == Framing(round(float(np.sqrt(900 / 5000)), 4), 0.7, 0.45, 0.4, 0.0, 31, 32)


def with_eyes(angle: float, height: float) -> Faces:
    """A face whose eyes are 20 pixels apart in a line that falls by an angle in degrees, in the middle at a height."""
    step = 10 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    eyes = np.array([[25, height] + sign * step for sign in (-1, 1)], np.float32)[None]
    return Faces(np.array([[10, 20, 30, 30]], np.float32), np.ones(1, np.float32), eyes)


def test_eyes_and_tilt_are_medians_of_the_faces_that_have_eyes() -> None:
    angles = [4.0] * 9 + [-4.0] * 12
    found = [*(with_eyes(angle, 30) for angle in angles), with_eyes(60, 90), *[with_eyes(np.nan, np.nan)] * 5]
    framing = measured(found, [(100, 50)] * 27)
    assert framing.tilt == pytest.approx(4, abs=1e-3)
    assert (framing.eyes, framing.faces) == (0.3, 27)
    blind = measured([with_eyes(np.nan, np.nan)] * 20, [(100, 50)] * 20)
    assert (blind.eyes, blind.tilt) == (None, None)


def test_too_few_faces_are_no_framing() -> None:
    with pytest.raises(DataError, match="in 19 of 25 images"):
        measured([one(1, 1, 5, 5)] * 19 + [Faces.none()] * 6, [(9, 9)] * 25)


def test_a_face_sits_as_in_the_training_images() -> None:
    """Cut out of a larger picture, the box has the share and place that the framing says."""
    picture = np.zeros((400, 500, 3), np.uint8)
    picture[150:190, 200:240] = 255  # the face's box
    cut = crop(picture, np.array([200, 150, 40, 40], np.float32), Framing(0.5, 0.4, 0.7, 0.6))
    assert cut.shape == (80, 80, 3)
    rows, columns = np.flatnonzero(cut[..., 0].any(axis=1)), np.flatnonzero(cut[..., 0].any(axis=0))
    assert ((columns[0] + columns[-1] + 1) / 2 / 80, (rows[0] + rows[-1] + 1) / 2 / 80) == (0.4, 0.7)
    assert len(rows) == len(columns) == 40


def test_without_a_framing_a_fifth_is_added_on_each_side() -> None:
    picture = np.arange(100, dtype=np.uint8)[:, None, None].repeat(100, axis=1).repeat(3, axis=2)
    cut = crop(picture, np.array([40, 30, 20, 30], np.float32))
    assert cut.shape == (42, 42, 3)
    assert cut[:, 0, 0].tolist() == list(range(24, 66))


def test_beyond_the_picture_its_edge_is_repeated() -> None:
    picture = np.arange(20, dtype=np.uint8)[None, :, None].repeat(20, axis=0).repeat(3, axis=2)
    cut = crop(picture, np.array([-5, 0, 10, 10], np.float32), Framing(1.0, 0.5, 0.5, 0.4))
    assert cut[0, :, 0].tolist() == [0] * 6 + [1, 2, 3, 4]


def test_a_tilted_face_is_turned_where_the_training_images_were() -> None:
    """A bar under 30 degrees lies level in the crop, as its eyes say, and stays in the middle."""
    picture = np.zeros((200, 200, 3), np.uint8)
    angle = np.radians(30)
    step = np.array([np.cos(angle), np.sin(angle)])
    for along in np.linspace(-30, 30, 400):
        for across in np.linspace(-4, 4, 60):
            x, y = np.array([100, 100]) + along * step + across * np.array([-step[1], step[0]])
            picture[round(y - 0.5), round(x - 0.5)] = 255
    eyes = np.array([100 - 20 * step, 100 + 20 * step], np.float32)
    box = np.array([60, 60, 80, 80], np.float32)
    framing = Framing(1.0, 0.5, 0.5)
    level = crop(picture, box, framing, eyes)
    assert level.shape == (80, 80, 3)
    rows, columns = (np.flatnonzero(level[..., 0].mean(axis=axis) > 25) for axis in (1, 0))
    assert len(rows) == pytest.approx(8, abs=2)
    assert len(columns) == pytest.approx(60, abs=3)
    assert rows.mean() == pytest.approx(39.5, abs=0.6)
    assert (crop(picture, box, framing, eyes * np.nan) == crop(picture, box, framing)).all()


def places(height: int, width: int) -> NDArray[np.uint8]:
    """A picture whose channels say column, row and sum."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, rows + columns], axis=2).astype(np.uint8)


@pytest.mark.parametrize("height", [60, 120])
def test_a_box_at_any_edge_is_cut_as_out_of_a_wider_picture(height: int) -> None:
    picture, framing = places(height, 90), Framing(0.5, 0.5, 0.4)
    wider = np.pad(picture, ((200, 200), (200, 200), (0, 0)), mode="edge")
    for x in (-10, 30, 75):
        for y in (-10, 20, 50, 110):
            box = np.array([x + 0.7, y + 0.7, 40, 10], np.float32)  # a side of 20, of which the crop has two
            cut = crop(picture, box, framing)
            left, top = round(x + 0.7 + 20 - 20) + 200, round(y + 0.7 + 5 - 0.4 * 40) + 200
            assert np.array_equal(cut, wider[top : top + 40, left : left + 40])
    assert crop(picture, np.array([5, 5, 0.1, 0.1], np.float32)).shape == (1, 1, 3)


def test_a_quarter_turn_moves_whole_pixels() -> None:
    """Eyes one above the other: the crop is that of before, turned around the middle of the box, also at an edge."""
    picture = places(100, 120)
    down = np.array([[50, 30], [50, 50]], np.float32)
    for box in ([40, 20, 40, 40], [-8, -6, 40, 40], [95, 70, 40, 40]):
        plain = crop(picture, np.array(box, np.float32), Framing(0.5, 0.5, 0.5))
        for eyes, turns in ((down, 1), (down[::-1], -1)):
            turned = crop(picture, np.array(box, np.float32), Framing(0.5, 0.5, 0.5), eyes.copy())
            assert np.array_equal(turned, np.rot90(plain, turns))
    dot = np.zeros((100, 120, 3), np.uint8)
    dot[38:42, 58:62] = 255  # the middle of the box
    cut = crop(dot, np.array([40, 20, 40, 40], np.float32), Framing(0.5, 0.4, 0.7), down)
    assert np.argwhere(cut[..., 0])[[0, -1]].tolist() == [[54, 30], [57, 33]]


def test_between_pixels_it_is_smooth() -> None:
    """A ramp of five levels a pixel is turned by ten degrees: no step of whole pixels is seen."""
    ramp = (5 * np.arange(50, dtype=np.uint8))[None, :, None].repeat(50, axis=0).repeat(3, axis=2)
    step = np.array([np.cos(np.radians(10)), np.sin(np.radians(10))])
    box, eyes = np.array([15, 15, 20, 20], np.float32), np.array([-step, step], np.float32)
    cut = crop(ramp, box, Framing(1.0, 0.5, 0.5), eyes)
    across, down = np.meshgrid(np.arange(20) - 9.5, np.arange(20) - 9.5)
    wanted = 5 * (24.5 + step[0] * across - step[1] * down)
    assert np.abs(cut[..., 0] - wanted).max() < 1
    one_eye = np.array([[np.nan, np.nan], [30, 20]], np.float32)
    assert np.array_equal(crop(ramp, box, None, one_eye), crop(ramp, box))


def test_a_framing_is_read_as_it_was_written(tmp_path: Path) -> None:
    framings = {"haar": Framing(0.7, 0.5, 0.4, 0.3, 2.0, 30, 40), "mine": Framing(0.7, 0.5, 0.4)}
    assert read_framing(tmp_path) == {}
    write_framing(tmp_path, framings, data="some data")
    assert read_framing(tmp_path) == framings
    (tmp_path / FRAMING).write_text("{}")
    with pytest.raises(CheckpointError, match=r"framing\.json is damaged: delete it, or measure it again"):
        read_framing(tmp_path)


def test_training_images_are_aligned_if_a_detector_has_seen_level_eyes() -> None:
    level, tilted = Framing(1.0, 0.5, 0.5, 0.5, 1.5), Framing(1.0, 0.5, 0.5, 0.5, 5.0)
    assert is_aligned({"blazeface": tilted, "blazeface_short": level})
    assert not is_aligned({"blazeface": tilted, "haar": Framing(1.0, 0.5, 0.5)})
    assert not is_aligned({})
    for tilt, aligned in ((2.4, True), (2.5, False), (3.5, False)):
        assert is_aligned({"haar": Framing(1.0, 0.5, 0.5, 0.5, tilt)}) == aligned


def test_the_detector_that_is_most_alike_stands_in() -> None:
    some = Framing(0.8, 0.5, 0.5)
    assert nearest({"haar": some, "blazeface_short": some}, "blazeface") == "blazeface_short"
    assert nearest({"haar": some, "blazeface_short": some}, "haar") == "haar"
    assert nearest({"mine": some}, "yunet") == "mine"
    assert nearest({}, "haar") == ""
    names = ["blazeface", "blazeface_short", "yunet", "haar", "mine"]
    for first in range(4):
        assert nearest(dict.fromkeys(names[:first:-1], some), names[first]) == names[first + 1]
