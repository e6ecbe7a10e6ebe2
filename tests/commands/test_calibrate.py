from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fer_lightning.evaluation.predictions import PREDICTIONS, Predictions, write_predictions
from fer_lightning.models.calibration import calibration_of
from tests.evaluation.test_calibration import NAMES, validated
from tests.helpers.cli import fer

PRINTS = {"fingerprints": {"train": "learned", "val": "own"}}
COUNTS = dict(zip(NAMES, (10, 20, 30, 40, 50), strict=True))


def run_in(folder: Path, predictions: Predictions, place: str = "val", seen: int = 0, **context: Any) -> Path:
    """Make what a run with validation predictions leaves, and return its folder."""
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    content = {"global_step": 7, "fer_task": {"class_counts": COUNTS}, "fer_lineage": {"data": PRINTS}}
    torch.save(content, checkpoints / "best.ckpt")
    write_predictions(folder / place / PREDICTIONS, predictions)
    report = {"split": predictions.split, "context": context, "seen": {"train": seen}}
    (folder / place / "report.json").write_text(json.dumps(report))
    return folder


def error_of(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert fer("calibrate", *args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_a_run_is_calibrated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_in(tmp_path / "runs/mine/version_0", validated(400))
    capsys.readouterr()
    said = error_of(capsys, str(run / "checkpoints/best.ckpt"), "--coverage=0.999")
    assert said == "fer: error: 200 images are too few for a coverage of 0.999: at most 0.99 can be had\n"
    assert fer("calibrate", "mine", f"--root={tmp_path / 'runs'}", "--risk=0.2", "--coverage=0.85") == 0
    out = capsys.readouterr().out
    assert f"400 validation images, 400 of them distinct: {run / 'val'}" in out
    assert "wanted 20.0%" in out
    assert out.splitlines()[-1] == f"report       {run / 'calibration.html'}"
    found = json.loads((run / "calibration.json").read_text())
    assert (found["step"], list(found["calibration"]["sets"])) == (7, ["0.8", "0.85", "0.9", "0.95", "0.99"])
    page = (run / "calibration.html").read_text()
    assert page.count("<svg") == 3
    assert "<script" not in page
    for sentence in found["verdicts"]:
        assert sentence in page
    (run / "calibration.html").unlink()
    (run / "calibration.html").mkdir()
    assert fer("calibrate", str(run)) == 2
    assert "cannot be written (Is a directory)" in capsys.readouterr().err
    for name in ("reliability", "risk", "sets"):
        assert (run / f"calibration_{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_folds_of_an_arm_are_pooled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, arm = validated(200), tmp_path / "study/strong"
    for fold in range(2):
        part = slice(100 * fold, 100 * (fold + 1))
        columns = {name: getattr(data, name)[part] for name in ("index", "target", "probs", "files", "digests")}
        run_in(arm / f"fold{fold}_seed0/version_0", replace(data, **columns))
    shutil.copytree(arm / "fold1_seed0/version_0", arm / "fold1_seed0/version_1")  # begun again: the newest counts
    assert fer("calibrate", str(arm)) == 0
    assert "200 validation images, 200 of them distinct: 2 runs pooled" in capsys.readouterr().out
    found = json.loads((arm / "calibration.json").read_text())
    assert found["step"] is None
    assert [Path(each).parts[-2] for each in found["evaluations"]] == ["version_0", "version_1"]
    alone = run_in(tmp_path / "alone/version_0", data)
    assert fer("calibrate", str(alone)) == 0
    own = json.loads((alone / "calibration.json").read_text())
    assert own["calibration"] == found["calibration"]  # the same images and training images: the same fit
    (tmp_path / "study/study.json").write_text("{}")
    capsys.readouterr()
    said = error_of(capsys, str(tmp_path / "study"))
    assert said.rstrip().endswith(f"is a comparison of the arms strong: fer calibrate {arm}")


def test_a_run_is_calibrated_by_the_folds_of_an_arm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, arm = validated(200), tmp_path / "study/strong"
    for fold in range(2):
        part = slice(100 * fold, 100 * (fold + 1))
        columns = {name: getattr(data, name)[part] for name in ("index", "target", "probs", "files", "digests")}
        run_in(arm / f"fold{fold}_seed0/version_0", replace(data, **columns))
    run = run_in(tmp_path / "all/version_0", replace(validated(200), probs=validated(200).probs[::-1].copy()))
    assert fer("calibrate", str(run), "--from", str(arm)) == 0
    assert f"Fitted on what 2 runs of {arm} say" in capsys.readouterr().out
    found = json.loads((run / "calibration.json").read_text())
    assert (found["step"], found["calibration"]["origin"]) == (7, str(arm))
    assert not (arm / "calibration.json").exists()
    content = {"global_step": 7, "fer_task": {"class_names": list(NAMES)}}
    calibration = calibration_of(run / "checkpoints/best.ckpt", content)
    assert (calibration.origin, calibration.threshold) == (str(arm), found["risk"]["threshold"])
    assert fer("calibrate", str(arm)) == 0
    own = json.loads((arm / "calibration.json").read_text())["calibration"]
    assert {**own, "origin": str(arm)} == found["calibration"]
    capsys.readouterr()
    assert f"fer calibrate RUN --from {arm}\n" in error_of(capsys, str(arm), "--from", str(arm))
    assert "is no folder of an arm" in error_of(capsys, str(run), "--from", str(run))
    (run / "config.yaml").write_text("model: {backbone: fer_b}")
    said = error_of(capsys, str(run), "--from", str(arm))
    assert f"{run} trains fer_b, and the folds of {arm} None" in said
    (run / "config.yaml").unlink()
    torch.save({"global_step": 7, "fer_task": {"class_names": ["a", "b"]}}, run / "checkpoints/best.ckpt")
    assert f"has the classes a, b; {arm} has angry, " in error_of(capsys, str(run), "--from", str(arm))


def test_bad_input_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    run = run_in(tmp_path / "mine/version_0", validated(200))
    wrong = [["none"], [str(run / "val")], [str(run), "--risk=2"], [str(run), "--from=none"]]
    code = "import sys; from fer_lightning.__main__ import main; "
    code += f"assert [main(['calibrate', *args]) for args in {wrong!r}] == [2] * 4; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_run_that_cannot_be_written_to_is_refused_before_computing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_in(tmp_path / "mine/version_0", validated(200))
    monkeypatch.setattr("os.access", lambda *_: False)
    assert error_of(capsys, str(run)) == f"fer: error: {run}: cannot be written, {run} is read-only\n"


def test_test_data_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_in(tmp_path / "version_0", validated(200))
    run_in(run, replace(validated(200), split="test"), place="test")
    said = error_of(capsys, str(run / "test"))
    assert f"of the test part, which a calibration must not see: fer calibrate {run}\n" in said
    assert f"of an evaluation, not the run itself: fer calibrate {run}\n" in error_of(capsys, str(run / "val"))
    shutil.copy(run / "test" / PREDICTIONS, run / "val" / PREDICTIONS)
    assert "digests" not in (said := error_of(capsys, str(run)))
    assert f"no validation predictions of its best checkpoint: fer validate --ckpt_path {run}\n" in said


def test_predictions_without_digests_name_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = replace(validated(200), digests=np.full(200, "", np.str_))
    run = run_in(tmp_path / "version_0", old)
    said = error_of(capsys, str(run))
    assert said.endswith(f"of an older version, without digests: fer validate --ckpt_path {run}\n")
    run_in(run, validated(200), place="validate", seen=12)
    os.utime(run / "validate" / PREDICTIONS, (1, 1))  # older, and the only one that can be used
    assert fer("calibrate", str(run)) == 0
    assert "12 of these images were trained on" in capsys.readouterr().out
    shutil.rmtree(run / "val")
    run_in(run, validated(200), place="validate", sha256="of another checkpoint")
    assert "no validation predictions of its best checkpoint" in error_of(capsys, str(run))


def test_predictions_of_other_weights_are_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_in(tmp_path / "version_0", validated(200), step=5)  # the training went on
    assert "no validation predictions of its best checkpoint" in error_of(capsys, str(run))
    assert "there is no run 'none'" in error_of(capsys, "none")


def test_predictions_of_other_images_are_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_in(tmp_path / "version_0", validated(200))
    run_in(run, validated(300), place="validate", data={"fingerprints": {"val": "others"}})
    assert fer("calibrate", str(run)) == 0
    assert "200 validation images" in capsys.readouterr().out
    run_in(run, validated(400), place="validate-2", data=PRINTS)
    assert fer("calibrate", str(run)) == 0
    assert "400 validation images" in capsys.readouterr().out
    for name in ("val", "validate-2"):
        shutil.rmtree(run / name)
    assert f"no validation predictions of its best checkpoint: fer validate --ckpt_path {run}" in error_of(
        capsys, str(run)
    )


def test_a_table_without_rows_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_in(tmp_path / "version_0", validated(200))
    table = run / "val" / PREDICTIONS
    table.write_text(table.read_text().splitlines()[0] + "\n")
    assert error_of(capsys, str(run)).endswith(f"holds predictions of no images: fer validate --ckpt_path {run}\n")


def test_a_table_of_a_run_names_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_in(tmp_path / "version_0", validated(200))
    assert error_of(capsys, str(run / "val" / PREDICTIONS)).endswith(f"not the run itself: fer calibrate {run}\n")


def test_only_the_runs_of_an_arm_are_pooled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        run_in(tmp_path / name / "version_0", validated(200))
    assert "there is no run" in error_of(capsys, str(tmp_path), f"--root={tmp_path}")
    assert not (tmp_path / "calibration.json").exists()


def test_a_model_without_mistakes_is_calibrated(tmp_path: Path) -> None:
    data = validated(200)
    sure = np.eye(len(NAMES), dtype=np.float32)[data.target]
    run = run_in(tmp_path / "version_0", replace(data, probs=sure))
    assert fer("calibrate", str(run)) == 0
    assert json.loads((run / "calibration.json").read_text())["risk"]["threshold"] == 0


def test_a_model_folder_has_no_predictions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    assert "is a model folder without validation predictions" in error_of(capsys, str(tmp_path))
