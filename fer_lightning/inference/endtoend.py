"""Detector and classifier together, on whole pictures with known faces.

Every face is classified three times: from the true part of the picture, from the box of a detector cut with the
model's framing, and from that box with a fixed margin. A face that no box is near is missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

from fer_lightning.inference.faces.found import Detector, Faces
from fer_lightning.inference.framing import Framing, crop, is_aligned, nearest
from fer_lightning.inference.model import Model
from fer_lightning.inference.scenes import Scene

__all__ = ["CUTS", "Answers", "Score", "answers_of", "matched", "scores"]

CUTS = ("framing", "margin")
"""How a face is cut around the box of a detector: as in the training images, or with a fixed margin."""
SIZES = (0, 80, 120, 180, 260)
"""Sides of faces in pixels from which a group of them begins."""

_NEAR = 0.6  # of the true side: a box whose middle is as far from the face's is still that face's
_RATIO = 3.0  # between the sides of both


@dataclass
class Answers:
    """What the model says of each true face, one by one.

    Attributes:
        labels: int64 ``(N,)``, the truth.
        sizes: float32 ``(N,)``: side of each true box in pixels.
        on_crops: int64 ``(N,)``: the class from the true part of the picture.
        found: of each detector, the class from its box by the way it was cut, int64 ``(N,)``; -1 if it was missed.
        false: of each detector, boxes that no face is near.
        pictures: how many were looked at.
    """

    labels: NDArray[np.int64]
    sizes: NDArray[np.float32]
    on_crops: NDArray[np.int64]
    found: dict[str, dict[str, NDArray[np.int64]]]
    false: dict[str, int]
    pictures: int = 0


@dataclass(frozen=True)
class Score:
    """Accuracies of one detector and one way of cutting, over all faces or those of some sizes.

    Attributes:
        detector: its name.
        cut: one of ``CUTS``.
        sizes: of the faces in pixels, such as ``80-120``; ``all``.
        faces: how many there are.
        found: how many the detector has found.
        false: boxes that no face is near; ``None`` for some sizes.
        on_crops: share of right answers from the true parts of the pictures.
        found_on_crops: the same over the faces that were found; ``None`` if none was.
        end_to_end: share of right answers over the faces that were found.
        with_misses: the same over all faces, a missed one counted as wrong.
    """

    detector: str
    cut: str
    sizes: str
    faces: int
    found: int
    false: int | None
    on_crops: float
    found_on_crops: float | None
    end_to_end: float | None
    with_misses: float

    @property
    def lost(self) -> float | None:
        """Points that detection and cutting cost where the face is found."""
        if self.end_to_end is None or self.found_on_crops is None:
            return None
        return 100 * (self.found_on_crops - self.end_to_end)


def matched(boxes: NDArray[np.float32], faces: Faces) -> NDArray[np.int64]:
    """Return which found face belongs to each true box, int64 ``(T,)``, -1 for none; each belongs to one at most.

    Args:
        boxes: true ones, float32 ``(T, 4)``.
        faces: that were found.
    """
    found = np.full(len(boxes), -1, np.int64)
    if not len(boxes) or not len(faces):
        return found
    middle, other = (each[:, :2] + each[:, 2:] / 2 for each in (boxes, faces.boxes))
    side, width = (np.sqrt(each[:, 2:].prod(axis=1)) for each in (boxes, faces.boxes))
    distance = np.linalg.norm(middle[:, None] - other[None], axis=2) / side[:, None]
    ratio = np.abs(np.log(width[None] / side[:, None]))
    allowed = (distance <= _NEAR) & (ratio <= np.log(_RATIO))
    rows, columns = linear_sum_assignment(np.where(allowed, distance, 1e3))
    for row, column in zip(rows, columns, strict=True):
        if allowed[row, column]:
            found[row] = column
    return found


@dataclass
class _Lists:
    """Answers so far, a list for each array."""

    labels: list[int] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)
    on_crops: list[int] = field(default_factory=list)
    found: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    false: dict[str, int] = field(default_factory=dict)
    pictures: int = 0


def answers_of(
    model: Model,
    detectors: Mapping[str, Detector],
    scenes: Iterable[Scene],
    total: int | None = None,
    truth: Framing | None = None,
) -> Answers:
    """Return what a model says of the faces in scenes.

    Args:
        model: the trained network.
        detectors: by name.
        scenes: whole pictures with true boxes.
        total: number of faces, for the progress bar; ``None`` if that is not known.
        truth: how the true boxes are cut: as boxes of the detector that has this framing; ``None`` if they are the
            training images' own parts.
    """
    lists = _Lists(found={name: {cut: [] for cut in CUTS} for name in detectors}, false=dict.fromkeys(detectors, 0))
    framings = {name: model.framings.get(nearest(model.framings, name)) for name in detectors}
    turned = is_aligned(model.framings)
    with tqdm(total=total, unit="face", disable=None, leave=False) as bar:
        for scene in scenes:
            lists.pictures += 1
            lists.labels += scene.labels.tolist()
            lists.sizes += np.sqrt(scene.boxes[:, 2:].prod(axis=1)).tolist()
            own = [crop(scene.picture, box, truth) if truth else _part(scene.picture, box) for box in scene.boxes]
            lists.on_crops += _classes(model, own)
            for name, detector in detectors.items():
                faces = detector(scene.picture)
                pairs = matched(scene.boxes, faces)
                lists.false[name] += len(faces) - int((pairs >= 0).sum())
                for cut, framing in zip(CUTS, (framings[name], None), strict=True):
                    hits = faces.chosen(pairs[pairs >= 0])
                    eyes = hits.eyes if turned and framing is not None else [None] * len(hits)
                    cuts = [crop(scene.picture, box, framing, e) for box, e in zip(hits.boxes, eyes, strict=True)]
                    found = np.full(len(pairs), -1, np.int64)
                    found[pairs >= 0] = _classes(model, cuts)
                    lists.found[name][cut] += found.tolist()
            bar.update(len(scene.labels))
    return Answers(
        np.array(lists.labels, np.int64),
        np.array(lists.sizes, np.float32),
        np.array(lists.on_crops, np.int64),
        {name: {cut: np.array(each, np.int64) for cut, each in cuts.items()} for name, cuts in lists.found.items()},
        lists.false,
        lists.pictures,
    )


def _part(picture: NDArray[np.uint8], box: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the part of a picture in a box: as it is, not made square."""
    height, width = picture.shape[:2]
    left, top = (max(round(float(value)), 0) for value in box[:2])
    right, foot = min(round(float(box[0] + box[2])), width), min(round(float(box[1] + box[3])), height)
    return np.ascontiguousarray(picture[min(top, height - 1) : max(foot, 1), min(left, width - 1) : max(right, 1)])


def _classes(model: Model, crops: list[NDArray[np.uint8]]) -> list[int]:
    classes: list[int] = model.probabilities(crops).argmax(axis=1).tolist()
    return classes


def scores(answers: Answers) -> list[Score]:
    """Return the scores of each detector and each way of cutting: over all faces, then by their size."""
    groups = {"all": np.ones(len(answers.labels), bool)}
    for low, high in zip(SIZES, (*SIZES[1:], np.inf), strict=True):
        inside = (answers.sizes >= low) & (answers.sizes < high)
        groups[f"{low}-{high:g}" if np.isfinite(high) else f"{low} and more"] = inside
    made = []
    for detector, cuts in answers.found.items():
        for cut, found in cuts.items():
            for sizes, inside in groups.items():
                if inside.any():
                    false = answers.false[detector] if sizes == "all" else None
                    made.append(_score(answers, found, inside, detector, cut, sizes, false))
    return made


def _score(
    answers: Answers,
    found: NDArray[np.int64],
    inside: NDArray[np.bool_],
    detector: str,
    cut: str,
    sizes: str,
    false: int | None,
) -> Score:
    hit = inside & (found >= 0)
    right, on_crops = found == answers.labels, answers.on_crops == answers.labels
    return Score(
        detector,
        cut,
        sizes,
        int(inside.sum()),
        int(hit.sum()),
        false,
        float(on_crops[inside].mean()),
        float(on_crops[hit].mean()) if hit.any() else None,
        float(right[hit].mean()) if hit.any() else None,
        float(right[inside].mean()),
    )
