from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fer_lightning.inference.faces.found import Faces
from fer_lightning.inference.faces.views import _squares, _whole, in_views
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


def test_how_much_two_boxes_of_one_face_have_in_common() -> None:
    for shift, count in ((6.0, 2), (4.5, 1)):  # intersection over union of 0.25 and 0.38
        assert len(faces((0, 0, 10, 10, 0.9), (shift, 0, 10, 10, 0.8)).distinct()) == count
    for left, count in ((-3.0, 2), (-1.5, 1)):  # 70 % and 85 % of the small one inside
        assert len(faces((0, 0, 40, 40, 0.9), (left, 9, 10, 10, 0.8)).distinct()) == count


def test_a_face_is_as_large_as_its_shorter_side() -> None:
    found = faces((0, 0, 10, 30, 0.9), (0, 0, 20, 20, 0.8), (0, 0, 30, 19, 0.7))
    assert found.at_least(20).scores.tolist() == [np.float32(0.8)]
    assert len(found.at_least(0)) == 3


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
    assert list(_squares(1280, 720, "squares")) == [(left, 0, 720) for left in (0, 280, 560)]
    assert list(_squares(1000, 720, "squares")) == [(left, 0, 720) for left in (0, 280)]
    fine = [(left, top, 450) for top in (0, 270) for left in (0, 277, 553, 830)]
    assert list(_squares(1280, 720, "fine"))[3:] == fine
    assert list(_squares(500, 500, "squares")) == []


def test_a_face_near_the_edge_of_a_part_is_left_to_the_next_one() -> None:
    """A face may reach out of a part by a tenth of its larger side."""
    inside = faces((0, 30, 20, 20, 0.9), (-2, 30, 20, 20, 0.9), (30, 82, 20, 20, 0.9), (30, -2, 8, 20, 0.9))
    cut = faces((-3, 30, 20, 20, 0.8), (83, 30, 20, 20, 0.8), (30, -3, 20, 20, 0.8), (96, 30, 8, 20, 0.8))
    assert _whole(Faces.joined([inside, cut]), 100).boxes.tolist() == inside.boxes.tolist()
    looks: list[tuple[int, ...]] = []

    def look(picture: NDArray[np.uint8]) -> Faces:
        looks.append(picture.shape)
        return faces((0, 30, 20, 20, 0.5))

    assert len(in_views(scene(), look)) == 1
    assert looks == [(120, 160, 3)]
    assert in_views(scene(), look, "squares").boxes[:, 0].tolist() == [
        0,
        40,
    ]  # the second in the part that begins at 40


def test_each_face_is_found_once_in_all_views() -> None:
    picture = scene((5, 5, 20), (70, 50, 12), (140, 90, 16), width=320)
    for views in ("none", "squares", "fine"):
        found = in_views(picture, BrightSquares(), views)
        assert sorted(map(tuple, found.boxes.tolist())) == [(5, 5, 20, 20), (70, 50, 12, 12), (140, 90, 16, 16)]
    assert len(in_views(scene(), BrightSquares(), "fine")) == 0
