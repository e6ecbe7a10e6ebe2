"""What evaluations say of images that a model has seen and of earlier looks, and that they overwrite no other one."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from fer_lightning.evaluation.predictions import digest_texts, read_predictions
from fer_lightning.inference.loading import load_model
from fer_lightning.inference.model_folder import write_model_folder
from fer_lightning.runs.checkpoint import read_checkpoint
from fer_lightning.runs.looks import LOG, broken_links, read_looks
from fer_lightning.runs.trained_on import TrainedOn, digest_numbers, read_trained_on
from tests.helpers.cli import QUICK, fer, fit
from tests.helpers.data import OtherStripesDataModule, PlantedDataModule, StripesDataModule

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
    assert fer("test", f"--ckpt_path={run}", PLANTED, *QUICK) == 0
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
    assert fer("test", path, *QUICK) == 0
    first = report_in(run / "test")
    assert first["context"]["precision"] == "32-true"
    assert first["looks"] == {"number": 1, "repeats": 0, "gain": 0}
    for other in (["--data.test=14"], ["--trainer.precision=bf16-mixed"], ["--model.tau=0.5"]):
        assert fer("test", path, *QUICK, *other) == 0
    assert fer("test", path, *QUICK) == 0
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
    assert fer("test", f"--ckpt_path={run}/checkpoints/resume.ckpt", *QUICK) == 0
    assert (run / "test/report.json").read_text() == '{"context": {}}'
    assert len(list(run.glob("test-*/report.json"))) == 1


def test_a_run_that_cannot_be_written_to_is_evaluated_elsewhere(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, own = root / "tiny/version_0", tmp_path / "own"
    access = os.access
    monkeypatch.setattr("os.access", lambda path, mode, **options: path != run and access(path, mode, **options))
    before = sorted(root.rglob("*"))
    assert fer("test", f"--ckpt_path={run}", f"--trainer.default_root_dir={own}", *QUICK) == 0
    assert sorted(root.rglob("*")) == before
    said = f"{run} cannot be written to: the evaluation is written to {own}/tiny/version_0\n"
    assert said in capsys.readouterr().out
    assert report_in(own / "tiny/version_0")["looks"]["number"] == 1
    assert [look.checkpoint for look in read_looks(own)] == [str(run / "checkpoints/best.ckpt")]


def test_a_log_that_cannot_be_written_stops_a_test_before_it_looks(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / LOG).mkdir()
    assert fer("test", f"--ckpt_path={root}/tiny/version_0", *QUICK) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fer: ")]
    assert line == f"fer: error: the look at the test split cannot be noted in {root / LOG}: Is a directory"
    assert not (root / "tiny/version_0/test/report.json").exists()


def test_the_same_network_in_a_model_folder_is_no_further_look(
    tmp_path: Path,
) -> None:
    assert fit(tmp_path / "runs", "--model.backbone=compact_resnet_418k", epochs=1) == 0
    run = tmp_path / "runs/tiny/version_0"
    folder = write_model_folder(load_model(run), tmp_path / "model")
    assert fer("test", f"--ckpt_path={run}", *QUICK) == 0
    here = [*QUICK, f"--trainer.default_root_dir={tmp_path / 'runs'}"]
    assert fer("test", f"--ckpt_path={folder}", PLANTED, "--name=own", *here) == 0
    assert report_in(tmp_path / "runs/own/version_0")["seen"]["train"] == PlantedDataModule.PLANTED
    assert fer("test", f"--ckpt_path={folder}", "--data=tests.helpers.data.StripesDataModule", *here) == 0
    assert report_in(tmp_path / "runs/default/version_0")["looks"]["repeats"] == 1
    assert len(read_looks(tmp_path / "runs")) == 3


def test_old_checkpoints_say_that_nothing_is_known(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = root / "tiny/version_0/checkpoints/best.ckpt"
    content = read_checkpoint(path)
    del content["fer_trained_on"]
    torch.save(content, path)
    assert fer("test", f"--ckpt_path={path}", *QUICK) == 0
    seen = report_in(root / "tiny/version_0/test")["seen"]
    assert (seen["train"], seen["val"], seen["without"]) == (None, None, None)
    out = " ".join(capsys.readouterr().out.split())
    assert "Whether the model was trained on any of them is not known: it was saved by an older version." in out


def test_a_removed_or_changed_line_is_found(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    looks = ["runs", "looks", f"--root={root}"]
    assert fer(*looks) == 0
    assert "no look at a test split is noted" in capsys.readouterr().out
    for test in (28, 21, 14):
        assert fer("test", f"--ckpt_path={root}/tiny/version_0", f"--data.test={test}", *QUICK) == 0
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


def parents_of(root: Path, *options: str, name: str = "child") -> tuple[TrainedOn, dict[str, Any]]:
    """Train a run for an epoch; return what its checkpoint knows of images, and what its best validation has seen."""
    assert fit(root, *options, name=name, epochs=1) == 0
    record = read_trained_on(root / name / "version_0/checkpoints/best.ckpt")
    assert record is not None
    return record, report_in(root / name / "version_0/val")["seen"]


OTHER = "--data=tests.helpers.data.OtherStripesDataModule"


def test_images_of_weights_teachers_and_soft_labels_are_inherited(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = root / "tiny/version_0"
    first = read_trained_on(run / "checkpoints/best.ckpt")
    assert first is not None
    own = OtherStripesDataModule().table
    soft = run / "val" / "predictions.csv"
    soft.write_text(
        "digest," + ",".join(f"p_{name}" for name in own.class_names) + "\n"
        + "".join(f"{digest}{',0.1' * 6},0.4\n" for digest in digest_texts(own.digests))
    )  # fmt: skip
    for name, option in {
        "weights": f"--model.weights={run}/checkpoints/best.ckpt",
        "teacher": f"--model.teacher={run}",
        "soft": f"--data.soft_label_file={soft}",
    }.items():
        record, seen = parents_of(root, OTHER, option, name=name)
        assert np.isin(first.train, record.train).all()
        assert len(record.train) == len(first.train) + 84
        assert len(record.val) == len(np.union1d(first.val, digest_numbers(own.digests[own.rows("val")])))
        assert record.unknown == ()
        assert (seen["train"], seen["val"]) == (10, 18)
        assert "were trained on 10 of the 28 validation images" in capsys.readouterr().out


def test_what_is_not_known_is_named(root: Path, tmp_path: Path) -> None:
    state = torch.load(root / "tiny/version_0/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    file = tmp_path / "theirs.pth"
    torch.save({k.removeprefix("classifier.backbone."): v for k, v in state.items() if ".backbone." in k}, file)
    record, _ = parents_of(root, f"--model.weights={file}")
    assert record.unknown == ("weights theirs.pth",)
    assert len(record.train) == 84
    assert fer("test", f"--ckpt_path={root}/child/version_0", *QUICK) == 0
    assert report_in(root / "child/version_0/test")["seen"]["unknown"] == list(record.unknown)


def test_a_resume_with_other_data_keeps_the_images_from_before(root: Path) -> None:
    before = read_trained_on(root / "tiny/version_0/checkpoints/best.ckpt")
    assert before is not None
    assert fit(root, "--ckpt_path=last", "--data.train=70", "--allow_changed_data=true", epochs=3) == 0
    after = read_trained_on(root / "tiny/version_1/checkpoints/resume.ckpt")
    assert after is not None
    assert np.isin(before.train, after.train).all()
    assert np.isin(before.val, after.val).all()
    assert after.unknown == ()
    path = root / "tiny/version_1/checkpoints/resume.ckpt"
    content = read_checkpoint(path)
    del content["fer_trained_on"]
    torch.save(content, path)
    assert fit(root, f"--ckpt_path={path}", "--data.train=70", epochs=4) == 0
    after = read_trained_on(path)
    assert after is not None
    assert after.unknown == ("the start of tiny/version_1/resume.ckpt",)


def test_digests_can_be_left_out(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record, _ = parents_of(root, "--card.digests=false", name="private")
    left = "84 training and 28 validation images whose digests were left out"
    assert (len(record.train), len(record.val), record.unknown) == (0, 0, (left,))
    capsys.readouterr()
    assert fer("test", f"--ckpt_path={root}/private/version_0", *QUICK) == 0
    seen = report_in(root / "private/version_0/test")["seen"]
    assert seen == {"train": None, "val": None, "unknown": [left], "without": None}
    assert f"on any of them is not known: {left}." in " ".join(capsys.readouterr().out.split())
    with_digests, _ = parents_of(root, f"--model.weights={root}/private/version_0/checkpoints/best.ckpt", name="next")
    assert (len(with_digests.train), with_digests.unknown) == (84, (left,))
