"""Reports: what is in the files, and that they say nothing that JSON or a reader could misunderstand."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_recall_fscore_support
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from fer_lightning.emotions import SEVEN
from fer_lightning.errors import DataError, LabelError, NonFiniteError
from fer_lightning.evaluation import report
from fer_lightning.evaluation.calibration_plots import reliability_figure
from fer_lightning.evaluation.confidence import reliability_bins
from fer_lightning.evaluation.page import worst_mistakes
from fer_lightning.evaluation.plots import (
    confusion_matrix_figure,
    per_class_figure,
    worst_mistakes_figure,
)
from fer_lightning.evaluation.predictions import EvaluationResult, write_predictions
from fer_lightning.evaluation.report import report_content, text_table, write_report
from fer_lightning.figures import figure_pixels
from fer_lightning.metrics import EmotionMetrics
from fer_lightning.types import prediction_columns
from tests.helpers.predictions import told

NAMES = SEVEN.class_names
IMAGES = np.random.default_rng(1).integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
CONTEXT = {"split": "test", "seed": 3, "overlap_with_train": 12, "checkpoint": Path("runs/best.ckpt")}


def draw(seed: int = 0, count: int = 60, absent: int | None = None) -> tuple[EvaluationResult, NDArray[np.float32]]:
    """Return a result whose index is shuffled, and the logits it came from."""
    generator = np.random.default_rng(seed)
    target = generator.integers(0, 7, count)
    if absent is not None:
        target = np.where(target == absent, 0, target)
    logits = generator.normal(size=(count, 7)).astype(np.float32)
    logits[np.arange(count), target] += 1.5
    probs: NDArray[np.float32] = torch.from_numpy(logits).softmax(dim=1).numpy()
    return EvaluationResult(NAMES, generator.permutation(count), target, probs), logits


def files_of(count: int) -> list[str]:
    return [f"fer2013.csv#{row}" for row in range(count)]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EvaluationResult]:
    folder = tmp_path_factory.mktemp("reports") / "new" / "folder"
    result, _ = draw()
    write_report(folder, told(result, files_of(60), "tiny"), CONTEXT, IMAGES)
    return folder, result


def test_summary_has_the_scores_of_scikit_learn() -> None:
    result, _ = draw()
    summary = report_content(result, CONTEXT)
    target, preds = result.target, result.probs.argmax(axis=1)
    assert summary["n"] == 60
    assert summary["scheme"] == "fer7"
    assert summary["split"] == "test"
    assert summary["class_names"] == list(NAMES)
    assert summary["accuracy"] == pytest.approx(float((target == preds).mean()), rel=1e-5)
    assert summary["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(target, preds), rel=1e-5)
    assert summary["f1_macro"] == pytest.approx(f1_score(target, preds, average="macro"), rel=1e-5)
    assert summary["f1_weighted"] == pytest.approx(f1_score(target, preds, average="weighted"), rel=1e-5)
    assert summary["confusion_matrix"] == sklearn_confusion_matrix(target, preds, labels=range(7)).tolist()
    scores = precision_recall_fscore_support(target, preds, labels=range(7), zero_division=0)
    for label, name in enumerate(NAMES):
        row = summary["per_class"][name]
        expected = [column[label] for column in scores]
        assert [row["precision"], row["recall"], row["f1"], row["support"]] == pytest.approx(expected, rel=1e-5)
        assert row["predicted"] == int((preds == label).sum())
        assert row["recall_ci95"][0] < row["recall"] <= row["recall_ci95"][1]
    low, high = summary["accuracy_ci95"]
    assert low < summary["accuracy"] < high


def test_summary_agrees_with_the_metric_of_the_training() -> None:
    result, logits = draw(seed=5)
    metric = EmotionMetrics(NAMES)
    metric.update(torch.from_numpy(logits), torch.from_numpy(result.target))
    scores, summary = metric.compute(), report_content(result, {})
    pairs = {"acc": "accuracy", "balanced_acc": "balanced_accuracy", "f1_macro": "f1_macro", "ece": "ece"}
    for key, name in pairs.items():
        assert summary[name] == pytest.approx(scores[key].item(), rel=1e-5)


def test_context_is_kept_as_plain_values() -> None:
    context: dict[str, Any] = {
        "split": "val",
        "when": 1700000000.123456,
        "loss": math.nan,
        "worst": -math.inf,
        "counts": np.array([1, 2]),
        "share": np.float32(0.5),
        "versions": {"torch": torch.__version__},
        "folder": Path("a/b"),
        "device": torch.device("cpu"),
        "flag": True,
        "none": None,
    }
    summary = report_content(draw()[0], context)
    assert summary["split"] == "val"
    assert summary["context"] == {
        "when": 1700000000.123456,
        "loss": None,
        "worst": None,
        "counts": [1, 2],
        "share": 0.5,
        "versions": {"torch": str(torch.__version__)},
        "folder": str(Path("a/b")),
        "device": "cpu",
        "flag": True,
        "none": None,
    }
    json.dumps(summary, allow_nan=False)


def test_what_is_not_known_is_null_in_json(tmp_path: Path) -> None:
    result, _ = draw(absent=1)
    paths = write_report(tmp_path, told(result, files_of(60), "tiny"), {})
    text = paths["report"].read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "Infinity" not in text
    row = json.loads(text)["per_class"]["disgust"]
    assert row["recall"] is None
    assert row["f1"] is None
    assert row["recall_ci95"] == [None, None]
    assert row["support"] == 0
    [disgust] = [line for line in read_csv(paths["per_class"]) if line["class"] == "disgust"]
    assert (disgust["recall"], disgust["recall_low"], disgust["f1"], disgust["support"]) == ("", "", "", "0")
    assert "worst_mistakes" not in paths


def test_report_of_no_samples_is_written(tmp_path: Path) -> None:
    empty = EvaluationResult(NAMES, np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 7), np.float32))
    paths = write_report(tmp_path, told(empty, [], "tiny"), {"split": "test"}, np.zeros((0, 1, 8, 8), np.uint8))
    summary = json.loads(paths["report"].read_text(encoding="utf-8"))
    assert summary["n"] == 0
    assert summary["accuracy"] is None
    assert "n/a" in text_table(summary)


def test_report_folder_has_these_files_and_no_others(written: tuple[Path, EvaluationResult]) -> None:
    folder, _ = written
    assert sorted(path.name for path in folder.iterdir()) == [
        "confusion_matrix.png",
        "per_class.csv",
        "per_class_scores.png",
        "predictions.csv",
        "reliability.png",
        "report.json",
        "worst_mistakes.png",
    ]


def test_report_json_is_the_summary(written: tuple[Path, EvaluationResult]) -> None:
    folder, result = written
    text = (folder / "report.json").read_text(encoding="utf-8")
    assert json.loads(text) == report_content(result, CONTEXT)
    matrix = report_content(result, {})["confusion_matrix"]
    assert f"    {json.dumps(matrix[0])},\n    {json.dumps(matrix[1])}" in text


def test_per_class_table_is_the_summary(written: tuple[Path, EvaluationResult]) -> None:
    folder, result = written
    rows = read_csv(folder / "per_class.csv")
    assert list(rows[0]) == [
        "class",
        "precision",
        "recall",
        "recall_low",
        "recall_high",
        "f1",
        "support",
        "predicted",
    ]
    assert [row["class"] for row in rows] == list(NAMES)
    for row in rows:
        expected = report_content(result, {})["per_class"][row["class"]]
        assert float(row["recall"]) == expected["recall"]
        assert [float(row["recall_low"]), float(row["recall_high"])] == expected["recall_ci95"]
        assert int(row["support"]) == expected["support"]


def test_predictions_round_trip(written: tuple[Path, EvaluationResult]) -> None:
    folder, result = written
    rows = read_csv(folder / "predictions.csv")
    assert list(rows[0]) == [*prediction_columns(NAMES), "index", "split", "digest", "target"]
    assert len(rows) == 60
    assert [int(row["index"]) for row in rows] == result.index.tolist()
    assert [row["target"] for row in rows] == [NAMES[label] for label in result.target]
    assert [row["label"] for row in rows] == [NAMES[label] for label in result.probs.argmax(axis=1)]
    assert [row["file"] for row in rows] == [f"fer2013.csv#{index}" for index in result.index]
    probs = np.array([[float(row[f"p_{name}"]) for name in NAMES] for row in rows])
    np.testing.assert_allclose(probs, result.probs, rtol=5e-6)
    np.testing.assert_allclose([float(row["confidence"]) for row in rows], result.probs.max(axis=1), rtol=5e-6)
    for row in rows:
        assert {row[name] for name in ("frame", "time_s", "face_id", "x", "y", "w", "h", "det_score")} == {""}
        assert (row["uncertain"], row["model"], row["scheme"]) == ("", "tiny", "fer7")


def test_predictions_without_truth_have_no_target_column(tmp_path: Path) -> None:
    probs = np.array([[0.25, 0.75]], np.float32)
    files = np.array(["a.png", 'odd, "name".png'])
    result = EvaluationResult(("ja", "nein"), np.array([1]), np.array([0]), probs)
    path = write_predictions(tmp_path / "p.csv", told(result, files.tolist(), "tiny", known=False))
    [row] = read_csv(path)
    assert list(row) == [*prediction_columns(("ja", "nein")), "index", "split", "digest"]
    assert (row["file"], row["label"], row["confidence"], row["scheme"]) == (
        'odd, "name".png',
        "nein",
        "0.75",
        "custom",
    )


def test_pictures_show_the_numbers_of_the_predictions(written: tuple[Path, EvaluationResult]) -> None:
    folder, result = written
    preds, confidence = result.probs.argmax(axis=1), result.probs.max(axis=1)
    matrix = sklearn_confusion_matrix(result.target, preds, labels=range(7))
    wrong = sorted(np.flatnonzero(preds != result.target), key=lambda place: -confidence[place])[:24]
    figures = {
        "confusion_matrix": confusion_matrix_figure(matrix, NAMES, "tiny, test"),
        "per_class_scores": per_class_figure(matrix, NAMES, "tiny, test"),
        "reliability": reliability_figure({"": reliability_bins(confidence, preds == result.target)}, "tiny, test"),
        "worst_mistakes": worst_mistakes_figure(
            IMAGES[result.index[wrong]],
            [NAMES[label] for label in result.target[wrong]],
            [NAMES[label] for label in preds[wrong]],
            confidence[wrong].tolist(),
            "tiny, test: most confident mistakes, true → predicted",
        ),
    }
    for stem, figure in figures.items():
        with Image.open(folder / f"{stem}.png") as picture:
            assert picture.format == "PNG"
            assert np.array_equal(np.asarray(picture.convert("RGB")), figure_pixels(figure)), stem


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    result, _ = draw()
    contents = []
    for name in ("first", "second"):
        paths = write_report(tmp_path / name, told(result, files_of(60), "tiny"), CONTEXT)
        contents.append({stem: path.read_bytes() for stem, path in paths.items()})
    assert contents[0] == contents[1]


def test_text_table_shows_every_number_within_80_columns() -> None:
    summary = report_content(draw(absent=1)[0], CONTEXT)
    table = text_table(summary)
    assert max(map(len, table.splitlines())) <= 80
    assert "test: 60 samples, 12 of them also in the training part" in table
    for name, row in summary["per_class"].items():
        [line] = [line for line in table.splitlines() if line.startswith(name)]
        known = [row["precision"], row["recall"], row["f1"]]
        assert line.split()[1:] == [*("n/a" if x is None else f"{x:.4f}" for x in known), str(row["support"])]
    for key in ("accuracy", "balanced_accuracy", "f1_macro", "f1_weighted", "ece"):
        assert f"{summary[key]:.4f}" in table
    assert "{:.4f} to {:.4f}".format(*summary["accuracy_ci95"]) in table


def test_text_table_of_long_names_and_large_counts_stays_narrow() -> None:
    names = ("a_very_long_name_of_a_class_that_somebody_gave_a_folder", "b")
    summary = report_content(
        EvaluationResult(names, np.arange(2), np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)), {}
    )
    summary["per_class"]["b"]["support"] = 1_234_567
    table = text_table(summary)
    assert max(map(len, table.splitlines())) <= 80
    assert "a_very_long_name_..." in table
    assert "1,234,567" in table
    assert table.startswith("all samples: 2 samples\n")


def test_worst_mistakes_are_sorted_by_confidence_then_index() -> None:
    probs = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.9, 0.1], [0.2, 0.8]], np.float32)
    result = EvaluationResult(("sad", "fear"), np.array([9, 8, 7, 6, 5]), np.array([1, 0, 1, 1, 1]), probs)
    assert worst_mistakes(result).tolist() == [3, 0, 1, 2]
    assert worst_mistakes(result, 2).tolist() == [3, 0]


def broken(**changes: Any) -> dict[str, Any]:
    fields = {"index": np.arange(2), "target": np.array([0, 1]), "probs": np.full((2, 2), 0.5, np.float32)}
    return {"class_names": ("sad", "fear"), **fields, **changes}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"target": np.array([0, 1, 1])}, DataError, r"target must be int64 \(2,\)"),
        ({"target": np.array([0.0, 1.0])}, DataError, r"target must be int64"),
        ({"probs": np.full((2, 3), 1 / 3, np.float32)}, DataError, r"probs must be float32 \(2, 2\)"),
        ({"probs": np.full((2, 2), 0.5)}, DataError, r"not float64"),
        ({"probs": np.array([[1, 1], [0, 1]], np.float32)}, DataError, r"sum to 2, expected 1; not logits"),
        (
            {"probs": np.array([[2, -1], [0, 1]], np.float32)},
            DataError,
            r"the probability -1, expected 0 to 1",
        ),
        ({"probs": np.array([[np.nan, 1], [0, 1]], np.float32)}, NonFiniteError, r"1 sample with"),
        (
            {"target": np.array([0, 2]), "index": np.array([4, 5])},
            LabelError,
            r"sample 5 has target 2, expected 0\.\.1",
        ),
        ({"target": np.array([-1, 0])}, LabelError, r"target -1"),
    ],
)
def test_results_that_cannot_be_right_are_refused(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    EvaluationResult(**broken())
    with pytest.raises(error, match=message):
        EvaluationResult(**broken(**changes))


def test_the_pictures_of_the_worst_mistakes_are_those_of_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, _ = draw(seed=3)
    shown: list[Any] = []

    def note(*given: Any) -> Any:
        shown.extend(given)
        return worst_mistakes_figure(*given)

    monkeypatch.setattr(report, "worst_mistakes_figure", note)
    images = np.arange(60, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 8, 8), np.uint8)
    write_report(tmp_path, told(result, files_of(60), "tiny"), CONTEXT, images, pictures=["worst_mistakes"])
    wrong = sorted(
        (position for position in range(60) if result.probs[position].argmax() != result.target[position]),
        key=lambda position: (-result.probs[position].max(), result.index[position]),
    )[: len(shown[0])]
    assert len(wrong) > 5
    assert shown[0][:, 0, 0, 0].tolist() == result.index[wrong].tolist()  # each picture's gray is its row
    assert shown[1] == [NAMES[label] for label in result.target[wrong]]
    assert shown[2] == [NAMES[label] for label in result.probs[wrong].argmax(1)]
    assert shown[3] == pytest.approx(result.probs[wrong].max(1).tolist())


@pytest.mark.parametrize(
    ("total", "refused"), [(0.985, True), (0.995, False), (1.005, False), (1.015, True), (1.05, True)]
)
def test_probabilities_must_sum_to_one_to_a_hundredth(total: float, refused: bool) -> None:
    probs = np.full((2, 7), total / 7, np.float32)
    given = NAMES, np.arange(2), np.zeros(2, np.int64), probs
    if refused:
        with pytest.raises(DataError, match="sum to"):
            EvaluationResult(*given)
    else:
        assert EvaluationResult(*given).preds.tolist() == [0, 0]


def test_intervals_are_those_of_the_hits_among_the_samples_they_are_of() -> None:
    target, preds = np.repeat([0, 1, 2], [20, 10, 30]), np.concatenate([[0] * 15, [1] * 5, [1] * 9, [0], [2] * 30])
    probs = np.full((60, 3), 0.1, np.float32)
    probs[np.arange(60), preds] = 0.8
    summary = report_content(EvaluationResult(("sad", "fear", "happy"), np.arange(60), target, probs), {})

    def wilson(hits: int, total: int) -> Any:
        return pytest.approx(list(binomtest(hits, total).proportion_ci(0.95, method="wilson")), abs=1e-6)

    assert summary["accuracy_ci95"] == wilson(54, 60)
    found = {name: row["recall_ci95"] for name, row in summary["per_class"].items()}
    assert found == {"sad": wilson(15, 20), "fear": wilson(9, 10), "happy": wilson(30, 30)}
    assert [row["predicted"] for row in summary["per_class"].values()] == [16, 14, 30]


@pytest.mark.parametrize(
    ("context", "heading", "title"),
    [
        (
            {"split": "val", "overlap_with_train": 1200},
            "val: 60 samples, 1,200 of them also in the training part",
            "m, val",
        ),
        ({"split": "val", "overlap_with_train": 0}, "val: 60 samples, 0 of them also in the training part", "m, val"),
        ({"split": "val", "overlap_with_train": None}, "val: 60 samples", "m, val"),
        ({}, "all samples: 60 samples", "m"),
    ],
)
def test_what_was_evaluated_stands_above_the_table_and_the_pictures(
    context: dict[str, Any], heading: str, title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, _ = draw()
    assert text_table(report_content(result, context)).splitlines()[0] == heading
    drawn: dict[str, tuple[Any, ...]] = {}
    for name in ("confusion_matrix", "per_class", "reliability", "worst_mistakes"):
        monkeypatch.setattr(report, f"{name}_figure", lambda *given, name=name: drawn.setdefault(name, given))
    monkeypatch.setattr(report, "figure_pixels", lambda _: np.zeros((2, 3, 3), np.uint8))
    shown: list[tuple[str, tuple[int, ...]]] = []
    paths = write_report(
        tmp_path,
        told(result, files_of(60), "m"),
        context,
        IMAGES,
        show=lambda stem, pixels: shown.append((stem, pixels.shape)),
    )
    stems = ["confusion_matrix", "per_class_scores", "reliability", "worst_mistakes"]
    assert shown == [(stem, (2, 3, 3)) for stem in stems]
    assert list(paths) == ["report", "per_class", "predictions", *stems]
    assert drawn["worst_mistakes"][-1] == f"{title}: most confident mistakes, true → predicted"
    assert {drawn[name][-1] for name in ("confusion_matrix", "per_class", "reliability")} == {title}
    np.testing.assert_array_equal(drawn["per_class"][0], result.matrix)
    assert drawn["reliability"][0] == {"": reliability_bins(result.confidence, result.preds == result.target)}
