"""Predictions as they are in memory and as a table, ``predictions.csv``, which every later evaluation works from.

The table carries all that they need: the image's digest, the true class, all probabilities, the groups and the split.
Two tables are brought together by digest, never by the number of a row.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.emotions import scheme_of
from fer_lightning.errors import DataError, LabelError, NonFiniteError
from fer_lightning.files import csv_text, write_atomically
from fer_lightning.metrics import confusion_matrix
from fer_lightning.models.calibration import Calibration
from fer_lightning.text import counted, excerpt, short_path
from fer_lightning.types import prediction_columns

__all__ = [
    "PREDICTIONS",
    "EvaluationResult",
    "Predictions",
    "digest_texts",
    "predictions_of",
    "read_predictions",
    "six_digits",
    "write_predictions",
]

PREDICTIONS = "predictions.csv"
"""Name of the table in the folder of an evaluation."""

_GROUP = "group_"
_DIGEST_BYTES = 8  # two images of 50,000 have the same by chance with a probability of 1e-10
_DIGEST = re.compile(f"[0-9a-f]{{{2 * _DIGEST_BYTES}}}")


@dataclass(frozen=True)
class EvaluationResult:
    """Predictions of a classifier for the samples of one split, in any order.

    Attributes:
        class_names: canonical names; the position is the label.
        index: int64 ``(N,)``, row of each sample in its samples table.
        target: int64 ``(N,)``, true labels.
        probs: float32 ``(N, K)``, rows sum to 1.

    Raises:
        DataError: if shapes or types are others, or rows do not sum to 1.
        LabelError: if a target is outside ``0..K-1``.
        NonFiniteError: if a probability is NaN or infinite.
    """

    class_names: tuple[str, ...]
    index: NDArray[np.int64]
    target: NDArray[np.int64]
    probs: NDArray[np.float32]

    def __post_init__(self) -> None:
        rows, count = len(self.index), len(self.class_names)
        wanted = {"index": ((rows,), np.int64), "target": ((rows,), np.int64), "probs": ((rows, count), np.float32)}
        for name, (shape, dtype) in wanted.items():
            column = getattr(self, name)
            if column.shape != shape or column.dtype != dtype:
                raise DataError(
                    f"evaluation: {name} must be {np.dtype(dtype)} {shape}, not {column.dtype} {column.shape}"
                )
        _check_probs(self.probs)
        wrong = np.flatnonzero((self.target < 0) | (self.target >= count))
        if len(wrong):
            raise LabelError(
                f"evaluation: sample {self.index[wrong[0]]} has target {self.target[wrong[0]]}, "
                f"expected 0..{count - 1} ({', '.join(self.class_names)})"
            )

    @property
    def preds(self) -> NDArray[np.int64]:
        """Predicted labels, int64 ``(N,)``."""
        preds: NDArray[np.int64] = self.probs.argmax(axis=1)
        return preds

    @property
    def confidence(self) -> NDArray[np.float32]:
        """Probability of the predicted class, float32 ``(N,)``."""
        confidence: NDArray[np.float32] = self.probs.max(axis=1)
        return confidence

    @property
    def matrix(self) -> NDArray[np.int64]:
        """Confusion matrix, int64 ``(K, K)``, rows true, columns predicted."""
        counts = confusion_matrix(torch.tensor(self.target), torch.tensor(self.preds), len(self.class_names))
        matrix: NDArray[np.int64] = counts.numpy()
        return matrix


def _check_probs(probs: NDArray[np.float32]) -> None:
    broken = np.flatnonzero(~np.isfinite(probs).all(axis=1))
    if len(broken):
        raise NonFiniteError(f"evaluation: {counted(len(broken), 'sample')} with NaN or infinite probabilities")
    if len(probs) and probs.min() < 0:
        raise DataError(f"evaluation: a sample has the probability {probs.min():g}, expected 0 to 1; not logits")
    # 0.01: what probabilities computed in bfloat16 are off by
    off = np.flatnonzero(np.abs(probs.sum(axis=1) - 1.0) > 0.01)
    if len(off):
        raise DataError(f"evaluation: probabilities of a sample sum to {probs[off[0]].sum():g}, expected 1; not logits")


@dataclass(frozen=True)
class Predictions(EvaluationResult):
    """Predictions with what is known of the images; rows are in any order.

    Attributes:
        files: ``(N,)`` strings: file of each image.
        digests: ``(N,)`` strings: 16 hexadecimal digits, equal for identical images; ``""`` where they are not known.
        groups: further columns by name, ``(N,)`` strings each, such as ``gender``; ``""`` is unknown.
        split: that was evaluated, such as ``test``.
        model: name of the model.
        known: whether the true classes are known; else ``target`` is 0.
    """

    files: NDArray[np.str_] = field(default_factory=lambda: np.zeros(0, np.str_))
    digests: NDArray[np.str_] = field(default_factory=lambda: np.zeros(0, np.str_))
    groups: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    split: str = ""
    model: str = ""
    known: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        columns = {"files": self.files, "digests": self.digests, **self.groups}
        for name, column in columns.items():
            if len(column) != len(self.index):
                raise DataError(f"predictions: column '{name}' has {len(column)} rows, index has {len(self.index)}")


def six_digits(value: float | None) -> str:
    """Return a number with 6 significant digits; an empty text for ``None``."""
    return "" if value is None else f"{value:.6g}"


def digest_texts(digests: NDArray[np.uint8]) -> NDArray[np.str_]:
    """Return the first 8 bytes of digests, uint8 ``(N, D)``, as hexadecimal texts, ``(N,)``."""
    return np.array([bytes(row[:_DIGEST_BYTES]).hex() for row in digests], dtype=np.str_)


def predictions_of(
    table: SamplesTable,
    index: NDArray[np.int64],
    probs: NDArray[np.float32],
    split: str,
    model: str,
    target: NDArray[np.int64] | None = None,
) -> Predictions:
    """Return the predictions for some rows of a samples table, with what the table knows of them.

    Args:
        table: of the data set.
        index: int64 ``(N,)``, rows of it.
        probs: float32 ``(N, K)``.
        split: that was evaluated.
        model: name of the model.
        target: true labels, int64 ``(N,)``, or ``None`` if they are not to be told.
    """
    groups = {name: column[index] for name, column in table.columns.items() if column.dtype.kind == "U"}
    return Predictions(
        tuple(table.class_names),
        index,
        np.zeros(len(index), np.int64) if target is None else target,
        probs,
        np.asarray(table.files, np.str_)[index],
        digest_texts(table.digests[index]),
        groups,
        split,
        model,
        target is not None,
    )


def write_predictions(
    path: Path, predictions: Predictions, calibration: Calibration | None = None, coverage: float | None = None
) -> Path:
    """Write a table of predictions: the fixed columns, then ``index, split, digest``, ``target`` and the groups.

    The columns for detected faces and video frames stay empty. Groups are called ``group_<name>``.

    Args:
        path: of the table.
        predictions: of the images.
        calibration: by which the probabilities were made; it says which are ``uncertain``. That stays empty without.
        coverage: also write the column ``set``; ``None`` for none.

    Returns:
        ``path``.

    Raises:
        OSError: if it cannot be written.
    """
    names, calibration = predictions.class_names, Calibration() if calibration is None else calibration
    columns = prediction_columns(names, sets=coverage is not None)
    header = [*columns, "index", "split", "digest", *(["target"] if predictions.known else [])]
    header += [f"{_GROUP}{name}" for name in predictions.groups]
    empty = [""] * (columns.index("label") - columns.index("file") - 1)
    scheme, preds = scheme_of(names), predictions.preds.tolist()

    def rows() -> Iterable[list[Any]]:
        for place, (row, pred) in enumerate(zip(predictions.index.tolist(), preds, strict=True)):
            shares = predictions.probs[place].tolist()
            shown, doubt = [six_digits(number) for number in shares], str(calibration.is_uncertain(shares)).lower()
            line = [predictions.files[place], *empty, names[pred], shown[pred], doubt if calibration.threshold else ""]
            line += [*shown, predictions.model, scheme]
            if coverage is not None:
                line.append("|".join(calibration.prediction_set(dict(zip(names, shares, strict=True)), coverage)))
            line += [row, predictions.split, predictions.digests[place]]
            line += [names[predictions.target[place]]] if predictions.known else []
            yield [*line, *(column[place] for column in predictions.groups.values())]

    return write_atomically(path, csv_text(header, rows()))


def read_predictions(path: Path) -> Predictions:
    """Read a table of predictions, or that in the folder of an evaluation. Older tables know no digests and no split.

    Raises:
        DataError: if it is missing or damaged.
    """
    path = path / PREDICTIONS if path.is_dir() else path
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows, header = list(reader), list(reader.fieldnames or ())
    except OSError as error:
        raise DataError(f"{short_path(path)} cannot be read: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{short_path(path)} is damaged: {error}") from error
    names = tuple(name.removeprefix("p_") for name in header if name.startswith("p_"))
    if not names or "file" not in header:
        found = f"it has the columns {excerpt(', '.join(header))}" if header else "it is empty"
        raise DataError(f"{short_path(path)} is no table of predictions: {found}")
    if twice := next((name for name in header if header.count(name) > 1), None):
        raise DataError(f"{short_path(path)} is damaged: it has two columns {excerpt(twice)}")
    _check_rows(path, rows, header, names)
    try:
        return _parsed(rows, header, names)
    except (ValueError, DataError, NonFiniteError) as error:
        raise DataError(f"{short_path(path)} is damaged: {error}") from error


def _check_rows(path: Path, rows: list[dict[str, str]], header: list[str], names: tuple[str, ...]) -> None:
    """Raise ``DataError`` for the first row that is not whole, or whose class or number is none."""
    if "index" not in header:
        raise DataError(f"{short_path(path)} has no column 'index': fer test and fer validate write it")
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():  # csv's way to say: too many, too few
            raise DataError(f"{short_path(path)} is damaged: line {number} does not have {len(header)} values")
        if "target" in row and row["target"] not in names:
            found = f"the class {excerpt(row['target'])}, which is none of {', '.join(names)}"
            raise DataError(f"{short_path(path)} is damaged: line {number} has {found}")
        digest = row.get("digest", "")
        if digest and not _DIGEST.fullmatch(digest):
            found = f"the digest {excerpt(digest)}, expected {2 * _DIGEST_BYTES} hexadecimal digits"
            raise DataError(f"{short_path(path)} is damaged: line {number} has {found}")


def _parsed(rows: list[dict[str, str]], header: list[str], names: tuple[str, ...]) -> Predictions:
    known, label = "target" in header, {name: place for place, name in enumerate(names)}
    groups = [name for name in header if name.startswith(_GROUP)]
    return Predictions(
        names,
        np.array([int(row["index"]) for row in rows], np.int64),
        np.array([label[row["target"]] if known else 0 for row in rows], np.int64),
        np.array([[row[f"p_{name}"] for name in names] for row in rows], np.float32).reshape(len(rows), len(names)),
        np.array([row["file"] for row in rows], np.str_),
        np.array([row.get("digest", "") for row in rows], np.str_),
        {name.removeprefix(_GROUP): np.array([row[name] for row in rows], np.str_) for name in groups},
        rows[0].get("split", "") if rows else "",
        rows[0].get("model", "") if rows else "",
        known,
    )
