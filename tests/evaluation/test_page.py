"""The page of an evaluation: what it says, in which order, and that nothing breaks it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_lightning.data.table.images import SubsetImages
from fer_lightning.evaluation.beside import Beside
from fer_lightning.evaluation.checks import STATES, checks, weak_spot
from fer_lightning.evaluation.page import Training, page_html
from fer_lightning.evaluation.predictions import Predictions
from fer_lightning.evaluation.report import report_content
from fer_lightning.evaluation.uncertainty import uncertainty
from tests.helpers.html import PageText
from tests.helpers.predictions import guessed

CONTEXT = {
    "split": "test",
    "overlap_with_train": 0,
    "precision": "32-true",
    "command": "fer test --seed_everything 1",
    "code": {"commit": "a" * 40, "dirty": False},
    "data": {"datamodule": "SketchDataModule", "sources": ["sketch"], "fingerprints": {"test": "f00d"}},
    "versions": {"torch": "2"},
}


def report_of(predictions: Predictions, marked: NDArray[np.bool_] | None = None, **changed: Any) -> dict[str, Any]:
    report = report_content(predictions, {**CONTEXT, **changed})
    return report | {"uncertainty": uncertainty(predictions, marked, draws=200)}


def states(report: Mapping[str, Any]) -> dict[str, str]:
    return {sentence: state for state, sentence in checks(report)}


def test_the_page_goes_from_verdict_to_repetition_and_needs_nothing_else() -> None:
    predictions = guessed(0.6, 1)
    images = np.random.default_rng(0).integers(0, 256, (300, 1, 48, 48), dtype=np.uint8)
    page = page_html(report_of(predictions), predictions, images)
    lazy = SubsetImages(images, np.arange(len(images)))  # as of files, which are read by rows
    assert page_html(report_of(predictions), predictions, lazy) == page
    assert re.findall(r'<section id="(\w+)"', page) == [
        "verdict", "believe", "classes", "confusion", "calibration", "mistakes", "groups", "beside", "repeat"
    ]  # fmt: skip
    assert len(page.encode()) < 600_000
    assert not re.search(r"<script|<link|src=\"(?!data:)|url\((?!#)|@import", page)
    words = PageText(page).words
    for said in (
        "The weak spot is",
        "OK No image of this split was trained on",
        "fer test --seed_everything 1",
        "of these",
    ):
        assert (said in words) == (said != "of these"), said
    assert page.count("data:image/png;base64,") >= 24
    assert len(re.findall(r"<svg role", page)) == 2


def test_the_tables_hold_the_scores() -> None:
    predictions = guessed(0.6, 1)
    report = report_of(predictions)
    classes, matrix, pairs, *_ = PageText(page_html(report, predictions)).tables
    assert classes[0] == ["class", "images", "F1", "recall", "precision"]
    for name, line in zip(report["class_names"], classes[1:], strict=False):
        row, ends = report["per_class"][name], report["uncertainty"]["per_class"][name]
        assert line[:2] == [name, str(row["support"])]
        for cell, score in zip(line[2:], ("f1", "recall", "precision"), strict=True):
            assert cell == f"{ends[score][0]:.1%} to {ends[score][1]:.1%}{row[score]:.1%}"
    counts = np.array(report["confusion_matrix"])
    for label, line in enumerate(matrix[1:]):
        shares = counts[label] / counts[label].sum()
        assert line[1:] == [f"{share:.0%}{count}" for share, count in zip(shares, counts[label], strict=True)]
    first = report["uncertainty"]["confusions"][0]
    assert pairs[1][:3] == [first["true"], first["predicted"], str(first["count"])]


def test_the_weak_spot_is_the_class_with_the_least_f1_and_what_it_is_taken_for() -> None:
    predictions = guessed(1.0, 1)
    probs = predictions.probs.copy()
    sad = np.flatnonzero(predictions.target == 2)
    probs[sad[: len(sad) // 2]] = (0.7, 0.2, 0.1)  # half of them taken for the first class
    sentence = weak_spot(report_of(replace(predictions, probs=probs)))
    assert sentence.startswith(f"The weak spot is sad: 50% of its {len(sad)} images are found (95 %: ")
    assert sentence.endswith("; 50% are taken for angry.")
    assert weak_spot(report_of(guessed(1.0, 1))).count("taken for") == 0


PRETRAINED = {"train": 3, "val": 0, "unknown": ["timm/resnet18"]}


@pytest.mark.parametrize(
    ("changed", "state", "said"),
    [
        ({}, "ok", "No image of this split was trained on"),
        ({"overlap_with_train": 12}, "warning", "12 images of this split (4.0%) were trained on"),
        ({"overlap_with_train": None}, "unknown", "Whether images of this split were trained on"),
        ({"seen": PRETRAINED}, "warning", "3 images of this split"),
        (
            {"seen": PRETRAINED},
            "unknown",
            "is not wholly known: timm/resnet18.",
        ),
        ({"seen": {"train": 0, "val": 3, "unknown": []}}, "warning", "The best epoch was chosen on 3 images"),
        ({"split": "val"}, "warning", "The best epoch was chosen on these images"),
        ({}, "ok", "Nothing was chosen on this split"),
        ({"precision": "bf16-mixed"}, "warning", "Computed in bf16-mixed"),
        ({}, "ok", "Computed in float32"),
        ({"precision": None}, "unknown", "The precision of the computation"),
        ({}, "unknown", "How often this split was looked at"),
        ({"looks": {"number": 1, "repeats": 0, "gain": 0.0}}, "ok", "This is the first look"),
        ({"looks": {"number": 2, "repeats": 0, "gain": 0.004}}, "warning", "would gain up to 0.4 points"),
        ({"looks": {"number": 6, "repeats": 0, "gain": 0.009}}, "warning", "would gain up to 0.9 points"),
        ({}, "ok", "The code is commit aaaaaaaaaaaa."),
        ({"code": {"commit": "b" * 40, "dirty": True}}, "warning", "with changes that are in no commit"),
        ({"code": {}}, "unknown", "The commit of the code is not known"),
        ({}, "ok", "No image is twice"),
    ],
)
def test_what_can_be_believed(changed: dict[str, Any], state: str, said: str) -> None:
    report = report_of(guessed(0.6, 1), **changed)
    assert [found for sentence, found in states(report).items() if said in sentence] == [state]
    places = [STATES.index(found) for found, _ in checks(report)]
    assert places == sorted(places)


def test_images_that_were_seen_get_a_section_of_their_own() -> None:
    predictions = guessed(0.6, 1)
    seen = predictions.index < 30
    page = page_html(report_of(predictions, seen, overlap_with_train=30), predictions)
    table = next(table for table in PageText(page).tables if table[-1][0] == "without them")
    right = predictions.preds == predictions.target
    assert table[1][1:3] == ["300", f"{right.mean():.1%}"]
    assert table[2][1:3] == ["270", f"{right[~seen].mean():.1%}"]


def test_groups_are_listed_and_the_audit_is_named() -> None:
    rng = np.random.default_rng(0)
    groups = {"gender": rng.choice(["m", "f", ""], 300), "subject": np.arange(300).astype(np.str_)}
    predictions = replace(guessed(0.6, 1), groups=groups)
    page = PageText(page_html(report_of(predictions), predictions))
    assert "fer audit . --groups gender." in page.words
    table = next(table for table in page.tables if table[0][0] == "gender")
    right, men = predictions.preds == predictions.target, groups["gender"] == "m"
    assert table[2][:3] == ["m", str(men.sum()), f"{right[men].mean():.1%}"]
    assert "Not measured" in PageText(page_html(report_of(guessed(0.6, 1)), guessed(0.6, 1))).words


def test_names_are_shown_as_they_are() -> None:
    predictions = guessed(0.3, 1)
    hostile = np.array(['<script>alert("x")</script>'] * 300)
    page = page_html(report_of(predictions), replace(predictions, files=hostile, model="<b>"), None)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<h1>&lt;b&gt; on the test part</h1>" in page


@pytest.mark.parametrize("rows", [1, 300])
def test_a_model_without_mistakes(rows: int) -> None:
    predictions = guessed(1.0, 1, rows=rows)
    words = PageText(page_html(report_of(predictions), predictions)).words
    assert "No mistake." in words


def test_doubtful_labels_are_those_the_model_is_sure_of() -> None:
    predictions = guessed(1.0, 1)
    probs = predictions.probs.copy()
    wrong = int(np.flatnonzero(predictions.target == 0)[0])
    probs[wrong] = (0.01, 0.98, 0.01)  # of a class that is stated with 0.6 otherwise
    shown = page_html(report_of(replace(predictions, probs=probs)), replace(predictions, probs=probs))
    listed = shown[shown.index("Labels that may be wrong") :]
    assert "Of 1 image another" in PageText(listed).words
    assert str(predictions.files[wrong]) in listed


def test_a_label_is_not_doubted_for_less_than_the_other_class_gets_on_average() -> None:
    predictions = guessed(1.0, 1)  # each class gets 0.6 of its own images, a third of all
    probs = predictions.probs.copy()
    probs[int(np.flatnonzero(predictions.target == 0)[0])] = (0.2, 0.5, 0.3)
    changed = replace(predictions, probs=probs)
    page = page_html(report_of(changed), changed)
    assert "Most confident" in page
    assert "Labels that may be wrong" not in page


def test_the_page_of_a_run_tells_of_its_training() -> None:
    predictions = guessed(0.6, 1)
    training = Training("", [("start", "begun"), ("1: ab", "today")], "model: <x>")
    report = report_of(predictions, split="val")
    beside = Beside(Path("run/val"), Path("run/index.html"), report)
    page = page_html(report, predictions, None, training, beside)
    assert 'href="val/report.json"' in page
    assert "model: &lt;x&gt;" in page
    assert ["1: ab", "today"] in [row for table in PageText(page).tables for row in table]
