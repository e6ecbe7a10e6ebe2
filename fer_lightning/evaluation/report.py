"""Writes the report of an evaluation: scores as JSON and text, tables as CSV, pictures as PNG.

``report_content`` turns predictions into plain values, ``text_table`` shows them in a terminal, ``write_report`` fills
a folder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fer_lightning.data.table.images import ImageArray
from fer_lightning.emotions import scheme_of
from fer_lightning.evaluation.beside import Beside
from fer_lightning.evaluation.calibration_plots import reliability_figure
from fer_lightning.evaluation.confidence import reliability_bins
from fer_lightning.evaluation.looks import looks_text
from fer_lightning.evaluation.page import Training, page_html, worst_mistakes
from fer_lightning.evaluation.plots import (
    confusion_matrix_figure,
    per_class_figure,
    worst_mistakes_figure,
)
from fer_lightning.evaluation.predictions import (
    PREDICTIONS,
    EvaluationResult,
    Predictions,
    six_digits,
    write_predictions,
)
from fer_lightning.evaluation.seen import seen_text
from fer_lightning.evaluation.uncertainty import uncertainty
from fer_lightning.figures import figure_pixels, pixels_png
from fer_lightning.files import csv_text, json_text, write_atomically
from fer_lightning.metrics import (
    CALIBRATION_BINS,
    accuracy,
    balanced_accuracy,
    calibration_bins,
    class_scores,
    expected_calibration_error,
    macro_f1,
    weighted_f1,
    wilson_interval,
)
from fer_lightning.text import table_lines

__all__ = [
    "PICTURES",
    "report_content",
    "text_table",
    "write_report",
]

PICTURES = ("confusion_matrix", "per_class_scores", "reliability", "worst_mistakes")
"""Pictures of a report, by stem."""

_ABOVE = ("split", "seen", "looks")  # of the context, at the top level of a report

NAME_WIDTH = 20
"""Widest class name in the text table, in characters."""


def report_content(result: EvaluationResult, context: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of ``report.json``: plain values, scores to 6 significant digits, ``None`` for "n/a".

    Args:
        result: the predictions.
        context: what the numbers depend on: ``split``, ``overlap_with_train`` (number of samples that are also in the
            training part), ``seen`` (of ``seen_images``), ``looks`` (of ``looks_content``), checkpoint, split
            fingerprint, seed, package versions, hardware, command, ... ``split``, ``seen`` and ``looks`` go to the top
            level, all else to ``context``.

    Returns:
        ``split, n, seen, looks, scheme, class_names, accuracy, accuracy_ci95, balanced_accuracy, f1_macro, f1_weighted,
        ece``, ``per_class`` (by name: ``precision, recall, recall_ci95, f1, support, predicted``), ``confusion_matrix``
        (rows true) and ``context``. Intervals are 95 % Wilson intervals.
    """
    matrix = torch.tensor(result.matrix)
    scores = class_scores(matrix)
    bins = calibration_bins(torch.tensor(result.confidence), torch.tensor(result.preds == result.target))
    hits = matrix.diagonal().tolist()
    support = scores.support.tolist()
    per_class = {
        name: {
            "precision": _score(scores.precision[label]),
            "recall": _score(scores.recall[label]),
            "recall_ci95": [_score(end) for end in wilson_interval(hits[label], support[label])],
            "f1": _score(scores.f1[label]),
            "support": support[label],
            "predicted": int(scores.predicted[label]),
        }
        for label, name in enumerate(result.class_names)
    }
    return {
        "split": _plain(context.get("split")),
        "n": len(result.index),
        "seen": _plain(context.get("seen")),
        "looks": _plain(context.get("looks")),
        "scheme": scheme_of(result.class_names),
        "class_names": list(result.class_names),
        "accuracy": _score(accuracy(matrix)),
        "accuracy_ci95": [_score(end) for end in wilson_interval(sum(hits), len(result.index))],
        "balanced_accuracy": _score(balanced_accuracy(matrix)),
        "f1_macro": _score(macro_f1(matrix)),
        "f1_weighted": _score(weighted_f1(matrix)),
        "ece": _score(expected_calibration_error(bins)),
        "per_class": per_class,
        "confusion_matrix": matrix.tolist(),
        "context": {str(key): _plain(value) for key, value in context.items() if key not in _ABOVE},
    }


def _score(value: float | torch.Tensor) -> float | None:
    """Round to 6 significant digits; ``None`` for NaN."""
    number = float(value)
    return None if math.isnan(number) else float(six_digits(number))


def _rounded(value: Any) -> Any:
    """Round all floats in a structure to 6 significant digits; NaN becomes ``None``."""
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return _score(value) if isinstance(value, float) else value


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it: NaN and infinity become ``None``, values of other types become text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic, torch.Tensor)):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def text_table(summary: Mapping[str, Any]) -> str:
    """Return the values of ``report_content`` as a table of at most 80 columns; only names may be non-ASCII."""

    def score(value: float | None) -> str:
        return "n/a" if value is None else f"{value:.4f}"

    names = {name: name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 3]}..." for name in summary["per_class"]}
    rows: list[tuple[str, ...]] = [
        (names[name], score(row["precision"]), score(row["recall"]), score(row["f1"]), f"{row['support']:,}")
        for name, row in summary["per_class"].items()
    ]
    low, high = summary["accuracy_ci95"]
    interval = "" if low is None else f"95% interval {low:.4f} to {high:.4f}"
    heading = "all samples" if summary["split"] is None else f"{summary['split']}"
    totals = {
        "accuracy": (summary["accuracy"], interval),
        "balanced accuracy": (summary["balanced_accuracy"], "mean recall"),
        "macro F1": (summary["f1_macro"], ""),
        "weighted F1": (summary["f1_weighted"], ""),
        "ECE": (summary["ece"], f"{CALIBRATION_BINS} bins"),
    }
    rows = [("", "precision", "recall", "F1", "support"), *rows, *((name, score(totals[name][0])) for name in totals)]
    head, *lines = table_lines(rows, gap=" ", narrowest=10)
    rule = "-" * len(head)
    classes, sums = lines[: len(names)], lines[len(names) :]
    noted = [f"{line}   {note}".rstrip() for line, (_, note) in zip(sums, totals.values(), strict=True)]
    first = [f"{heading}: {summary['n']:,} samples{_shared(summary)}", *_integrity(summary)]
    return "\n".join([*first, "", head, rule, *classes, rule, *noted, ""])


def _shared(summary: Mapping[str, Any]) -> str:
    """Return how many images stand in the training part of the data, if it is not told what the model has seen."""
    overlap = summary["context"].get("overlap_with_train")
    told = summary["seen"] is not None and summary["seen"]["without"] is not None
    return f", {overlap:,} of them also in the training part" if isinstance(overlap, int) and not told else ""


def _integrity(summary: Mapping[str, Any]) -> list[str]:
    """Return lines that say which of the images the model has seen, and how often they were looked at."""
    said = [] if summary["seen"] is None else seen_text(summary["seen"], summary["n"])
    said += [] if summary["looks"] is None else [looks_text(summary["looks"])]
    return [line for text in said for line in wrap(text, 80)]


def _per_class_csv(summary: Mapping[str, Any]) -> str:
    header = ["class", "precision", "recall", "recall_low", "recall_high", "f1", "support", "predicted"]
    rows = []
    for name, row in summary["per_class"].items():
        numbers = [row["precision"], row["recall"], *row["recall_ci95"], row["f1"]]
        rows.append([name, *map(six_digits, numbers), row["support"], row["predicted"]])
    return csv_text(header, rows)


def write_report(
    folder: Path,
    result: Predictions,
    context: Mapping[str, Any],
    images: ImageArray | None = None,
    pictures: Sequence[str] = PICTURES,
    show: Callable[[str, NDArray[np.uint8]], None] | None = None,
    seen: NDArray[np.bool_] | None = None,
    page: Path | None = None,
    training: Training | None = None,
) -> dict[str, Path]:
    """Write all files of an evaluation into a folder; files of the same names are replaced, each atomically.

    Args:
        folder: made if missing.
        result: the predictions; the name of the model is in the headlines.
        context: see ``report_content``.
        images: uint8 ``(rows of the samples table, C, H, W)``, for the most confident mistakes.
        pictures: which of ``PICTURES`` to draw; each costs about a third of a second.
        show: is given the stem and the pixels, uint8 ``(H, W, 3)``, of each picture.
        seen: bool ``(N,)``, samples that the model was trained on; ``None`` for none.
        page: file of a page to write, in this folder or the one above; the report then tells the intervals, too. Of an
            evaluation without samples there is none.
        training: what the page tells beyond the evaluation if it is that of a run.

    Returns:
        Paths by stem: ``report`` (JSON), ``per_class`` and ``predictions`` (CSV), the pictures (PNG), ``page`` (HTML).
    """
    summary = report_content(result, context)
    page = page if len(result.index) else None
    if page is not None:
        summary["uncertainty"] = _rounded(uncertainty(result, seen))
    names, matrix = result.class_names, result.matrix
    title = result.model if summary["split"] is None else f"{result.model}, {summary['split']}"
    figures: dict[str, Callable[[], Figure]] = {
        "confusion_matrix": lambda: confusion_matrix_figure(matrix, names, title),
        "per_class_scores": lambda: per_class_figure(matrix, names, title),
        "reliability": lambda: reliability_figure(
            {"": reliability_bins(result.confidence, result.preds == result.target)}, title
        ),
    }
    if images is not None:
        figures["worst_mistakes"] = lambda: _mistakes_figure(result, images, title)
    return {
        "report": write_atomically(folder / "report.json", json_text(summary)),
        "per_class": write_atomically(folder / "per_class.csv", _per_class_csv(summary)),
        "predictions": write_predictions(folder / PREDICTIONS, result),
        **{stem: _write_picture(folder / f"{stem}.png", figures[stem](), show) for stem in figures if stem in pictures},
        **({"page": _write_page(page, folder, summary, result, images, training)} if page is not None else {}),
    }


def _write_page(
    page: Path,
    folder: Path,
    summary: Mapping[str, Any],
    result: Predictions,
    images: ImageArray | None,
    training: Training | None,
) -> Path:
    beside = Beside(folder, page, summary)
    return write_atomically(page, page_html(summary, result, images, training, beside))


def _write_picture(path: Path, figure: Figure, show: Callable[[str, NDArray[np.uint8]], None] | None) -> Path:
    pixels = figure_pixels(figure)
    write_atomically(path, pixels_png(pixels))
    if show is not None:
        show(path.stem, pixels)
    return path


def _mistakes_figure(result: EvaluationResult, images: ImageArray, title: str) -> Figure:
    worst = worst_mistakes(result)
    return worst_mistakes_figure(
        images[result.index[worst]],
        [result.class_names[label] for label in result.target[worst]],
        [result.class_names[label] for label in result.preds[worst]],
        result.confidence[worst].tolist(),
        f"{title}: most confident mistakes, true → predicted",
    )
