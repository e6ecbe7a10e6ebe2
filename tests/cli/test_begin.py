"""What is decided when a run begins; whole runs begin in ``test_trainer_cli`` and ``tests/test_ends``."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fer_lightning.cli import begin, framing
from fer_lightning.inference.framing import FEWEST, FRAMING
from fer_lightning.models.calibration import Calibration
from fer_lightning.runs.lineage import Change


@pytest.mark.parametrize(
    ("limit", "refused"), [(None, False), (-1, False), (0, True), (2, True), (3, False), (4, False)]
)
def test_only_fewer_epochs_than_are_done_end_a_run(
    limit: int | None, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(begin, "read_checkpoint", lambda path, mapped: {"mapped": mapped})
    monkeypatch.setattr(begin, "epochs_in", lambda content: 3)
    assert begin._has_more_than(limit, Path("a.ckpt")) is refused


def test_a_process_knows_whether_another_has_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(begin.PARENT_VARIABLE, raising=False)
    assert not begin.is_started_by_another()
    monkeypatch.setenv(begin.PARENT_VARIABLE, str(os.getpid()))
    assert not begin.is_started_by_another()
    monkeypatch.setenv(begin.PARENT_VARIABLE, str(os.getpid() + 1))
    assert begin.is_started_by_another()


@pytest.mark.parametrize(
    ("accelerator", "has_gpu", "device"),
    [
        ("auto", True, "cuda"),
        ("gpu", True, "cuda"),
        ("cuda", True, "cuda"),
        ("cpu", True, "cpu"),
        ("auto", False, "cpu"),
    ],
)
def test_the_precision_is_measured_where_and_on_what_is_trained(
    accelerator: str, has_gpu: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[Any] = []
    asked: list[Any] = []
    shapes: list[tuple[int, ...]] = []

    def to(where: Any) -> Any:
        moved.append(where)
        return model

    def drawn(*shape: int, generator: torch.Generator) -> Any:
        assert generator.initial_seed() == 0
        shapes.append(shape)
        return SimpleNamespace(to=to)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.delenv(begin.PRECISION_VARIABLE, raising=False)
    monkeypatch.setattr(torch, "randn", drawn)

    def measure(model: Any, images: Any, criterion: Any) -> Any:
        asked.append((model, criterion))
        return SimpleNamespace(precision="bf16-mixed", reason="because")

    monkeypatch.setattr(begin, "measure_precision", measure)
    counted: list[Any] = []
    model = SimpleNamespace(criterion="loss", take_class_counts=counted.append, to=to)
    table = SimpleNamespace(rows=lambda split: range({"train": 21}[split]))
    for batch, rows in ((8, 8), (64, 21)):
        data = SimpleNamespace(preprocessing={"image_size": 40, "channels": 3}, batch_size=batch, table=table)
        cli: Any = SimpleNamespace(config={"trainer": {"accelerator": accelerator}}, datamodule=data, model=model)
        assert begin._choose_precision(cli) == ("bf16-mixed", "because")
        assert shapes.pop() == (rows, 3, 40, 40)
        assert (moved, counted.pop(), asked.pop()) == (
            [torch.device(device), torch.device(device), "cpu"],
            data,
            (model, "loss"),
        )
        moved.clear()
    assert os.environ.pop(begin.PRECISION_VARIABLE) == "bf16-mixed"
    monkeypatch.setattr(begin, "rank", lambda: 1)
    assert begin._choose_precision(cli) == ("32-true", "")
    monkeypatch.setenv(begin.PRECISION_VARIABLE, "16-mixed")
    assert begin._choose_precision(cli) == ("16-mixed", "")


CALIBRATED = Calibration(temperature=2.0)


@pytest.mark.parametrize(
    ("calibration", "changes", "said", "used"),
    [
        (CALIBRATED, [], "probabilities are calibrated\n", CALIBRATED),
        (Calibration(), [], "", Calibration()),
        (Calibration(), [Change("model.tau", 0, 1)], "", Calibration()),
        (
            CALIBRATED,
            [Change("model.tau", 0, 1), Change("data.mean", 0, 1), Change("data.seed", 0, 1)],
            "probabilities are not calibrated: fer calibrate measured them without model.tau and data.mean\n",
            Calibration(),
        ),
    ],
)
def test_predictions_are_calibrated_where_the_network_is_as_it_was(
    calibration: Calibration,
    changes: list[Change],
    said: str,
    used: Calibration,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(begin, "read_checkpoint", lambda path, mapped: {})
    monkeypatch.setattr(begin, "calibration_of", lambda path, content: calibration)
    monkeypatch.setattr(begin, "PredictionWriter", lambda *args: args)
    lineage = SimpleNamespace(changes=changes)
    cli: Any = SimpleNamespace(checkpoint=Path("a.ckpt"), lineage=lineage, config={"set": 0.85})
    made: Any = begin._prediction_writer(cli)
    assert made == (used, 0.85)
    assert capsys.readouterr().out == said


def test_the_framing_is_measured_once_at_the_end_of_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn: list[tuple[Any, ...]] = []
    monkeypatch.setattr(framing, "IMAGES", 200)
    monkeypatch.setattr("fer_lightning.inference.faces.choice.detectors_named", lambda: 1 / 0)
    monkeypatch.setattr("fer_lightning.inference.measuring.training_sample", lambda *args: drawn.append(args))

    def tried(verb: str = "fit", rank: int = 0, fast: int = 0, signum: int = 0, images: int = FEWEST) -> bool:
        table = SimpleNamespace(rows=lambda split: range({"train": images}[split]))
        cli: Any = SimpleNamespace(
            verb=verb,
            trainer=SimpleNamespace(default_root_dir=str(tmp_path), global_rank=rank),
            config={"trainer": {"fast_dev_run": fast}},
            stop=SimpleNamespace(signum=signum),
            datamodule=SimpleNamespace(table=table),
        )
        framing.keep_framing(cli)
        said = capsys.readouterr().err
        assert said in (
            "",
            f"fer: the framing was not measured (division by zero): fer data framing --model {tmp_path}\n",
        )
        tables = [args for args in drawn if args == (table, 200)]
        assert bool(tables) is bool(said)
        return bool(said)

    assert tried()
    assert not tried(verb="test")
    assert not tried(rank=1)
    assert not tried(fast=1)
    assert not tried(signum=15)
    assert not tried(images=FEWEST - 1)
    assert tried(images=5000)
    monkeypatch.setattr(framing, "IMAGES", FEWEST - 1)
    assert not tried(images=5000)
    monkeypatch.setattr(framing, "IMAGES", 200)
    (tmp_path / FRAMING).touch()
    assert not tried()
