from __future__ import annotations

import numpy as np
import pytest

from fer_lightning.inference.endtoend import Answers, answers_of, matched, scores
from fer_lightning.inference.endtoend_report import endtoend_table
from fer_lightning.inference.faces.found import Faces
from fer_lightning.inference.framing import Framing, crop
from fer_lightning.inference.scenes import Scene
from tests.inference.helpers import BrightSquares, scene, tiny_model


def faces(*boxes: tuple[float, float, float, float]) -> Faces:
    return Faces(np.array(boxes, np.float32), np.ones(len(boxes), np.float32), np.zeros((len(boxes), 2, 2), np.float32))


def test_each_face_gets_the_nearest_box_and_each_box_one_face() -> None:
    truth = np.array([[0, 0, 40, 40], [100, 0, 40, 40], [200, 0, 40, 40]], np.float32)
    found = faces((210, 10, 40, 40), (8, 8, 30, 30), (130, 0, 40, 40), (2, 2, 36, 36), (118, 18, 4, 4))
    assert matched(truth, found).tolist() == [3, -1, 0]  # one is too far, one too small
    assert matched(truth, Faces.none()).tolist() == [-1, -1, -1]
    assert matched(np.zeros((0, 4), np.float32), found).tolist() == []


def test_misses_are_errors_and_false_faces_are_counted() -> None:
    answers = Answers(
        labels=np.array([0, 1, 2, 3]),
        sizes=np.array([70, 90, 100, 300], np.float32),
        on_crops=np.array([0, 1, 2, 0]),
        found={"a": {"framing": np.array([0, 2, -1, 3]), "margin": np.array([1, 2, -1, 0])}},
        false={"a": 5},
    )
    made = scores(answers)
    first = made[0]
    assert (first.detector, first.cut, first.sizes, first.faces, first.found, first.false) == (
        "a",
        "framing",
        "all",
        4,
        3,
        5,
    )
    assert (first.on_crops, first.found_on_crops, first.end_to_end, first.with_misses) == (0.75, 2 / 3, 2 / 3, 0.5)
    assert first.lost == pytest.approx(0)
    assert [(score.sizes, score.faces, score.found) for score in made if score.cut == "framing"][1:] == [
        ("0-80", 1, 1),
        ("80-120", 2, 1),
        ("260 and more", 1, 1),
    ]
    margin = next(score for score in made if score.cut == "margin")
    assert margin.lost == pytest.approx(200 / 3)
    assert endtoend_table(answers)[2].split() == ["a", "margin", "4", "75.0%", "5", "66.7%", "0.0%", "+66.7", "0.0%"]
    assert len(endtoend_table(answers, by_size=True)) == 4


def test_a_face_is_cut_by_the_framing_and_by_the_margin() -> None:
    model, picture = tiny_model(), scene((10, 10, 30), (80, 40, 50))
    model.framings = {"BrightSquares": Framing(0.9, 0.4, 0.6)}
    boxes = np.array([[80, 40, 50, 50], [10, 10, 30, 30], [120, 5, 30, 30]], np.float32)
    whole = Scene("a", picture, boxes, np.array([0, 1, 2]))
    found = answers_of(model, {"BrightSquares": BrightSquares()}, [whole])

    def classes(framing: Framing | None) -> list[int]:
        cuts = [crop(picture, box, framing) for box in boxes[:2]]
        return [int(row.argmax()) for row in model.probabilities(cuts)]

    assert found.found["BrightSquares"]["framing"].tolist() == [*classes(model.framings["BrightSquares"]), -1]
    assert found.found["BrightSquares"]["margin"].tolist() == [*classes(None), -1]
    parts = [picture[40:90, 80:130], picture[10:40, 10:40], picture[5:35, 120:150]]
    own = model.probabilities([np.ascontiguousarray(part) for part in parts]).argmax(axis=1)
    assert found.on_crops.tolist() == own.tolist()
    assert found.sizes.tolist() == [50, 30, 30]
    assert found.false == {"BrightSquares": 0}
    assert found.pictures == 1
