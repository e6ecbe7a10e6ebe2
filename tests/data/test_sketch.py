from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fer_lightning.data.sets.sketch.actions import ACTION_UNITS, PROTOTYPES, UPPER_UNITS, Actions, Dice, sample_actions
from fer_lightning.data.sets.sketch.features import (
    brow_curve,
    eye_curves,
    feature_strokes,
    mouth_curves,
    soft_strokes,
)
from fer_lightning.data.sets.sketch.head import jaw_drop
from fer_lightning.data.sets.sketch.person import AGE_GROUPS, SKIN_TONES, Person, sample_person
from fer_lightning.data.sets.sketch.rendering import Stroke
from fer_lightning.data.sets.sketch.sketch import DEFAULT_COUNTS, SketchDataModule, draw_face, scan_sketch
from fer_lightning.data.table.samples import SPLITS, SamplesTable
from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError
from tests.contracts.datamodule import DataModuleContract
from tests.helpers.data import pixels

REST = Actions.symmetric({})


@pytest.fixture(scope="module")
def table() -> SamplesTable:
    return scan_sketch(counts={"train": 140, "val": 35, "test": 70})


@pytest.fixture(scope="module")
def person() -> Person:
    return sample_person(Dice(np.random.default_rng(3)))


def acting(*units: int) -> Actions:
    return Actions.symmetric(dict.fromkeys(units, 1.0))


# --- one face ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", SEVEN.class_names)
@pytest.mark.parametrize(("size", "channels"), [(48, 1), (32, 3), (100, 1), (256, 3)])
def test_a_face_has_the_shape_asked_for(expression: str, size: int, channels: int) -> None:
    picture, attributes = draw_face(expression, np.random.default_rng(0), size, channels)
    assert picture.shape == (channels, size, size)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous
    assert picture.std() > 10.0
    assert set(attributes) == {"skin_tone", "age_group", "glasses"}


@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_state_of_the_generator_draws_the_same_face(channels: int) -> None:
    first, second, other = (draw_face("happy", np.random.default_rng(seed), 48, channels)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_synonyms_draw_the_same_face() -> None:
    happy, joy = (draw_face(name, np.random.default_rng(1))[0] for name in ("happy", "Joy"))
    assert np.array_equal(happy, joy)


def test_gray_and_colour_small_and_large_show_the_same_face() -> None:
    small, first = draw_face("fear", np.random.default_rng(5), 48, 1, difficulty=0.0)
    large, second = draw_face("fear", np.random.default_rng(5), 192, 3, difficulty=0.0)
    luma = np.tensordot(np.array([0.299, 0.587, 0.114]), large.astype(float), 1)
    reduced = luma.reshape(48, 4, 48, 4).mean(axis=(1, 3))
    assert first == second
    assert np.corrcoef(reduced.ravel(), small.ravel().astype(float))[0, 1] > 0.95


def test_skin_is_warmer_than_gray() -> None:
    picture, _ = draw_face("neutral", np.random.default_rng(0), 64, 3, difficulty=0.0)
    red, _, blue = picture.astype(int)
    assert (red - blue)[24:40, 24:40].mean() > 10.0


@pytest.mark.parametrize("difficulty", [0.0, 0.5, 2.0])
def test_every_difficulty_draws_every_expression(difficulty: float) -> None:
    for number in range(70):
        expression = SEVEN.class_names[number % 7]
        picture, _ = draw_face(expression, np.random.default_rng(number), difficulty=difficulty)
        assert picture.std() > 5.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"expression": "hungry"}, "hungry"),
        ({"expression": "contempt"}, "contempt"),
        ({"size": 31}, "32..512"),
        ({"size": 513}, "513"),
        ({"channels": 2}, "channels must be 1"),
        ({"difficulty": -0.1}, "difficulty must be 0..2"),
        ({"difficulty": float("nan")}, "difficulty must be 0..2"),
    ],
)
def test_a_bad_argument_of_a_face_is_named_in_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        draw_face(**{"expression": "happy", "rng": np.random.default_rng(0), **arguments})
    assert "\n" not in str(caught.value)


def test_a_face_is_drawn_again_byte_for_byte_and_at_rest_differs_where_it_moved_alone() -> None:
    data = SketchDataModule(train=14, val=0, test=21, size=64, colour=True, drawing_seed=3, difficulty=1.3)
    rows = data.table.rows("test")[::-1]
    faces = data.table.images[rows]
    np.testing.assert_array_equal(data.redrawn(rows, ()), faces)
    rest, upper, lower = (
        data.redrawn(rows, units) for units in (ACTION_UNITS, UPPER_UNITS, set(ACTION_UNITS) - {*UPPER_UNITS})
    )
    np.testing.assert_array_equal(rest, data.redrawn(rows))
    moved = [np.any(np.abs(faces.astype(int) - other) > 15, axis=1) for other in (rest, upper, lower)]
    assert 0.01 < moved[0].mean() < 0.3
    for row in np.flatnonzero(data.table.labels[rows] != SEVEN.index("neutral")):
        assert moved[0][row].any()
    # what brows and eyes move lies above what nose, mouth and chin move
    heights = [(part * np.arange(64)[:, None]).sum() / part.sum() for part in moved[1:]]
    assert heights[0] < heights[1] - 8


# --- what the action units do -----------------------------------------------------------------------------------------


def test_lip_corners_rise_in_a_smile_and_fall_in_grief(person: Person) -> None:
    rest, smile, grief = (mouth_curves(person, acting(*units)) for units in ((), (6, 12), (1, 4, 15)))
    for corner in (0, -1):
        assert smile.upper_in[corner] < rest.upper_in[corner] - 0.05  # y points down
        assert grief.upper_in[corner] > rest.upper_in[corner] + 0.05
    assert smile.upper_in[0] < smile.upper_in[7]
    assert grief.upper_in[0] > grief.upper_in[7]
    assert np.ptp(smile.x) > np.ptp(rest.x)


def test_the_mouth_opens_only_when_lips_part_or_the_jaw_drops(person: Person) -> None:
    def gap(*units: int) -> float:
        mouth = mouth_curves(person, acting(*units))
        return float((mouth.lower_in - mouth.upper_in).max())

    assert gap() == pytest.approx(0.0, abs=1e-9)
    assert gap(12) == pytest.approx(0.0, abs=1e-9)
    assert 0.02 < gap(25) < gap(26)
    assert jaw_drop(acting(26)) > 0.1 > jaw_drop(REST)


def test_fear_stretches_the_mouth_and_surprise_rounds_it(person: Person) -> None:
    fear, surprise = (mouth_curves(person, acting(*PROTOTYPES[name][0])) for name in ("fear", "surprise"))
    assert np.ptp(fear.x) > 1.3 * np.ptp(surprise.x)


def test_tight_lips_are_thin(person: Person) -> None:
    rest, tight = (mouth_curves(person, acting(*units)) for units in ((), (23,)))
    assert np.ptp(tight.lower_out - tight.upper_out) < 0.6 * np.ptp(rest.lower_out - rest.upper_out)


@pytest.mark.parametrize("side", [0, 1])
def test_brows_move_as_their_units_say(person: Person, side: int) -> None:
    rest, inner, outer, lower = (brow_curve(person, acting(*units), side)[:, 1] for units in ((), (1,), (2,), (4,)))
    assert inner[0] < rest[0] - 0.1
    assert inner[0] - rest[0] < inner[-1] - rest[-1]
    assert outer[-1] < rest[-1] - 0.1
    assert outer[-1] - rest[-1] < outer[0] - rest[0]
    assert lower[0] > rest[0] + 0.1
    assert brow_curve(person, REST, side)[:, 0].mean() * (1 if side else -1) > 0.0


@pytest.mark.parametrize("side", [0, 1])
def test_lids_widen_and_narrow(person: Person, side: int) -> None:
    def opening(*units: int) -> float:
        eye = eye_curves(person, acting(*units), side)
        return float((eye.lower - eye.upper).max())

    assert opening(5) > 1.3 * opening()
    for unit in (6, 7, 9, 64):
        assert opening(unit) < 0.9 * opening()


def weighted(strokes: Sequence[Stroke]) -> float:
    """Return one number in which each coordinate, width and strength has a weight of its own."""
    numbers = np.concatenate([np.append(stroke.points.ravel(), [stroke.width, stroke.strength]) for stroke in strokes])
    return float(numbers @ np.sin(np.arange(1, len(numbers) + 1)))


@pytest.mark.parametrize(
    ("scale", "beard", "moving", "soft"),
    [
        (0.0, "none", 3.184473164287, -0.845419223654),
        (0.4, "none", 2.397842518828, -0.914555366224),
        (0.7, "full", 0.077096651325, -0.114934457660),
        (1.0, "none", 0.581401757196, -0.179205921975),
    ],
)
def test_faces_are_drawn_as_ever(person: Person, scale: float, beard: str, moving: float, soft: float) -> None:
    left, right = ({unit: scale * (root * math.sqrt(unit) % 1.0) for unit in ACTION_UNITS} for root in (1.0, 1.7))
    actions = Actions((left, right), {unit: 0.5 * (left[unit] + right[unit]) for unit in ACTION_UNITS})
    face = replace(person, beard=beard)
    assert weighted(feature_strokes(face, actions)) == pytest.approx(moving, abs=1e-9)
    assert weighted(soft_strokes(face, actions)) == pytest.approx(soft, abs=1e-9)


def test_without_difficulty_a_face_shows_a_prototype_and_nothing_else() -> None:
    dice = Dice(np.random.default_rng(0))
    for expression, prototypes in PROTOTYPES.items():
        actions = sample_actions(expression, dice, difficulty=0.0)
        assert tuple(unit for unit in ACTION_UNITS if actions.mean[unit] > 0.0) in [tuple(p) for p in prototypes]
        assert all(actions.mean[unit] in (0.0, 1.0) for unit in ACTION_UNITS)
        assert actions.halves[0] == actions.halves[1]


def test_activations_stay_in_range_and_differ_between_the_halves() -> None:
    dice = Dice(np.random.default_rng(0))
    drawn = [sample_actions(name, dice) for name in SEVEN.class_names * 20]
    halves = np.array([[list(half.values()) for half in actions.halves] for actions in drawn])
    assert halves.min() >= 0.0
    assert halves.max() <= 1.0
    assert (halves[:, 0] != halves[:, 1]).mean() > 0.5


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_has_the_counts_asked_for_and_balanced_classes(table: SamplesTable) -> None:
    assert len(table) == 245
    assert table.images.shape == (245, 1, 48, 48)
    assert table.class_names == SEVEN.class_names
    assert set(table.class_counts("train").values()) == {20}
    assert set(table.class_counts("val").values()) == {5}
    assert set(table.class_counts("test").values()) == {10}
    assert set(table.sources) == {"sketch"}
    assert table.files[0] == "sketch/train/0"
    assert len(set(table.files)) == len(table)


def test_counts_that_seven_does_not_divide_differ_by_one_at_most() -> None:
    sizes = scan_sketch(counts={"train": 10}).class_counts("train").values()
    assert sum(sizes) == 10
    assert max(sizes) - min(sizes) == 1


def test_default_counts_cover_every_split() -> None:
    assert set(DEFAULT_COUNTS) == set(SPLITS)


def test_an_empty_table_keeps_its_shape() -> None:
    assert scan_sketch(counts={}, size=64, channels=3).images.shape == (0, 3, 64, 64)


def test_the_further_columns_are_there_and_varied(table: SamplesTable) -> None:
    assert set(table.columns) == {"skin_tone", "age_group", "glasses"}
    assert set(table.columns["skin_tone"]) == set(SKIN_TONES)
    assert set(table.columns["age_group"]) == set(AGE_GROUPS)
    assert set(table.columns["glasses"]) == {"yes", "no"}
    for column in ("skin_tone", "age_group"):
        shares = np.unique(table.columns[column], return_counts=True)[1] / len(table)
        assert shares.min() > 0.2


def test_skin_tones_are_told_apart_by_their_brightness_in_even_light() -> None:
    faces = [draw_face("neutral", np.random.default_rng(number), difficulty=0.0) for number in range(60)]
    cheeks = {tone: [p[0, 26:30, 14:34].mean() for p, who in faces if who["skin_tone"] == tone] for tone in SKIN_TONES}
    light, medium, dark = (float(np.mean(cheeks[tone])) for tone in ("light", "medium", "dark"))
    assert light > medium > dark > 70.0  # exposed for the face: a dark skin is not a black one


def test_no_drawing_stands_in_two_splits(table: SamplesTable) -> None:
    assert len(np.unique(table.digests, axis=0)) == len(table)
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        assert len(table.overlap(first, second)) == 0


def test_the_seed_decides_everything(table: SamplesTable) -> None:
    again = scan_sketch(counts={"val": 35})
    other = scan_sketch(counts={"val": 35}, seed=1)
    assert again.fingerprint("val") == table.fingerprint("val")
    assert not {bytes(d) for d in other.digests} & {bytes(d) for d in table.digests}


def test_a_smaller_table_is_the_beginning_of_a_larger_one(table: SamplesTable) -> None:
    small = scan_sketch(counts={"train": 21})
    assert np.array_equal(pixels(small), pixels(table)[:21])
    assert np.array_equal(small.files, table.files[:21])
    assert np.array_equal(small.columns["skin_tone"], table.columns["skin_tone"][:21])


def test_class_ratio_makes_an_expression_rare_and_draws_no_new_people(table: SamplesTable) -> None:
    rare = scan_sketch(counts={"train": 61}, class_ratio={"disgust": 0.1})
    assert rare.class_counts("train") == {name: 1 if name == "disgust" else 10 for name in SEVEN.class_names}
    rows = {file: row for row, file in enumerate(table.files)}
    for row, file in enumerate(rare.files):
        assert np.array_equal(pixels(rare)[row], pixels(table)[rows[file]])


def test_class_ratio_may_leave_an_expression_out() -> None:
    sizes = scan_sketch(counts={"test": 12}, class_ratio={"Disgusted": 0.0}).class_counts("test")
    assert sizes == {name: 0 if name == "disgust" else 2 for name in SEVEN.class_names}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"counts": {"train": -1}}, "counts of 'train' must be >= 0, not -1"),
        ({"counts": {"training": 7}}, "unknown split 'training'"),
        ({"size": 16}, "32..512"),
        ({"channels": 4}, "channels must be 1"),
        ({"difficulty": 3.0}, "difficulty must be 0..2, not 3"),
        ({"seed": -1}, "seed must be >= 0"),
        ({"class_ratio": {"hungry": 1.0}}, "hungry"),
        ({"class_ratio": {"disgust": -1.0}}, "class_ratio of 'disgust'"),
        ({"class_ratio": {"disgust": float("nan")}}, "class_ratio of 'disgust'"),
        ({"class_ratio": dict.fromkeys(SEVEN.class_names, 0.0)}, "leaves no expression"),
    ],
)
def test_a_bad_argument_of_the_scan_is_named_in_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        scan_sketch(**{"counts": {"train": 7}, **arguments})
    assert "\n" not in str(caught.value)


# --- can it be learnt? ------------------------------------------------------------------------------------------------


def test_a_linear_classifier_reads_expressions_from_portraits() -> None:
    table = scan_sketch(counts={"train": 700, "test": 210}, difficulty=0.3)
    gray = pixels(table)[:, 0].astype(np.float32).reshape(len(table), 48, 48)
    halved = gray.reshape(len(table), 24, 2, 24, 2).mean(axis=(2, 4))[:, 4:, 3:21].reshape(len(table), -1)
    features = (halved - halved.mean(axis=1, keepdims=True)) / halved.std(axis=1, keepdims=True)
    train, test = table.rows("train"), table.rows("test")
    model = LogisticRegression(C=0.05, max_iter=200).fit(features[train], table.labels[train])
    accuracy = model.score(features[test], table.labels[test])
    assert accuracy > 0.6  # chance is 0.14


class TestSketchDataModule(DataModuleContract):
    def make(self, **options: Any) -> SketchDataModule:
        return SketchDataModule(train=35, val=14, test=14, **options)

    def test_colour_and_size_reach_the_drawings(self) -> None:
        data = self.make(colour=True, size=64, channels=3)
        assert data.table.images.shape == (63, 3, 64, 64)
        assert data.preprocessing["image_size"] == 64
