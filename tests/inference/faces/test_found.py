from __future__ import annotations

import numpy as np

from fer_lightning.inference.faces.found import Faces
from fer_lightning.inference.faces.views import _squares, in_views
from tests.inference.helpers import BrightSquares, scene


def faces(*rows: tuple[float, float, float, float, float]) -> Faces:
    values = np.array(rows, np.float32).reshape(-1, 5)
    return Faces(values[:, :4], values[:, 4], np.zeros((len(values), 2, 2), np.float32))


def test_of_overlapping_boxes_the_surest_stays() -> None:
    found = faces((0, 0, 10, 10, 0.6), (1, 1, 10, 10, 0.9), (30, 0, 10, 10, 0.7), (8, 8, 10, 10, 0.8)).distinct()
    assert found.boxes[:, 0].tolist() == [1, 8, 30]
    assert found.scores.tolist() == np.array([0.9, 0.8, 0.7], np.float32).tolist()


def test_a_box_inside_of_a_surer_one_is_the_same_face() -> None:
    assert len(faces((0, 0, 40, 40, 0.9), (5, 5, 10, 10, 0.8)).distinct()) == 1
    assert len(faces((0, 0, 40, 40, 0.7), (5, 5, 10, 10, 0.8)).distinct()) == 2  # the smaller one is surer


def test_moving_scales_first() -> None:
    found = Faces(
        np.array([[1, 2, 3, 4]], np.float32), np.array([1], np.float32), np.array([[[1, 1], [2, 2]]], np.float32)
    ).moved(2.0, 10, 20)
    assert found.boxes.tolist() == [[12, 24, 6, 8]]
    assert found.eyes.tolist() == [[[12, 22], [14, 24]]]


def test_squares_cover_the_picture() -> None:
    for width, height in ((1280, 720), (720, 1280), (500, 500), (333, 100)):
        for views in ("squares", "fine"):
            covered = np.zeros((height, width), bool)
            for left, top, side in _squares(width, height, views):
                assert left >= 0
                assert top >= 0
                assert left + side <= width
                assert top + side <= height
                covered[top : top + side, left : left + side] = True
            assert covered.all() or (width == height and views == "squares")
    assert not list(_squares(1280, 720, "none"))


def test_each_face_is_found_once_in_all_views() -> None:
    picture = scene((5, 5, 20), (70, 50, 12), (140, 90, 16), width=320)
    for views in ("none", "squares", "fine"):
        found = in_views(picture, BrightSquares(), views)
        assert sorted(map(tuple, found.boxes.tolist())) == [(5, 5, 20, 20), (70, 50, 12, 12), (140, 90, 16, 16)]
    assert len(in_views(scene(), BrightSquares(), "fine")) == 0
