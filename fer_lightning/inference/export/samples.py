"""The images that exported forms are calibrated and compared on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.errors import DataError
from fer_lightning.inference.export.package import Samples
from fer_lightning.inference.model import Model

__all__ = ["samples_of"]

_BATCH = 256


def samples_of(data: EmotionDataModule, model: Model, calibration: int, seed: int = 0) -> Samples:
    """Return images of a data set, prepared as a model's network expects them.

    Args:
        data: with the classes of the model.
        model: whose preprocessing is used, not that of the data.
        calibration: number of training images, drawn by ``seed``.
        seed: of the draw.

    Raises:
        DataError: if the data has other classes, or no training or validation images.
    """
    table = data.table
    if tuple(table.class_names) != model.class_names:
        raise DataError(f"the model knows {', '.join(model.class_names)}; the data has {', '.join(table.class_names)}")
    train, val = table.rows("train"), table.rows("val")
    if not len(train) or not len(val):
        raise DataError(f"int8 needs training and validation images; there are {len(train)} and {len(val)}")
    chosen = np.random.default_rng(seed).permutation(train)[:calibration]

    def prepared(rows: NDArray[np.int64]) -> Tensor:
        parts = [table.images[part] for part in np.array_split(rows, -(-len(rows) // _BATCH))]
        return torch.cat([model.scaled(torch.from_numpy(part)) for part in parts])

    return Samples(prepared(np.sort(chosen)), prepared(val), table.labels[val])
