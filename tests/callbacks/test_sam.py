from __future__ import annotations

import copy
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn

from fer_lightning.callbacks.sam import SAM, SAMOptimizer
from fer_lightning.errors import ConfigError
from fer_lightning.models.task import EmotionTask
from tests.helpers.cli import fit
from tests.helpers.data import StripesDataModule
from tests.helpers.parts import TinyBackbone

RHO, RATE = 0.3, 0.1


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=RATE)


def new_task(**options: Any) -> EmotionTask:
    data = StripesDataModule()
    given = {"backbone": TinyBackbone(), "optimizer": sgd, "decay_norm_and_bias": True, **options}
    return EmotionTask(
        class_names=list(data.class_names), num_classes=data.num_classes, preprocessing=data.preprocessing, **given
    )


class FirstBatch(Callback):
    """Keeps the first batch and the random state in front of it."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.batch, self.random = batch, torch.get_rng_state()


def train(task: EmotionTask, *callbacks: Callback, **options: Any) -> Trainer:
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, limit_train_batches=1, limit_val_batches=0, callbacks=list(callbacks),
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, **options,
    )  # fmt: skip
    trainer.fit(task, datamodule=StripesDataModule(batch_size=16))
    return trainer


@pytest.mark.parametrize("adaptive", [False, True])
def test_steps_on_a_quadratic_are_those_of_the_paper(adaptive: bool) -> None:
    matrix = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    weight = nn.Parameter(torch.tensor([1.0, -0.5], dtype=torch.float64))
    optimizer = SAMOptimizer(sgd([weight]), RHO, adaptive, nullcontext)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = 0.5 * weight @ matrix @ weight
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships no type for it
        return loss.detach()

    expected = weight.detach().clone()
    for _ in range(5):
        gradient = matrix @ expected
        scale = expected.abs() + 0.01 if adaptive else torch.ones(2, dtype=torch.float64)
        climb = RHO * scale**2 * gradient / (scale * gradient).norm()
        at_first = 0.5 * expected @ matrix @ expected
        expected = expected - RATE * matrix @ (expected + climb)
        assert float(optimizer.step(closure)) == pytest.approx(float(at_first))
        torch.testing.assert_close(weight.detach(), expected)


def test_without_gradient_nothing_moves() -> None:
    weight = nn.Parameter(torch.ones(2))
    SAMOptimizer(sgd([weight]), RHO, False, nullcontext).step(lambda: None)
    assert torch.equal(weight.detach(), torch.ones(2))


def test_a_failure_at_the_second_point_leaves_the_weights() -> None:
    weight = nn.Parameter(torch.ones(2))
    calls = []

    def closure() -> None:
        calls.append(weight.detach().clone())
        if len(calls) == 2:
            raise KeyError("boom")
        weight.grad = torch.ones(2)

    with pytest.raises(KeyError):
        SAMOptimizer(sgd([weight]), RHO, False, nullcontext).step(closure)
    assert not torch.equal(calls[1], calls[0])
    assert torch.equal(weight.detach(), torch.ones(2))


def test_a_step_without_closure_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a step with a closure"):
        SAMOptimizer(sgd([nn.Parameter(torch.ones(2))]), RHO, False, nullcontext).step()


def by_hand(task: EmotionTask, first: FirstBatch, clip: float | None) -> Tensor:
    """Make one step on a batch with batch norm and dropout and return the loss at the first point."""
    task.train()
    task.repeated = True  # nothing to log to
    named = dict(task.named_parameters())

    def gradients() -> tuple[Tensor, dict[str, Tensor]]:
        torch.set_rng_state(first.random)
        loss = task.training_step(first.batch, 0)
        found = torch.autograd.grad(loss, list(named.values()))
        return loss.detach(), dict(zip(named, found, strict=True))

    loss, at_first = gradients()
    statistics = {name: value.clone() for name, value in task.named_buffers()}
    length = torch.cat([gradient.flatten() for gradient in at_first.values()]).norm()
    before = {name: parameter.detach().clone() for name, parameter in named.items()}
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.add_(RHO * at_first[name] / length)
    _, at_second = gradients()
    size = torch.cat([gradient.flatten() for gradient in at_second.values()]).norm()
    factor = 1.0 if clip is None else min(1.0, clip / float(size))
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(before[name] - RATE * factor * at_second[name])
        for name, value in task.named_buffers():
            value.copy_(statistics[name])  # of the first evaluation only
    return loss


@pytest.mark.parametrize("clip", [None, 0.05])
def test_a_training_step_is_that_by_hand(clip: float | None) -> None:
    task = new_task()
    twin, first = copy.deepcopy(task), FirstBatch()
    trainer = train(task, first, SAM(RHO), gradient_clip_val=clip)
    loss = by_hand(twin, first, clip)
    state, expected = task.state_dict(), twin.state_dict()
    assert state.keys() == expected.keys()
    for name, value in state.items():
        torch.testing.assert_close(value, expected[name], msg=name)
    assert int(state["classifier.backbone.layers.1.num_batches_tracked"]) == 1
    assert float(trainer.callback_metrics["train_loss"]) == pytest.approx(float(loss))


def test_it_is_not_the_plain_step() -> None:
    torch.manual_seed(0)
    task = new_task()
    twin = copy.deepcopy(task)
    train(task, SAM(RHO))
    train(twin)
    assert not torch.equal(
        task.state_dict()["classifier.head.fc.weight"], twin.state_dict()["classifier.head.fc.weight"]
    )
    assert task.make_optimizer is sgd
    assert not task.repeated
    assert all(getattr(module, "track_running_stats", True) for module in task.modules())


@pytest.mark.parametrize("rho", [0.0, -1.0, float("nan"), float("inf")])
def test_a_distance_must_be_above_zero(rho: float) -> None:
    with pytest.raises(ConfigError, match="SAM: rho is a distance above 0"):
        SAM(rho)


@pytest.mark.parametrize(
    "options",
    [
        {"accumulate_grad_batches": 2},
        {"callbacks": GradientAccumulationScheduler({0: 2})},
    ],
)
def test_accumulation_is_refused(options: dict[str, Any]) -> None:
    further = options.pop("callbacks", None)
    with pytest.raises(ConfigError, match="SAM cannot accumulate gradients over 2 batches"):
        train(new_task(), *([further] if further else []), SAM(), **options)


def test_scaled_gradients_are_refused() -> None:
    plugin = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))
    with pytest.raises(ConfigError, match="SAM does not work with 16-mixed"):
        train(new_task(), SAM(), plugins=[plugin])


def test_state_is_that_of_the_optimizer_alone() -> None:
    parameters = [nn.Parameter(torch.ones(2))]
    plain = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    wrapped = SAMOptimizer(plain, RHO, False, nullcontext)
    parameters[0].grad = torch.ones(2)
    plain.step()
    assert wrapped.state_dict() == plain.state_dict()
    other = SAMOptimizer(torch.optim.SGD(parameters, lr=0.5, momentum=0.9), RHO, False, nullcontext)
    other.load_state_dict(wrapped.state_dict())
    assert other.param_groups is other.base.param_groups
    assert other.param_groups[0]["lr"] == 0.1
    assert torch.equal(other.state[parameters[0]]["momentum_buffer"], torch.ones(2))


def test_it_runs_by_its_short_name_in_half_precision(tmp_path: Path) -> None:
    options = ["--trainer.callbacks+=SAM", "--trainer.callbacks.adaptive=true", "--trainer.callbacks.rho=0.5"]
    assert fit(tmp_path, *options, "--trainer.precision=bf16-mixed", "--model.lr_scheduler=OneCycle", epochs=1) == 0


def test_a_run_that_follows_a_failed_one_evaluates_twice_and_not_four_times() -> None:
    task, callback = new_task(), SAM(RHO)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    for _ in range(2):
        callback.setup(trainer, task, "fit")  # a run that fails tears nothing down
    optimizer = task.make_optimizer(task.parameters())
    assert isinstance(optimizer, SAMOptimizer)
    assert isinstance(optimizer.base, torch.optim.SGD)
    assert (optimizer.rho, optimizer.adaptive) == (RHO, False)
    callback.teardown(trainer, task, "fit")
    assert task.make_optimizer is sgd


def test_norms_that_keep_no_statistics_are_left_without() -> None:
    task = new_task()
    task.plain, task.usual = nn.BatchNorm2d(8, track_running_stats=False), nn.BatchNorm2d(8)
    with SAM(RHO)._again(task):
        assert (task.repeated, task.plain.track_running_stats, task.usual.track_running_stats) == (True, False, False)
    assert (task.repeated, task.plain.track_running_stats, task.usual.track_running_stats) == (False, False, True)
