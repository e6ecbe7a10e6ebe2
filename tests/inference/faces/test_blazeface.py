"""BlazeFace around a network that answers what a test wants: what it is given, and where what it says lies."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from torch import from_numpy
from torch.nn import functional as F

from fer_lightning.inference.faces.blazeface import BlazeFace, Kind

ANCHORS = {"full": 48 * 48, "short": 16 * 16 * 2 + 8 * 8 * 6}
SIDES = {"full": 192, "short": 128}


class Says:
    """A network that has faces at some anchors: by number, the logit and the 16 values of the box."""

    def __init__(self, kind: Kind, said: dict[int, tuple[float, list[float]]]) -> None:
        self.boxes = np.zeros((ANCHORS[kind], 16), np.float32)
        self.logits = np.full(ANCHORS[kind], -100, np.float32)
        for number, (logit, values) in said.items():
            self.logits[number], self.boxes[number, : len(values)] = logit, values
        self.images: list[NDArray[np.float32]] = []

    def __call__(self, image: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.images.append(image)
        return self.boxes, self.logits


def detector(
    monkeypatch: pytest.MonkeyPatch, kind: Kind, said: dict[int, tuple[float, list[float]]], **options: Any
) -> tuple[BlazeFace, Says]:
    network = Says(kind, said)
    monkeypatch.setattr("fer_lightning.inference.faces.blazeface._OpenCV", lambda path: network)
    return BlazeFace(Path("model.tflite"), kind, **options), network


@pytest.mark.parametrize(
    ("kind", "number", "x", "y"),
    [
        ("full", 30 * 48 + 12, 12.5 / 48, 30.5 / 48),
        ("short", (5 * 16 + 3) * 2 + 1, 3.5 / 16, 5.5 / 16),
        ("short", 512 + (5 * 8 + 6) * 6 + 5, 6.5 / 8, 5.5 / 8),
    ],
)
@pytest.mark.parametrize(("height", "width"), [(300, 400), (400, 300), (60, 48)])
def test_boxes_and_eyes_lie_around_their_anchor(
    monkeypatch: pytest.MonkeyPatch, kind: Kind, number: int, x: float, y: float, height: int, width: int
) -> None:
    values = [2.0, -4.0, 40.0, 50.0, -8.0, -6.0, 9.0, -5.0, 1.0, 1.0]  # middle, size, eyes, nose
    found = detector(monkeypatch, kind, {number: (2.0, values)})[0](np.zeros((height, width, 3), np.uint8))
    side, scale = SIDES[kind], max(height, width) / SIDES[kind]
    left, top = (side - width / scale) / 2, (side - height / scale) / 2
    middle = np.array([x * side - left, y * side - top])
    assert found.boxes[0] == pytest.approx(scale * np.array([*(middle - [18, 29]), 40, 50]), abs=scale)
    assert found.eyes[0] == pytest.approx(scale * (middle + np.array([[-8, -6], [9, -5]])), abs=scale)
    assert found.scores == pytest.approx([1 / (1 + np.exp(-2))])


def test_a_picture_is_laid_in_the_middle_of_a_black_square(monkeypatch: pytest.MonkeyPatch) -> None:
    look, network = detector(monkeypatch, "full", {})
    assert len(look(np.broadcast_to(np.array([255, 128, 0], np.uint8), (300, 400, 3)))) == 0
    (image,) = network.images
    assert image.shape == (1, 3, 192, 192)
    assert image[0, :, 96, 0] == pytest.approx([1, 128 / 127.5 - 1, -1], abs=1e-6)  # red first
    assert (image[0, 0] == 1).sum(axis=0).tolist() == [144] * 192
    assert image[0, 0, :, 5].tolist() == [-1] * 24 + [1] * 144 + [-1] * 24


def test_a_picture_is_averaged_where_it_shrinks_and_smooth_where_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    look, network = detector(monkeypatch, "full", {})
    stripes = np.zeros((768, 768, 3), np.uint8)
    stripes[:, ::4] = 255
    look(stripes)
    assert np.abs(network.images[0] + 0.5).max() < 0.01
    small = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    look(small)
    wanted = F.interpolate(from_numpy(small).permute(2, 0, 1)[None].float(), (192, 192), mode="bilinear")
    assert np.abs(network.images[1] - (wanted.numpy() / 127.5 - 1)).max() < 0.02


def test_what_is_unsure_small_or_the_same_face_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    box = [0.0, 0.0, 24.0, 24.0]
    said = {0: (0.0, box), 2000: (-0.01, box), 21: (3.0, box), 22: (2.0, box), 1000: (1.0, [0.0, 0.0, 12.0, 30.0])}
    picture = np.zeros((384, 384, 3), np.uint8)
    found = detector(monkeypatch, "full", said)[0](picture)
    assert found.scores == pytest.approx([1 / (1 + np.exp(-logit)) for logit in (3, 1, 0)])
    assert len(detector(monkeypatch, "full", said, min_score=0.4)[0](picture)) == 4  # the fifth lies on the surest
    assert len(detector(monkeypatch, "full", said, min_score=0.6)[0](picture)) == 2
    assert len(detector(monkeypatch, "full", said, min_size=25)[0](picture)) == 2
    for options, looks in (({}, 1), ({"views": "squares"}, 3)):
        look, network = detector(monkeypatch, "full", said, **options)
        look(np.zeros((100, 150, 3), np.uint8))
        assert len(network.images) == looks


def test_a_tflite_file_is_run_by_opencv_and_an_onnx_file_by_onnxruntime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    said = Says("short", {7: (4.0, [0.0, 0.0, 30.0, 30.0])})
    answers = {"scores": said.logits[None, :, None], "boxes": said.boxes[None]}
    network = SimpleNamespace(
        getUnconnectedOutLayersNames=lambda: ("scores", "boxes"),
        setInput=lambda image: None,
        forward=lambda names: [answers[name] for name in names],
    )
    session = SimpleNamespace(run=lambda names, inputs: [answers[name] for name in names if "image" in inputs])
    monkeypatch.setattr(cv2.dnn, "readNetFromTFLite", lambda path: network)
    monkeypatch.setattr(runtime, "InferenceSession", lambda path, options, providers: session)
    picture = np.zeros((128, 128, 3), np.uint8)
    for file in ("model.tflite", "model.onnx"):
        found = BlazeFace(tmp_path / file, "short")(picture)
        assert found.boxes.tolist() == [[28 - 15, 4 - 15, 30, 30]]  # the second anchor of cell 3 in the first row
