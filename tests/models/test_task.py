from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError
from fer_lightning.models.task import EmotionTask
from tests.helpers.cli import fit
from tests.helpers.parts import CosineHead, PolyLoss, TinyBackbone

PREPROCESSING: Any = {"image_size": 16, "channels": 1, "mean": [0.5], "std": [0.5], "interpolation": "bilinear"}


def task(**options: Any) -> EmotionTask:
    given = {"class_names": list(SEVEN.class_names), "num_classes": 7, "preprocessing": PREPROCESSING, **options}
    return EmotionTask(**{"backbone": TinyBackbone(), **given})


def test_parts_are_swapped_one_level_down() -> None:
    built = task(head=CosineHead, loss=PolyLoss)
    assert isinstance(built.classifier.head, CosineHead)
    assert isinstance(built.criterion, PolyLoss)
    assert built(torch.rand(3, 1, 16, 16)).shape == (3, 7)
    assert isinstance(task().criterion, nn.CrossEntropyLoss)


@pytest.mark.parametrize("missing", ["class_names", "num_classes", "preprocessing"])
def test_what_comes_from_the_data_must_come(missing: str) -> None:
    with pytest.raises(ConfigError, match="they come from the data"):
        task(**{missing: None})


def test_names_and_number_must_agree() -> None:
    with pytest.raises(ConfigError, match="3 classes but 7 class_names"):
        task(num_classes=3)


def test_soft_labels_are_trained_on_and_hard_ones_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    built = task()
    monkeypatch.setattr(built, "log", lambda *args, **options: None)
    seen: list[torch.Tensor] = []
    built.criterion.register_forward_hook(lambda module, inputs, output: seen.append(inputs[1]))
    soft = torch.full((2, 7), 1 / 7)
    batch: Any = {
        "image": torch.rand(2, 1, 16, 16),
        "label": torch.tensor([1, 2]),
        "index": torch.tensor([0, 1]),
        "soft_label": soft,
    }
    built.training_step(batch, 0)
    built.validation_step(batch, 0)
    assert torch.equal(seen[0], soft)
    assert seen[1].tolist() == [1, 2]


def test_a_checkpoint_loads_in_python(tmp_path: Path) -> None:
    assert fit(tmp_path, epochs=1) == 0
    path = tmp_path / "tiny/version_0/checkpoints/best.ckpt"
    loaded = EmotionTask.load_from_checkpoint(path, map_location="cpu")
    state = torch.load(path, weights_only=True)["state_dict"]
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())


def test_other_classes_are_refused() -> None:
    checkpoint: dict[str, Any] = {}
    task().on_save_checkpoint(checkpoint)
    other = task(class_names=list("abcdefg"))
    with pytest.raises(ConfigError, match="trained on classes angry.*the data has a, b"):
        other.on_load_checkpoint(checkpoint)


def test_plateau_watches_the_named_metric(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plateau = ["--model.lr_scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau", "--model.lr_scheduler.patience=0"]
    options = [*plateau, "--model.lr_scheduler.threshold=10", "--model.optimizer=torch.optim.SGD"]
    assert fit(tmp_path, *options, "--model.optimizer.lr=0.1", epochs=3) == 0
    history = (tmp_path / "tiny/version_0/metrics.csv").read_text().splitlines()
    assert [float(row.split(",")[2]) for row in history[1:]] == pytest.approx([0.1, 0.01, 0.001])
    assert fit(tmp_path, *options, "--model.optimizer.lr=0.1", "--model.monitor=val_los") == 2
    assert "model.monitor 'val_los' is not logged" in capsys.readouterr().err
