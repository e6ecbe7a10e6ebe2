"""Recipes by their flags: each trains, and a run that was stopped and resumed has the weights of one that was not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.helpers.cli import fit
from tests.test_resume import EMA, MOMENTUM, STEPS, identical, stopped_and_resumed

SCHEDULES = {
    "cosine with floor": ["WarmupCosine", "final=0.1"],
    "one cycle": ["OneCycle"],
    "warm restarts": ["torch.optim.lr_scheduler.CosineAnnealingWarmRestarts", "T_0=1", "T_mult=2"],
    "multi-step": ["torch.optim.lr_scheduler.MultiStepLR", "milestones=[1]"],
    "plateau": ["torch.optim.lr_scheduler.ReduceLROnPlateau", "patience=0"],
    "constant": ["torch.optim.lr_scheduler.ConstantLR", "factor=1"],
}
LAYERWISE = ["--model.backbone_lr_factor=0.5", "--model.layer_lr_decay=0.5"]
SAM = ["--trainer.callbacks+=SAM", "--trainer.callbacks.rho=0.2"]
SIZES = ["--trainer.callbacks+=ProgressiveSize", "--trainer.callbacks.schedule={0: 8, 0.5: 16}"]
SIZES += ["--model.backbone=tests.helpers.parts.PooledBackbone"]
AUX = ["--data=tests.data.test_soft_labels.VotedStripes", "--data.soft_label_role=votes", "--model.aux_weight=0.4"]
HEAD = "--model.head=fer_lightning.models.heads.CosineHead"  # the tests have another one of this name
HALF = ["--trainer.precision=bf16-mixed"]
ACCUMULATED = ["--trainer.accumulate_grad_batches=2"]


def schedule(name: str) -> list[str]:
    path, *options = SCHEDULES[name]
    return [f"--model.lr_scheduler={path}", *(f"--model.lr_scheduler.{option}" for option in options)]


def rates(checkpoint: Path) -> list[float]:
    state = torch.load(checkpoint, weights_only=True)["optimizer_states"][0]
    return [float(group["lr"]) for group in state["param_groups"]]


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_resumed_exactly(tmp_path: Path, name: str) -> None:
    stopped_and_resumed(tmp_path, STEPS + 5, *MOMENTUM, *schedule(name))
    assert identical(tmp_path)
    folders = [tmp_path / run / "version_0/checkpoints/resume.ckpt" for run in ("whole", "parts")]
    assert rates(folders[0]) == rates(folders[1])


@pytest.mark.parametrize("name", ["cosine with floor", "one cycle", "warm restarts", "multi-step", "constant"])
def test_a_schedule_keeps_the_shares_of_the_layers(tmp_path: Path, name: str) -> None:
    assert fit(tmp_path, *MOMENTUM, *schedule(name), *LAYERWISE, epochs=1) == 0
    head, top, lowest, *_ = rates(tmp_path / "tiny/version_0/checkpoints/resume.ckpt")
    assert top == pytest.approx(head * 0.5)
    assert lowest == pytest.approx(head * 0.125)


def test_a_schedule_with_rates_of_its_own_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = ["--model.lr_scheduler=torch.optim.lr_scheduler.OneCycleLR", "--model.lr_scheduler.max_lr=0.1"]
    assert fit(tmp_path, *MOMENTUM, *theirs, "--model.lr_scheduler.total_steps=20", *LAYERWISE) == 2
    assert "the shares of backbone_lr_factor and layer_lr_decay are lost" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        [*SAM, *schedule("one cycle"), *MOMENTUM],
        [*SAM, *HALF, "--data.mix=BatchMix"],
        [*LAYERWISE, *ACCUMULATED, *schedule("one cycle"), *MOMENTUM],
        [*SIZES, *HALF, *ACCUMULATED],
        ["--trainer.callbacks+=EMA", "--trainer.callbacks.decay=0.9", *HALF, *ACCUMULATED],
        [*AUX, "--data.mix=BatchMix", *HALF, *ACCUMULATED],
        [HEAD, "--model.head.learn_scale=true", *HALF],
        [HEAD, "--model.head.scale=1", "--model.loss=LDAMLoss"],
    ],
    ids=["sam", "sam-mix", "layerwise", "size", "ema", "auxiliary", "cosine-head", "ldam"],
)
def test_a_recipe_is_resumed_exactly(tmp_path: Path, options: list[str]) -> None:
    stopped_and_resumed(tmp_path, STEPS + 5, *options)
    assert identical(tmp_path)


def test_distillation_is_resumed_exactly(tmp_path: Path) -> None:
    assert fit(tmp_path, name="teacher", epochs=1) == 0
    teacher = f"--model.teacher={tmp_path}/teacher/version_0"
    stopped_and_resumed(tmp_path, STEPS + 5, teacher, *EMA, *HALF, *ACCUMULATED)
    assert identical(tmp_path)


def test_other_shares_of_the_rate_are_not_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, "--model.layer_lr_decay=0.5", epochs=1) == 0
    assert fit(tmp_path, "--model.layer_lr_decay=0.75", "--ckpt_path=last", epochs=2) == 2
    assert "trained with layer_lr_decay 0.5, not 0.75" in capsys.readouterr().err


def test_a_vit_of_timm_takes_the_size_of_the_data(tmp_path: Path) -> None:
    options = ["--model.backbone=vit_tiny_patch16_224", "--data.image_size=48", "--trainer.limit_train_batches=2"]
    assert fit(tmp_path, *options, "--model.layer_lr_decay=0.75", epochs=1) == 0
    assert len(set(rates(tmp_path / "tiny/version_0/checkpoints/resume.ckpt"))) == 13  # one for head and top block
