from __future__ import annotations

import numpy as np
import pytest

from fer_lightning.emotions import SEVEN
from fer_lightning.figures import class_colors
from fer_lightning.inference.annotate import annotated
from fer_lightning.inference.recognizer import Face

SHARES = dict(zip(SEVEN.class_names, (0.05, 0.05, 0.1, 0.5, 0.1, 0.1, 0.1), strict=True))
COLORS = class_colors(SEVEN.class_names)


def face(*box: float) -> Face:
    return Face(3, (box[0], box[1], box[2], box[3]), 0.9, SHARES)


def has(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((picture == np.array(color, np.uint8)).all(axis=2).sum())


def test_a_face_gets_a_box_a_label_and_a_bar_for_each_class() -> None:
    picture = np.full((300, 500, 3), 60, np.uint8)
    drawn = annotated(picture, [face(100, 80, 140, 140)])
    assert (picture == 60).all()
    assert (drawn[150, 100] == COLORS["happy"]).all()  # the box has the colour of the label
    bars = drawn[80:220, 245:330]
    for name, share in SHARES.items():
        assert has(bars, COLORS[name]) > 300 * share, name
    assert has(annotated(picture, [face(100, 80, 140, 140)], bars=False)[80:220, 245:330], COLORS["sad"]) == 0


def test_of_a_video_the_smoothed_label_is_shown() -> None:
    picture = np.full((300, 500, 3), 60, np.uint8)
    drawn = annotated(picture, [face(100, 80, 140, 140)], shown={3: ("angry", 0.6)})
    assert (drawn[150, 100] == COLORS["angry"]).all()


@pytest.mark.parametrize("box", [(-50, -40, 120, 120), (450, 250, 200, 200), (0, 0, 500, 300), (10, 10, 4, 5)])
def test_faces_at_the_edges_and_beyond_are_drawn_as_far_as_they_go(box: tuple[int, ...]) -> None:
    drawn = annotated(np.zeros((300, 500, 3), np.uint8), [face(*box)])
    assert drawn.shape == (300, 500, 3)
    assert drawn.any()
