"""Class focus in a run: what it draws, what it writes, what it refuses."""

from __future__ import annotations

import csv
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fer_lightning.callbacks import class_focus
from fer_lightning.callbacks.class_focus import ClassFocus
from fer_lightning.callbacks.focus_rules import RegretRule, RegretState, bottom_k_draws, ceilings_of, static_draws
from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError
from fer_lightning.metrics import class_scores
from tests.helpers.cli import TINY, fer, fit, same_weights
from tests.helpers.data import StripesDataModule
from tests.helpers.parts import Recorder, StoppedError

FOCUS = "--trainer.callbacks+=fer_lightning.callbacks.class_focus.ClassFocus"
PART = ["--data.train=210", "--data.focus_fraction=0.2"]
NAMES = SEVEN.class_names


def rows(root: Path, name: str = "tiny") -> list[dict[str, str]]:
    with (root / name / "version_0" / "class_focus.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def values(row: dict[str, str], kind: str) -> list[float]:
    return [float(row[f"{kind}_{name}"]) for name in NAMES]


def test_the_next_epoch_draws_the_weakest_classes_more_often(tmp_path: Path) -> None:
    Recorder.rows.clear()
    record = "--trainer.callbacks+=tests.helpers.parts.Recorder"
    assert fit(tmp_path, *PART, FOCUS, "--trainer.callbacks.mode=bottom_k", record, epochs=3) == 0
    written = rows(tmp_path)
    assert [row["epoch"] for row in written] == ["0", "1", "2"]
    assert written[0]["focused"] == ""
    assert values(written[0], "draws") == [24] * 7
    for before, after in itertools.pairwise(written):
        weakest = sorted(range(7), key=lambda label: (values(before, "focus_f1")[label], label))[:2]
        assert after["focused"] == "+".join(NAMES[label] for label in sorted(weakest))
        assert sum(values(after, "draws")) == 168
        assert {values(after, "draws")[label] for label in weakest} <= {45, 46}  # 3 / 11 of 168 each
    drawn = StripesDataModule(train=210).table.labels[[row for batch in Recorder.rows[21:42] for row in batch]]
    assert np.bincount(drawn, minlength=7).tolist() == values(written[1], "draws")


def test_what_was_drawn_and_why_is_in_tensorboard(tmp_path: Path) -> None:
    assert fit(tmp_path, *PART, FOCUS, "--trainer.callbacks.mode=bottom_k") == 0
    events = EventAccumulator(str(tmp_path / "tiny/version_0")).Reload()
    curves = events.Tags()["scalars"]
    for name in NAMES:
        assert {f"focus/weight_{name}", f"focus/draws_{name}", f"focus/f1_{name}"} <= set(curves)
    for curve, column in (("draws", "draws"), ("weight", "weight"), ("f1", "focus_f1")):
        shown = [event.value for event in events.Scalars(f"focus/{curve}_fear")]
        assert shown == pytest.approx([float(row[f"{column}_fear"]) for row in rows(tmp_path)])
    assert "focus/reasons/text_summary" in events.Tags()["tensors"]


def test_static_draws_are_those_of_the_first_epoch_too(tmp_path: Path) -> None:
    options = [FOCUS, "--trainer.callbacks.mode=static", "--trainer.callbacks.power=0"]
    assert fit(tmp_path, *options, "--data.per_class=null") == 0
    assert [row["mode"] for row in rows(tmp_path)] == ["static", "static"]
    assert values(rows(tmp_path)[0], "draws") == [12] * 7


def test_the_validation_part_drives_only_if_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, FOCUS) == 2
    assert "ClassFocus needs a part of the training images" in capsys.readouterr().err
    assert not (tmp_path / "tiny").exists()
    assert fit(tmp_path, FOCUS, "--trainer.callbacks.source=val", "--trainer.callbacks.mode=bottom_k") == 0
    assert rows(tmp_path)[1]["focused"] != ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--trainer.callbacks.source=test"], "source"),
        (["--trainer.callbacks.mode=top"], "mode"),
        (["--trainer.callbacks.k=0"], "k must be at least 1"),
        (["--trainer.callbacks.mode=bottom_k", "--trainer.callbacks.k=7"], "puts all of them in focus"),
        (["--trainer.callbacks.weight=0.5"], "weight must be from 1"),
        (["--trainer.callbacks.ceilings={joy: 0.9}"], "ceilings of 'joy'"),
        (["--trainer.callbacks.ceilings={happy: 1.5}"], "ceilings of happy must be from 0.01 to 1"),
        (["--data.balance=weighted"], "leave data.balance and data.class_multipliers out"),
        (["--trainer.max_epochs=-1", "--trainer.max_steps=3"], "set trainer.max_epochs"),
    ],
)
def test_what_makes_no_sense_is_told_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert fit(tmp_path, *PART, FOCUS, *options) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.count("\n") == 0
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize("mode", ["bottom_k", "regret"])
@pytest.mark.parametrize("step", [30, 42, 55])  # of 21 batches in an epoch: inside, at its end, inside
def test_resume_is_exact(tmp_path: Path, whole_run: Callable[..., Path], mode: str, step: int) -> None:
    options = [*PART, FOCUS, f"--trainer.callbacks.mode={mode}", "--model.prior_correction=true"]
    options += ["--trainer.callbacks.warmup=0", "--resume_checkpoint.every_n_steps=2", "--data.augment=BatchAugment"]
    stop = "--trainer.callbacks+=tests.helpers.parts.StopAt"
    whole, parts = whole_run(*options, epochs=4), tmp_path / "parts/version_0"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_TEST_STOP_AT", str(step))
        with pytest.raises(StoppedError):
            fit(tmp_path, *options, stop, name="parts", epochs=4)
    assert fit(tmp_path, *options, "--ckpt_path=last", name="parts", epochs=4) == 0
    for file in ("resume.ckpt", "best.ckpt"):
        assert same_weights(whole / "checkpoints" / file, parts / "checkpoints" / file)
    assert (whole / "class_focus.csv").read_text() == (parts / "class_focus.csv").read_text()
    assert any(row["focused"] for row in rows(tmp_path, "parts"))


@pytest.mark.slow
def test_two_processes_draw_what_one_does(tmp_path: Path) -> None:
    options = [*TINY, *PART, FOCUS, "--trainer.callbacks.mode=bottom_k", "--trainer.max_epochs=3"]
    options += [f"--trainer.default_root_dir={tmp_path}", "--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0"]
    two = ["--name=two", "--data.batch_size=4", "--trainer.devices=2", "--trainer.strategy=ddp"]
    done = subprocess.run(
        [sys.executable, "-m", "fer_lightning", "fit", *options, *two],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert fer("fit", *options, "--name=one", "--trainer.enable_progress_bar=false") == 0
    # nothing is learned, but batch norm looks at other batches: the choice may differ, its arithmetic may not
    assert [row["draws_angry"] for row in rows(tmp_path, "two")[:1]] == ["24"]
    for row in rows(tmp_path, "two"):
        assert sum(values(row, "draws")) == 168


def drawn_lists(world: int, draws: dict[str, int]) -> list[int]:
    """Return the global list of indices of an epoch, put together from what each process draws."""
    parts = []
    for rank in range(world):
        data = StripesDataModule(train=210, focus_fraction=0.2)
        data.set_draws(draws)
        parts.append([row for row, _ in data._sampler(rank, world)])
    return [row for slot in zip(*parts, strict=True) for row in slot]


def test_the_global_list_does_not_depend_on_the_number_of_processes() -> None:
    draws = dict(zip(NAMES, [56, 18, 18, 18, 19, 19, 20], strict=True))
    assert drawn_lists(1, draws) == drawn_lists(2, draws) == drawn_lists(4, draws)


def test_a_class_focus_of_another_mode_starts_anew() -> None:
    callback = ClassFocus("bottom_k")
    callback.load_state_dict({"mode": "regret", "plan": {}, "state": None, "history": [{"epoch": 0}]})
    assert callback.plan is None
    assert callback.history == [{"epoch": 0}]


MATRIX = np.diag([2, 6, 5, 6, 6, 6, 6]) + 1


def focused(max_epochs: int, epoch: int = 0, **options: Any) -> tuple[ClassFocus, Any]:
    """Return a callback and its trainer at the end of an epoch."""
    callback, data = ClassFocus(**options), StripesDataModule(train=210, focus_fraction=0.2)
    loops = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(is_last_batch=True)))
    trainer = SimpleNamespace(
        datamodule=data, max_epochs=max_epochs, current_epoch=epoch, state=SimpleNamespace(fn="fit"), world_size=1,
        sanity_checking=False, callback_metrics={}, fit_loop=loops,
    )  # fmt: skip
    callback.setup(trainer, LightningModule(), "fit")  # type: ignore[arg-type]  # stands for one
    return callback, trainer


@pytest.mark.parametrize(
    ("max_epochs", "epoch", "progress", "steers"),
    [(4, 0, 0.25, True), (5, 0, 0.2, False), (4, 1, 0.5, True), (10, 8, 0.9, True)],
)
def test_the_next_epoch_draws_by_the_rule_and_its_place_in_the_run(
    max_epochs: int, epoch: int, progress: float, steers: bool
) -> None:
    callback, trainer = focused(max_epochs, epoch)
    train_f1 = np.linspace(0.4, 0.6, 7)
    rule, counts = RegretRule(), np.full(7, 24)
    ceilings = ceilings_of(NAMES)
    state, reasons = rule.update(RegretState.start(7), MATRIX, train_f1, ceilings, steers)
    callback.decide(trainer, MATRIX, train_f1)
    plan = rule.plan(state, counts, progress, reasons)
    assert list(trainer.datamodule.draws.values()) == plan.draws.tolist()
    assert callback._state is not None
    assert callback._state.plain() == state.plain()
    assert (plan.draws != counts).any() == steers


def test_a_validation_inside_an_epoch_changes_nothing() -> None:
    callback, trainer = focused(4)
    progress, before = trainer.fit_loop.epoch_loop.batch_progress, dict(trainer.datamodule.draws)
    for is_last in (False, True):
        progress.is_last_batch = is_last
        callback._matrix = torch.from_numpy(MATRIX)
        callback.on_validation_epoch_end(trainer, LightningModule())
        assert callback._matrix is None
        assert (trainer.datamodule.draws != before) is is_last
    assert len(callback.history) == 1


@pytest.mark.parametrize(("source", "loader"), [("focus", 1), ("val", 0)])
def test_only_the_part_that_was_asked_for_is_counted(source: Literal["focus", "val"], loader: int) -> None:
    callback, trainer = focused(4)
    callback.source = source
    for batch, (index, label) in enumerate(((0, 3), (0, 4), (1, 5), (1, 6))):
        outputs = {"label": torch.tensor([label]), "logits": torch.eye(7)[[label - 1]]}
        callback.on_validation_batch_end(trainer, LightningModule(), outputs, None, batch, index)
    assert callback._matrix is not None
    wanted = [[[3, 2], [4, 3]], [[5, 4], [6, 5]]][loader]  # rows true, columns predicted
    assert callback._matrix.nonzero().tolist() == wanted


def test_an_epoch_that_is_trained_again_has_one_row() -> None:
    callback, trainer = focused(4, epoch=1)
    callback.history = [{"epoch": epoch} for epoch in range(3)]
    callback.decide(trainer, MATRIX, np.full(7, np.nan))
    assert [row["epoch"] for row in callback.history] == [0, 1]


UNEVEN = dict(zip(NAMES, [40, 4, 41, 72, 48, 32, 50], strict=True))
UNKNOWN = np.full(7, np.nan)


def test_each_option_reaches_its_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StripesDataModule, "class_counts", UNEVEN)
    counts = np.array(list(UNEVEN.values()))
    static, trainer = focused(4, mode="static", power=0.25, max_repeats=1.5)
    assert list(trainer.datamodule.draws.values()) == static_draws(counts, 0.25, 1.5).draws.tolist()
    assert static.plan is not None
    assert static.plan.draws[1] == 6
    bottom, trainer = focused(4, mode="bottom_k", k=3, weight=9.0, max_repeats=1.5)
    bottom.decide(trainer, MATRIX, UNKNOWN)
    wanted = bottom_k_draws(class_scores(torch.from_numpy(MATRIX)).f1.numpy(), counts, 3, 9.0, 1.5)
    assert list(trainer.datamodule.draws.values()) == wanted.draws.tolist()
    assert wanted.draws[0] == 60
    rule = RegretRule(gamma=1.5, max_repeats=2.0, warmup=0.1, release=0.3)
    assert ClassFocus(gamma=1.5, max_repeats=2.0, warmup=0.1, release=0.3).rule == rule
    regret, trainer = focused(4, ceilings={"sad": 0.4, "happy": 0.9})
    trainer.callback_metrics = {"train_f1_fear": torch.tensor(0.75), "val_f1_fear": torch.tensor(0.5)}
    train_f1 = regret._train_f1(trainer)
    assert train_f1[2] == 0.75
    assert np.isnan(train_f1).sum() == 6
    regret.decide(trainer, MATRIX, train_f1)
    own = ceilings_of(NAMES, {"sad": 0.4, "happy": 0.9})
    assert regret._state is not None
    assert regret._state.plain() == RegretRule().update(RegretState.start(7), MATRIX, train_f1, own)[0].plain()


@pytest.mark.parametrize(
    ("option", "refused", "taken"),
    [
        ("weight", (0.99, 101.0), (1.0, 100.0)),
        ("power", (-0.1, 1.1), (0.0, 1.0)),
        ("max_repeats", (0.9, 1001.0), (1.0, 1000.0)),
        ("warmup", (-0.1, 1.1), (0.0, 1.0)),
        ("release", (-0.1, 1.1), (0.0, 1.0)),
        ("gamma", (-0.1, 1001.0), (0.0, 1000.0)),
        ("ceilings", ({"sad": 0.005}, {"sad": 1.1}), ({"sad": 0.01}, {"sad": 1.0})),
        ("k", (0, -1), (1, 6)),
    ],
)
def test_what_each_option_may_be(option: str, refused: tuple[Any, ...], taken: tuple[Any, ...]) -> None:
    for value in refused:
        with pytest.raises(ConfigError, match=f"ClassFocus: {option} .*must be"):
            ClassFocus(**{option: value})
    for value in taken:
        ClassFocus(**{option: value})


def test_a_run_of_no_epochs_or_with_all_classes_in_focus_is_refused() -> None:
    for max_epochs in (None, -1, 0):
        with pytest.raises(ConfigError, match="mode regret must know the length of the run"):
            focused(max_epochs)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="k 7 of 7 classes puts all of them in focus"):
        focused(4, mode="bottom_k", k=7)
    focused(4, mode="bottom_k", k=6)


def test_the_row_of_an_epoch_tells_what_it_drew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StripesDataModule, "class_counts", UNEVEN)
    callback, trainer = focused(4, mode="static", power=0.0, max_repeats=1.5)
    assert callback.plan is not None
    trainer.is_global_zero = False
    callback.decide(trainer, MATRIX, UNKNOWN)
    trainer.current_epoch = 1
    callback.on_train_epoch_end(trainer, LightningModule())  # which nothing has validated
    first, second = callback.history
    assert (first["epoch"], second["epoch"]) == (0, 1)
    assert first["focus_f1_angry"] == pytest.approx(float(class_scores(torch.from_numpy(MATRIX)).f1[0]), abs=1e-6)
    assert second["focus_f1_angry"] is None
    for row in callback.history:
        assert (row["draws_disgust"], row["weight_disgust"]) == (6, 1.5)
        assert row["focused"] == "+".join(np.array(NAMES)[callback.plan.draws > list(UNEVEN.values())])
    callback.on_train_epoch_end(trainer, LightningModule())
    assert len(callback.history) == 2
    callback.setup(trainer, LightningModule(), "fit")  # of another run
    assert callback.history == []


@pytest.mark.parametrize(("max_epochs", "epoch", "told"), [(3, 1, True), (3, 2, False), (-1, 5, True), (None, 5, True)])
def test_the_classes_in_focus_are_told_before_each_epoch(
    max_epochs: int | None, epoch: int, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(class_focus, "rank_zero_info", said.append)
    callback, trainer = focused(max_epochs, epoch, mode="bottom_k", k=1, weight=2.0)  # type: ignore[arg-type]
    callback.decide(trainer, MATRIX, UNKNOWN)
    assert said == ([f"class focus of epoch {epoch + 1}: angry x1.75"] if told else [])


def test_a_checkpoint_brings_the_plan_but_not_that_of_static_draws() -> None:
    before, trainer = focused(4)
    before.decide(trainer, MATRIX, UNKNOWN)
    after, other = focused(4)
    after.load_state_dict(before.state_dict())
    assert after._state is not None
    assert before._state is not None
    assert after._state.plain() == before._state.plain()
    after.on_train_start(other, LightningModule())
    assert other.datamodule.draws == trainer.datamodule.draws != dict.fromkeys(NAMES, 24)
    static, _ = focused(4, mode="static")
    stored = {**static.state_dict(), "plan": {"draws": [1] * 7, "focused": [True] * 7, "reasons": [""] * 7}}
    static.load_state_dict(stored)
    assert static.plan is not None
    assert static.plan.draws.tolist() == [24] * 7


def test_what_all_processes_count_is_added_up_and_the_sanity_check_is_not_counted() -> None:
    callback, trainer = focused(4)
    trainer.world_size, trainer.sanity_checking = 2, True
    trainer.strategy = SimpleNamespace(reduce=lambda matrix, reduce_op: {"sum": 3 * matrix}[reduce_op])
    callback._matrix = torch.from_numpy(MATRIX)
    callback.on_validation_epoch_end(trainer, LightningModule())
    assert callback._matrix is None
    assert callback.history == []
    trainer.sanity_checking = False
    callback._matrix = torch.from_numpy(MATRIX)
    callback.on_validation_epoch_end(trainer, LightningModule())
    twin, other = focused(4)
    twin.decide(other, 3 * MATRIX, UNKNOWN)
    assert callback._state is not None
    assert twin._state is not None
    assert callback._state.plain() == twin._state.plain()
