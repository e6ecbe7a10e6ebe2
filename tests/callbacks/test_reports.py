from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from sklearn.metrics import f1_score, log_loss
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fer_lightning.callbacks.reports import EvaluationReport, gather_rows
from fer_lightning.callbacks.run_page import curves
from fer_lightning.emotions import SEVEN
from tests.helpers.cli import TINY, fer, fit
from tests.helpers.data import StripesDataModule


def test_rows_are_joined_in_order_and_once() -> None:
    rows = [
        {"index": torch.tensor([5, 2]), "probs": torch.tensor([[0.5], [0.2]])},
        {"index": torch.tensor([3, 2]), "probs": torch.tensor([[0.3], [0.2]])},
    ]
    joined = gather_rows(rows)
    assert joined["index"].tolist() == [2, 3, 5]
    assert np.allclose(joined["probs"][:, 0], [0.2, 0.3, 0.5])


def test_a_run_leaves_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, "--report.pictures=true", "--trainer.log_every_n_steps=2") == 0
    folder = tmp_path / "tiny/version_0"
    report = json.loads((folder / "val/report.json").read_text())
    with (folder / "metrics.csv").open() as file:
        history = list(csv.DictReader(file))
    assert [row["epoch"] for row in history] == ["0", "1"]
    best = max(float(row["val_acc"]) for row in history)
    assert report["accuracy"] == pytest.approx(best, abs=1e-5)
    assert {"train_loss", "train_acc", "val_loss", "val_f1_macro", "val_recall_happy", "lr"} <= set(history[0])
    assert report["n"] == 28
    row = history[report["context"]["epoch"]]
    assert float(row["val_acc"]) == best
    with (folder / "val/predictions.csv").open() as file:
        written = list(csv.DictReader(file))
    table = StripesDataModule().table
    target = [SEVEN.class_names.index(line["target"]) for line in written]
    probs = np.array([[float(line[f"p_{name}"]) for name in SEVEN.class_names] for line in written])
    assert [int(line["index"]) for line in written] == table.rows("val").tolist()
    assert target == table.labels[table.rows("val")].tolist()
    assert [line["file"] for line in written] == table.files[table.rows("val")].tolist()
    assert float(row["val_f1_macro"]) == pytest.approx(f1_score(target, probs.argmax(1), average="macro"), rel=1e-5)
    assert float(row["val_loss"]) == pytest.approx(log_loss(target, probs / probs.sum(1, keepdims=True)), rel=1e-4)
    assert report["context"]["data"]["counts"] == {"train": 84, "val": 28, "test": 28}
    for name in ("confusion_matrix", "per_class_scores", "reliability", "worst_mistakes"):
        assert (folder / f"val/{name}.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "curves.png").exists()
    out = capsys.readouterr().out
    assert "tensorboard --logdir" in out
    assert "macro F1" in out
    assert out.splitlines()[-1] == f"page         {folder / 'index.html'}"
    page = (folder / "index.html").read_text()
    assert report["uncertainty"]["distinct"] == 28
    for told in ("The weak spot is", 'href="val/report.json"', "the beginning", "name: tiny", "data:image/png;base64,"):
        assert told in page
    board = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    assert {"val/acc", "val/f1/macro", "val/f1/angry", "train/loss", "lr"} <= set(board.Tags()["scalars"])
    assert not [tag for tag in board.Tags()["scalars"] if "_" in tag.partition("/")[0]]
    assert [event.value for event in board.Scalars("val/acc")] == pytest.approx(
        [float(row["val_acc"]) for row in history], rel=1e-5
    )
    (text,) = board.Tensors("configuration/text_summary")
    assert "    name: tiny" in text.tensor_proto.string_val[0].decode()
    assert {"val/confusion_matrix", "val/worst_mistakes"} <= set(board.Tags()["images"])


def test_a_test_leaves_its_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fer_lightning.callbacks.run_page.figure_svg", None)  # nor is time spent on curves
    assert fit(tmp_path) == 0
    assert not (tmp_path / "tiny/version_0/index.html").exists()  # the tests' runs draw nothing
    assert "page  " not in capsys.readouterr().out
    run = tmp_path / "tiny/version_0"
    assert fer("test", *TINY, f"--ckpt_path={run}", "--report.pictures=true") == 0
    page = run / "test/index.html"
    assert capsys.readouterr().out.splitlines()[-1] == f"page         {page}"
    assert "on the test part</h1>" in page.read_text()
    assert "../validate/index.html" not in page.read_text()
    assert fer("validate", *TINY, f"--ckpt_path={run}", "--report.pictures=true") == 0
    assert 'href="../validate/index.html"' in page.read_text()  # each page links to the others of the same weights
    assert 'href="../test/index.html"' in (run / "validate/index.html").read_text()


def test_the_best_of_a_minimum_is_the_smallest(tmp_path: Path) -> None:
    assert fit(tmp_path, "--checkpoint.monitor=val_loss", "--checkpoint.mode=min", epochs=3) == 0
    folder = tmp_path / "tiny/version_0"
    with (folder / "metrics.csv").open() as file:
        losses = [float(row["val_loss"]) for row in csv.DictReader(file)]
    report = json.loads((folder / "val/report.json").read_text())
    assert report["context"]["epoch"] == int(np.argmin(losses))


def test_the_history_goes_on_after_a_resume(tmp_path: Path) -> None:
    assert fit(tmp_path, epochs=1) == 0
    assert fit(tmp_path, "--ckpt_path=last", "--report.pictures=true", epochs=3) == 0
    with (tmp_path / "tiny/version_0/metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2"]
    page = (tmp_path / "tiny/version_0/index.html").read_text()
    assert "trainer.max_epochs 1 -&gt; 3" in page
    assert "losses and scores by epoch" in page


def test_an_epoch_that_is_trained_again_has_one_row() -> None:
    report = EvaluationReport()
    report.history = [{"epoch": float(epoch)} for epoch in range(3)]
    metrics = {"val_acc": torch.tensor(0.5)}
    trainer: Any = SimpleNamespace(callback_metrics=metrics, current_epoch=1, global_step=20, is_global_zero=False)
    report.on_train_epoch_end(trainer, LightningModule())
    assert report.history == [{"epoch": 0.0}, {"epoch": 1.0, "step": 20.0, "lr": 0.0, "val_acc": 0.5}]


def test_curves_are_drawn_over_epochs_of_what_was_logged() -> None:
    history = [{"epoch": 0.0, "step": 10.0, "val_acc": 0.5, "lr": 0.1}, {"epoch": 1.0, "step": 20.0, "val_loss": 2.0}]
    assert curves(history) == {"val_acc": [(0.0, 0.5)], "val_loss": [(1.0, 2.0)]}


def test_a_report_says_of_which_evaluation_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    task = LightningModule()
    task.layer = torch.nn.Linear(4, 3)
    task.hparams["backbone"] = "fer_a"
    trainer: Any = SimpleNamespace(
        state=SimpleNamespace(fn="fit"), current_epoch=3, global_step=40, ckpt_path=Path("a.ckpt"), world_size=2,
        lightning_module=task, precision="bf16-mixed", strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )  # fmt: skip
    monkeypatch.setattr(EvaluationReport, "_shared", lambda _, trainer, split, rows: {"val": 5, "test": 6}[split])
    report = EvaluationReport()
    report._data = {"counts": {"val": 9}}
    context = report._context(trainer, "val", {})
    expected = {
        "split": "val", "overlap_with_train": 5, "epoch": 3, "step": 40, "seed": 7, "checkpoint": "a.ckpt",
        "model": "fer_a", "parameters": 15, "precision": "bf16-mixed", "devices": "2 x cpu", "data": report._data,
    }  # fmt: skip
    assert {name: context[name] for name in expected} == expected
    trainer.state.fn = "test"
    assert "epoch" not in report._context(trainer, "test", {})
    assert report._context(trainer, "test", {})["overlap_with_train"] == 6


def test_predictions_of_the_focus_part_are_not_reported() -> None:
    report, trainer = EvaluationReport(), Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    outputs = {"index": torch.tensor([3]), "label": torch.tensor([1]), "logits": torch.tensor([[0.0, 1.0]])}
    for loader in (1, 0, 1):
        report.on_validation_batch_end(trainer, LightningModule(), outputs, None, 0, loader)
    [kept] = report._batches
    assert kept["target"].tolist() == [1]
    assert torch.equal(kept["probs"], outputs["logits"].softmax(1))


def test_evaluations_write_beside_the_checkpoint(tmp_path: Path) -> None:
    assert fit(tmp_path) == 0
    folder = tmp_path / "tiny/version_0"
    config = (folder / "config.yaml").read_bytes()
    assert fer("test", f"--ckpt_path={folder}", "--trainer.enable_progress_bar=false") == 0
    assert json.loads((folder / "test/report.json").read_text())["split"] == "test"
    assert (folder / "config.yaml").read_bytes() == config


def test_a_run_that_gets_no_better_shows_the_report_of_its_earlier_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worse = ["--checkpoint.monitor=val_loss", "--checkpoint.mode=max"]  # the first epoch stays the best
    assert fit(tmp_path, *worse, epochs=2) == 0
    first = capsys.readouterr().out
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / "tiny").rename(moved / "tiny")
    report = (moved / "tiny/version_0/val/report.json").read_bytes()
    assert fit(moved, *worse, "--ckpt_path=last", epochs=3) == 0
    again = capsys.readouterr().out
    table = first[first.index("Best validation") : first.index("report  ")]
    assert table in again
    assert (moved / "tiny/version_0/val/report.json").read_bytes() == report
