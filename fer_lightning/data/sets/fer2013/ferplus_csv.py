"""FER+ as pixels: a table in FER2013's form, ``emotion,pixels,Usage``, whose codes are those of FER+.

Such tables circulate in place of the votes: of each image the expression that won, ``0`` neutral to ``7`` contempt.
They look like FER2013's but for the code 7, which is contempt; naming ``FERPlusDataModule`` says what they are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.sets.code_meanings import remark
from fer_lightning.data.sets.fer2013.fer2013_csv import read_csv_rows
from fer_lightning.data.sets.fer2013.fer2013_rows import Fer2013Rows
from fer_lightning.data.table.bad_rows import BadRows, OnError
from fer_lightning.data.table.cache import cached_arrays
from fer_lightning.emotions import EIGHT, FERPLUS_COLUMNS, canonical
from fer_lightning.errors import DataError
from fer_lightning.files import file_digest
from fer_lightning.text import short_path, unreadable

__all__ = ["read_ferplus_csv"]

_FORMAT = 1  # raise it whenever the same file would be read into other arrays
_CODES = {code: canonical(name) for code, name in enumerate(FERPLUS_COLUMNS[:8])}
_PEOPLE = 10  # all of whom are taken to agree


def read_ferplus_csv(
    path: Path, on_error: OnError = "raise", cache_dir: Path | None = None
) -> tuple[Fer2013Rows, NDArray[np.int64], str] | None:
    """Read images and labels, ``None`` if no row is contempt: the codes may be FER2013's then.

    Returns:
        The rows; votes int64 ``(N, 10)``, columns as in ``FERPLUS_COLUMNS``, all for the label; what is to be
        told of the codes.

    Raises:
        DataError: if the file is malformed; the message names the line.
    """
    try:
        key = f"ferplus-csv-v{_FORMAT}-{on_error}-{file_digest(path)}"
        rows = Fer2013Rows(**cached_arrays(key, lambda: vars(read_csv_rows(path, on_error, _CODES)), cache_dir))
    except OSError as error:
        raise DataError(unreadable(path, error)) from None
    if not (rows.labels == EIGHT.index("contempt")).any():
        return None
    bad = BadRows(f"{short_path(path)}, ", on_error)
    for place, reason in rows.left_out:
        bad.note(place, reason)
    bad.warn()
    column_of = np.array([list(_CODES.values()).index(name) for name in EIGHT.class_names])
    votes = np.zeros((len(rows.labels), len(FERPLUS_COLUMNS)), np.int64)
    votes[np.arange(len(votes)), column_of[rows.labels]] = _PEOPLE
    reason = "the codes of FER+, which was named; nothing in the file shows it"
    return rows, votes, remark("codes of expressions", _CODES, reason)
