"""From a picture to the expressions in it: detector, framing, network and calibration behind one call."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.files.decode import decode
from fer_lightning.errors import ConfigError
from fer_lightning.inference.faces.blazeface import BlazeFace
from fer_lightning.inference.faces.choice import detector_name, make_detector
from fer_lightning.inference.faces.found import Detector, Faces
from fer_lightning.inference.faces.model_files import blazeface_file
from fer_lightning.inference.faces.views import Views, in_border
from fer_lightning.inference.framing import crop, is_aligned, nearest
from fer_lightning.inference.loading import load_model
from fer_lightning.inference.model import Model
from fer_lightning.inference.model_folder import write_model_folder
from fer_lightning.runs.model_folder import is_model_folder

__all__ = ["Face", "Picture", "Recognizer", "Result"]

Picture = str | Path | bytes | NDArray[np.uint8]
"""A file, its content, or pixels: RGB uint8 ``(H, W, 3)`` or gray ``(H, W)``."""

_SMALL = 200  # pixels: a picture up to this size without a hit may be a face that fills it


@dataclass(frozen=True)
class Face:
    """A face and its expression.

    Attributes:
        number: of the face in its picture, or of the person in a video.
        box: left, top, width, height in pixels; the whole picture where nobody looked for a face.
        det_score: how sure the detector is, in 0..1; NaN where nobody looked.
        probabilities: of each class, by name; they sum to 1.
        uncertain: whether the confidence is below the model's threshold.
        prediction_set: the classes that hold the true one with the probability that was asked for, the most probable
            first; ``None`` if nobody asked.
    """

    number: int
    box: tuple[float, float, float, float]
    det_score: float
    probabilities: dict[str, float]
    uncertain: bool = False
    prediction_set: tuple[str, ...] | None = None

    @property
    def label(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=lambda name: self.probabilities[name])

    @property
    def confidence(self) -> float:
        """Its probability."""
        return self.probabilities[self.label]

    def __str__(self) -> str:
        left, top, width, height = (round(value) for value in self.box)
        second = sorted(self.probabilities.items(), key=lambda item: -item[1])[1]
        doubt = ", uncertain" if self.uncertain else ""
        inside = "" if self.prediction_set is None else f"; set: {', '.join(self.prediction_set) or 'none'}"
        return (
            f"{self.label} {self.confidence:.0%}{doubt} (then {second[0]} {second[1]:.0%}) "
            f"at {left},{top}, {width}x{height} pixels{inside}"
        )


@dataclass(frozen=True)
class Result(Sequence[Face]):
    """The faces in one picture, the surest first.

    Attributes:
        name: of the picture: its path, or ``image``.
        faces: found and classified.
        hint: what to try where no face was found; empty else.
    """

    name: str
    faces: tuple[Face, ...]
    hint: str = ""

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: Any) -> Any:
        return self.faces[index]

    def __iter__(self) -> Iterator[Face]:
        return iter(self.faces)

    def __str__(self) -> str:
        if not self.faces:
            return f"{self.name}: no face found{f' ({self.hint})' if self.hint else ''}"
        return "\n".join([f"{self.name}:", *(f"  {face}" for face in self.faces)])


class Recognizer:
    """Finds the faces in pictures and classifies their expressions.

    Example::

        recognizer = Recognizer.load()  # or of a run: "runs/fer2013_a/version_0"
        print(recognizer("photo.jpg"))

    Args:
        model: the trained network.
        detector: finds the faces; ``None`` takes each picture for a face, as it is.
        coverage: also give each face the set of classes that holds the true one so often, such as 0.9; ``None`` for
            none. The model must have been calibrated by ``fer calibrate``.

    Raises:
        ConfigError: if the model has no prediction sets for the coverage.
    """

    def __init__(self, model: Model, detector: Detector | None, coverage: float | None = None) -> None:
        if coverage is not None:
            model.calibration.check_coverage(coverage)
        self.model = model
        self.detector = detector
        self.coverage = coverage

    @classmethod
    def load(
        cls,
        source: str | Path | Sequence[str | Path] | None = None,
        detector: str | None = "auto",
        views: Views = "squares",
        offline: bool = False,
        coverage: float | None = None,
        **options: Any,
    ) -> Recognizer:
        """Load a recognizer.

        Args:
            source: see ``load_model``; ``None`` for the model that comes with the package.
            detector: name of a detector, see ``make_detector``; ``None`` for pictures that are faces already.
            views: where small faces are looked for.
            offline: of the Hugging Face hub, take only what was fetched before.
            coverage: of prediction sets; ``None`` for none.
            **options: of the detector.

        Raises:
            CheckpointError: if there is no such model or it is damaged.
            ConfigError: if there is no such detector, or the model has no prediction sets for the coverage.
        """
        model = load_model(source, offline=offline)
        if detector is None:
            return cls(model, None, coverage)
        finder = make_detector(detector, views, **options)
        name = detector_name(finder)
        _tell_framing(model.card.name, "" if source is None else str(source), name, nearest(model.framings, name))
        return cls(model, finder, coverage)

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> Recognizer:
        """Load a recognizer by the name that such a function has elsewhere; see ``load``."""
        return cls.load(source, **options)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the model as a folder that ``load`` reads and that the Hugging Face hub takes; return the folder.

        Raises:
            ConfigError: if the model has no PyTorch network, as one that was read from an ONNX file.
            OSError: if it cannot be written.
        """
        return write_model_folder(self.model, Path(folder))

    def __call__(self, picture: Picture, name: str | None = None) -> Result:
        """Return the faces in a picture.

        Args:
            picture: a file, its content, or pixels.
            name: of the picture in the result; ``None`` for its path.

        Raises:
            DataError: if a file is no picture or damaged.
        """
        if name is None:
            name = str(picture) if isinstance(picture, (str, Path)) else "image"
        pixels = _pixels(picture)
        found = self.find(pixels)
        small = not len(found) and max(pixels.shape) <= _SMALL
        hint = "if the picture is a face already: --no-detect, or detector=None" if small else ""
        return Result(name, self.classified(pixels, found, range(len(found))), hint)

    def find(self, pixels: NDArray[np.uint8]) -> Faces:
        """Return the faces in a picture uint8 ``(H, W, 3)``; all of it where there is no detector."""
        height, width = pixels.shape[:2]
        if self.detector is None:
            whole = np.array([[0, 0, width, height]], np.float32)
            return Faces(whole, np.full(1, np.nan, np.float32), np.full((1, 2, 2), np.nan, np.float32))
        found = replace(self.detector(pixels), detector=detector_name(self.detector))
        if len(found) or max(height, width) > _SMALL:
            return found
        close = self._close or self.detector
        return replace(in_border(pixels, close), detector=detector_name(close))

    @cached_property
    def _close(self) -> Detector | None:
        """The detector of faces that fill a picture, ``None`` where its file is not."""
        file = blazeface_file("short")
        return None if file is None else BlazeFace(file, "short")

    def classified(self, pixels: NDArray[np.uint8], found: Faces, numbers: Sequence[int]) -> tuple[Face, ...]:
        """Return the expressions of faces that were found in a picture uint8 ``(H, W, 3)``, with their numbers."""
        crops, made = [pixels], []
        if self.detector is not None:
            framings = self.model.framings
            framing = framings.get(nearest(framings, found.detector or detector_name(self.detector)))
            eyes = found.eyes if is_aligned(framings) else [None] * len(found)
            crops = [crop(pixels, box, framing, each) for box, each in zip(found.boxes, eyes, strict=True)]
        for number, box, score, row in zip(
            numbers, found.boxes, found.scores, self.model.probabilities(crops), strict=True
        ):
            shares = dict(zip(self.model.class_names, map(float, row), strict=True))
            left, top, width, height = (float(value) for value in box)
            made.append(self.judged(Face(number, (left, top, width, height), float(score), shares)))
        return tuple(made)

    def judged(self, face: Face) -> Face:
        """Return a face with what its probabilities entail: whether it is uncertain, and its prediction set."""
        calibration, shares = self.model.calibration, face.probabilities
        inside = None if self.coverage is None else calibration.prediction_set(shares, self.coverage)
        return replace(face, uncertain=calibration.is_uncertain(tuple(shares.values())), prediction_set=inside)

    def __repr__(self) -> str:
        finder = "no detector" if self.detector is None else type(self.detector).__name__
        return f"Recognizer({self.model!r}; {finder})"


@lru_cache(maxsize=32)
def _tell_framing(name: str, source: str, detector: str, measured: str) -> None:
    """Say once if faces cannot be cut as the training images were."""
    if measured == detector:
        return
    instead = f"what {measured} sees is taken" if measured else "they are cut with a fixed margin, which costs accuracy"
    path, way = Path(source).expanduser(), ""
    if path.suffix == ".onnx":
        way = " (fer data framing, for the run that it is from, and fer export again)"
    elif (source and path.exists()) or source in ("best", "last"):
        way = f" (fer data framing {'DATA ' if is_model_folder(path) else ''}--model {source})"
    print(f"{name}: how {detector} sees faces in its training images is not known; {instead}{way}", file=sys.stderr)


def _pixels(picture: Picture) -> NDArray[np.uint8]:
    """Return a picture as RGB uint8 ``(H, W, 3)``."""
    if isinstance(picture, (str, Path)):
        return decode(Path(picture), channels=3)
    if isinstance(picture, bytes):
        return decode(picture, channels=3)
    pixels = np.asarray(picture)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3)):
        raise ConfigError(
            f"a picture is RGB uint8 (H, W, 3) or gray (H, W), not {pixels.dtype} {pixels.shape}; "
            "OpenCV's are BGR: picture[..., ::-1]"
        )
    gray = pixels.ndim == 2 or pixels.shape[2] == 1
    return np.ascontiguousarray(np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2) if gray else pixels)
