from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fer_lightning.errors import ConfigError, DataError
from fer_lightning.inference.faces.found import Faces
from fer_lightning.inference.framing import Framing, crop
from fer_lightning.inference.model import Model
from fer_lightning.inference.recognizer import Face, Recognizer, _tell_framing
from fer_lightning.models.calibration import Calibration
from tests.inference.helpers import CALIBRATION, BrightSquares, scene, tiny_model


def test_faces_are_found_and_classified(tmp_path: Path) -> None:
    model, picture = tiny_model(), scene((10, 10, 30), (80, 40, 50))
    result = Recognizer(model, BrightSquares())(picture)
    assert [face.box for face in result] == [(80, 40, 50, 50), (10, 10, 30, 30)]
    assert [face.number for face in result] == [0, 1]
    wanted = model.probabilities([crop(picture, np.array([80, 40, 50, 50], np.float32))])[0]
    assert np.allclose(list(result[0].probabilities.values()), wanted, atol=1e-6)
    assert result[0].label == model.class_names[wanted.argmax()]
    assert result[0].confidence == max(result[0].probabilities.values())
    assert str(result).splitlines()[1].strip().endswith("at 80,40, 50x50 pixels")


def test_a_file_its_content_and_its_pixels_say_the_same(tmp_path: Path) -> None:
    recognizer, picture = Recognizer(tiny_model(), BrightSquares()), scene((20, 20, 40))
    Image.fromarray(picture).save(tmp_path / "a.png")
    from_file = recognizer(tmp_path / "a.png")
    assert from_file.name == str(tmp_path / "a.png")
    assert from_file.faces == recognizer(picture).faces == recognizer((tmp_path / "a.png").read_bytes()).faces
    gray = picture[..., 0]
    assert recognizer(gray).faces == recognizer(np.repeat(gray[..., None], 3, axis=2)).faces


def test_without_a_detector_the_picture_is_the_face() -> None:
    picture = scene((20, 20, 40))
    model = tiny_model()
    (face,) = Recognizer(model, None)(picture)
    assert face.box == (0, 0, 160, 120)
    assert np.isnan(face.det_score)
    assert list(face.probabilities.values()) == model.probabilities([picture])[0].tolist()


def test_where_nothing_is_found_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fer_lightning.inference.recognizer.blazeface_file", lambda kind: None)
    result = Recognizer(tiny_model(), BrightSquares())(scene(), "x.png")
    assert len(result) == 0
    assert str(result) == "x.png: no face found (if the picture is a face already: --no-detect, or detector=None)"
    for height, width, hint in ((200, 150, True), (150, 200, True), (201, 150, False), (150, 201, False)):
        said = str(Recognizer(tiny_model(), BrightSquares())(scene(height=height, width=width)))
        assert ("--no-detect" in said) == hint


def test_a_face_in_words() -> None:
    face = Face(3, (9.6, 20.6, 30.2, 40.7), 0.9, {"angry": 0.15, "fear": 0.01, "happy": 0.5, "sad": 0.34})
    assert str(face) == "happy 50% (then sad 34%) at 10,21, 30x41 pixels"


def test_doubt_is_marked() -> None:
    model = tiny_model()
    model.calibration = Calibration(threshold=1.01)
    assert Recognizer(model, None)(scene())[0].uncertain
    assert "uncertain" in str(Recognizer(model, None)(scene()))


def test_sets_are_told_if_asked_for() -> None:
    model = tiny_model()
    with pytest.raises(ConfigError, match="this model has none"):
        Recognizer(model, None, coverage=0.9)
    model.calibration = CALIBRATION
    face = Recognizer(model, None, coverage=0.9)(scene())[0]
    assert face.prediction_set == CALIBRATION.prediction_set(face.probabilities, 0.9)
    assert face.prediction_set is not None
    assert str(face).endswith(f"pixels; set: {', '.join(face.prediction_set)}")
    assert Recognizer(model, None)(scene())[0].prediction_set is None
    model.calibration = replace(CALIBRATION, sets={"0.5": (1.0,) * 7, "0.9": (0.0,) * 7})
    assert Recognizer(model, None, coverage=0.5)(scene())[0].prediction_set == ()
    assert len(Recognizer(model, None, coverage=0.9)(scene())[0].prediction_set or ()) == 7


def test_what_is_asked_for_reaches_the_model_and_the_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    asked: list[tuple[object, ...]] = []
    model.calibration = CALIBRATION

    def load(source: object, **options: object) -> Model:
        asked.append((source, options))
        return model

    def make(name: str, *views: str, **options: object) -> BrightSquares:
        asked.append((name, *views, options))
        return BrightSquares()

    monkeypatch.setattr("fer_lightning.inference.recognizer.load_model", load)
    monkeypatch.setattr("fer_lightning.inference.recognizer.make_detector", make)
    first = Recognizer.load()
    second = Recognizer.from_pretrained("run", detector="haar", views="fine", offline=True, coverage=0.9, min_score=0.7)
    third = Recognizer.load("run", detector=None, coverage=0.9)
    assert asked == [
        (None, {"offline": False}),
        ("auto", "squares", {}),
        ("run", {"offline": True}),
        ("haar", "fine", {"min_score": 0.7}),
        ("run", {"offline": False}),
    ]
    assert [each.coverage for each in (first, second, third)] == [None, 0.9, 0.9]
    assert third.detector is None


@pytest.mark.parametrize(
    ("source", "detector", "measured", "told"),
    [
        ("last", "yunet", "haar", "what haar sees is taken (fer data framing --model last)\n"),
        ("best", "yunet", "", "a fixed margin, which costs accuracy (fer data framing --model best)\n"),
        ("m.onnx", "yunet", "haar", "taken (fer data framing, for the run that it is from, and fer export again)\n"),
        ("user/repo", "yunet", "haar", "what haar sees is taken\n"),
        ("last", "haar", "haar", ""),
    ],
)
def test_a_framing_of_another_detector_is_told_with_the_way_out(
    capsys: pytest.CaptureFixture[str], source: str, detector: str, measured: str, told: str
) -> None:
    _tell_framing.cache_clear()
    for _ in range(2):
        _tell_framing("mine", source, detector, measured)
    said = capsys.readouterr().err
    assert said.count("\n") == bool(told)
    assert said.endswith(told)
    if told:
        assert said.startswith("mine: how yunet sees faces in its training images is not known; ")


def test_temperature_flattens() -> None:
    model = tiny_model()
    before = Recognizer(model, None)(scene())[0]
    model.calibration = Calibration(temperature=3.0)
    after = Recognizer(model, None)(scene())[0]
    assert after.label == before.label
    logits = np.log(list(before.probabilities.values())) / 3
    wanted = np.exp(logits) / np.exp(logits).sum()
    assert np.allclose(list(after.probabilities.values()), wanted, atol=1e-6)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    recognizer = Recognizer(tiny_model(), None)
    with pytest.raises(ConfigError, match="a picture is RGB uint8"):
        recognizer(np.zeros((5, 5, 4), np.uint8))
    with pytest.raises(ConfigError, match=r"BGR: picture\[\.\.\., ::-1\]"):
        recognizer(np.zeros((5, 5, 3), np.float32))
    buffer = io.BytesIO()
    Image.fromarray(scene()).save(buffer, "JPEG")
    with pytest.raises(DataError, match="cut off"):
        recognizer(buffer.getvalue()[:1000])


def test_a_face_is_turned_where_the_training_images_were() -> None:
    model, picture = tiny_model(), scene((40, 40, 40))

    class Tilted(BrightSquares):
        def __call__(self, picture: NDArray[np.uint8]) -> Faces:
            found = super().__call__(picture)
            found.eyes[:, 1, 1] += 30
            return found

    straight = Recognizer(model, Tilted())(picture)[0].probabilities
    model.framings = {"haar": Framing(0.7, 0.5, 0.5, 0.4, 6.0)}
    unturned = Recognizer(model, Tilted())(picture)[0].probabilities
    model.framings = {"haar": Framing(0.7, 0.5, 0.5, 0.4, 1.0)}
    turned = Recognizer(model, Tilted())(picture)[0].probabilities
    box, eyes = np.array([40, 40, 40, 40], np.float32), np.array([[40, 40], [80, 70]], np.float32)
    wanted = model.probabilities([crop(picture, box, model.framings["haar"], eyes)])[0]
    assert np.allclose(list(turned.values()), wanted, atol=1e-6)
    assert turned != unturned != straight


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    first = Recognizer(tiny_model(), None)
    second = Recognizer.from_pretrained(first.save_pretrained(tmp_path / "mine"), detector=None)
    picture = scene((10, 10, 30))
    assert first(picture)[0].probabilities == second(picture)[0].probabilities


def test_the_detector_of_small_pictures_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    class Close(BrightSquares):
        name = "close"

        def __init__(self, file: Path, kind: str) -> None:
            made.append(file)

    monkeypatch.setattr("fer_lightning.inference.recognizer.blazeface_file", lambda kind: tmp_path / kind)
    monkeypatch.setattr("fer_lightning.inference.recognizer.BlazeFace", Close)
    recognizer = Recognizer(tiny_model(), BrightSquares())
    for _ in range(3):
        assert len(recognizer(scene())) == 0
    assert made == [tmp_path / "short"]
    assert recognizer.find(scene()).detector == "close"
    model, picture = tiny_model(), scene((20, 20, 60))
    model.framings = {"none": Framing(0.9, 0.5, 0.5), "close": Framing(0.5, 0.4, 0.6)}
    recognizer = Recognizer(model, lambda picture: Faces.none())
    recognizer.__dict__["_close"] = Close(tmp_path, "short")
    wanted = model.probabilities([crop(picture, np.array([20, 20, 60, 60], np.float32), model.framings["close"])])[0]
    assert list(recognizer(picture)[0].probabilities.values()) == pytest.approx(wanted)
