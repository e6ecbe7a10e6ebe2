from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, WeightAveraging

from fer_lightning.callbacks.ema import EMA
from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError
from fer_lightning.models.prior import PriorCorrection
from fer_lightning.models.task import EmotionTask
from tests.helpers.cli import QUICK, fer, fit
from tests.helpers.data import StripesDataModule
from tests.helpers.parts import TinyBackbone

NAMES = SEVEN.class_names
COUNTS = dict(zip(NAMES, [36, 8, 8, 8, 8, 8, 8], strict=True))
LOG_SHARES = (torch.tensor(list(COUNTS.values())) / 84).log()


def new_task(**options: Any) -> EmotionTask:
    made = StripesDataModule().preprocessing
    return EmotionTask(TinyBackbone(), class_names=list(NAMES), num_classes=7, preprocessing=made, **options)


class Counts:
    """What the task asks of data."""

    class_counts = COUNTS


def test_training_logits_are_corrected_for_what_is_drawn() -> None:
    data = StripesDataModule(train=84)
    data.set_draws(COUNTS)
    logits = torch.randn(5, 7)
    prior = PriorCorrection(True, None, 7)
    assert prior.tau == 1
    assert torch.allclose(prior.trained(logits, data).softmax(1), (logits + LOG_SHARES).softmax(1))
    assert PriorCorrection(False, 0.5, 7).trained(logits, None) is logits
    with pytest.raises(ConfigError, match="how often it draws each class"):
        prior.trained(logits, None)


def test_a_decision_is_moved_towards_the_training_images() -> None:
    task = new_task(tau=0.5).eval()
    images = torch.randn(4, 1, 16, 16)
    plain = task.classifier.logits(images)
    task.take_class_counts(StripesDataModule(train=84))
    assert torch.allclose(task(images).softmax(1), plain.softmax(1))  # all classes are equally frequent
    task.take_class_counts(Counts())
    assert torch.allclose(task(images), plain + 0.5 * LOG_SHARES)
    assert torch.equal(task.classifier(images), task(images))


def test_tau_without_training_images_is_told() -> None:
    task = new_task(tau=0.5)
    with pytest.raises(ConfigError, match="which the checkpoint does not hold"):
        task(torch.zeros(1, 1, 16, 16))
    for step in (task.validation_step, task.test_step, task.predict_step, task.training_step):
        with pytest.raises(ConfigError, match="which the checkpoint does not hold"):
            step(batch(), 0)


def batch() -> Any:
    return {"image": torch.randn(6, 1, 16, 16), "label": torch.arange(6), "index": torch.arange(6)}


def test_every_step_decides_alike() -> None:
    task = new_task(tau=0.7).eval()
    task.take_class_counts(Counts())
    task.log = lambda *args, **options: None  # type: ignore[method-assign]
    given = batch()
    wanted = task.classifier.logits(given["image"]) + 0.7 * LOG_SHARES
    for step in (task.validation_step, task.test_step, task.predict_step):
        torch.testing.assert_close(step(given, 0)["logits"], wanted)
    torch.testing.assert_close(task.validation_step(given, 0, dataloader_idx=1)["logits"], wanted)
    loss = torch.nn.functional.cross_entropy(task.classifier.logits(given["image"]), given["label"])
    torch.testing.assert_close(task.training_step(given, 0), loss)  # training sees the plain logits
    preds = task.scores.of_train.confusion.sum(0)  # its metrics, the decision
    assert torch.equal(preds, torch.bincount(wanted.argmax(1), minlength=7))


def test_a_checkpoint_remembers_the_shares(tmp_path: Path) -> None:
    assert fit(tmp_path, "--data.per_class=3", "--model.tau=0.5", epochs=1) == 0
    stored = torch.load(tmp_path / "tiny/version_0/checkpoints/best.ckpt", weights_only=True)["fer_task"]
    assert stored["class_counts"] == dict.fromkeys(NAMES, 3)
    assert fer("test", f"--ckpt_path={tmp_path}/tiny/version_0", *QUICK) == 0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that decides by tau 0.7, on classes of two training images and of one."""
    root = tmp_path_factory.mktemp("tau")
    assert fit(root, "--data.train=10", "--model.tau=0.7", epochs=1) == 0
    return root / "tiny/version_0"


def written(run: Path, verb: str, *options: str) -> torch.Tensor:
    """Return the probabilities that ``fer test`` or ``fer predict`` writes, by row of the table."""
    assert fer(verb, f"--ckpt_path={run}", *QUICK, *options) == 0
    [newest] = sorted(run.glob(f"{verb}*/predictions.csv"), key=lambda path: path.stat().st_mtime_ns)[-1:]
    with newest.open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["index"]))
    return torch.tensor([[float(row[f"p_{name}"]) for name in NAMES] for row in rows])


def computed(run: Path, tau: float) -> torch.Tensor:
    """Return the probabilities of plain logits moved by ``tau``, by hand."""
    task = EmotionTask.load_from_checkpoint(run / "checkpoints/best.ckpt", map_location="cpu").eval()
    log_shares = (torch.tensor([2, 2, 2, 1, 1, 1, 1]) / 10).log()
    return (task.classifier.logits(images_of(task)) + tau * log_shares).softmax(1).detach()


def images_of(task: EmotionTask) -> torch.Tensor:
    data = StripesDataModule(train=10, batch_size=28)
    data.setup("test")
    given = data.on_after_batch_transfer(next(iter(data.test_dataloader())), 0)
    assert data.preprocessing == task.preprocessing
    return given["image"]


def test_forward_test_and_predict_say_the_same(run: Path) -> None:
    task = EmotionTask.load_from_checkpoint(run / "checkpoints/best.ckpt", map_location="cpu").eval()
    wanted = computed(run, 0.7)
    assert (wanted - computed(run, 0.0)).abs().max() > 0.01  # or the test would show nothing
    for found in (
        task(images_of(task)).softmax(1),
        task.classifier(images_of(task)).softmax(1),
        written(run, "test"),
        written(run, "predict"),
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_a_prediction_that_forgets_tau_is_found_out(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(task: EmotionTask, batch: Any, batch_idx: int) -> Any:
        return {"logits": task.classifier.logits(batch["image"]), "index": batch["index"]}

    monkeypatch.setattr(EmotionTask, "predict_step", forgetful)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(written(run, "predict"), computed(run, 0.7), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tau", [0.0, -1.0])
def test_another_tau_is_given_to_an_evaluation(run: Path, tau: float) -> None:
    for verb in ("test", "predict"):
        found = written(run, verb, f"--model.tau={tau}")
        torch.testing.assert_close(found, computed(run, tau), rtol=1e-4, atol=1e-6)


def test_a_checkpoint_from_before_the_shift_decides_by_its_tau(run: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    del checkpoint["state_dict"]["classifier.shift"]
    torch.save(checkpoint, tmp_path / "old.ckpt")
    old = EmotionTask.load_from_checkpoint(tmp_path / "old.ckpt", map_location="cpu").eval()
    torch.testing.assert_close(old(images_of(old)).softmax(1), computed(run, 0.7))
    del checkpoint["fer_task"]["class_counts"]
    torch.save(checkpoint, tmp_path / "older.ckpt")
    with pytest.raises(ConfigError, match="which the checkpoint does not hold"):
        EmotionTask.load_from_checkpoint(tmp_path / "older.ckpt", map_location="cpu")(torch.zeros(1, 1, 16, 16))


@pytest.mark.parametrize(
    "callback",
    [EMA(0.9), EMA(0.9, update_starting_at_step=1000), EMAWeightAveraging(decay=0.9), WeightAveraging()],
    ids=["ours", "late", "Lightning's", "without buffers"],
)
def test_averaged_weights_decide_alike(callback: WeightAveraging, tmp_path: Path) -> None:
    task = new_task(tau=0.7)
    trainer = Trainer(
        accelerator="cpu", max_epochs=2, logger=False, use_distributed_sampler=False, default_root_dir=tmp_path,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[callback], num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(task, datamodule=StripesDataModule(train=10, batch_size=4))
    wanted = 0.7 * (torch.tensor([2, 2, 2, 1, 1, 1, 1]) / 10).log()
    assert torch.equal(task.classifier.shift, wanted)
    state = torch.load(next(tmp_path.rglob("*.ckpt")), weights_only=False)  # holds the class of the backbone
    assert torch.equal(state["state_dict"]["classifier.shift"], wanted)
    assert torch.equal(state["current_model_state"]["classifier.shift"], wanted)


def test_a_resumed_run_decides_by_its_own_tau(tmp_path: Path) -> None:
    options = ["--data.train=10", "--trainer.callbacks=EMA", "--trainer.callbacks.decay=0.9"]
    assert fit(tmp_path, *options, "--model.tau=0.7", epochs=1) == 0
    assert fit(tmp_path, *options, "--model.tau=-1", "--ckpt_path=last", epochs=2) == 0
    newest = max(tmp_path.rglob("resume.ckpt"), key=lambda path: path.stat().st_mtime)
    state = torch.load(newest, weights_only=True)
    for part in ("state_dict", "current_model_state"):
        torch.testing.assert_close(state[part]["classifier.shift"], -(torch.tensor([2, 2, 2, 1, 1, 1, 1]) / 10).log())


def test_the_loss_of_validation_and_test_is_that_of_the_decision() -> None:
    task = new_task(tau=0.7).eval()
    task.take_class_counts(Counts())
    task.log = lambda *args, **options: None  # type: ignore[method-assign]
    given = batch()
    wanted = torch.nn.functional.cross_entropy(
        task.classifier.logits(given["image"]) + 0.7 * LOG_SHARES, given["label"]
    )
    for step in (task.validation_step, task.test_step):
        torch.testing.assert_close(step(given, 0)["loss"], wanted)


def test_a_class_without_training_images_counts_as_one() -> None:
    prior = PriorCorrection(False, 2.0, 3)
    prior.class_counts = {"a": 0, "b": 4, "c": 6}
    shift = prior.shift()
    assert shift is not None
    torch.testing.assert_close(shift, 2 * (torch.tensor([1.0, 4.0, 6.0]) / 11).log())
