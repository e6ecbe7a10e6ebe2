from __future__ import annotations

import numpy as np
import pytest

from fer_lightning.explanation.pointing import (
    centre_map,
    edge_maps,
    heat_over_area,
    hits,
    is_empty,
    moved,
    ninths,
    unit_maps,
    widened,
)


def test_what_moved_is_what_differs_by_more_than_shading() -> None:
    faces = np.full((1, 3, 4, 4), 100, np.uint8)
    resting = faces.copy()
    resting[0, 1, 1, 1] = 84  # in one channel
    resting[0, 0, 2, 2] = 115
    resting[0, 2, 3, 3] = 120
    assert np.argwhere(moved(faces, resting)[0]).tolist() == [[1, 1], [3, 3]]


def test_truth_is_widened_by_two_pixels_in_48() -> None:
    mask = np.zeros((1, 48, 48), bool)
    mask[0, 10, 20] = True
    near = widened(mask)
    assert near.sum() == 25
    assert near[0, 8:13, 18:23].all()
    large = np.zeros((1, 96, 96), bool)
    large[0, 50, 50] = True
    assert widened(large).sum() == 81
    assert widened(np.zeros((0, 48, 48), bool)).shape == (0, 48, 48)


def test_the_hottest_pixel_hits_and_an_empty_map_never_does() -> None:
    maps = np.zeros((3, 4, 4), np.float32)
    maps[0, 1, 1], maps[1, 2, 2] = 1, 1
    masks = np.zeros((3, 4, 4), bool)
    masks[:, :2, :2] = True
    assert hits(maps, masks).tolist() == [True, False, False]
    assert is_empty(maps).tolist() == [False, False, True]


def test_heat_is_compared_with_area() -> None:
    masks = np.zeros((2, 4, 4), bool)
    masks[:, :2] = True
    flat = np.ones((2, 4, 4), np.float32)
    assert heat_over_area(flat, masks) == pytest.approx(1)
    flat[:, 2:] = 0
    flat[1] = 0  # empty: left out
    assert heat_over_area(flat, masks) == pytest.approx(2)
    assert np.isnan(heat_over_area(np.zeros((2, 4, 4), np.float32), masks))


def test_mean_maps_and_ninths() -> None:
    maps = np.zeros((3, 6, 6), np.float32)
    maps[0, 0, 0], maps[1, 5, 5] = 8, 2
    units = unit_maps(maps)
    assert units.shape == (2, 6, 6)
    assert units.sum(axis=(1, 2)).tolist() == [1, 1]
    shares = ninths(units.mean(axis=0))
    assert shares[0][0] == shares[2][2] == 0.5
    assert sum(map(sum, shares)) == 1
    assert ninths(np.zeros((6, 6), np.float32)) == [[0.0] * 3] * 3


def test_maps_that_look_at_no_network() -> None:
    centre = centre_map(48)
    assert {*divmod(int(centre.argmax()), 48)} <= {23, 24}
    image = np.zeros((1, 1, 8, 8), np.float32)
    image[..., 4:] = 1
    edges = edge_maps(image)[0]
    assert edges[:, 3:5].min() > 0
    assert edges[:, :2].max() == edges[:, 6:].max() == 0
