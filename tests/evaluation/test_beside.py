"""What the pages of a run and its evaluations say of each other, and of what other verbs have found."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fer_lightning.evaluation.beside import Beside
from fer_lightning.evaluation.calibrated import Calibrated
from fer_lightning.evaluation.page_parts import refresh_pages
from fer_lightning.evaluation.predictions import Predictions
from fer_lightning.evaluation.report import write_report
from fer_lightning.figures import pixels_webp
from fer_lightning.inference.model_folder import write_model_folder
from fer_lightning.models.calibration import Calibration
from fer_lightning.runs.checkpoint import weights_digest
from tests.evaluation.test_calibration import NAMES, validated
from tests.evaluation.test_speeds import measured
from tests.helpers.cli import fer
from tests.helpers.html import PageText
from tests.inference.helpers import tiny_model

STATE = {"classifier.weight": torch.ones(3)}
OWN: dict[str, Any] = {"weights": weights_digest(STATE)}
TESTED = replace(validated(150), split="test")


def evaluated(folder: Path, predictions: Predictions, page: Path | None = None, **context: Any) -> Path:
    """Write an evaluation with its page; return the page."""
    prints = {"val": "0a", "test": "0b"}
    whole = {"split": predictions.split, "data": {"fingerprints": prints}, **context}
    page = folder / "index.html" if page is None else page
    write_report(folder, predictions, whole, pictures=(), page=page)
    return page


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run with the page of its training and that of a test."""
    run = tmp_path_factory.mktemp("runs") / "mine/version_0"
    (run / "checkpoints").mkdir(parents=True)
    torch.save({"global_step": 7, "state_dict": STATE, "fer_task": {}}, run / "checkpoints/best.ckpt")
    evaluated(run / "val", validated(200), run / "index.html", step=7)
    evaluated(run / "test", TESTED, **OWN)
    return run


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "mine/version_0"))


def section(page: Path, id: str) -> PageText:
    text = re.search(f'<section id="{id}">.*?</section>', page.read_text(), re.DOTALL)
    assert text is not None
    return PageText(text[0])


def found_in(folder: Path, weights: str, **values: Any) -> None:
    """Write what ``fer explain``, ``embed`` or ``audit`` leaves in a folder."""
    folder.mkdir()
    kind = folder.name.partition("-")[0]
    (folder / f"{kind}.json").write_text(json.dumps({"weights": weights, **values}))
    (folder / "index.html").touch()


def test_a_calibration_is_shown_on_the_pages_of_its_weights(run: Path, made: Path) -> None:
    for page in (run / "index.html", run / "test/index.html"):
        assert f"Not calibrated: fer calibrate {made} does it." in section(page, "calibration").words
        assert [row[0] for row in section(page, "calibration").tables[0]] == ["", "as it is"]
    mistakes = section(run / "test/index.html", "mistakes").words
    assert fer("calibrate", str(run), "--kind=temperature", "--risk=0.2") == 0
    found = json.loads((run / "calibration.json").read_text())
    trained = section(run / "index.html", "calibration")
    assert "each half with what was fitted on the other" in trained.words
    before, after = (found["kinds"][place] for place in (0, 1))
    for row, scores in zip(trained.tables[0][1:], (before, after), strict=True):
        assert row[1] == f"{scores['ece']:.2%}"
        assert row[3].partition(" ")[0] == f"{scores['nll']:.4f}"
        assert row[4].partition(" ")[0] == f"{scores['brier']:.4f}"
    tested = section(run / "test/index.html", "calibration")
    assert "which took no part in the fit" in tested.words
    assert f"Answers below a confidence of {found['risk']['threshold']:.3f} are marked" in tested.words
    assert "wanted 20.0%" in tested.words
    assert [row[0] for row in tested.tables[0][1:]] == ["as it is", "calibrated"]
    text = (run / "test/index.html").read_text()
    assert 'href="../calibration.html"' in text
    assert "threshold 0." in text  # in the drawing
    assert "wanted 20.0%" in text[text.index("<svg", text.index("negative log-likelihood")) :]
    assert section(run / "test/index.html", "mistakes").words == mistakes
    assert text.count('<section id="calibration">') == text.count("<!-- calibration -->") == 1
    assert not re.search(r"<script|src=\"(?!data:)|url\((?!#)", text)
    _check_others(run)


def _check_others(run: Path) -> None:
    """See what is said of evaluations that the calibration is not for, and of validations of other images."""

    def found(context: dict[str, Any], **more: Any) -> Calibrated | str:
        report = {"class_names": NAMES, "n": 200, "context": context, **more}
        return Beside(run / "test", run / "test/index.html", report).calibrated(lambda: validated(200))

    assert found({"weights": "earlier"}) == "The calibration of the run is of other weights."
    views = found({**OWN, "settings": {"model.views": "flip"}})
    assert views == "Its calibration was fitted without model.views, and is not used here."
    same = {"data": {"fingerprints": {"val": "0a"}}}
    judged = {
        more: str(getattr(found({**OWN, **context}, split="val"), "judged", ""))
        for more, context in (("same", same), ("other", {}))
    }
    assert judged["same"] == "each half with what was fitted on the other"
    assert "a little too good" in judged["other"]


def test_findings_of_the_same_weights_are_linked_and_others_are_not(run: Path) -> None:
    page, trained = run / "test/index.html", run / "index.html"
    refresh_pages(run)
    asked = f"fer explain {run} fer embed {run} fer bench infer {run}"
    assert asked in section(page, "beside").words
    made = {"made": {"data": "Sketch, split val"}, "verdicts": ["It looks at <mouths>.", "And more."]}
    found_in(run / "explain", OWN["weights"], **made)
    (run / "explain/preview.webp").write_bytes(pixels_webp(np.zeros((8, 8, 3), np.uint8)))
    found_in(run / "embed", "other", verdicts=["Of other weights."])
    found_in(run / "audit", OWN["weights"], split="test", verdict="Groups differ.")
    found_in(run / "audit-val", OWN["weights"], split="val", verdict="Chance explains it.")
    (run / "bench_infer.json").write_text(json.dumps({**measured(2.0), **OWN}))
    refresh_pages(run)
    known = section(page, "beside")
    for said in (
        "What it looks at: Sketch, split val It looks at <mouths>.",
        "Groups of people: the test part Groups differ.",
        "Groups of people: the validation part Chance explains it.",
        "The run: its training and best validation Accuracy",
        "Size and speed Measured on a CPU with 2 threads",
        f"this page then shows it: fer embed {run}",
    ):
        assert said in known.words
    assert "And more." not in known.words
    assert "Of other weights." not in known.words
    assert known.tables[0][1] == ["fp32", "cpu", "403,235", "1.60", "2.00", "4.00", "500"]
    text = page.read_text()
    for link in ("../explain/index.html", "../audit/index.html", "../index.html", "../bench_infer.json"):
        assert f'href="{link}"' in text
        assert (page.parent / link).exists()
    assert text.count("data:image/webp;base64,") == 1
    own = trained.read_text()
    assert "test: on the test part Accuracy" in section(trained, "beside").words
    for link in ("test/index.html", "explain/index.html"):
        assert f'href="{link}"' in own
    (run / "bench_infer.json").write_text(json.dumps({**measured(2.0), "weights": "other"}))
    refresh_pages(run)
    assert "Size and speed" not in section(page, "beside").words


def test_damaged_findings_are_no_obstacle(run: Path) -> None:
    for kind in ("explain", "embed"):
        (run / kind).mkdir()
        (run / kind / "index.html").touch()
    (run / "explain/explain.json").write_text("{")
    (run / "embed/embed.json").write_text("[]")
    (run / "bench_infer.json").write_text("{}")
    (run / "calibration.json").write_text('{"step": 7}')
    (run / "test-old").mkdir()
    (run / "test-old/report.json").write_text('{"split": "test"}')
    (run / "test-old/index.html").write_text("of an older version")
    refresh_pages(run, calibration=True)
    page = run / "test/index.html"
    assert f"fer explain {run}" in section(page, "beside").words
    assert "The calibration is damaged: " in section(page, "calibration").words
    assert (run / "test-old/index.html").read_text() == "of an older version"


def test_pages_stay_as_they_are_where_nothing_has_changed(run: Path) -> None:
    page = run / "test/index.html"
    refresh_pages(run)
    before, changed = page.read_text(), page.stat().st_mtime_ns
    refresh_pages(run)
    assert (page.read_text(), page.stat().st_mtime_ns) == (before, changed)


def test_a_resumed_training_has_other_weights(run: Path) -> None:
    torch.save({"global_step": 9, "state_dict": {"classifier.weight": torch.zeros(3)}}, run / "checkpoints/best.ckpt")
    refresh_pages(run)
    page = section(run / "test/index.html", "beside").words
    assert "fer explain" not in page  # which would speak of the new weights
    assert "The run: its training" not in page


def test_the_evaluation_of_a_model_folder_knows_its_calibration(tmp_path: Path) -> None:
    model = replace_calibration(tmp_path / "model", Calibration(2.0, threshold=0.5, risk=0.1))
    page = evaluated(tmp_path / "elsewhere", TESTED, checkpoint=str(model / "model.safetensors"), weights="w")
    words = section(page, "calibration").words
    assert "Answers below a confidence of 0.500 are marked as uncertain." in words
    assert "wanted 10.0%" in words
    assert f"fer bench infer {model}" in section(page, "beside").words
    bare = replace_calibration(tmp_path / "bare", Calibration())
    report = {"context": {"checkpoint": str(bare / "model.safetensors")}}
    assert Beside(tmp_path / "other", page, report).calibrated(lambda: TESTED) == "The model was not calibrated."


def replace_calibration(folder: Path, calibration: Calibration) -> Path:
    return write_model_folder(replace(tiny_model(), calibration=calibration), folder)


def test_nothing_is_linked_outside_of_the_run(run: Path, tmp_path: Path) -> None:
    beside = Beside(run / "test", run / "test/index.html", {"context": OWN})
    (tmp_path / "other").touch()
    assert (beside.link(tmp_path / "other"), beside.link(run / "none")) == ("", "")
    assert beside.link(run / "checkpoints") == "../checkpoints"
