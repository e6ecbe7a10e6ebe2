from __future__ import annotations

import numpy as np
import pytest

from fer_lightning.errors import DataError
from fer_lightning.inference.faces.found import Faces
from fer_lightning.inference.framing import Framing, crop, is_aligned, measured, nearest


def one(left: float, top: float, width: float, height: float) -> Faces:
    eyes = np.array([[[left, top + height / 3], [left + width, top + height / 3]]], np.float32)
    return Faces(np.array([[left, top, width, height]], np.float32), np.ones(1, np.float32), eyes)


def test_a_framing_is_the_median_of_the_faces() -> None:
    found = [one(10, 20, 40, 60), *[one(20, 30, 30, 30)] * 30, Faces.none()]
    framing = measured(found, [(100, 50)] * 31 + [(100, 50)])
    assert framing == Framing(round(float(np.sqrt(900 / 5000)), 4), 0.7, 0.45, 0.4, 0.0, 31, 32)


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


def test_training_images_are_aligned_if_a_detector_has_seen_level_eyes() -> None:
    level, tilted = Framing(1.0, 0.5, 0.5, 0.5, 1.5), Framing(1.0, 0.5, 0.5, 0.5, 5.0)
    assert is_aligned({"blazeface": tilted, "blazeface_short": level})
    assert not is_aligned({"blazeface": tilted, "haar": Framing(1.0, 0.5, 0.5)})
    assert not is_aligned({})


def test_the_detector_that_is_most_alike_stands_in() -> None:
    some = Framing(0.8, 0.5, 0.5)
    assert nearest({"haar": some, "blazeface_short": some}, "blazeface") == "blazeface_short"
    assert nearest({"haar": some, "blazeface_short": some}, "haar") == "haar"
    assert nearest({"mine": some}, "yunet") == "mine"
    assert nearest({}, "haar") == ""
