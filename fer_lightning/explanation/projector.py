"""Features for the projector of TensorBoard: ``tensorboard --logdir FOLDER``."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fer_lightning.files import write_atomically

__all__ = ["write_projector"]

_SIDE = 32  # pixels of a face in the sprite
_LARGEST = 8192  # pixels of a sprite's side that browsers show


def write_projector(
    folder: Path,
    features: Mapping[str, NDArray[np.float32]],
    columns: Mapping[str, NDArray[np.str_]],
    faces: NDArray[np.uint8],
) -> Path:
    """Write what TensorBoard's projector shows, and return the folder.

    Args:
        folder: to write into.
        features: float32 ``(M, F)`` by name.
        columns: what is known of the points, ``(M,)`` strings by name.
        faces: of the points, uint8 ``(M, C, H, W)``; they are left out where they are too many for a picture.

    Raises:
        OSError: if it cannot be written.
    """
    heads = list(columns)
    lines = ["\t".join(heads)] if len(heads) > 1 else []  # the projector takes a single column without a head
    for row in range(len(faces)):
        lines.append("\t".join(" ".join(str(columns[name][row]).split()) or "-" for name in heads))
    write_atomically(folder / "metadata.tsv", "\n".join(lines) + "\n")
    per_row = math.ceil(math.sqrt(len(faces)))
    has_sprite = per_row * _SIDE <= _LARGEST
    if has_sprite:
        write_atomically(folder / "sprite.png", _sprite(faces, per_row))
    config = []
    for name, values in features.items():
        file = f"{name}.tsv"
        write_atomically(folder / file, "".join("\t".join(f"{value:.6g}" for value in row) + "\n" for row in values))
        sprite = f'  sprite {{ image_path: "sprite.png" single_image_dim: [{_SIDE}, {_SIDE}] }}\n' if has_sprite else ""
        config.append(
            f"embeddings {{\n  tensor_name: {json.dumps(name)}\n  tensor_path: {json.dumps(file)}\n"
            f'  metadata_path: "metadata.tsv"\n{sprite}}}\n'
        )
    write_atomically(folder / "projector_config.pbtxt", "".join(config))
    return folder


def _sprite(faces: NDArray[np.uint8], per_row: int) -> bytes:
    """Return all faces in one picture, row by row, as PNG."""
    sheet = np.zeros((per_row * _SIDE, per_row * _SIDE, faces.shape[1]), np.uint8)
    for place, face in enumerate(faces):
        y, x = (_SIDE * each for each in divmod(place, per_row))
        small = cv2.resize(np.ascontiguousarray(face.transpose(1, 2, 0)), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        sheet[y : y + _SIDE, x : x + _SIDE] = small.reshape(_SIDE, _SIDE, -1)
    buffer = io.BytesIO()
    Image.fromarray(sheet[..., 0] if sheet.shape[2] == 1 else sheet).save(buffer, "PNG")
    return buffer.getvalue()
