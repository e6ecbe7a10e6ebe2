"""Thumbnails, the search for near-duplicates, and connected components."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fer_lightning.data.splitting import near_duplicates as near
from fer_lightning.data.splitting.near_duplicates import (
    MAX_DISTANCE,
    THUMBNAIL_SIDE,
    Pairs,
    components,
    near_duplicates,
    thumbnail,
    thumbnails,
)
from fer_lightning.data.table.images import SubsetImages

Image = NDArray[np.uint8]


def faces(count: int, seed: int = 0, side: int = 48) -> NDArray[np.uint8]:
    """Return pictures ``(N, 1, side, side)`` that share what all faces share, and differ in smooth detail."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    common = 60 * np.exp(-2 * (x**2 + y**2)) - 40 * np.exp(-30 * ((np.abs(x) - 0.35) ** 2 + (y + 0.2) ** 2))
    noise = rng.normal(0, 1, (count, side, side))
    detail = np.stack([cv2.GaussianBlur(one, (0, 0), side / 14) for one in noise])
    detail *= 25 / detail.std(axis=(1, 2), keepdims=True)
    pictures: NDArray[np.uint8] = (110 + common + detail).clip(0, 255).astype(np.uint8)[:, None]
    return pictures


def clipped(values: NDArray[Any]) -> Image:
    rounded: Image = np.rint(values).clip(0, 255).astype(np.uint8)
    return rounded


def jpeg(image: Image) -> Image:
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
    decoded: Image = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)
    return decoded


def moved(image: Image, x: float, y: float, scale: float = 1.0) -> Image:
    matrix = np.array([[scale, 0, x], [0, scale, y]], np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, matrix, image.shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE))


def resized(image: Image) -> Image:
    small = cv2.resize(image, (40, 40), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (48, 48), interpolation=cv2.INTER_LINEAR))


CHANGES: dict[str, Callable[[Image], Image]] = {
    "jpeg": jpeg,
    "brighter": lambda image: clipped(image.astype(int) + 30),
    "darker": lambda image: clipped(image.astype(int) - 30),
    "less contrast": lambda image: clipped((image - 128.0) * 0.7 + 128),
    "more contrast": lambda image: clipped((image - 128.0) * 1.3 + 128),
    "crop of 3 %": lambda image: moved(image, 1.2, 0.3, 0.97),
    "shift by 1": lambda image: moved(image, 1, 0),
    "shift by 2": lambda image: moved(image, -2, 2),
    "resized": resized,
    "all at once": lambda image: clipped(jpeg(moved(image, 0.7, 0.7, 0.97)) * 0.9 + 20),
}


def as_set(pairs: Pairs) -> set[tuple[int, int]]:
    return set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(change: str) -> None:
    images = faces(60)
    copies = np.stack([CHANGES[change](image[0]) for image in images])[:, None]
    pairs = near_duplicates(thumbnails(np.concatenate([images, copies])))
    assert as_set(pairs) == {(row, row + 60) for row in range(60)}
    assert (pairs.distance <= MAX_DISTANCE).all()
    assert not pairs.mirrored.any()
    assert [str(column.dtype) for column in (pairs.first, pairs.second, pairs.distance)] == [
        "int64",
        "int64",
        "float32",
    ]


def test_mirror_images_are_found_when_asked_for() -> None:
    images = faces(20)
    copies = np.stack([jpeg(np.ascontiguousarray(image[0, :, ::-1])) for image in images])[:, None]
    small = thumbnails(np.concatenate([images, copies]))
    assert len(near_duplicates(small)) == 0
    pairs = near_duplicates(small, mirrored=True)
    assert as_set(pairs) == {(row, row + 20) for row in range(20)}
    assert pairs.mirrored.all()


def test_a_symmetric_picture_and_its_copy_are_one_pair() -> None:
    image = faces(1)[0, 0]
    image = np.concatenate([image[:, :24], image[:, 23::-1]], axis=1)
    pairs = near_duplicates(thumbnails(np.stack([image, jpeg(image)])[:, None]), mirrored=True)
    assert as_set(pairs) == {(0, 1)}


def test_different_pictures_of_one_kind_are_no_pairs() -> None:
    assert len(near_duplicates(thumbnails(faces(1500)), mirrored=True)) == 0


def test_a_negative_is_another_picture() -> None:
    image = faces(1)
    small = thumbnails(np.concatenate([image, 255 - image]))
    assert len(near_duplicates(small)) == 0
    blurred = near._blurred(small)
    assert near._aligned(blurred[[0]], blurred[[1]]).tolist() == [np.inf]  # however well it fits upside down


def test_a_larger_distance_finds_more() -> None:
    image = faces(1)[0, 0]
    other = faces(1, seed=1)[0, 0]
    mixed = clipped(0.8 * image + 0.2 * other)
    small = thumbnails(np.stack([image, mixed])[:, None])
    assert len(near_duplicates(small)) == 0
    found = near_duplicates(small, max_distance=0.4)
    assert as_set(found) == {(0, 1)}
    assert MAX_DISTANCE < found.distance[0] <= 0.4


def test_identical_rows_are_paired_with_the_first_and_only_that_with_others() -> None:
    image = faces(1)[0, 0]
    small = thumbnails(np.stack([jpeg(image), image, image, image])[:, None])
    pairs = near_duplicates(small)
    assert as_set(pairs) == {(0, 1), (1, 2), (1, 3)}
    assert dict(zip(pairs.second.tolist(), pairs.distance == 0, strict=True)) == {1: False, 2: True, 3: True}


@pytest.mark.filterwarnings("error")
def test_blank_images_match_only_their_equals() -> None:
    levels = np.array([0, 255, 0, 7, 8], np.uint8)
    images = np.broadcast_to(levels[:, None, None, None], (5, 1, 48, 48)).copy()
    almost = images[3:4].copy()
    almost[0, 0, 20:24, 20:24] = 9
    pairs = near_duplicates(thumbnails(np.concatenate([images, almost, faces(3)])), mirrored=True)
    assert as_set(pairs) == {(0, 2)}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_rows(count: int) -> None:
    small = thumbnails(faces(2)[:count])
    assert small.shape == (count, THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    assert len(near_duplicates(small, mirrored=True)) == 0


def test_the_order_of_the_rows_does_not_matter() -> None:
    images = faces(40)
    copies = np.stack([CHANGES["all at once"](image[0]) for image in images])[:, None]
    small = thumbnails(np.concatenate([images, copies, images[:5]]))
    order = np.random.default_rng(3).permutation(len(small))
    pairs, shuffled = near_duplicates(small), near_duplicates(small[order])
    back = order[shuffled.first], order[shuffled.second]
    groups = components(len(small), [], [(pairs.first, pairs.second)])
    assert np.array_equal(components(len(small), [], [back]), groups)
    assert sorted(pairs.distance.tolist()) == sorted(shuffled.distance.tolist())


def test_rows_beyond_one_block_are_compared() -> None:
    images = faces(1300)
    copies = np.stack([jpeg(image[0]) for image in images[::100]])[:, None]
    assert as_set(near_duplicates(thumbnails(np.concatenate([images, copies])))) == {
        (100 * number, 1300 + number) for number in range(13)
    }


def test_many_frames_of_one_scene_stay_connected_at_a_bounded_number_of_pairs() -> None:
    scene = faces(1)[0, 0].astype(float)
    noise = np.random.default_rng(1).normal(0, 3, (130, 48, 48))
    pairs = near_duplicates(thumbnails(clipped(scene + noise)[:, None]))
    assert 64 * 130 - 64 * 65 // 2 <= len(pairs) <= 64 * 130
    assert components(130, [], [(pairs.first, pairs.second)]).max() == 0


def test_of_many_frames_the_nearest_are_compared() -> None:
    scene, rng = faces(1)[0, 0].astype(float), np.random.default_rng(1)
    frames = [clipped(scene + rng.normal(0, noise, (48, 48))) for noise in [8.0] * 70 + [1.0] * 70]
    pairs = near_duplicates(thumbnails(np.stack(frames)[:, None]))
    assert (pairs.first >= 70).sum() >= 70 * 69 // 2 - 15  # of those with little noise, nearly all


def test_a_black_edge_of_one_thumbnail_pixel_does_not_hide_a_copy() -> None:
    images = faces(20)
    copies = images.copy()
    copies[:, :, :2] = copies[:, :, :, :2] = 0
    assert as_set(near_duplicates(thumbnails(np.concatenate([images, copies])))) >= {(k, k + 20) for k in range(20)}


def test_thumbnails_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected thumbnails \(N, 24, 24\), got \(2, 8, 8\)"):
        near_duplicates(np.zeros((2, 8, 8), np.uint8))


@pytest.mark.parametrize(("height", "width", "channels"), [(48, 48, 1), (24, 24, 3), (10, 7, 1), (301, 500, 3)])
def test_a_thumbnail_is_the_mean_of_areas(height: int, width: int, channels: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    gray = picture @ np.array([19595, 38470, 7471]) / 65536 if channels == 3 else picture[:, :, 0].astype(float)
    tiled = np.repeat(np.repeat(gray, THUMBNAIL_SIDE, axis=0), THUMBNAIL_SIDE, axis=1)
    means = tiled.reshape(THUMBNAIL_SIDE, height, THUMBNAIL_SIDE, width).mean(axis=(1, 3))
    assert np.abs(thumbnail(picture) - means).max() <= 0.5 + 1e-6


def test_a_huge_picture_is_worked_on_in_strips() -> None:
    picture = np.full((4800, 2400, 1), 77, np.uint8)
    picture[:2400] = 10
    small = thumbnail(picture)
    assert (small[:12] == 10).all()
    assert (small[12:] == 77).all()


def test_thumbnails_are_those_of_single_pictures_wherever_the_images_are() -> None:
    images = np.random.default_rng(0).integers(0, 256, (130, 3, 120, 120), np.uint8)
    small = thumbnails(images)
    assert np.array_equal(small, np.stack([thumbnail(image.transpose(1, 2, 0)) for image in images]))
    assert np.array_equal(thumbnails(SubsetImages(images, np.arange(129, -1, -1))), small[::-1])


def test_images_of_two_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="1 or 3 channels"):
        thumbnail(np.zeros((8, 8, 2), np.uint8))


LETTERS = st.lists(st.sampled_from(["", "a", "b", "c", "d"]), max_size=25)


@given(LETTERS, st.lists(st.tuples(st.integers(0, 24), st.integers(0, 24)), max_size=12), st.randoms())
def test_components_are_those_of_a_naive_search(names: list[str], edges: list[tuple[int, int]], random: Any) -> None:
    count = len(names)
    numbers = [random.choice([0.5, 1.5, 2.5, *[float("nan")] * 12]) for _ in range(count)]
    digests = np.array([[random.randrange(6), random.randrange(6)] for _ in range(count)], np.uint8).reshape(count, 2)
    edges = [(one, other) for one, other in edges if max(one, other) < count]
    linked = {(min(edge), max(edge)) for edge in edges}
    for one in range(count):
        for other in range(one):
            same_name = names[one] == names[other] != ""
            same = np.array_equal(digests[one], digests[other])
            if same_name or numbers[one] == numbers[other] or same:
                linked.add((other, one))
    expected = list(range(count))
    for _ in range(count):
        for one, other in linked:
            expected[one] = expected[other] = min(expected[one], expected[other])
    ids = {root: number for number, root in enumerate(sorted(set(expected)))}
    columns = [np.array(names, np.str_), np.array(numbers, np.float64), digests]
    ends = np.array(edges, np.int64).reshape(-1, 2)
    found = components(count, columns, [(ends[:, 0], ends[:, 1])])
    assert found.tolist() == [ids[root] for root in expected]
    assert found.dtype == np.int64


def test_components_of_a_long_chain() -> None:
    order = np.random.default_rng(0).permutation(100_000)
    assert components(100_000, [], [(order[:-1], order[1:])]).max() == 0


def test_components_without_links_are_the_rows() -> None:
    assert components(3).tolist() == [0, 1, 2]
    assert components(0).tolist() == []
    assert components(3, [np.array(["", "", ""])]).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("columns", "pairs", "message"),
    [
        ([np.zeros(2)], [], "a column has 2 rows, expected 3"),
        ([], [(np.array([0]), np.array([3]))], "a pair names row 3, there are 3 rows"),
        ([], [(np.array([-1]), np.array([0]))], "rows from 0 on"),
        ([], [(np.array([0, 1]), np.array([0]))], "of one length"),
    ],
)
def test_links_to_rows_that_are_not_there_are_refused(columns: Any, pairs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        components(3, columns, pairs)


@pytest.mark.parametrize("block", [(64, 64), (32, 96), (512, 8192)])
def test_the_size_of_a_block_does_not_matter(monkeypatch: pytest.MonkeyPatch, block: tuple[int, int]) -> None:
    monkeypatch.setattr(near, "_ROWS", block[0])
    monkeypatch.setattr(near, "_COLUMNS", block[1])
    monkeypatch.setattr(near, "_BATCH", block[0] // 2)
    monkeypatch.setattr(near, "_SCREENED", block[1] // 2)
    images = faces(150)
    copies = np.stack([jpeg(image[0]) for image in images])[:, None]
    mirror = np.stack([jpeg(np.ascontiguousarray(image[0, :, ::-1])) for image in images[:40]])[:, None]
    pairs = near_duplicates(thumbnails(np.concatenate([images, copies, mirror])), mirrored=True)
    straight = {(row, row + 150) for row in range(150)}
    found = as_set(pairs)
    assert {pair for pair in found if pair[1] < 300} == straight
    assert {pair for pair in found if pair[1] >= 300} == {
        *((row, row + 300) for row in range(40)),
        *((row + 150, row + 300) for row in range(40)),
    }


def mixed(share: float) -> NDArray[np.uint8]:
    """Return thumbnails of a face and of the same with a share of another in it."""
    image, other = faces(1)[0, 0], faces(1, seed=1)[0, 0]
    return thumbnails(np.stack([image, clipped((1 - share) * image + share * other)])[:, None])


def test_the_limit_of_the_distance_lies_where_the_data_showed_a_valley() -> None:
    distances = {share: near_duplicates(mixed(share), max_distance=0.4).distance for share in (0.15, 0.16)}
    below, above = float(distances[0.15][0]), float(distances[0.16][0])
    assert 0.165 < below < 0.18 < above < 0.195
    assert len(near_duplicates(mixed(0.15))) == 1
    assert len(near_duplicates(mixed(0.16))) == 0


@pytest.mark.parametrize("pixels", [-1.8, -1.2, 1.2, 1.8])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_shift_of_up_to_two_thumbnail_pixels_is_undone(pixels: float, axis: int) -> None:
    image = cv2.GaussianBlur(faces(1, side=96)[0, 0], (0, 0), 4).astype(np.float64)
    by = [0.0, 0.0]
    by[axis] = 4 * pixels
    other = np.asarray(
        cv2.warpAffine(image, np.array([[1, 0, by[0]], [0, 1, by[1]]]), (96, 96), borderMode=cv2.BORDER_REPLICATE)
    )
    one, two = (
        np.asarray(cv2.resize(each, (24, 24), interpolation=cv2.INTER_AREA), np.float64)[None]
        for each in (image, other)
    )
    assert near._aligned(one, two)[0] < 0.05


@pytest.mark.parametrize("scale", [0.86, 1.2])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_stretch_of_more_than_a_tenth_is_undone(scale: float, axis: int) -> None:
    image = cv2.GaussianBlur(faces(1, side=96)[0, 0], (0, 0), 4).astype(np.float64)
    by = [1.0, 1.0]
    by[axis] = scale
    matrix = np.array([[by[0], 0, 47.5 * (1 - by[0])], [0, by[1], 47.5 * (1 - by[1])]])
    other = np.asarray(cv2.warpAffine(image, matrix, (96, 96), borderMode=cv2.BORDER_REPLICATE))
    one, two = (
        np.asarray(cv2.resize(each, (24, 24), interpolation=cv2.INTER_AREA), np.float64)[None]
        for each in (image, other)
    )
    assert near._aligned(one, two)[0] < 0.0175  # with half of the stretch that is allowed: 0.0178 to 0.026


def test_the_distance_is_the_larger_of_both_directions() -> None:
    image = faces(1)[0, 0]
    small = thumbnails(np.stack([image, moved(image, 3, 0, 0.9)])[:, None])
    blurred = near._blurred(small)
    there, back = (float(near._aligned(blurred[[a]], blurred[[b]])[0]) for a, b in ((0, 1), (1, 0)))
    assert abs(there - back) > 1e-3
    for order in ([0, 1], [1, 0]):
        found = near_duplicates(small[order], max_distance=0.6)
        assert float(found.distance[0]) == pytest.approx(max(there, back), abs=1e-4)
        first, second = small[order[:1]], small[order[1:]]
        assert near._distances(first, second, False, 0.6) == pytest.approx(max(there, back), abs=1e-4)
        one_way = there if order == [0, 1] else back  # where that is above the limit, the other is not looked at
        assert near._distances(first, second, False, 0.0) == pytest.approx(one_way, abs=1e-4)


def test_blank_pictures_with_the_same_specks_are_no_pair() -> None:
    blank = np.full((2, 24, 24), 128, np.uint8)
    blank[:, 5:9, 5:15] += 1
    blank[1, 0, 0] += 1  # not identical
    assert len(near_duplicates(blank)) == 0


def test_a_picture_of_little_but_enough_contrast_is_compared() -> None:
    faint = clipped(128 + (faces(1)[0, 0] - 120.0) * 0.12)
    other = faint.copy()
    other[0, 0] += 1
    small = thumbnails(np.stack([faint, clipped(faint + 3.0)])[:, None])
    assert near._contrast(small).min() > 2
    assert as_set(near_duplicates(small)) == {(0, 1)}
