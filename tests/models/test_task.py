from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError
from fer_lightning.losses import FocalLoss, LogitAdjustedLoss
from fer_lightning.models import task as task_module
from fer_lightning.models.task import EmotionTask
from fer_lightning.optim import WarmupCosine
from tests.helpers.cli import fit
from tests.helpers.data import StripesDataModule
from tests.helpers.parts import CosineHead, PolyLoss, PooledBackbone, TinyBackbone

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


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (
            nn.MSELoss,
            r"MSELoss does not take logits \(N, 7\) and labels \(N,\) \(The size .*\): take torch.nn",
        ),
        (nn.BCEWithLogitsLoss, "BCEWithLogitsLoss does not take logits"),
        (nn.NLLLoss, "NLLLoss wants logarithms of probabilities"),
        (partial(nn.CrossEntropyLoss, reduction="none"), "CrossEntropyLoss gives no single number for a batch"),
        (nn.Identity, "Identity does not take logits"),
    ],
)
def test_a_loss_that_takes_no_labels_is_refused_before_training(loss: Any, said: str, tmp_path: Path) -> None:
    trainer = Trainer(default_root_dir=tmp_path, logger=False, enable_checkpointing=False, accelerator="cpu")
    with pytest.raises(ConfigError, match=said):
        trainer.fit(task(loss=loss), datamodule=StripesDataModule())


def test_it_is_refused_with_the_counts_which_come_before_precision_is_measured() -> None:
    with pytest.raises(ConfigError, match="MSELoss does not take logits"):
        task(loss=nn.MSELoss).take_class_counts(None)


class Lacking(nn.Module):
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        raise ConfigError("give it its file")


def test_what_a_loss_says_itself_is_said(tmp_path: Path) -> None:
    trainer = Trainer(default_root_dir=tmp_path, logger=False, enable_checkpointing=False, accelerator="cpu")
    with pytest.raises(ConfigError, match="^give it its file$"):
        trainer.fit(task(loss=Lacking), datamodule=StripesDataModule())


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
    assert "model.monitor: no metric is called 'val_los'; did you mean 'val_loss'?" in capsys.readouterr().err


class NotingLoss(nn.CrossEntropyLoss):
    """A loss of a user's own that notes what the task tells it."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    def set_class_counts(self, counts: Mapping[str, int]) -> None:
        self.told.append(dict(counts))

    def set_epoch(self, epoch: int) -> None:
        self.told.append(epoch)


def trainer(epochs: int = 2, **options: Any) -> Trainer:
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    return Trainer(accelerator="cpu", max_epochs=epochs, use_distributed_sampler=False, **{**quiet, **options})


def test_a_loss_is_told_the_counts_once_and_each_epoch() -> None:
    built = task(loss=NotingLoss)
    trainer().fit(built, datamodule=StripesDataModule(train=20, batch_size=8))
    counts = dict(zip(SEVEN.class_names, [3, 3, 3, 3, 3, 3, 2], strict=True))
    assert built.criterion.told == [counts, 0, 1]


def test_a_loss_is_told_the_epoch_of_a_checkpoint() -> None:
    built = task(loss=NotingLoss)
    built.on_load_checkpoint({"epoch": 7})
    assert built.criterion.told == [7]


def test_without_class_counts_a_loss_that_needs_them_is_refused() -> None:
    data = StripesDataModule(batch_size=8)
    ready_made: Any = [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    batches = DataLoader(ready_made, batch_size=None)
    needing: list[type[nn.Module]] = [LogitAdjustedLoss, NotingLoss]
    for loss in needing:
        with pytest.raises(ConfigError, match=f"{loss.__name__} needs the training samples.*there is no data module"):
            trainer().fit(task(loss=loss), batches)
    by_hand = task(loss=LogitAdjustedLoss)
    by_hand.take_class_counts(data)
    for ready in (task(), task(loss=FocalLoss), by_hand):
        fitting = trainer(1)
        fitting.fit(ready, batches)
        assert fitting.global_step == len(batches)


def test_averaged_weights_leave_the_counts_alone() -> None:
    built = task(loss=LogitAdjustedLoss)
    trainer(3, callbacks=[EMAWeightAveraging(decay=0.9)]).fit(built, datamodule=StripesDataModule(train=301))
    assert built.state_dict()["criterion.class_counts"].tolist() == [43] * 7


def test_an_average_does_not_copy_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, memo: object) -> None:
        raise AssertionError("the data module was copied")

    monkeypatch.setattr(StripesDataModule, "__deepcopy__", refuse, raising=False)
    callback = ["--trainer.callbacks=EMA", "--trainer.fast_dev_run=true"]
    optimizer = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.1"]
    schedule = ["--model.lr_scheduler=torch.optim.lr_scheduler.StepLR", "--model.lr_scheduler.step_size=1"]
    assert fit(tmp_path, *callback, *optimizer, *schedule) == 0


def test_the_state_of_an_exchanged_loss_is_dropped() -> None:
    state = {name: value.clone() for name, value in task(loss=LogitAdjustedLoss).state_dict().items()}
    plain = task()
    checkpoint = {"state_dict": state}
    plain.on_load_checkpoint(checkpoint)
    plain.load_state_dict(checkpoint["state_dict"])
    assert "criterion.class_counts" not in checkpoint["state_dict"]


def test_a_backbone_without_parameters_needs_no_layer_groups() -> None:
    assert len(task(backbone=nn.Flatten()).configure_optimizers().param_groups) == 2
    with pytest.raises(ConfigError, match="the backbone Flatten has no parameters"):
        task(backbone=nn.Flatten(), layer_lr_decay=0.5).configure_optimizers()


def test_what_the_optimizer_refuses_is_said_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^model\.optimizer: Invalid learning rate: -1$"):
        task(optimizer=partial(torch.optim.SGD, lr=-1)).configure_optimizers()


def test_a_loss_is_told_what_an_epoch_draws_and_not_what_there_is() -> None:
    built = task(loss=NotingLoss)
    data = StripesDataModule(train=20, batch_size=8, class_multipliers={"disgust": 3.0})
    trainer(1).fit(built, datamodule=data)
    assert isinstance(built.criterion, NotingLoss)
    assert built.criterion.told[0] == data.draws != data.class_counts


def test_classes_in_another_order_are_refused() -> None:
    checkpoint: dict[str, Any] = {}
    task().on_save_checkpoint(checkpoint)
    with pytest.raises(ConfigError, match="trained on classes angry"):
        task(class_names=list(SEVEN.class_names[::-1])).on_load_checkpoint(checkpoint)


def test_the_counts_of_the_data_stand_when_a_checkpoint_has_others() -> None:
    checkpoint: dict[str, Any] = {}
    before = task()
    before.take_class_counts(StripesDataModule(train=70))
    before.on_save_checkpoint(checkpoint)
    knows, does_not = task(), task()
    data = StripesDataModule(train=20)
    knows.take_class_counts(data)
    for built in (knows, does_not):
        built.on_load_checkpoint(checkpoint)
    assert knows.prior.class_counts == data.class_counts
    assert does_not.prior.class_counts == dict.fromkeys(SEVEN.class_names, 10)


def step_batch(size: int, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(size, 1, 16, 16, generator=generator)
    return {"image": images, "label": torch.arange(size) % 7, "index": torch.arange(size)}


def silent(built: EmotionTask) -> EmotionTask:
    """Let a task compute steps without a trainer to log to."""
    built.log = lambda *args, **options: None  # type: ignore[method-assign]
    return built.eval()


def test_the_training_loss_sees_what_is_drawn_and_the_teacher_what_the_network_says() -> None:
    built = silent(task(prior_correction=True))
    data = StripesDataModule(train=20, batch_size=8, class_multipliers={"disgust": 3.0})
    built.take_class_counts(data)
    built._trainer = SimpleNamespace(datamodule=data)  # type: ignore[assignment]  # stands for one
    given = step_batch(6)
    logits = built.classifier.logits(given["image"])
    draws = torch.tensor(list(data.draws.values())).float()
    wanted = nn.functional.cross_entropy(logits + (draws / draws.sum()).log(), given["label"])
    torch.testing.assert_close(built.training_step(given, 0), wanted)
    taught: list[torch.Tensor] = []

    class Noting:
        """Notes what distillation is given."""

        def mixed(self, loss: torch.Tensor, logits: torch.Tensor, *rest: Any) -> torch.Tensor:
            taught.extend((loss, logits))
            return loss + 1

    built.distillation = Noting()  # type: ignore[assignment]
    torch.testing.assert_close(built.training_step(given, 0), wanted + 1)
    torch.testing.assert_close(taught, [wanted, logits])


def test_the_mean_loss_of_training_is_of_all_samples_and_of_one_epoch() -> None:
    built = silent(task())
    losses = [float(built.training_step(step_batch(size, size), 0)) for size in (2, 6)]
    scores = built.scores.computed("train")
    assert float(scores["train_loss"]) == pytest.approx((2 * losses[0] + 6 * losses[1]) / 8, rel=1e-5)
    assert built.scores.of_train.confusion.sum() == 0
    last = float(built.training_step(step_batch(3, 9), 0))
    assert float(built.scores.computed("train")["train_loss"]) == pytest.approx(last, rel=1e-5)


def test_the_loss_of_a_validation_is_the_mean_over_its_images() -> None:
    built, data = task(), StripesDataModule(val=20, eval_batch_size=8)
    found = trainer().validate(built, datamodule=data, verbose=False)[0]["val_loss"]
    losses = [
        nn.functional.cross_entropy(built.eval()(given["image"]), given["label"], reduction="none")
        for given in (data.on_after_batch_transfer(batch, 0) for batch in data.val_dataloader())
    ]
    assert [len(part) for part in losses] == [8, 8, 4]
    assert found == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)


def test_schedules_of_torch_move_each_epoch_and_ours_each_step() -> None:
    for schedule, last in (
        (partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.1), 0.001),
        (partial(WarmupCosine, warmup=0, final=0.5), 0.05),
    ):
        fitting = trainer(2)
        sgd = partial(torch.optim.SGD, lr=0.1)
        fitting.fit(task(optimizer=sgd, lr_scheduler=schedule), datamodule=StripesDataModule(train=20, batch_size=8))
        assert fitting.global_step == 4
        assert fitting.optimizers[0].param_groups[0]["lr"] == pytest.approx(last)


def test_the_size_of_images_comes_from_the_data_alone() -> None:
    with pytest.raises(ConfigError, match="set --data.image_size alone"):
        EmotionTask(
            "fer_b_fast", {"image_size": 64}, class_names=["happy", "sad"], num_classes=2, preprocessing=PREPROCESSING
        )


class Seen(TinyBackbone):
    """Remembers in which memory layout its images come."""

    last: bool | None = None

    def forward(self, images: Tensor) -> Tensor:
        self.last = images.is_contiguous(memory_format=torch.channels_last)
        return super().forward(images)


@pytest.mark.parametrize("channels_last", [True, False])
def test_images_come_in_the_memory_layout_that_is_asked_for(channels_last: bool) -> None:
    backbone = Seen(in_channels=3)
    colour = {**PREPROCESSING, "channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3}
    built = silent(task(backbone=backbone, preprocessing=colour, channels_last=channels_last))
    batch: Any = {**step_batch(6), "image": torch.rand(6, 3, 16, 16)}
    for step in (built.training_step, built.validation_step, built.test_step, built.predict_step):
        backbone.last = None
        step(batch, 0)
        assert backbone.last is channels_last
    weight = backbone.get_parameter("layers.0.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last) is channels_last


def test_a_step_that_is_computed_again_is_neither_counted_nor_logged() -> None:
    built, logged = task(), list[tuple[str, dict[str, Any]]]()
    built.log = lambda name, value, **options: logged.append((name, options))  # type: ignore[method-assign]
    first = built.training_step(step_batch(6), 0)
    counted = built.scores.saved(alone=True)
    assert [name for name, _ in logged] == ["train_loss_step"]
    assert logged[0][1] == {"prog_bar": True, "on_step": True, "on_epoch": False}
    built.repeated = True
    assert built.training_step(step_batch(6), 0).shape == first.shape == ()
    for before, after in zip(counted, built.scores.saved(alone=True), strict=True):
        assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert counted[0]["samples"] == 6
    assert len(logged) == 1


def test_scores_are_logged_once_an_epoch_and_four_of_them_on_the_bar() -> None:
    built, logged = silent(task()), dict[str, dict[str, Any]]()
    built.log = lambda name, value, **options: logged.__setitem__(name, options)  # type: ignore[method-assign]
    built.validation_step(step_batch(7), 0)
    assert logged.pop("val_loss") == {
        "sync_dist": True, "add_dataloader_idx": False, "on_step": False, "on_epoch": True, "batch_size": 7.0,
    }  # fmt: skip
    built.test_step(step_batch(7), 0)
    assert logged.pop("test_loss")["batch_size"] == 7.0
    for split in ("val", "test"):
        built._log_scores(split)
    assert {name for name, options in logged.items() if options["prog_bar"]} == {
        "val_acc", "val_f1_macro", "test_acc", "test_f1_macro",
    }  # fmt: skip
    assert {"val_ece", "val_recall_sad", "val_balanced_acc", "test_f1_weighted"} <= set(logged)
    assert all((options["on_step"], options["on_epoch"]) == (False, True) for options in logged.values())
    assert not built.scores.of_val.confusion.any()  # the next epoch starts anew


def test_a_checkpoint_holds_what_belongs_to_the_weights() -> None:
    built = task(backbone_lr_factor=0.5, layer_lr_decay=0.25, lr_scheduler=plateau)
    built.take_class_counts(StripesDataModule(train=70))
    built.configure_optimizers()
    silent(built).training_step(step_batch(6), 0)
    checkpoint: dict[str, Any] = {}
    built.on_save_checkpoint(checkpoint)
    stored = checkpoint["fer_task"]
    assert stored["class_names"] == list(SEVEN.class_names)
    assert stored["preprocessing"] == PREPROCESSING
    assert stored["class_counts"] == dict.fromkeys(SEVEN.class_names, 10)
    assert stored["rates"] == {"backbone_lr_factor": 0.5, "layer_lr_decay": 0.25}
    assert stored["train_sums"][0]["samples"] == 6
    assert stored["plateau"]["patience"] == 3
    stored["plateau"]["num_bad_epochs"] = 2
    resumed = task(lr_scheduler=plateau)
    resumed.on_load_checkpoint(checkpoint)
    resumed.configure_optimizers()
    assert resumed.plateau.schedule is not None
    assert resumed.plateau.schedule.num_bad_epochs == 2


def plateau(optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=3)


def test_the_state_of_the_same_loss_is_kept() -> None:
    before, after = task(loss=LogitAdjustedLoss), task(loss=LogitAdjustedLoss)
    before.take_class_counts(StripesDataModule(train=70))
    checkpoint: dict[str, Any] = {"state_dict": dict(before.state_dict())}
    before.on_save_checkpoint(checkpoint)
    after.on_load_checkpoint(checkpoint)
    after.load_state_dict(checkpoint["state_dict"])
    assert isinstance(after.criterion, LogitAdjustedLoss)
    assert after.criterion.class_counts.tolist() == [10.0] * 7
    assert not after.criterion.lacks_class_counts


def test_images_of_another_size_are_refused_only_where_the_weights_differ() -> None:
    checkpoint: dict[str, Any] = {}
    trained = task(backbone=PooledBackbone())
    trained.on_save_checkpoint(checkpoint)
    checkpoint["state_dict"] = dict(trained.state_dict())
    larger = {**PREPROCESSING, "image_size": 24}
    task(backbone=PooledBackbone(), preprocessing=larger).on_load_checkpoint(checkpoint)
    with pytest.raises(ConfigError, match=r"takes images of 16 pixels, 1 channel\(s\); for 24 pixels, 1 channel"):
        task(preprocessing=larger).on_load_checkpoint({**checkpoint, "state_dict": dict(task().state_dict())})


def test_the_way_out_of_too_many_classes_leaves_out_those_that_the_checkpoint_lacks() -> None:
    checkpoint: dict[str, Any] = {}
    names = [name for name in SEVEN.class_names if name not in ("fear", "sad")]
    task(class_names=names, num_classes=5).on_save_checkpoint(checkpoint)
    built = task()
    built._trainer = SimpleNamespace(datamodule=SimpleNamespace(mapping=None))  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"; leave fear and sad out: --data.mapping '\{fear: null, sad: null\}'$"):
        built.on_load_checkpoint(checkpoint)
    with pytest.raises(ConfigError, match="happy, sad, surprise, neutral$"):  # a data module without a mapping
        task().on_load_checkpoint(checkpoint)


def test_a_teacher_is_read_without_looking_for_the_files_that_it_started_from(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    built = task()

    def load(kind: type[EmotionTask], checkpoint: object, **options: Any) -> EmotionTask:
        asked.update(options, kind=kind, checkpoint=checkpoint)
        return built

    monkeypatch.setattr(task_module, "_load_state", load)
    monkeypatch.setattr(task_module, "read_checkpoint", str)
    assert task_module._read_task(Path("best.ckpt")) is built
    expected = {"kind": EmotionTask, "checkpoint": "best.ckpt", "pretrained": False, "weights": None, "teacher": None}
    assert asked == expected
