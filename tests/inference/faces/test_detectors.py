"""The detectors that need a file or OpenCV alone, on drawn pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fer_lightning.data.sets.sketch.sketch import draw_cutout, face_source
from fer_lightning.errors import ConfigError
from fer_lightning.inference.faces.choice import (
    _say_what_is_missing,
    detector_name,
    detectors_named,
    make_detector,
)
from fer_lightning.inference.faces.found import Faces
from fer_lightning.inference.faces.haar import HaarCascade
from fer_lightning.inference.faces.views import in_border
from fer_lightning.inference.faces.yunet import YuNet
from fer_lightning.inference.recognizer import Recognizer
from tests.inference.helpers import BrightSquares, scene, tiny_model

GRAY = (128, 128, 128)


@pytest.fixture(scope="module")
def drawn() -> NDArray[np.uint8]:
    """A plain drawn person before a gray wall, whose head is about 150 pixels wide, from 200 pixels on each side."""
    person, cover = draw_cutout("neutral", face_source(0, "test", 6), 200, difficulty=0.0)
    picture = np.full((480, 640, 3), GRAY, np.float32)
    picture[60:460, 120:520] += cover[..., None] * (person - picture[60:460, 120:520])
    return picture.astype(np.uint8)


def test_haar_finds_a_drawn_face(drawn: NDArray[np.uint8]) -> None:
    faces = HaarCascade()(drawn)
    assert len(faces) == 1
    left, top, width, height = faces.boxes[0]
    assert abs(left + width / 2 - 320) < 30
    assert abs(top + height / 2 - 260) < 40
    assert 80 < width < 220
    assert 0.5 <= faces.scores[0] < 1
    assert np.isnan(faces.eyes).all()
    double = np.asarray(cv2.resize(drawn, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR), np.uint8)
    assert HaarCascade()(double).boxes[0] == pytest.approx(2 * faces.boxes[0], abs=12)


def test_a_face_that_is_too_small_or_too_unsure_is_left_out(drawn: NDArray[np.uint8]) -> None:
    (box,), (score,) = HaarCascade()(drawn).boxes, HaarCascade()(drawn).scores
    assert len(HaarCascade(min_size=0.7 * float(box[2]))(drawn)) == 1
    assert len(HaarCascade(min_size=1.4 * float(box[2]))(drawn)) == 0
    assert len(HaarCascade(min_score=float(score) - 0.01)(drawn)) == 1
    assert len(HaarCascade(min_score=float(score) + 0.01)(drawn)) == 0


@pytest.mark.parametrize("score", [0.0, 1.0, -1.0, 2.0, float("nan")])
def test_a_score_out_of_range_is_refused(score: float) -> None:
    with pytest.raises(ConfigError, match=r"\(min_score\) must be above 0 and below 1"):
        make_detector("haar", min_score=score)


@pytest.mark.parametrize("size", [-1.0, float("inf"), float("nan")])
def test_a_size_out_of_range_is_refused(size: float) -> None:
    with pytest.raises(ConfigError, match=r"\(min_size\) must be a number of pixels from 0 on"):
        make_detector("haar", min_size=size)


def test_a_border_shows_faces_that_reach_the_edge() -> None:
    def not_at_the_edge(picture: NDArray[np.uint8]) -> Faces:
        found = BrightSquares()(picture)
        return found.chosen(found.boxes[:, :2].min(axis=1) > 0)

    picture = scene((0, 0, 40), height=80, width=100)
    assert len(not_at_the_edge(picture)) == 0
    found = in_border(picture, not_at_the_edge, 0.5)
    assert found.boxes.tolist() == [[0, 0, 40, 40]]
    assert found.eyes.tolist() == [[[0, 0], [40, 0]]]


def test_the_border_is_gray_and_half_as_wide_as_the_longer_side() -> None:
    seen: list[NDArray[np.uint8]] = []

    def look(picture: NDArray[np.uint8]) -> Faces:
        seen.append(picture)
        return Faces.none()

    picture = scene((10, 10, 40), height=80, width=100)
    in_border(picture, look)
    assert seen[0].shape == (180, 200, 3)
    assert np.array_equal(seen[0][50:130, 50:150], picture)
    seen[0][50:130, 50:150] = GRAY
    assert (seen[0] == GRAY).all()


def test_what_the_cascade_is_asked_and_what_its_hits_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[NDArray[np.uint8], dict[str, Any]]] = []

    class Cascade:
        def detectMultiScale2(self, image: NDArray[np.uint8], **options: Any) -> tuple[list[list[int]], list[int]]:  # noqa: N802
            asked.append((image, options))
            return [[10, 20, 60, 70], [200, 20, 60, 60], [300, 20, 90, 60], [400, 20, 50, 48]], [4, 12, 3, 20]

    small = np.random.default_rng(0).integers(0, (256, 128, 64), (160, 320, 3)).astype(np.uint8)
    picture = small.repeat(4, axis=0).repeat(4, axis=1)
    haar = HaarCascade(min_size=99)
    monkeypatch.setattr(haar, "_cascade", Cascade())
    found = haar(picture)
    ((image, options),) = asked
    assert options == {"scaleFactor": 1.2, "minNeighbors": 4, "minSize": (50, 50)}
    gray = small @ np.array([0.299, 0.587, 0.114])
    ranks = np.argsort(np.argsort(gray.ravel())) / gray.size * 255  # equal shares of all levels
    assert np.abs(image[::2, ::2].ravel() - ranks).mean() < 3
    assert found.boxes.tolist() == [[400, 40, 120, 120], [20, 40, 120, 140]]  # the surest first, twice as large
    assert found.scores.tolist() == [0.75, 0.5]
    plain = HaarCascade()
    monkeypatch.setattr(plain, "_cascade", Cascade())
    plain(picture[:100, :100])
    assert (asked[-1][0].shape, asked[-1][1]["minSize"]) == ((100, 100), (24, 24))


class FarFromTheEdge(BrightSquares):
    """Finds only what has 20 pixels around it."""

    name = "far"

    def __call__(self, picture: NDArray[np.uint8]) -> Faces:
        found = super().__call__(picture)
        return found.chosen(found.boxes[:, :2].min(axis=1) >= 20)


def test_a_small_picture_without_a_hit_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fer_lightning.inference.recognizer.blazeface_file", lambda kind: None)
    recognizer = Recognizer(tiny_model(), FarFromTheEdge())
    small, large = scene((5, 5, 60), height=80, width=90), scene((5, 5, 60), height=80, width=300)
    result = recognizer(small)
    assert [face.box for face in result] == [(5, 5, 60, 60)]
    assert recognizer.find(small).detector == "far"
    assert len(recognizer(large)) == 0


def squares_network(path: Path) -> Path:
    """Write a network with YuNet's inputs and outputs, which takes every white cell of 8 pixels for a face of 32."""
    onnx = pytest.importorskip("onnx")
    make = onnx.helper
    constants: list[Any] = []
    nodes: list[Any] = []
    outputs: dict[str, Any] = {}

    def constant(name: str, value: Any) -> str:
        constants.append(onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"n{len(nodes)}"
        nodes.append(make.make_node(kind, list(inputs), [name], **attributes))
        return name

    limits = [constant(f"limit{value:g}", np.float32(value)) for value in (0.0, 1.0)]
    for stride in (8, 16, 32):
        cells = node("AveragePool", "input", kernel_shape=[stride] * 2, strides=[stride] * 2)  # 0..255
        for name, bias in {
            "cls": [-24.5 if stride == 8 else 0.0],
            "obj": [1.0],
            "bbox": [0.5, 0.5, float(np.log(4)), float(np.log(4))],  # in cells: from the cell's corner, log of the size
            "kps": [-0.5, -0.5, 1.5, -0.5, 0, 0, 0, 0, 0, 0],
        }.items():
            weight = np.zeros((len(bias), 3, 1, 1), np.float32)
            weight[:, 0] = 0.1 if (name, stride) == ("cls", 8) else 0.0
            key = f"{name}_{stride}"
            made = node("Conv", cells, constant(f"w{key}", weight), constant(f"b{key}", np.array(bias, np.float32)))
            made = node("Clip", made, *limits) if len(bias) == 1 else made
            made = node("Transpose", made, perm=[0, 2, 3, 1])
            nodes.append(make.make_node("Reshape", [made, constant(f"s{key}", [1, -1, len(bias)])], [key]))
            shape = [1, (640 // stride) ** 2, len(bias)]
            outputs[key] = make.make_tensor_value_info(key, onnx.TensorProto.FLOAT, shape)
    order = [outputs[f"{name}_{stride}"] for name in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]
    image = make.make_tensor_value_info("input", onnx.TensorProto.FLOAT, [1, 3, 640, 640])
    graph = make.make_graph(nodes, "squares", [image], order, constants)
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def test_yunet_is_read_from_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = squares_network(tmp_path / "yunet.onnx")
    detector = make_detector(str(path))
    assert isinstance(detector, YuNet)
    assert detector_name(detector) == "yunet"
    said = capsys.readouterr().err
    assert str(path) in said
    assert "sha256" in said
    picture = np.zeros((320, 480, 3), np.uint8)
    picture[104:112, 200:208] = 255  # one cell
    faces = detector(picture)
    assert faces.boxes[0] == pytest.approx([188, 92, 32, 32], abs=1)
    assert faces.eyes[0].ravel() == pytest.approx([196, 100, 212, 100], abs=1)
    assert faces.scores[0] == pytest.approx(1, abs=0.01)
    assert len(detector(np.zeros((100, 100, 3), np.uint8))) == 0
    large = np.zeros((1280, 1920, 3), np.uint8)  # shrunk to a third
    large[312:336, 600:624] = 255
    assert detector(large).boxes[0] == pytest.approx([564, 276, 96, 96], abs=3)
    assert len(YuNet(path, min_size=40)(picture)) == 0
    for columns, count in ((slice(216, 224), 1), (slice(224, 232), 2)):  # a third in common, a seventh
        two = picture.copy()
        two[104:112, columns] = 255
        assert len(detector(two)) == count
    for colour, count in (((0, 0, 255), 1), ((255, 0, 0), 0)):  # the network's first channel is blue
        painted = np.zeros_like(picture)
        painted[104:112, 200:208] = colour
        assert len(detector(painted)) == count


def test_each_name_makes_its_detector_with_the_options_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = "fer_lightning.inference.faces.choice"
    there = {"full", "short"}
    monkeypatch.setattr(f"{module}.blazeface_file", lambda kind: Path(kind) if kind in there else None)
    for name in ("BlazeFace", "YuNet", "HaarCascade"):
        monkeypatch.setattr(f"{module}.{name}", lambda *given, name=name, **options: (name, *given, options))
    made: dict[str, Any] = {
        "auto": ("BlazeFace", Path("full"), "full", {"views": "fine", "min_size": 9}),
        "blazeface": ("BlazeFace", Path("full"), "full", {"views": "fine", "min_size": 9}),
        "blazeface_short": ("BlazeFace", Path("short"), "short", {"views": "fine", "min_size": 9}),
        "~/a.onnx": ("YuNet", Path.home() / "a.onnx", {"min_size": 9}),
        "haar": ("HaarCascade", {"min_size": 9}),
    }
    for name, wanted in made.items():
        assert make_detector(name, "fine", min_size=9) == wanted
    monkeypatch.setattr(f"{module}.detector_name", lambda made: f"{made[0]}{made[-1].get('views', '')}")
    assert list(detectors_named(views="fine")) == ["BlazeFacefine", "HaarCascade"]
    assert list(detectors_named(["haar"])) == ["HaarCascade"]
    there.clear()
    _say_what_is_missing.cache_clear()
    assert [make_detector("auto", "fine", min_size=9) for _ in range(2)] == [made["haar"]] * 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(ConfigError, match="the detector 'blazeface' needs its file: fer models fetch blazeface"):
        make_detector("blazeface")
    (tmp_path / "own_detector_of_mine.py").write_text(
        "class Finder:\n    def __init__(self, size):\n        self.size = size"
    )
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert make_detector("own_detector_of_mine.Finder", size=7).size == 7  # type: ignore[attr-defined]
    assert sys.path == before


def test_what_is_no_yunet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected the file of YuNet"):
        make_detector(str(tmp_path / "nowhere.onnx"))
    (tmp_path / "bad.onnx").write_bytes(b"not a network")
    with pytest.raises(ConfigError, match="is no YuNet that OpenCV can run"):
        make_detector(str(tmp_path / "bad.onnx"))
