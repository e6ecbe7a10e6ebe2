from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, SingleDeviceStrategy
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from fer_lightning.callbacks import unfreezing as unfreezing_module
from fer_lightning.callbacks.unfreezing import GradualUnfreezing
from fer_lightning.errors import ConfigError
from fer_lightning.models.layer_groups import layer_groups
from fer_lightning.models.task import EmotionTask
from fer_lightning.optim import ScaledRates, WarmupCosine
from tests.helpers.cli import TINY, fit, weights
from tests.helpers.data import StripesDataModule
from tests.helpers.parts import TinyBackbone

STEPS = 10  # batches of 8 in an epoch of 84
PATH = "fer_lightning.callbacks.unfreezing.GradualUnfreezing"
LAYERS = "classifier.backbone.layers"


def sgd(parameters: Any) -> Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True)


def adamw(parameters: Any) -> Optimizer:
    return torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.5)


def new_task(**options: Any) -> EmotionTask:
    data = StripesDataModule()
    given = {"backbone": TinyBackbone(), "optimizer": sgd, **options}
    return EmotionTask(
        class_names=list(data.class_names), num_classes=data.num_classes, preprocessing=data.preprocessing, **given
    )


class Epochs(Callback):
    """Notes state, trainable names and rates at the end of each epoch, and puts everything into training mode."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []
        self.trainable: list[set[str]] = []
        self.rates: list[list[float]] = []
        self.logged: list[tuple[float, float]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.states:
            self.states.append({name: value.clone() for name, value in pl_module.state_dict().items()})
        pl_module.train()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.states.append({name: value.clone() for name, value in pl_module.state_dict().items()})
        self.trainable.append({name for name, p in pl_module.named_parameters() if p.requires_grad})
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])
        metrics = trainer.callback_metrics
        if "trainable_groups" in metrics:
            self.logged.append((float(metrics["trainable_groups"]), float(metrics["trainable_parameters"])))

    def changed(self, epoch: int) -> set[str]:
        before, after = self.states[epoch], self.states[epoch + 1]
        return {name for name in after if not torch.equal(before[name], after[name]) and "metrics" not in name}


def train(
    task: EmotionTask, *callbacks: Callback, epochs: int = 3, data: StripesDataModule | None = None, **options: Any
) -> Epochs:
    seen = Epochs()
    trainer = Trainer(
        accelerator="cpu", max_epochs=epochs, callbacks=[*callbacks, seen], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, **options,
    )  # fmt: skip
    trainer.fit(task, datamodule=StripesDataModule(batch_size=8) if data is None else data)
    return seen


def test_every_few_epochs_one_more_group_trains() -> None:
    decide = GradualUnfreezing(every=2).decide
    assert [decide(epoch, 3)[0] for epoch in range(9)] == [0, 0, 1, 1, 2, 2, 3, 3, 3]
    assert decide(2, 3)[1] == "one more after every 2 epochs"
    assert decide(8, 3)[1] == "all"


def test_a_schedule_says_from_which_epoch_on() -> None:
    decide = GradualUnfreezing(schedule={4: "all", 1: 2}).decide
    assert [decide(epoch, 5)[0] for epoch in range(6)] == [0, 2, 2, 2, 5, 5]
    assert decide(0, 5)[1] == "head only before epoch 1"
    assert decide(3, 5)[1] == "schedule from epoch 1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either 'every' or 'schedule'"),
        ({"every": 1, "schedule": {1: "all"}}, "give either 'every' or 'schedule'"),
        ({"every": 0}, "'every' is a number of epochs, at least 1, not 0"),
        ({"schedule": {}}, "the schedule is empty"),
        ({"schedule": {-1: 2}}, "start at 0, got -1: 2"),
        ({"schedule": {1: -2}}, "start at 0, got 1: -2"),
        ({"schedule": {1: "all", 3: 2}}, "3: 2 would freeze again"),
        ({"schedule": {0: 3, 2: 2}}, "2: 2 would freeze again"),
        ({"every": 1, "backbone_lr_factor": 0.0}, "backbone_lr_factor must be above 0 and at most 1, got 0"),
        ({"every": 1, "group_lr_decay": 1.5}, "group_lr_decay must be above 0 and at most 1, got 1.5"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GradualUnfreezing(**options)


@pytest.mark.parametrize("optimizer", [sgd, adamw])
def test_frozen_tensors_stay_bit_identical(optimizer: Any) -> None:
    seen = train(new_task(optimizer=optimizer), GradualUnfreezing(every=1), epochs=4)
    head = {"classifier.head.fc.weight", "classifier.head.fc.bias"}
    top = {f"{LAYERS}.4.weight", f"{LAYERS}.4.bias"}
    norm = {f"{LAYERS}.1.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}
    assert seen.changed(0) == head
    assert seen.changed(1) == head | top
    assert seen.changed(2) == head | top | norm
    assert seen.changed(3) == head | top | norm | {f"{LAYERS}.0.weight"}
    assert [groups for groups, _ in seen.logged] == [0, 1, 2, 3]
    assert seen.logged[0][1] == sum(seen.states[0][name].numel() for name in head)
    assert seen.logged[3][1] == sum(parameter.numel() for parameter in new_task().parameters())


def test_a_parameter_that_starts_late_moves_as_if_it_had_been_added_then() -> None:
    # Head and backbone alone in their optimizers from the epoch on in which they train: what one optimizer with
    # skipped parameters must equal, momentum, bias correction and weight decay included.
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)).double()
    twin = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)).double()
    twin.load_state_dict(model.state_dict())
    whole, parts = adamw(model.parameters()), [adamw(twin[1].parameters())]
    for step in range(8):
        if step == 4:
            parts.append(adamw(twin[0].parameters()))
        x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        for network, optimizers in ((model, [whole]), (twin, parts)):
            network[0].requires_grad_(step >= 4)
            network(x).square().sum().backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    assert all(torch.equal(value, twin.state_dict()[name]) for name, value in model.state_dict().items())


def test_afterwards_everything_can_be_trained() -> None:
    task = new_task()
    train(task, GradualUnfreezing(every=5), epochs=1)
    assert all(parameter.requires_grad for parameter in task.parameters())
    assert all(module.training for module in task.classifier.modules())


def test_what_the_network_keeps_fixed_stays_fixed() -> None:
    task = new_task()
    task.classifier.backbone.get_submodule("layers.0").requires_grad_(False)
    seen = train(task, GradualUnfreezing(schedule={1: "all"}), epochs=2)
    assert f"{LAYERS}.0.weight" not in seen.trainable[1]
    assert seen.trainable[1] - seen.trainable[0] == {f"{LAYERS}.{name}" for name in (
        "1.weight", "1.bias", "4.weight", "4.bias"
    )}  # fmt: skip


class SquareBackbone(nn.Module):
    """Features by a 7x7 matrix, which a head of 7 classes can share."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Flatten(), nn.Linear(256, 7))
        self.square = nn.Linear(7, 7, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.square(self.stem(images))
        return features


def test_what_is_tied_to_the_head_trains_with_the_head() -> None:
    task = new_task(backbone=SquareBackbone())
    task.classifier.head.get_submodule("fc").weight = task.classifier.backbone.get_submodule("square").weight
    seen = train(task, GradualUnfreezing(every=9, backbone_lr_factor=0.5), epochs=1)
    assert seen.trainable[0] == {"classifier.backbone.square.weight", "classifier.head.fc.bias"}
    assert seen.changed(0) == {*seen.trainable[0], "classifier.head.fc.weight"}
    assert len(seen.rates[0]) == 4  # stem and the rest, with and without decay
    assert seen.logged[0] == (0, 49 + 7)


def test_lower_groups_have_smaller_rates() -> None:
    callback = GradualUnfreezing(every=1, backbone_lr_factor=0.5, group_lr_decay=0.1)
    task = new_task()
    seen = train(task, callback, epochs=1)
    # decayed: head, layers.4, layers.0; not decayed: head, layers.4 and the norm's vectors
    assert seen.rates[0] == pytest.approx([0.1, 0.05, 0.0005, 0.1, 0.05, 0.005])
    again = train(task, callback, epochs=1)
    assert seen.rates[0] == again.rates[0]  # the shares are not taken twice
    assert again.trainable == seen.trainable  # and the head begins alone again


def test_schedules_move_all_groups_alike() -> None:
    def cosine(optimizer: Optimizer) -> WarmupCosine:
        return WarmupCosine(optimizer, warmup=0.1)

    def plateau(optimizer: Optimizer) -> ReduceLROnPlateau:
        return ReduceLROnPlateau(optimizer, patience=0, threshold=10)

    options: Any = {"every": 1, "backbone_lr_factor": 0.1}
    moved = train(new_task(lr_scheduler=cosine), GradualUnfreezing(**options)).rates
    plain = train(new_task(lr_scheduler=cosine)).rates
    assert [rates[0] for rates in moved] == [rates[0] for rates in plain]
    assert all(rates == pytest.approx([rates[0], rates[0] / 10] * 2) for rates in moved)
    moved = train(new_task(lr_scheduler=plateau), GradualUnfreezing(**options)).rates
    assert [rates[0] for rates in moved] == pytest.approx([0.01, 0.001, 0.0001])
    assert [rates[1] for rates in moved] == pytest.approx([0.001, 0.0001, 0.00001])


def test_a_schedule_that_loses_the_shares_is_refused() -> None:
    def one_cycle(optimizer: Optimizer) -> OneCycleLR:
        return OneCycleLR(optimizer, max_lr=0.1, total_steps=100)

    with pytest.raises(ConfigError, match="the schedule sets the learning rates itself"):
        train(new_task(lr_scheduler=one_cycle), GradualUnfreezing(every=1, backbone_lr_factor=0.1))
    train(new_task(lr_scheduler=one_cycle), GradualUnfreezing(every=1), epochs=1)


def test_plain_parameters_are_split_too() -> None:
    first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    made = ScaledRates(sgd, {second: 0.5})([first, second])
    assert [(group["params"], group["lr"]) for group in made.param_groups] == [([first], 0.1), ([second], 0.05)]


def test_more_groups_than_there_are() -> None:
    with pytest.raises(ConfigError, match="asks for 4 groups, but the backbone TinyBackbone has 3"):
        train(new_task(), GradualUnfreezing(schedule={1: 4}))


@pytest.mark.parametrize(
    "strategy",
    [DDPStrategy(), DDPStrategy(find_unused_parameters=True, static_graph=True), FSDPStrategy()],
    ids=["ddp", "static", "fsdp"],
)
def test_strategies_that_need_every_gradient_are_refused(strategy: Any) -> None:
    trainer: Any = type("Trainer", (), {"strategy": strategy})()
    with pytest.raises(ConfigError, match=r"cannot run under .*Strategy.*ddp_find_unused_parameters_true"):
        GradualUnfreezing(every=1).setup(trainer, new_task(), "fit")


def unfreezing(**options: Any) -> list[str]:
    return [f"--trainer.callbacks+={PATH}", *(f"--trainer.callbacks.{name}={value}" for name, value in options.items())]


def test_a_timm_network_by_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = "--model.backbone=resnet10t"
    options = [network, *unfreezing(schedule="{1: 1, 2: all}", backbone_lr_factor=0.1)]
    assert fit(tmp_path, *options, name="one", epochs=1) == 0
    before = weights(tmp_path / "one/version_0/checkpoints/resume.ckpt")
    assert fit(tmp_path, *options, "--ckpt_path=last", name="one", epochs=2) == 0
    after = weights(tmp_path / "one/version_0/checkpoints/resume.ckpt")
    changed = {
        name.split(".")[2] for name in after if "backbone" in name and not torch.equal(before[name], after[name])
    }
    assert changed == {"layer4"}
    others = unfreezing(every=1, backbone_lr_factor=0.2)
    assert fit(tmp_path, network, *others, "--ckpt_path=last", name="one", epochs=3) == 2
    assert "trained with backbone_lr_factor 0.1, not 0.2" in capsys.readouterr().err


def test_the_trainable_share_is_in_the_history(tmp_path: Path) -> None:
    log = ["--trainer.logger=lightning.pytorch.loggers.CSVLogger", f"--trainer.logger.save_dir={tmp_path}/csv"]
    assert fit(tmp_path, *unfreezing(every=1), *log, epochs=2) == 0
    with next((tmp_path / "csv").rglob("metrics.csv")).open() as file:
        found = [float(row["trainable_groups"]) for row in csv.DictReader(file) if row["trainable_groups"]]
    assert found == [0, 1]


class SameEverywhere(Callback):
    """Fails where processes have come to hold different weights."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        own = torch.cat([parameter.detach().flatten() for parameter in pl_module.parameters()])
        everywhere: Any = pl_module.all_gather(own)
        if len(everywhere) != trainer.world_size or not torch.equal(everywhere[0], everywhere[1]):
            raise AssertionError("the processes hold different weights")


@pytest.mark.slow
def test_two_processes_stay_the_same_while_groups_are_added(tmp_path: Path) -> None:
    options = [*unfreezing(every=1), "--trainer.callbacks+=tests.callbacks.test_unfreezing.SameEverywhere"]
    options += ["--trainer.devices=2", f"--trainer.default_root_dir={tmp_path}", "--trainer.max_epochs=4"]
    run = subprocess.run(
        [sys.executable, "-m", "fer_lightning", "fit", *TINY, *options, "--name=two",
         "--trainer.strategy=ddp_find_unused_parameters_true"],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr.decode()[-3000:]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("vgg16", marks=pytest.mark.slow),
        "resnet18",
        "mobilenetv2_100",
        "efficientnet_b0",
        "vit_tiny_patch16_224",
    ],
)
def test_well_known_networks_train_from_the_top_epoch_by_epoch(name: str) -> None:
    data = StripesDataModule(batch_size=8, image_size=32)
    task = EmotionTask(
        name, optimizer=sgd, class_names=list(data.class_names), num_classes=data.num_classes,
        preprocessing=data.preprocessing,
    )  # fmt: skip
    groups = layer_groups(task.classifier.backbone)
    prefix = "classifier.backbone."
    seen = train(task, GradualUnfreezing(every=1), epochs=3, data=data, limit_train_batches=2)
    for epoch in range(3):  # in epoch n the top n groups
        first = len(groups) - epoch
        held = {prefix + tensor for group in groups[:first] for tensor in (*group.parameters, *group.buffers)}
        trained = {prefix + tensor for group in groups[first:] for tensor in group.parameters}
        assert seen.changed(epoch) & held == set()
        assert seen.changed(epoch) >= trained | {"classifier.head.fc.weight", "classifier.head.fc.bias"}


def test_shares_may_stand_in_one_place_only() -> None:
    with pytest.raises(ConfigError, match="both GradualUnfreezing .* choose one"):
        train(new_task(layer_lr_decay=0.5), GradualUnfreezing(every=1, backbone_lr_factor=0.1))
    task = new_task(layer_lr_decay=0.5)
    rates = train(task, GradualUnfreezing(every=1), epochs=1).rates[0]
    assert rates == pytest.approx([0.1, 0.025, 0.1, 0.05])  # the model's own hold
    assert task.rates.layer_lr_decay == 0.5


@pytest.mark.parametrize("training", [True, False])
def test_a_norm_is_given_back_in_the_mode_that_it_had(training: bool) -> None:
    task, callback = new_task(), GradualUnfreezing(every=1)
    norm = task.classifier.backbone.get_submodule("layers.1").train(training)
    callback._find_groups(task)
    callback._apply(0)
    norm.eval()
    callback._apply(3)
    assert norm.training is training


def test_what_is_frozen_has_no_gradient_left() -> None:
    task, callback = new_task(), GradualUnfreezing(every=1)
    callback._find_groups(task)
    for parameter in task.parameters():
        parameter.grad = torch.ones_like(parameter)
    callback._apply(1)
    kept = {name for name, parameter in task.named_parameters() if parameter.grad is not None}
    assert kept == {f"{LAYERS}.4.weight", f"{LAYERS}.4.bias", "classifier.head.fc.weight", "classifier.head.fc.bias"}


def test_a_schedule_may_ask_for_all_groups_by_number_and_name_an_epoch_without_a_change() -> None:
    trainer: Any = type("Trainer", (), {"strategy": SingleDeviceStrategy("cpu")})()
    callback = GradualUnfreezing(schedule={3: 3, 1: 3})
    callback.setup(trainer, new_task(), "fit")
    assert callback.schedule == {1: 3, 3: 3}
    assert [callback.decide(epoch, 3)[0] for epoch in range(4)] == [0, 3, 3, 3]


def test_a_run_that_follows_a_failed_one_starts_with_the_shares_of_the_task() -> None:
    trainer: Any = type("Trainer", (), {"strategy": SingleDeviceStrategy("cpu")})()
    task, callback = new_task(), GradualUnfreezing(every=1, backbone_lr_factor=0.5, group_lr_decay=0.25)
    before = task.rates
    for _ in range(2):
        callback.setup(trainer, task, "fit")
        assert (task.rates.backbone_lr_factor, task.rates.layer_lr_decay) == (0.5, 0.25)
        callback._apply(0)
        callback.on_exception(trainer, task, KeyError())
        assert all(parameter.requires_grad for parameter in task.parameters())
    callback.teardown(trainer, task, "fit")
    assert task.rates == before


def test_a_norm_that_stays_frozen_for_long_trains_afterwards() -> None:
    task, callback = new_task(), GradualUnfreezing(every=1)
    norm = task.classifier.backbone.get_submodule("layers.1")
    callback._find_groups(task)
    for count in (0, 1, 3):
        callback._apply(count)
        assert norm.training is (count == 3 or not count)
        norm.eval()


def test_a_change_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(unfreezing_module, "rank_zero_info", said.append)
    task, callback = new_task(), GradualUnfreezing(every=2)
    callback._find_groups(task)
    trainer: Any = type("Trainer", (), {})()
    for trainer.current_epoch in (0, 0, 1, 2, 3):
        callback.on_train_batch_start(trainer, task, None, 0)
    assert said == [
        "epoch 0: 0 of 3 layer groups train (one more after every 2 epochs)",
        "epoch 2: 1 of 3 layer groups train (one more after every 2 epochs)",
    ]


def test_a_frozen_norm_is_kept_from_training_whoever_called_train(monkeypatch: pytest.MonkeyPatch) -> None:
    task, callback = new_task(), GradualUnfreezing(every=1)
    norm = task.classifier.backbone.get_submodule("layers.1")
    callback._find_groups(task)
    trainer: Any = type("Trainer", (), {"current_epoch": 0})()
    for _ in range(2):
        task.train()
        callback.on_train_batch_start(trainer, task, None, 0)
        assert not norm.training
    trainer.current_epoch = 2
    callback.on_train_batch_start(trainer, task, None, 0)
    assert norm.training
    logged: dict[str, float] = {}
    monkeypatch.setattr(task, "log", lambda name, value, batch_size: logged.update({name: value}))
    callback.on_train_epoch_end(trainer, task)
    trained = sum(parameter.numel() for parameter in task.parameters() if parameter.requires_grad)
    assert logged == {"trainable_groups": 2.0, "trainable_parameters": float(trained)}
    assert trained < sum(parameter.numel() for parameter in task.parameters())
