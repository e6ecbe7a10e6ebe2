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
from lightning.pytorch.loggers import TensorBoardLogger
from sklearn.metrics import f1_score, log_loss
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fer_lightning.callbacks.checkpoints import BestCheckpoint
from fer_lightning.callbacks.reports import EvaluationReport, _history_csv, _model_name, gather_rows
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
    assert board.Images("val/confusion_matrix")[-1].step == 20


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
    outputs = {**outputs, "logits": torch.tensor([[0.0, 3.0]], dtype=torch.bfloat16)}
    report.on_validation_batch_end(trainer, LightningModule(), outputs, None, 1)
    assert report._batches.pop()["probs"].tolist() == torch.tensor([[0.0, 3.0]]).softmax(1).tolist()
    [kept] = report._batches
    assert kept["target"].tolist() == [1]
    assert torch.equal(kept["probs"], torch.tensor([[0.0, 1.0]]).softmax(1))


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


def test_the_table_of_metrics_has_every_column_that_any_epoch_has() -> None:
    history = [
        {"epoch": 0.0, "step": 10.0, "lr": 0.123456789, "train_loss": 1.5},
        {"epoch": 1.0, "step": 1234567.0, "lr": 1e-05, "val_acc": 2 / 3},
    ]
    assert _history_csv(history).splitlines() == [
        "epoch,step,lr,train_loss,val_acc",
        "0,10,0.123457,1.5,",
        "1,1234567,1e-05,,0.666667",
    ]


def test_predictions_of_one_validation_are_not_those_of_the_next() -> None:
    report = EvaluationReport()
    for value in (0.25, 0.75):
        report._batches.append({"index": torch.tensor([4]), "probs": torch.tensor([[value]])})
        assert report._joined()["probs"].tolist() == [[value]]
    assert report._joined() == {}


def test_the_rate_is_that_of_the_first_group() -> None:
    report = EvaluationReport()
    groups = [{"lr": 0.5}, {"lr": 0.25}]
    trainer: Any = SimpleNamespace(optimizers=[SimpleNamespace(param_groups=groups)])
    report.on_train_batch_end(trainer, LightningModule(), None, None, 0)
    assert report._rate == 0.5


def test_a_row_of_the_training_part_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    overlap = {("val", "train"): [5, 9], ("train", "val"): [1]}
    table = SimpleNamespace(overlap=lambda split, against: np.array(overlap[split, against]))
    monkeypatch.setattr("fer_lightning.callbacks.reports.datamodule_of", lambda _: SimpleNamespace(table=table))
    report, trainer = EvaluationReport(), Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    rows = {"index": np.array([1, 5, 7])}
    report._data = {"overlap_with_train": {"val": 2, "test": 0}}
    assert report._seen(trainer, "val", rows).tolist() == [False, True, False]
    assert report._seen(trainer, "test", rows).tolist() == [False] * 3
    assert [report._shared(trainer, split, rows) for split in ("val", "test", "other")] == [1, 0, None]


def test_what_could_not_be_written_is_tried_again_after_the_epoch_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, written = EvaluationReport(pictures=False), list[str]()
    report._best = {}, {}
    full = [True, True, False]  # the disk, each time

    def write(*args: Any) -> None:
        if full.pop(0):
            raise OSError(28, "No space left on device")
        written.append("report")

    monkeypatch.setattr(report, "_write", write)
    trainer: Any = SimpleNamespace(
        callback_metrics={}, current_epoch=0, global_step=5, is_global_zero=True, default_root_dir=str(tmp_path)
    )
    report._write_best(trainer)
    for count in (0, 1, 1):
        report.on_train_epoch_end(trainer, LightningModule())
        assert len(written) == count
    assert (tmp_path / "metrics.csv").read_text() == "epoch,step,lr\n0,5,0\n"


@pytest.mark.parametrize("validated", [True, False])
def test_the_end_of_a_run_tells_the_best_validation(
    validated: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, best = EvaluationReport(pictures=False), BestCheckpoint("val_loss", "min")
    best.best = {"best": 0.12345, "epoch": 3} if validated else {}
    report._table = "the table"
    trainer: Any = SimpleNamespace(
        default_root_dir=str(tmp_path), is_global_zero=True, checkpoint_callbacks=[best],
        loggers=[TensorBoardLogger(tmp_path, "", ""), TensorBoardLogger(tmp_path / "board", "x", "y")],
    )  # fmt: skip
    report.on_fit_end(trainer, LightningModule())
    place = f"report       {tmp_path}/val/report.json\ncheckpoint   {tmp_path}/checkpoints/best.ckpt\n"
    watched = tmp_path.parent, tmp_path / "board/x"
    watch = "".join(f"watch        tensorboard --logdir {each}\n" for each in watched)
    told = f"\nBest validation (val_loss 0.1235)\n\nthe table\n\n{place}{watch}"
    assert capsys.readouterr().out == (told if validated else "")


@pytest.mark.parametrize(
    ("stage", "stopped", "told"),
    [("validate", False, True), ("test", False, True), ("fit", False, False), ("test", True, False)],
)
def test_an_evaluation_that_was_not_stopped_prints_its_table(
    stage: str, stopped: bool, told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = EvaluationReport(pictures=False)
    report._table = "the table"
    trainer: Any = SimpleNamespace(default_root_dir=str(tmp_path), is_global_zero=True, interrupted=stopped)
    report.teardown(trainer, LightningModule(), stage)
    assert capsys.readouterr().out == (f"\nthe table\n\nreport       {tmp_path}/report.json\n" if told else "")


def test_a_model_is_named_by_its_network_or_the_class_of_it() -> None:
    task, trainer = LightningModule(), SimpleNamespace()
    trainer.lightning_module = task
    names = []
    for backbone in ("resnet18", {"class_path": "my.Net", "init_args": {}}, {"width": 8}):
        task.hparams["backbone"] = backbone
        names.append(_model_name(trainer))  # type: ignore[arg-type]
    assert names == ["resnet18", "my.Net", "dict"]
