"""What evaluations say of images that a model has seen and of earlier looks, and that they overwrite no other one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from fer_lightning.evaluation.predictions import read_predictions
from fer_lightning.inference.loading import load_model
from fer_lightning.inference.model_folder import write_model_folder
from fer_lightning.runs.checkpoint import read_checkpoint
from fer_lightning.runs.looks import LOG, broken_links, read_looks
from fer_lightning.runs.trained_on import digest_numbers, read_trained_on
from tests.helpers.cli import fer, fit
from tests.helpers.data import PlantedDataModule, StripesDataModule

NO_BAR = "--trainer.enable_progress_bar=false"
PLANTED = "--data=tests.helpers.data.PlantedDataModule"


def report_in(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return values


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    assert fit(root, "--trainer.precision=bf16-mixed") == 0
    return root


@pytest.fixture
def root(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "runs")
    return tmp_path / "runs"


def test_checkpoints_know_their_training_and_validation_images(trained: Path) -> None:
    table = StripesDataModule().table
    for file in ("best.ckpt", "resume.ckpt"):
        record = read_trained_on(trained / "tiny/version_0/checkpoints" / file)
        assert record is not None
        assert record.unknown == ()
        for split in ("train", "val"):
            wanted = np.sort(digest_numbers(table.digests[table.rows(split)]))
            assert np.array_equal(getattr(record, split), wanted)


def test_planted_training_images_are_told_by_the_model_alone(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = root / "tiny/version_0"
    assert fer("test", f"--ckpt_path={run}", PLANTED, NO_BAR) == 0
    out = capsys.readouterr().out
    found = report_in(run / "test")["seen"]
    rows = read_predictions(run / "test")
    fresh = np.arange(len(rows.index)) >= PlantedDataModule.PLANTED
    right = rows.preds == rows.target
    assert (found["train"], found["val"], found["unknown"]) == (PlantedDataModule.PLANTED, 0, [])
    assert found["without"]["n"] == int(fresh.sum())
    assert found["without"]["accuracy"] == pytest.approx(right[fresh].mean())
    assert found["without"]["f1_macro"] == pytest.approx(
        f1_score(rows.target[fresh], rows.preds[fresh], average="macro")
    )
    assert f"The model was trained on {PlantedDataModule.PLANTED} of them." in out
    assert f"On the other {fresh.sum()}: accuracy {right[fresh].mean():.4f}" in out


def test_evaluations_compute_in_float32_and_overwrite_no_other(root: Path) -> None:
    run = root / "tiny/version_0"
    path = f"--ckpt_path={run}"
    assert fer("test", path, NO_BAR) == 0
    first = report_in(run / "test")
    assert first["context"]["precision"] == "32-true"
    assert first["looks"] == {"number": 1, "repeats": 0, "gain": 0}
    for other in (["--data.test=14"], ["--trainer.precision=bf16-mixed"], ["--model.tau=0.5"]):
        assert fer("test", path, NO_BAR, *other) == 0
    assert fer("test", path, NO_BAR) == 0
    folders = sorted(path.name for path in run.glob("test*"))
    assert [name for name in folders if name != "test"] == sorted(
        f"test-{report_in(run / name)['context']['evaluation']}" for name in folders if name != "test"
    )
    assert len(folders) == 4
    again = report_in(run / "test")
    assert again["context"]["evaluation"] == first["context"]["evaluation"]
    assert (again["accuracy"], again["looks"]["repeats"]) == (first["accuracy"], 1)
    looks = read_looks(root)
    assert [(look.verb, look.split, look.n) for look in looks] == [
        ("test", "test", count) for count in (28, 14, 28, 28, 28)
    ]
    assert {look.checkpoint for look in looks} == {"tiny/version_0/checkpoints/best.ckpt"}
    assert broken_links(root) == []


def test_an_older_evaluation_and_one_of_other_weights_stay(root: Path) -> None:
    run = root / "tiny/version_0"
    (run / "test").mkdir()
    (run / "test/report.json").write_text('{"context": {}}')
    assert fer("test", f"--ckpt_path={run}/checkpoints/resume.ckpt", NO_BAR) == 0
    assert (run / "test/report.json").read_text() == '{"context": {}}'
    assert len(list(run.glob("test-*/report.json"))) == 1


def test_the_same_network_in_a_model_folder_is_no_further_look(
    tmp_path: Path,
) -> None:
    assert fit(tmp_path / "runs", "--model.backbone=compact_resnet_418k", epochs=1) == 0
    run = tmp_path / "runs/tiny/version_0"
    folder = write_model_folder(load_model(run), tmp_path / "model")
    assert fer("test", f"--ckpt_path={run}", NO_BAR) == 0
    here = [NO_BAR, f"--trainer.default_root_dir={tmp_path / 'runs'}"]
    assert fer("test", f"--ckpt_path={folder}", PLANTED, "--name=own", *here) == 0
    assert report_in(tmp_path / "runs/own/version_0")["seen"]["train"] == PlantedDataModule.PLANTED
    assert fer("test", f"--ckpt_path={folder}", "--data=tests.helpers.data.StripesDataModule", *here) == 0
    assert report_in(tmp_path / "runs/default/version_0")["looks"]["repeats"] == 1
    assert len(read_looks(tmp_path / "runs")) == 3


def test_old_checkpoints_say_that_nothing_is_known(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    path = root / "tiny/version_0/checkpoints/best.ckpt"
    content = read_checkpoint(path)
    del content["fer_trained_on"]
    torch.save(content, path)
    assert fer("test", f"--ckpt_path={path}", NO_BAR) == 0
    seen = report_in(root / "tiny/version_0/test")["seen"]
    assert (seen["train"], seen["val"], seen["without"]) == (None, None, None)
    out = " ".join(capsys.readouterr().out.split())
    assert "Whether the model was trained on any of them is not known: it was saved by an older version." in out


def test_a_removed_or_changed_line_is_found(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    looks = ["runs", "looks", f"--root={root}"]
    assert fer(*looks) == 0
    assert "no look at a test split is noted" in capsys.readouterr().out
    for test in (28, 21, 14):
        assert fer("test", f"--ckpt_path={root}/tiny/version_0", f"--data.test={test}", NO_BAR) == 0
    capsys.readouterr()
    assert fer(*looks) == 0
    head, *rows, _, end = capsys.readouterr().out.splitlines()
    assert head.split() == ["split", "images", "look", "repeats", "time", "accuracy", "checkpoint", "settings"]
    accuracies = {report["n"]: report["accuracy"] for report in map(report_in, (root / "tiny/version_0").glob("test*"))}
    for row, test in zip(rows, (28, 21, 14), strict=True):
        cells = row.split()
        assert (cells[2], cells[3], cells[7]) == (str(test), "1", f"{accuracies[test]:.4f}")
    assert end == f"{root / LOG}: 3 lines, none changed or removed"
    lines = (root / LOG).read_text().splitlines()
    (root / LOG).write_text("\n".join([lines[0], lines[2]]) + "\n")
    assert broken_links(root) == [
        "line 2 does not follow the line before it: that was changed, or lines were taken out"
    ]
    capsys.readouterr()
    assert fer(*looks) == 2
    assert "is not as it was written: line 2 does not follow" in capsys.readouterr().err
    (root / LOG).write_text("\n".join(lines[:2]) + "\n")
    assert fer(*looks) == 2
    assert "the look of tiny/version_0/test-" in capsys.readouterr().err
    (root / LOG).write_text("\n".join([lines[0].replace('"n": 28', '"n": 27'), *lines[1:]]) + "\n")
    assert len(broken_links(root)) == 1
