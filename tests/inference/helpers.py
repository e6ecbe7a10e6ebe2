"""A tiny model, and a detector that finds bright squares."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fer_lightning.emotions import SEVEN
from fer_lightning.inference.faces.found import Faces
from fer_lightning.inference.model import Card, Model, TorchBackend
from fer_lightning.models.architecture import Architecture, described
from fer_lightning.models.calibration import Calibration
from fer_lightning.types import Preprocessing

TINY: Architecture = {
    "backbone": "fer_b_fast",
    "backbone_args": {"stem": [4, 4], "stages": [[4, 1], [8, 1], [8, 1]]},
    "head": {"class_path": "fer_lightning.models.heads.LinearHead"},
}
CALIBRATION = Calibration(
    1.0,
    tuple(tuple(1.1 if row == column else 0.02 * (row - column) for column in range(7)) for row in range(7)),
    (0.3, -0.2, 0.1, 0.0, -0.4, 0.2, 0.05),
    0.4,
    {"0.9": (0.2, 0.2, 0.2, 0.1, 0.2, 0.2, 0.2)},
)
"""One that has all that there is, for the seven expressions."""
GRAY: Preprocessing = {"image_size": 48, "channels": 1, "mean": [0.5], "std": [0.25], "interpolation": "area"}


def tiny_model(name: str = "tiny", seed: int = 0, preprocessing: Preprocessing = GRAY) -> Model:
    """Return a model with random weights that tells its classes apart, as far as that goes."""
    torch.manual_seed(seed)
    network = described(TINY, 7, preprocessing)
    with torch.no_grad():
        for parameter in network.head.parameters():
            parameter.normal_(0, 3)
    return Model(TorchBackend(network, preprocessing), SEVEN.class_names, preprocessing, Card(name), TINY)


class BrightSquares:
    """Finds each separate white square; sure of larger ones. Its eyes are in the upper corners of the box."""

    def __call__(self, picture: NDArray[np.uint8]) -> Faces:
        import cv2

        _, _, stats, _ = cv2.connectedComponentsWithStats((picture.min(axis=2) > 200).astype(np.uint8))
        boxes = stats[1:, :4][stats[1:, 4] > 100].astype(np.float32)
        order = np.argsort(-boxes[:, 2], kind="stable")
        scores = (1 - 1 / (1 + boxes[order, 2])).astype(np.float32)
        corners = boxes[order][:, None, :2].repeat(2, axis=1)
        corners[:, 1, 0] += boxes[order][:, 2]
        return Faces(boxes[order], scores, corners)


def scene(*squares: tuple[int, int, int], height: int = 120, width: int = 160) -> NDArray[np.uint8]:
    """Return a dark picture with white squares: left, top, side of each."""
    picture = np.random.default_rng(0).integers(0, 60, (height, width, 3)).astype(np.uint8)
    for left, top, side in squares:
        picture[top : top + side, left : left + side] = 255
    return picture


def bright_squares(min_score: float = 0.0, min_size: float = 0.0) -> BrightSquares:
    """Return the detector by its class path, as the command line makes one."""
    return BrightSquares()
