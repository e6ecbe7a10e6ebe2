from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from fer_lightning.errors import DataError
from fer_lightning.evaluation.predictions import PREDICTIONS, read_predictions, write_predictions
from fer_lightning.inference.card import card_text
from fer_lightning.inference.facts import model_with_facts, training_facts
from fer_lightning.inference.loading import load_model
from fer_lightning.inference.model_folder import write_model_folder
from fer_lightning.runs.checkpoint import read_checkpoint, weights_digest
from fer_lightning.runs.model_folder import CONFIG
from tests.helpers.cli import QUICK, fer, fit
from tests.inference.helpers import tiny_model


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("card") / "runs"
    assert fit(root, "--seed_everything=0", "--model.loss=FocalLoss") == 0
    assert fer("test", f"--ckpt_path={root}/tiny/version_0", "--trainer.enable_progress_bar=false") == 0
    assert fer("test", f"--ckpt_path={root}/tiny/version_0", "--model.tau=0.5", *QUICK) == 0
    return root


def sections(text: str) -> dict[str, str]:
    """Return the sections of a card by title, the head's YAML under ``""``."""
    _, head, body = text.split("---\n", 2)
    parts = body.split("\n## ")
    return {"": head, **{part.split("\n", 1)[0]: part.split("\n", 1)[1] for part in parts[1:]}}


def test_the_card_of_a_run_says_what_the_run_knows(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = root / "tiny/version_0"
    report = json.loads((run / "test/report.json").read_text())
    step = read_checkpoint(run / "checkpoints/best.ckpt")["global_step"]
    calibrated = {"step": step, "calibration": {"temperature": 1.5}, "verdicts": ["It is right."]}
    (run / "calibration.json").write_text(json.dumps(calibrated))
    assert fer("card", "tiny", f"--root={root}", "--licence=mit") == 0
    assert capsys.readouterr().out.endswith(f"card         {run}/README.md\n")
    text = (run / "README.md").read_text()
    found = sections(text)
    head = yaml.safe_load(found[""])
    assert (head["license"], head["library_name"]) == ("mit", "fer_lightning")
    results = {each["dataset"]["split"]: each["metrics"] for each in head["model-index"][0]["results"]}
    assert {"val", "test"} == set(results)
    assert results["test"][0]["value"] == pytest.approx(report["accuracy"], abs=1e-4)
    ends = [report["uncertainty"]["accuracy"][end] for end in ("low", "high")]
    assert results["test"][0]["args"]["interval_95"] == pytest.approx(ends, abs=1e-4)
    assert f"| test | 28 | {report['accuracy']:.1%} |" in found["Scores"]
    assert "was scored with model.tau 0.5" in found["Scores"]
    assert (
        "- test: The model was trained on none of them. Look 1 at this split." in found["Can the scores be believed?"]
    )
    assert "It is right." in found["Calibration"]
    assert "- train: 84 images, fingerprint `" in found["Data"]
    assert "digests of 84 training and 28 validation images are stored" in found["Data"]
    assert "model.loss: fer_lightning.losses.FocalLoss" in found["Training"]
    assert "seed 0" in found["Training"]
    sha256 = hashlib.sha256((run / "checkpoints/best.ckpt").read_bytes()).hexdigest()
    assert f"`best.ckpt`, SHA-256 `{sha256}`" in found["Origin"]
    assert found["Licence"] == "\nmit\n"
    assert "Art. 5(1)(f)" in found["Uses"]
    assert str(root) not in text


def test_the_least_recognized_class_is_named(root: Path) -> None:
    model = model_with_facts(str(root / "tiny/version_0"), root)
    names = list(model.class_names)
    matrix = np.diag([10] * 7)
    matrix[2] = [0, 6, 3, 0, 0, 1, 0]
    rows = {
        name: {"recall": 1.0, "recall_ci95": [0.7, 1.0], "precision": 1.0, "f1": 1.0, "support": 10} for name in names
    }
    rows["fear"] = {**rows["fear"], "recall": 0.3}
    model.card.metrics["test"] |= {"per_class": rows, "confusion_matrix": matrix.tolist()}
    assert "Fear is recognized least often: 30.0% of 10 images; 60.0% are taken for disgust." in card_text(model)


def test_groups_of_people_are_told_apart(root: Path) -> None:
    run = root / "tiny/version_0"
    before = (run / "test" / PREDICTIONS).read_bytes()
    predictions = read_predictions(run / "test")
    gender = np.where(np.arange(len(predictions.index)) % 2 == 0, "woman", "man")
    predictions.groups["gender"] = gender  # type: ignore[index]  # a dictionary
    write_predictions(run / "test" / PREDICTIONS, predictions)
    found = sections(card_text(model_with_facts(str(run), root)))["Groups of people"]
    (run / "test" / PREDICTIONS).write_bytes(before)
    right = (predictions.preds == predictions.target)[gender == "woman"]
    assert f"| woman | 14 | {right.mean():.1%} |" in found
    assert "By gender, on test:" in found


def test_a_model_folder_keeps_what_its_card_says(root: Path, tmp_path: Path) -> None:
    model = tiny_model()
    model.card = model_with_facts(str(root / "tiny/version_0"), root, name="passed-on").card
    folder = write_model_folder(model, tmp_path / "passed-on")
    assert (folder / "README.md").read_text() == card_text(load_model(folder))
    assert fer("card", str(folder), f"--root={tmp_path}", "--licence=research only") == 0
    assert json.loads((folder / CONFIG).read_text())["licence"] == "research only"
    text = (folder / "README.md").read_text()
    assert text == card_text(load_model(folder))
    assert text.endswith("## Licence\n\nresearch only\n")
    assert "| test | 28 |" in text


def test_weights_have_the_same_digest_wherever_they_are(root: Path) -> None:
    path = root / "tiny/version_0/checkpoints/best.ckpt"
    state, digest = read_checkpoint(path)["state_dict"], weights_digest(read_checkpoint(path)["state_dict"])
    network = load_model(path).backend.network  # type: ignore[attr-defined]  # of torch
    assert weights_digest(network.state_dict()) == digest
    assert weights_digest({name: value for name, value in state.items() if not name.endswith("shift")}) == digest
    name = next(name for name in state if state[name].ndim > 1)
    assert weights_digest({**state, name: state[name] + 1e-3}) != digest


def test_evaluations_of_other_weights_are_left_out(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "runs"
    shutil.copytree(root, other)
    run = other / "tiny/version_0"
    report = json.loads((run / "test/report.json").read_text())
    report["context"]["weights"] = "those of another epoch"
    (run / "test/report.json").write_text(json.dumps(report))
    assert "test" not in model_with_facts(str(run), other).card.metrics
    for name in ("sha256", "weights", "settings", "evaluation"):  # as an older version wrote it
        del report["context"][name]
    (run / "test/report.json").write_text(json.dumps(report))
    assert model_with_facts(str(run), other).card.metrics["test"]["n"] == 28
    os.utime(run / "test/report.json", (1, 1))  # before the best checkpoint was written
    assert "test" not in model_with_facts(str(run), other).card.metrics
    assert set(model_with_facts(str(run / "checkpoints/resume.ckpt"), other).card.metrics) & {"val", "test"} == set()


def test_a_damaged_evaluation_of_another_run_is_no_obstacle(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "runs"
    shutil.copytree(root, other)
    shutil.copytree(other / "tiny/version_0", other / "copy/version_0")
    (other / "copy/version_0/test/predictions.csv").write_text("file\n")
    assert model_with_facts(str(other / "tiny/version_0"), other).card.metrics["test"]["n"] == 28
    with pytest.raises(DataError, match="copy/version_0/test/predictions.csv"):
        model_with_facts(str(other / "copy/version_0"), other)


def test_nothing_is_said_that_is_not_known() -> None:
    found = sections(card_text(tiny_model()))
    assert found["Scores"] == "\nNot measured.\n"
    assert "Not measured" in found["Groups of people"]
    assert "which images these were is not stored" in found["Data"]
    assert found["Licence"] == "\nNone was stated for the weights.\n"
    assert "Can the scores be believed?" not in found


def test_mistakes_are_one_line(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(root / "tiny/version_0")
    for args, said in {
        ("nowhere",): "there is no checkpoint nowhere",
        (run, "--groups=gendre"): "there is no column 'gendre' in these predictions",
        (run, "--groups=,"): "--groups names no column",
        (run, f"--out={run}/checkpoints"): "cannot be written",
    }.items():
        assert fer("card", *args, f"--root={root}") == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert said in lines[0]
    (tmp_path / "version_0/checkpoints").mkdir(parents=True)
    torch.save({"state_dict": {}}, tmp_path / "version_0/checkpoints/best.ckpt")
    assert fer("card", str(tmp_path / "version_0")) == 2
    assert "was not written by fer fit" in capsys.readouterr().err
    assert not (tmp_path / "version_0/README.md").exists()


def test_an_evaluation_stands_for_its_model(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(shutil.copytree(root, tmp_path / "runs")) / "tiny/version_0"
    assert fer("card", str(run / "test"), f"--root={root}") == 0
    assert capsys.readouterr().out == f"card         {run}/README.md\n"
    shutil.copy(run / "checkpoints/best.ckpt", run / "checkpoints/other.ckpt")
    report = json.loads((run / "test/report.json").read_text())
    report["context"]["checkpoint"] = "runs/tiny/version_0/checkpoints/other.ckpt"
    (run / "test/report.json").write_text(json.dumps(report))
    assert fer("card", str(run / "test"), f"--root={root}", f"--out={tmp_path / 'card.md'}") == 0
    assert "`other.ckpt`" in (tmp_path / "card.md").read_text()
    assert fer("bench", "infer", str(run / "test")) == 2  # a verb that does not guess names what it takes
    said = f"fer: error: the folder {run / 'test'} holds no best.ckpt: give the run that it is of, {run}\n"
    assert capsys.readouterr().err == said


def test_the_terms_of_the_data_are_those_of_its_module(root: Path, tmp_path: Path) -> None:
    path = root / "tiny/version_0/checkpoints/best.ckpt"
    content = read_checkpoint(path)
    content["fer_config"]["data"]["class_path"] = "fer_lightning.data.FER2013DataModule"
    content["fer_config"]["data"]["init_args"] = {"root": "/home/somebody/faces", "fold": 0, "train": "Training"}
    torch.save(content, tmp_path / "a.ckpt")
    facts = training_facts(tmp_path / "a.ckpt")
    terms = model_with_facts(str(tmp_path / "a.ckpt"), root).card.training["terms"]
    assert terms.startswith("none stated by its authors, and the images are other people's")
    assert (facts["configuration"]["data.fold"], "data.root" in facts["configuration"]) == (0, False)
