from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from fer_lightning.errors import ConfigError
from fer_lightning.models.task import EmotionTask
from tests.helpers.cli import QUICK, fer, fit, weights
from tests.helpers.data import StripesDataModule
from tests.helpers.parts import TinyBackbone

VOTED = "--data=tests.data.test_soft_labels.VotedStripes"
VOTES = [VOTED, "--data.soft_label_role=votes", "--model.aux_weight=0.4"]


def new_task(**options: Any) -> EmotionTask:
    data = StripesDataModule()
    task = EmotionTask(
        TinyBackbone(), class_names=list(data.class_names), num_classes=7, preprocessing=data.preprocessing, **options
    )
    task.log = lambda *args, **options: None  # type: ignore[method-assign]  # nothing to log to
    return task


def batch(**more: torch.Tensor) -> Any:
    images = torch.randn(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    return {"image": images, "label": torch.arange(6), "index": torch.arange(6), **more}


def test_votes_train_the_auxiliary_head_and_labels_the_other() -> None:
    task = new_task(aux_weight=0.4).eval()  # dropout off
    assert task.aux_head is not None
    votes = torch.rand(6, 7).softmax(1)
    given = batch(votes=votes)
    features = task.classifier.features(given["image"])
    main = F.cross_entropy(task(given["image"]), given["label"])
    expected = main - 0.4 * (votes * task.aux_head(features).log_softmax(1)).sum(1).mean()
    loss = task.training_step(given, 0)
    torch.testing.assert_close(loss, expected)
    loss.backward()  # type: ignore[no-untyped-call]  # torch ships no type for it
    assert task.aux_head.weight.grad is not None
    [layer] = [module for module in task.classifier.backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert layer.weight.grad is not None
    [learned] = torch.autograd.grad(task.training_step(given, 0), layer.weight)
    [of_labels] = torch.autograd.grad(F.cross_entropy(task(given["image"]), given["label"]), layer.weight)
    assert not torch.allclose(learned, of_labels)  # the features learn from the votes too
    torch.testing.assert_close(task.test_step(batch(), 0)["loss"], main)  # evaluation is as without it


def test_with_soft_targets_the_main_head_learns_those() -> None:
    task = new_task(aux_weight=1.0).eval()
    votes, soft = torch.rand(6, 7).softmax(1), torch.rand(6, 7).softmax(1)
    given = batch(votes=votes, soft_label=soft)
    assert task.aux_head is not None
    further = F.cross_entropy(task.aux_head(task.classifier.features(given["image"])), votes)
    expected = F.cross_entropy(task(given["image"]), soft) + further
    torch.testing.assert_close(task.training_step(given, 0), expected)


def test_votes_and_auxiliary_head_need_each_other() -> None:
    for task, given in ((new_task(aux_weight=0.4), batch()), (new_task(), batch(votes=torch.rand(6, 7)))):
        with pytest.raises(ConfigError, match="model.aux_weight and data.soft_label_role go together"):
            task.training_step(given, 0)


@pytest.mark.parametrize("weight", [-0.1, float("nan")])
def test_a_weight_is_not_negative(weight: float) -> None:
    with pytest.raises(ConfigError, match="model.aux_weight must be at least 0"):
        new_task(aux_weight=weight)


def test_the_rest_starts_as_without_it() -> None:
    torch.manual_seed(0)
    plain = new_task().state_dict()
    torch.manual_seed(0)
    with_head = new_task(aux_weight=0.4).state_dict()
    assert set(with_head) - set(plain) == {"aux_head.weight", "aux_head.bias"}
    assert all(torch.equal(value, with_head[name]) for name, value in plain.items())


def test_it_trains_with_mixing_and_is_left_out_of_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path, *VOTES, "--data.mix=BatchMix", "--trainer.precision=bf16-mixed", epochs=1) == 0
    checkpoint = tmp_path / "tiny/version_0/checkpoints/best.ckpt"
    assert "aux_head.weight" in weights(checkpoint)
    assert fer("test", f"--ckpt_path={checkpoint}", *QUICK) == 0
    report = (tmp_path / "tiny/version_0/val/report.json").read_text()
    assert "votes of the training rows" in report
    capsys.readouterr()
    assert fit(tmp_path, *VOTES[:2], name="none") == 2
    assert "--model.aux_weight 0.4" in capsys.readouterr().err
