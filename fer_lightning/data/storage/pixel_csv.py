"""FER2013's pixel form, ``emotion,pixels,Usage``: one line of text for each gray image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_lightning.data.storage.encoding import chunks_of
from fer_lightning.data.table.images import ImageArray
from fer_lightning.data.table.samples import DIGEST_BYTES, SPLITS, SamplesTable, content_digests
from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError

__all__ = ["USAGES", "check_pixel_csv", "write_pixel_csv"]

USAGES = ("Training", "PublicTest", "PrivateTest")
"""The official parts (Goodfellow et al. 2013, arXiv:1307.0414), as the ``Usage`` column spells them."""

_USAGE_OF_SPLIT = dict(zip(SPLITS, USAGES, strict=True))


def check_pixel_csv(table: SamplesTable, channels: int) -> None:
    """Raise a ConfigError for a table of other classes than FER2013's, or colour."""
    if table.class_names != SEVEN.class_names:
        raise ConfigError(
            f"the pixel form knows the classes {', '.join(SEVEN.class_names)} only, not "
            f"{', '.join(table.class_names)}; convert to arrow, parquet or folders"
        )
    if channels != 1:
        raise ConfigError("the pixel form holds gray images only: leave channels out or give 1")


def write_pixel_csv(path: Path, table: SamplesTable, images: ImageArray) -> tuple[NDArray[np.uint8], int]:
    """Write the rows that a split uses; the form has no place for others, nor for further columns.

    Images are gray ones, one for each row. Returned are digests uint8 ``(N, 16)`` of all rows, zeros where a row was
    left out, and the number of rows written.
    """
    digests = np.zeros((len(table), DIGEST_BYTES), np.uint8)
    rows = np.flatnonzero(table.splits != "")
    texts = np.array([str(value) for value in range(256)])
    with path.open("w", encoding="ascii", newline="") as out:
        out.write("emotion,pixels,Usage\n")
        with tqdm(total=len(rows), desc=f"writing {path.suffix[1:]}", unit="image", disable=None, leave=False) as bar:
            for chunk in chunks_of(rows, images.shape[1:]):
                pixels = images[chunk]
                digests[chunk] = content_digests(pixels)
                for row, image in zip(chunk.tolist(), pixels, strict=True):
                    usage = _USAGE_OF_SPLIT[str(table.splits[row])]
                    out.write(f"{table.labels[row]},{' '.join(texts[image.ravel()].tolist())},{usage}\n")
                bar.update(len(chunk))
    return digests, len(rows)
